# mypy: ignore-errors
"""The kernels of `canonical_order`, in Warp's own Python.

From `gradient` on, they replace kernels of MuJoCo Warp, with the same arguments and launch sizes.
There, threads add to one number in the order in which they arrive; here, one thread adds all terms
in a fixed order.
"""

import functools

import warp as wp
from mujoco_warp._src import support
from mujoco_warp._src.types import vec5


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
    """The inverse permutation of each row of `order`."""
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


@wp.kernel(enable_backward=False)
def sort_changed(ids: wp.array2d[int], count: wp.array[int]):
    """Sort the first `count` numbers of each row of `ids`, which are few."""
    world = wp.tid()
    for i in range(1, wp.min(count[world], ids.shape[1])):
        number = ids[world, i]
        j = i
        while j > 0 and ids[world, j - 1] > number:
            ids[world, j] = ids[world, j - 1]
            j -= 1
        ids[world, j] = number


@functools.cache
def gradient(only_changed: bool):
    """The gradient of Newton's objective, and its square summed over the degrees of freedom."""

    @wp.kernel(module="unique", enable_backward=False)
    def kernel(
        qfrc_smooth: wp.array2d[float],
        qfrc_constraint: wp.array2d[float],
        Ma: wp.array2d[float],
        changed: wp.array[int],
        done: wp.array[bool],
        grad: wp.array2d[float],
        grad_dot: wp.array[float],
    ):
        world, dof = wp.tid()
        if done[world]:
            return
        if wp.static(only_changed):  # noqa: SIM102
            if changed[world] == 0:
                return
        grad[world, dof] = Ma[world, dof] - qfrc_smooth[world, dof] - qfrc_constraint[world, dof]
        if dof == 0:
            total = float(0.0)  # noqa: UP018  (a variable to Warp)
            for i in range(qfrc_smooth.shape[1]):
                g = Ma[world, i] - qfrc_smooth[world, i] - qfrc_constraint[world, i]
                total += g * g
            grad_dot[world] = total

    return kernel


@wp.kernel(enable_backward=False)
def contact_wrenches(
    cone: int,
    body_rootid: wp.array[int],
    geom_bodyid: wp.array[int],
    subtree_com: wp.array2d[wp.vec3],
    pos: wp.array[wp.vec3],
    frame: wp.array[wp.mat33],
    friction: wp.array[vec5],
    dim: wp.array[int],
    geom: wp.array[wp.vec2i],
    efc_address: wp.array2d[int],
    worldid: wp.array[int],
    adhesion: wp.array[float],
    efc_force: wp.array2d[float],
    njmax: int,
    nacon: wp.array[int],
    cfrc_ext: wp.array2d[wp.spatial_vector],
):
    """Contact forces on bodies. Contacts are sorted by world; the thread of a world's first contact
    adds all of them."""
    first = wp.tid()
    n = nacon[0]
    if first >= n:
        return
    world = worldid[first]
    if first > 0:  # noqa: SIM102  (Warp evaluates both sides of `and`)
        if worldid[first - 1] == world:
            return
    con = first
    while con < n:
        if worldid[con] != world:
            return
        body1 = geom_bodyid[geom[con][0]]
        body2 = geom_bodyid[geom[con][1]]
        if body1 != 0 or body2 != 0:
            force = support.contact_force_fn(
                cone, frame, friction, dim, efc_address, adhesion, efc_force, njmax, nacon,
                world, con, to_world_frame=True,
            )  # fmt: skip
            if body1 != 0:
                arm = subtree_com[world, body_rootid[body1]] - pos[con]
                wrench = support.transform_force(force, arm)
                cfrc_ext[world, body1] = cfrc_ext[world, body1] - wrench
            if body2 != 0:
                arm = subtree_com[world, body_rootid[body2]] - pos[con]
                wrench = support.transform_force(force, arm)
                cfrc_ext[world, body2] = cfrc_ext[world, body2] + wrench
        con += 1


@wp.kernel(enable_backward=False)
def actuator_forces(
    rownnz: wp.array2d[int],
    rowadr: wp.array2d[int],
    colind: wp.array2d[int],
    moment: wp.array2d[float],
    force: wp.array2d[float],
    qfrc_actuator: wp.array2d[float],
):
    """Forces of actuators on the degrees of freedom, actuator by actuator."""
    world, first = wp.tid()
    if first == 0:
        for act in range(force.shape[1]):
            for k in range(rownnz[world, act]):
                at = rowadr[world, act] + k
                dof = colind[world, at]
                qfrc_actuator[world, dof] = (
                    qfrc_actuator[world, dof] + moment[world, at] * force[world, act]
                )


@wp.kernel(enable_backward=False)
def gravity_forces(
    gravity: wp.array[wp.vec3],
    body_parentid: wp.array[int],
    body_rootid: wp.array[int],
    mass: wp.array2d[float],
    gravcomp: wp.array2d[float],
    dof_bodyid: wp.array[int],
    body_isdofancestor: wp.array2d[int],
    xipos: wp.array2d[wp.vec3],
    subtree_com: wp.array2d[wp.vec3],
    cdof: wp.array2d[wp.spatial_vector],
    qfrc_gravcomp: wp.array2d[float],
):
    """Forces that compensate gravity, body by body."""
    world, first, dof = wp.tid()
    if first == 0:
        total = float(0.0)  # noqa: UP018  (a variable to Warp)
        for body in range(1, gravcomp.shape[1]):
            part = gravcomp[world % gravcomp.shape[0], body]
            if part != 0.0:
                weight = -gravity[world % gravity.shape[0]] * mass[world % mass.shape[0], body]
                jacobian, _ = support.jac_dof(
                    body_parentid, body_rootid, dof_bodyid, body_isdofancestor, subtree_com, cdof,
                    xipos[world, body], body, dof, world,
                )  # fmt: skip
                total += wp.dot(jacobian, weight * part)
        qfrc_gravcomp[world, dof] = total


@wp.kernel(enable_backward=False)
def actuator_damping(
    M_elemid: wp.array2d[int],
    rownnz: wp.array2d[int],
    rowadr: wp.array2d[int],
    colind: wp.array2d[int],
    moment: wp.array2d[float],
    vel: wp.array2d[float],
    qDeriv: wp.array2d[float],
):
    """Derivatives of actuator forces by velocity, `vel` for each actuator, for implicit
    integrators."""
    world, first = wp.tid()
    if first == 0:
        for act in range(vel.shape[1]):
            if vel[world, act] != 0.0:
                start = rowadr[world, act]
                for i in range(start, start + rownnz[world, act]):
                    for j in range(start, i + 1):
                        at = M_elemid[colind[world, i], colind[world, j]]
                        if at >= 0:
                            qDeriv[world, at] = (
                                qDeriv[world, at]
                                + moment[world, i] * moment[world, j] * vel[world, act]
                            )
