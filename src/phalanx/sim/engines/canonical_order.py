"""Contacts and constraint rows in an order that does not depend on races between threads.

MuJoCo Warp 4.0 assigns slots to contacts, and to the constraint rows of a world, with an atomic
counter. Their order therefore differs from run to run, and so does the rounding of every sum over
them. `model.opt.deterministic` makes sums reproducible for a given order and calls two sorting
functions, which are empty in 4.0. `install` fills them in.
"""

from typing import Any

import torch
import warp as wp
from mujoco_warp._src import collision_driver, constraint
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.sim.engines import canonical_kernels as kernels

CONTACT_FIELDS = (
    *("dist", "pos", "frame", "includemargin", "friction", "solref", "solreffriction", "solimp"),
    *("dim", "geom", "worldid", "type", "geomcollisionid", "adhesion", "surfacevel"),
)
ROW_FIELDS = ("type", "id", "J", "pos", "margin", "D", "vel", "aref", "frictionloss")
LAST = 2**62  # the key of unused slots


def check(model: Any) -> None:
    """Raise PhalanxError for a model whose rows this file cannot sort."""
    features = {
        "equality constraints": model.neq,
        "tendons": model.ntendon,
        "flexes": model.nflex,
        f"more than {model.nv - 1} degrees of freedom (a sparse Jacobian)": model.is_sparse,
    }
    found = [name for name, present in features.items() if present]
    if found:
        raise PhalanxError(
            f"deterministic=true does not work on a GPU for a scene with {', '.join(found)};"
            " leave it out, or use sim_device=cpu, where every run is reproducible"
        )


def install() -> None:
    """Make MuJoCo Warp call the sorting functions of this file instead of its empty ones."""
    collision_driver._sort_contacts = sort_contacts
    constraint._sort_constraints = sort_rows


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
