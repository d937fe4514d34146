"""The physics of all environments: one `Physics` for each structure, and tensors put together.

    physics = GroupedPhysics(world)                 # after world.freeze()
    states = physics.acquire("dof_state")
    physics.set_dof_states(states, None, None, "set_dof_state_tensor")
    physics.simulate()

Programs see one simulation. Their tensors have the rows of all environments in order. With one
structure, as in most programs, they are the tensors of its physics; with several, `refresh` copies
into them, and setters hand each group its rows.
"""

import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isaacgym.arguments import Arguments
from isaacgym.descriptor import Tensor as Descriptor
from isaacgym.enums import CoordinateSpace
from isaacgym.jacobians import DIFFERENT
from isaacgym.physics import Physics
from isaacgym.replays import Replays
from isaacgym.setters import Setters
from isaacgym.structure import groups_of
from isaacgym.world import Env, World
from phalanx.errors import PhalanxError

log = logging.getLogger(__name__)

UNITS = {
    "root_state": "actors", "dof_state": "dofs", "rigid_body_state": "bodies",
    "net_contact_force": "bodies", "dof_force": "dofs", "force_sensor": "sensors",
    "jacobian": "envs", "mass_matrix": "envs",
}  # fmt: skip
"""What a row of a tensor of each kind belongs to."""
Setter = Callable[[Physics, Tensor, Tensor | None], None]
"""Writes (N, rows of one environment, ...) to a group, for the actors in a mask (N, A) or all."""


class GroupedPhysics:
    """`groups` has the physics of each structure, in the order of their first environments. Raises
    PhalanxError if an environment cannot be simulated."""

    def __init__(self, world: World) -> None:
        frictions = {piece.params.dynamic_friction for piece in world.grounds}
        if len(frictions) > 1:
            log.warning(
                "grounds have different frictions %s; the last one is used for all", frictions
            )
        self.world = world
        self._parts = groups_of(world)
        self._replays = Replays(world.device)
        self.groups = [Physics(part, self._replays) for part in self._parts]
        self._arguments = Arguments(world.num_actors, world.device)
        self._descriptors: dict[str, Descriptor] = {}
        self._places: dict[str, list[Tensor]] = {}

    def of(self, env: Env) -> Physics:
        """The physics that an environment belongs to, where it has row `env.row`."""
        return self.groups[env.group]

    def check_model(self) -> None:
        """Compile all models once, so that errors show early. Raises PhalanxError."""
        for group in self.groups:
            group.check_model()

    def note_change(self, env: Env) -> None:
        """Have the next call that needs the engine update the properties of actors."""
        self.of(env).dirty = True

    # Tensors ----------------------------------------------------------------------------------

    def acquire(self, name: str) -> Descriptor:
        """The descriptor of tensor `name` (see `Tensors`), with the same memory in every call.
        Raises PhalanxError if its rows differ in shape."""
        parts = [group.acquire(name) for group in self.groups]
        if len(parts) == 1:
            return parts[0]
        if name not in self._descriptors:
            shapes = {part.shape[1:] for part in parts}
            if len(shapes) > 1:
                kind = name.partition(":")[0]
                raise PhalanxError(f"gym.acquire_{kind}_tensor: {DIFFERENT}")
            count = sum(part.shape[0] for part in parts)
            buffer = torch.zeros((count, *shapes.pop()), device=self.world.device)
            self._descriptors[name] = Descriptor(buffer, all(part.absent for part in parts))
        return self._descriptors[name]

    def refresh(self, kind: str) -> None:
        """Fill the acquired tensors of a kind, if there are any."""
        for group in self.groups:
            group.refresh(kind)
        for name, descriptor in self._descriptors.items():
            if name.partition(":")[0] == kind:
                for group, places in zip(self.groups, self._of_groups(UNITS[kind]), strict=True):
                    descriptor.torch.index_copy_(0, places, group.acquire(name).torch)

    def rows(self, kind: str, env: Env | None = None) -> np.ndarray:
        """The current rows of a tensor, of one environment or of all. The tensor that the program
        holds does not change."""
        if env is not None:
            return self.of(env).rows(kind, env.row)
        held = self.acquire(kind).torch
        before = held.clone()
        self.refresh(kind)
        values: np.ndarray = held.cpu().numpy().copy()
        held.copy_(before)
        return values

    # Setters: tensors with the rows of all environments, and indices of actors --------------------

    def set_root_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Set poses and velocities of roots, (actors, 13), of all actors or of those listed."""
        new = self._arguments.rows(states, (self.world.num_actors, 13), call)
        index = self._arguments.listed(indices, count, call)
        self._expect_states()
        self._set("root states", _root_states, "actors", new, index, call)

    def set_dof_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Set positions and velocities, (dofs, 2), of all actors or of those listed."""
        new = self._arguments.rows(states, (self.world.num_dofs, 2), call)
        index = self._arguments.listed(indices, count, call)
        self._expect_states()
        self._set("DOF states", _dof_states, "dofs", new, index, call)

    def set_commands(self, what: str, values: Any, indices: Any, count: Any, call: str) -> None:
        """Set targets or efforts, (dofs,), of all actors or of those listed, which needs no engine.
        what: one of `drives.COMMANDS`."""
        new = self._arguments.rows(values, (self.world.num_dofs,), call)
        index = self._arguments.listed(indices, count, call)

        def set_commands(group: Physics, rows: Tensor, mask: Tensor | None) -> None:
            group.set_commands(what, rows, mask)

        if index is None:  # one operation
            self._set_each(set_commands, "dofs", None, new)
        else:
            self._set(what, set_commands, "dofs", new, index, call)

    def _expect_states(self) -> None:
        for group in self.groups:
            group.expect_states()

    def _set(
        self, name: str, setter: Setter, unit: str, new: Tensor, index: Tensor | None, call: str
    ) -> None:
        """Call `setter` on each group, for all actors or those listed; on a GPU as one graph."""
        chosen = None
        if index is not None:
            self._arguments.choose(index, call)
            chosen = self._arguments.chosen
        set_each = partial(self._set_each, setter, unit, chosen)
        self._replays.run((name, chosen is None), set_each, new)

    def _set_each(self, setter: Setter, unit: str, chosen: Tensor | None, new: Tensor) -> None:
        """Call `setter` on each group with its rows of `new`, and which actors they are for."""
        for k, group in enumerate(self.groups):
            mask = None if chosen is None else self._part(chosen, "actors", k)
            setter(group, self._part(new, unit, k), mask)
        if chosen is not None:
            self._arguments.forget()

    def apply_forces(self, forces: Any, torques: Any, space: int, call: str) -> None:
        """Add forces [N] at the centres of mass and torques [N m], (bodies, 3) each or None, for
        the next `simulate`."""
        shape = (self.world.num_bodies, 3)
        given = {
            name: self._arguments.rows(x, shape, call)
            for name, x in (("force", forces), ("torque", torques))
            if x is not None
        }

        def apply(setters: Setters, *own: Tensor) -> None:
            named = dict(zip(given, own, strict=True))
            setters.apply_forces(named.get("force"), named.get("torque"), space)

        if given:
            poses = space == CoordinateSpace.LOCAL_SPACE
            self._apply((*given, space), poses, apply, *given.values())

    def apply_forces_at(self, forces: Any, positions: Any, space: int, call: str) -> None:
        """Add forces [N] at positions [m], (bodies, 3) each, for the next `simulate`; None stands
        for the centres of mass."""
        if positions is None:
            self.apply_forces(forces, None, space, call)
            return
        shape = (self.world.num_bodies, 3)
        force, place = (self._arguments.rows(x, shape, call) for x in (forces, positions))

        def apply(setters: Setters, force: Tensor, place: Tensor) -> None:
            setters.apply_forces_at(force, place, space)

        self._apply(("force at", space), True, apply, force, place)

    def _apply(
        self, key: Hashable, poses: bool, apply: Callable[..., None], *given: Tensor
    ) -> None:
        """Call `apply` with the setters of each group and its rows of `given`; on a GPU as one
        graph. poses: see `Setters.expect_forces`."""
        for group in self.groups:
            group.setters.expect_forces(poses)

        def apply_each(*given: Tensor) -> None:
            for k, group in enumerate(self.groups):
                apply(group.setters, *(self._part(x, "bodies", k) for x in given))

        self._replays.run(key, apply_each, *given)

    def set_gravity(self, gravity: list[float]) -> None:
        """Set gravity [m/s^2] in all environments, from the next `simulate` on."""
        for group in self.groups:
            group.set_gravity(gravity)

    # Stepping ---------------------------------------------------------------------------------

    def simulate(self) -> None:
        """Advance all environments by dt."""
        for group in self.groups:
            group.simulate()

    def check(self) -> None:
        """Report what happened on the device since the last check; waits for the device. Raises
        PhalanxError if a setter was given an actor index that does not exist."""
        self._arguments.check()
        for group in self.groups:
            group.check()

    def _of_groups(self, unit: str) -> list[Tensor]:
        """Places of the actors, bodies, ... of each group among those of all environments."""
        if unit not in self._places:
            self._places[unit] = [part.rows(unit) for part in self._parts]
        return self._places[unit]

    def _part(self, values: Tensor, unit: str, k: int) -> Tensor:
        """The rows (rows, ...) of a group, as (N, rows of one environment, ...)."""
        part = self._parts[k]
        own = values if len(self.groups) == 1 else values[self._of_groups(unit)[k]]
        return own.view(len(part.envs), part.size(unit), *values.shape[1:])


def _root_states(group: Physics, new: Tensor, mask: Tensor | None) -> None:
    group.setters.set_root_states(new, mask)


def _dof_states(group: Physics, new: Tensor, mask: Tensor | None) -> None:
    group.setters.set_dof_states(new, mask)
