# mypy: ignore-errors
"""The Warp kernels of `canonical_order`."""

import warp as wp


@wp.kernel(enable_backward=False)
def contact_keys(
    nacon: wp.array[int],
    worldid: wp.array[int],
    address: wp.array2d[int],
    key: wp.array2d[wp.int64],
):
    """Sort keys of contact rows: the number of the contact, which is canonical by now, then the
    number of the row within the contact."""
    con, k = wp.tid()
    row = address[con, k]
    if con < nacon[0] and row >= 0 and row < key.shape[1]:
        number = wp.int64(con) * wp.int64(address.shape[1]) + wp.int64(k)
        key[worldid[con], row] = wp.int64(281474976710656) + number  # 2**48


@wp.kernel(enable_backward=False)
def invert(order: wp.array2d[wp.int64], place_of: wp.array2d[int]):
    world, row = wp.tid()
    place_of[world, int(order[world, row])] = row


@wp.kernel(enable_backward=False)
def move(
    nacon: wp.array[int],
    worldid: wp.array[int],
    place_of: wp.array2d[int],
    address: wp.array2d[int],
):
    con, k = wp.tid()
    row = address[con, k]
    if con < nacon[0] and row >= 0 and row < place_of.shape[1]:
        address[con, k] = place_of[worldid[con], row]
