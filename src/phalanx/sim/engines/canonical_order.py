"""Orders contacts, constraint rows and sums independently of races between threads.

MuJoCo Warp 4.0 assigns slots to contacts, and to the constraint rows of a world, with an atomic
counter. Their order therefore differs from run to run, and so does the rounding of every sum over
them. `model.opt.deterministic` makes it call two functions for sorting, which are empty in 4.0, and
lets Warp record and sort everything that a kernel adds, which makes a step ten times slower.
`install` fills in the two functions and replaces the kernels that most models launch by kernels
with a fixed order; the others keep Warp's way.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import warp as wp
from mujoco_warp._src import (
    collision_driver,
    constraint,
    derivative,
    forward,
    passive,
    smooth,
    solver,
)
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import canonical_kernels as kernels

CONTACT_FIELDS = (
    *("dist", "pos", "frame", "includemargin", "friction", "solref", "solreffriction", "solimp"),
    *("dim", "geom", "worldid", "type", "geomcollisionid", "adhesion", "surfacevel"),
)
ROW_FIELDS = ("type", "id", "J", "pos", "margin", "D", "vel", "aref", "frictionloss")
LAST = 2**62  # the key of unused slots
MOST_DOFS = 32  # one tile; up to this number one thread or block multiplies a row of the Jacobian

# Functions that make kernels, by module, and the kernels of this project that repeat by themselves;
# None: no two threads add to the same number in the models that `check` lets through.
KERNELS: tuple[tuple[Any, str, Callable[..., Any] | None], ...] = (
    (solver, "_update_gradient_grad", lambda stable_fast: kernels.gradient(stable_fast)),
    (solver, "_update_constraint_efc", None),  # and `_update_constraint` sorts what has changed
    (solver, "_solve_init_jaref_kernel", None),
    (constraint, "_efc_contact_jac_dense", None),
    (smooth, "_transmission", None),  # the position of a row in memory does not affect any sum
    (smooth, "_cfrc_ext_contact", lambda: kernels.contact_wrenches),
    (forward, "_qfrc_actuator", lambda nv: kernels.actuator_forces),
    (passive, "_gravity_force", lambda: kernels.gravity_forces),
    (
        derivative,
        "_qderiv_actuator_passive_actuation_sparse",
        lambda max_records: kernels.actuator_damping,
    ),
)


def check(model: Any) -> None:
    """Raise PhalanxError for a model whose rows this file cannot sort."""
    features = {
        "equality constraints": model.neq,
        "tendons": model.ntendon,
        "flexes": model.nflex,
        f"more than {MOST_DOFS} degrees of freedom": model.is_sparse or model.nv > MOST_DOFS,
    }
    found = [name for name, present in features.items() if present]
    if found:
        raise PhalanxError(
            f"deterministic=true does not work on a GPU for a scene with {', '.join(found)};"
            " leave it out, or use sim_device=cpu, where every run is reproducible"
        )


def install() -> None:
    """Make MuJoCo Warp call the functions of this file, only for models with
    `opt.deterministic`."""
    if collision_driver._sort_contacts is sort_contacts:
        return
    collision_driver._sort_contacts = sort_contacts
    constraint._sort_constraints = sort_rows
    for module, name, kernel in KERNELS:
        setattr(module, name, _in_order(getattr(module, name), kernel))
    solver._update_constraint = _sorting_changes(solver._update_constraint)


def _in_order(make: Callable[..., Any], kernel: Callable[..., Any] | None) -> Callable[..., Any]:
    """`make`, whose last argument is `deterministic`, with `kernel` where that is true."""
    parameters = list(inspect.signature(make).parameters)
    if parameters[-1] != "deterministic":
        raise TypeError(f"{make} has no last argument `deterministic`")

    def choose(*arguments: Any) -> Any:
        if len(arguments) < len(parameters) or not arguments[-1]:
            return make(*arguments)
        return make(*arguments[:-1], False) if kernel is None else kernel(*arguments[:-1])

    return choose


def _sorting_changes(update: Callable[..., None]) -> Callable[..., None]:
    """`update`, with its list of rows whose state changed sorted: threads fill it in any order."""

    def update_and_sort(m: Any, d: Any, ctx: Any, *args: Any, **named: Any) -> None:
        update(m, d, ctx, *args, **named)
        if m.opt.deterministic and ctx.quad_changed_ids.size:
            changes = [ctx.quad_changed_ids, ctx.quad_changed_count]
            wp.launch(kernels.sort_changed, dim=d.nworld, inputs=changes)

    return update_and_sort


def sort_contacts(model: Any, data: Any) -> None:
    """Order contacts by world, pair of geoms and number within the pair."""
    contact = data.contact
    geom = wp.to_torch(contact.geom).long()
    key = wp.to_torch(contact.worldid).long()
    for part, size in (
        (geom[:, 0], model.ngeom),
        (geom[:, 1], model.ngeom),
        (wp.to_torch(contact.geomcollisionid), 64),
    ):
        key = key * size + part
    place = torch.arange(key.numel(), device=key.device)
    key = torch.where(place < wp.to_torch(data.nacon), key, LAST)
    order = torch.argsort(key, stable=True)
    for name in CONTACT_FIELDS:
        field = getattr(contact, name)
        if field.size:
            values = wp.to_torch(field)
            values.copy_(values.index_select(0, order))


def sort_rows(model: Any, data: Any) -> None:
    """Order the constraint rows of each world: limits and friction by joint, then contacts."""
    efc, contact = data.efc, data.contact
    key = wp.to_torch(efc.type).long() * 2**32 + wp.to_torch(efc.id)  # (N, R)
    place = torch.arange(key.shape[1], device=key.device)
    key = torch.where(place < wp.to_torch(data.nefc)[:, None], key, LAST)
    contacts = (data.nacon, contact.worldid, contact.efc_address)
    size = contact.efc_address.shape
    wp.launch(kernels.contact_keys, dim=size, inputs=contacts, outputs=[wp.from_torch(key)])
    order = torch.argsort(key, dim=1, stable=True)
    for name in ROW_FIELDS:
        values = wp.to_torch(getattr(efc, name))
        if values.numel():
            _reorder(values, order)
    place_of = wp.empty(key.shape, dtype=int, device=efc.type.device)
    wp.launch(kernels.invert, dim=key.shape, inputs=[wp.from_torch(order)], outputs=[place_of])
    wp.launch(kernels.move, dim=size, inputs=[*contacts[:2], place_of], outputs=[contacts[2]])


def _reorder(values: Tensor, order: Tensor) -> None:
    """Permute the first R of (N, R or more, ...) by `order`, (N, R), in place."""
    part = values[:, : order.shape[1]]
    index = order.view(*order.shape, *(1,) * (part.dim() - 2)).expand_as(part)
    part.copy_(part.gather(1, index))
