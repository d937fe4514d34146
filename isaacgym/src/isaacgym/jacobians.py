"""Jacobians and mass matrices of actors, for operational-space control."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from isaacgym.asset import Asset
from isaacgym.drives import Drives
from isaacgym.rotations import matrix
from isaacgym.state import State
from isaacgym.world import Env
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.jacobian import moving_dofs, point_jacobian

FIELDS = ("xipos", "cdof", "subtree_com", "xquat")
DIFFERENT = (
    "the actors of this name have different structures; their rows do not fit into one tensor"
)


def slots(envs: Sequence[Env], actor: str, kind: str) -> dict[int, int]:
    """Index of the actor with this name in each environment with actors, by the environment's: each
    has a row. If only the first has the name, as with `f"robot_{i}"`, the others have the actor of
    its structure in its place. envs: of the whole world. Raises PhalanxError if one has none."""
    seated = [env for env in envs if env.actors]
    names = {env.index: [a.name for a in env.actors] for env in seated}
    found = {e: own.index(actor) for e, own in names.items() if actor in own}
    first = seated[0]
    if found.keys() == {first.index}:
        slot = found[first.index]
        asset = first.actors[slot].asset
        for env in seated[1:]:
            stand_in = env.actors[slot] if slot < len(env.actors) else None
            if (
                stand_in is not None
                and stand_in.name not in names[first.index]  # else it is another of the first's
                and stand_in.asset.structure == asset.structure
            ):
                found[env.index] = slot
    for e, own in names.items():
        if e not in found:
            raise PhalanxError(
                f"gym.acquire_{kind}_tensor: no actor {actor!r} in environment {e}"
                f"{did_you_mean(actor, own)}; the tensor has a row for each environment, so each"
                f" needs such an actor; this one has {', '.join(map(repr, own))}"
            )
    return found


class Jacobians:
    """For actors with B bodies and D degrees of freedom; a free base adds 6 columns in front."""

    def __init__(self, state: State, drives: Drives, envs: Sequence[Env]) -> None:
        self._state, self._drives, self._envs = state, drives, envs
        self._moves: dict[int, Tensor] = {}

    def shape(self, kind: str, actor: str) -> tuple[int, ...]:
        """Shape of the "jacobian" or "mass_matrix" of the actors with this name. Raises
        PhalanxError if it differs between environments, or if one has no such actor."""
        of = self.jacobian_shape if kind == "jacobian" else self.mass_matrix_shape
        shapes = {of(slot) for slot in self._slots(kind, actor)}
        if len(shapes) > 1:
            raise PhalanxError(f"gym.acquire_{kind}_tensor: {DIFFERENT}")
        return shapes.pop()

    def fill(self, kind: str, actor: str) -> Callable[[Tensor], None]:
        """What fills a tensor of this `shape`."""
        of = self.jacobian if kind == "jacobian" else self.mass_matrix
        places = self._slots(kind, actor)

        def fill(tensor: Tensor) -> None:
            for slot, rows in places.items():
                if rows is None:
                    tensor.copy_(of(slot))
                else:
                    tensor.index_copy_(0, rows, of(slot)[rows])

        return fill

    def _slots(self, kind: str, actor: str) -> dict[int, Tensor | None]:
        """Indices in an environment of the actors with this name, and the rows (n,) of the
        environments that have them there, None for all: actors of one model may have other names in
        each environment."""
        everywhere = slots(self._envs[0].sim.envs, actor, kind)
        own = np.array([everywhere[env.index] for env in self._envs])
        found = {int(slot): self._state.index(np.flatnonzero(own == slot)) for slot in set(own)}
        return dict(found) if len(found) > 1 else dict.fromkeys(found)

    def jacobian_shape(self, slot: int) -> tuple[int, ...]:
        """Shape of an actor's Jacobians: (N, B, 6, 6 + D), or (N, B - 1, 6, D) with a fixed
        base."""
        asset = self._state.layout.actors[slot].asset
        if asset.fixed:
            return (self._state.num_envs, asset.num_bodies - 1, 6, asset.num_dofs)
        return (self._state.num_envs, asset.num_bodies, 6, asset.num_dofs + 6)

    def mass_matrix_shape(self, slot: int) -> tuple[int, ...]:
        """Shape of an actor's mass matrices: (N, C, C) for the C columns of its Jacobian."""
        columns = self.jacobian_shape(slot)[-1]
        return (self._state.num_envs, columns, columns)

    def watch(self) -> None:
        """Have the engine compute the fields they need."""
        for name in FIELDS:
            self._state.field(name)

    def jacobian(self, slot: int) -> Tensor:
        """The Jacobians of an actor, of `jacobian_shape`; without the root if the base is fixed."""
        first = int(self._state.layout.actors[slot].asset.fixed)
        return self._of_all_bodies(slot)[:, first:]

    def mass_matrix(self, slot: int) -> Tensor:
        """The mass matrices of an actor, of `mass_matrix_shape`: the sum over bodies of J^T M J,
        with the armature added to the diagonal."""
        state = self._state
        actor = state.layout.actors[slot]
        rows = slice(actor.first_body, actor.first_body + actor.asset.num_bodies)
        jacobian = self._of_all_bodies(slot)
        linear, angular = jacobian[:, :, :3], jacobian[:, :, 3:]
        turn = matrix(state.field("xquat")[:, 1:][:, rows])
        inertia = turn @ state.inertia[:, rows] @ turn.transpose(-1, -2)
        total = torch.einsum("nbij,nbik,nb->njk", linear, linear, state.mass[:, rows])
        total = total + torch.einsum("nbij,nbil,nblk->njk", angular, inertia, angular)
        own = slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)
        armature = self._drives.armature[:, own]
        pad = total.shape[-1] - armature.shape[-1]
        return total + torch.diag_embed(torch.nn.functional.pad(armature, (pad, 0)))

    def _of_all_bodies(self, slot: int) -> Tensor:
        """Jacobians (N, B, 6, C), root included, from derived fields, which must be current. Rows:
        linear velocity of the centre of mass and angular velocity, along world axes. Columns: a
        free root's linear and angular velocity along world axes, then the joints."""
        state = self._state
        actor = state.layout.actors[slot]
        bodies = slice(actor.first_body + 1, actor.first_body + 1 + actor.asset.num_bodies)
        dofs = state.dof_v.index[actor.first_dof : actor.first_dof + actor.asset.num_dofs]
        com = state.field("xipos")[:, bodies]  # (N, B, 3)
        cdof = state.field("cdof")[:, dofs]  # (N, D, 6): angular, linear at the tree's centre
        centre = state.field("subtree_com")[:, actor.first_body + 1]
        if slot not in self._moves:
            self._moves[slot] = state.tensor(_moved_by(actor.asset))
        joints = point_jacobian(cdof[:, None], com - centre[:, None], self._moves[slot])
        if actor.asset.fixed:
            return joints
        eye = torch.eye(3, device=state.device).expand(*com.shape[:2], 3, 3)
        lever = (com - com[:, :1])[:, :, None].expand_as(eye)
        shift = torch.cat([eye, torch.zeros_like(eye)], -1)
        turn = torch.cat([torch.linalg.cross(eye, lever), eye], -1)
        return torch.cat([torch.cat([shift, turn], 2).transpose(2, 3), joints], -1)


def _moved_by(asset: Asset) -> np.ndarray:
    """(bodies, dofs), 1 where a degree of freedom moves a body, else 0."""
    model = asset.model
    dofs = model.jnt_dofadr[asset.dof_joints]
    rows = [moving_dofs(model, body).numpy()[dofs] for body in range(1, model.nbody)]
    return np.array(rows).reshape(asset.num_bodies, asset.num_dofs)
