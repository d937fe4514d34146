# mypy: ignore-errors
"""The kernels of `canonical_order`, in Warp's own Python."""

import warp as wp


@wp.kernel(enable_backward=False)
def contact_keys(
    nacon: wp.array[int],
    worldid: wp.array[int],
    address: wp.array2d[int],
    key: wp.array2d[wp.int64],
):
    """A contact's rows have its number, which is canonical by now, and their number within it."""
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
