"""Runs what `world.py` describes: the engine, its drives, one `simulate` after the other.

    physics = Physics(sim)                # sizes are known, no engine yet
    states = physics.tensors.acquire("dof_state")
    physics.simulate()
    physics.tensors.refresh("dof_state")

The engine is built at the first call that needs one, so that tensors acquired until then decide
what it measures. `tensors.py` shows its state to the program, `setters.py` takes what that sets.
"""

import logging
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from isaacgym import params as api
from isaacgym import scene as scenes
from isaacgym.enums import DofDriveMode
from isaacgym.scene import ActorScene, Layout
from isaacgym.setters import Setters
from isaacgym.tensors import Tensors
from isaacgym.terrain import Terrain
from phalanx.compute.graphs import Graph
from phalanx.errors import PhalanxError
from phalanx.sim import Sim as EngineSim

log = logging.getLogger(__name__)

ENGINE = "auto"  # tests run the GPU engine on the CPU with "warp"
CHECK_EVERY = 64  # `simulate` calls between looks at what the device noted; each look waits for it
MAX_DOF_SPEED = 100.0  # [rad/s or m/s] where a file says nothing, as PhysX
STRUCTURAL = (
    "dof_damping", "jnt_stiffness", "jnt_actfrclimited", "jnt_limited", "jnt_margin",
    "actuator_forcelimited", "body_simple", "body_sameframe", "dof_simplenum",
)  # fmt: skip
INERTIAL = ("body_mass", "body_ipos", "body_iquat", "body_inertia")


class Physics:
    """The engine of one simulation."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim
        self.layout = layout = Layout(sim.envs[0], sim.grounds)
        self.num_envs = n = len(sim.envs)
        self.device = device = sim.device
        self.engine: EngineSim | None = None
        self.scene: ActorScene
        self.model: mujoco.MjModel
        frictions = {piece.params.dynamic_friction for piece in sim.grounds}
        if len(frictions) > 1:
            log.warning("grounds have different frictions %s; the last holds for all", frictions)
        self.dirty = False  # properties have changed since the engine got them
        origins = np.array([env.origin for env in sim.envs])
        offsets = _offsets(sim, origins)
        if offsets.any() and sim.envs[0].attractors:
            raise PhalanxError(
                "gym.create_rigid_body_attractor: attractors are not there on height fields and"
                " triangle meshes with environments apart; set the spacing of create_env to zero"
            )
        self.offset = self.tensor(offsets)[:, None]  # (N, 1, 3)
        self.beyond_offset = self.tensor(origins - offsets)[:, None]
        self._poses = self.tensor(_poses(sim)) + torch.nn.functional.pad(self.offset, (0, 4))
        self.dof_target_pos = self.tensor(_set_before(sim, "dof_target_pos"))
        self.dof_target_vel = self.tensor(_set_before(sim, "dof_target_vel"))
        self.dof_effort = self.tensor(_set_before(sim, "dof_effort"))
        self.dof_q, self.dof_v = self.index(layout.dof_q), self.index(layout.dof_v)
        free, fixed = np.flatnonzero(layout.free), np.flatnonzero(~layout.free)
        self.free, self.fixed = self.index(free), self.index(fixed)
        root_q, root_v = np.array(layout.root_q, int)[free], np.array(layout.root_v, int)[free]
        self.root_q = self.index((root_q[:, None] + np.arange(7)).flatten())
        self.root_v = self.index((root_v[:, None] + np.arange(6)).flatten())
        self.roots = self.index(layout.root_body[free] + 1)
        self.actor_of_dof = self.index(layout.actor_of_dof)
        self.conjugate = self.tensor([1, -1, -1, -1])
        self.gravity = self.tensor([*sim.params.gravity])
        self.stale = torch.zeros(n, dtype=torch.bool, device=device)
        self.any_stale = False
        self.bad_index = torch.zeros((), dtype=torch.bool, device=device)
        self.forces_used = False
        self._fields: dict[str, Tensor] = {}
        self._expanded: set[str] = set()
        self._graph: Graph | None = None
        self._terrain: Terrain | None = None
        self._warned_of_divergence = False
        # What the drives make of commands, (N or 1, dofs); see scene.py
        self._push: Tensor
        self._spring: Tensor
        self._damper: Tensor
        self._implicit: Tensor
        self.armature: Tensor
        self._kp: Tensor
        self._kd: Tensor
        self._limit: Tensor
        self._speed_limit: Tensor
        self.implicit_now: Tensor  # of drives within their limits
        self._inertia0: Tensor
        self._slowing: Tensor
        self.slows = self._limited = False
        self.com: Tensor  # (N or 1, bodies + 1, 3), link axes
        self.mass: Tensor  # (N or 1, bodies + 1)
        self.inertia: Tensor  # (N or 1, bodies, 3, 3), link axes, about the centre of mass
        self.tensors = Tensors(self)
        self.setters = Setters(self)

    def ready(self) -> EngineSim:
        """The engine, built or brought up to date as needed."""
        if self.engine is None:
            self.build()
        elif self.dirty:
            self._flush()
        assert self.engine is not None
        return self.engine

    def check_model(self) -> None:
        """Compile the model once, to say what is wrong with it early. Raises PhalanxError."""
        ActorScene(self.sim, self.layout, False, False).compile()

    def simulate(self) -> None:
        """Advance all environments by dt."""
        self.ready()
        if self._terrain is not None:
            self.current()
        self.any_stale = False
        if self._graph is not None:
            self._graph()
        else:
            self._advance()
        self.sim.frame_count += 1
        if self.sim.frame_count % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Look at what the device noted meanwhile; waits for it. Raises PhalanxError if a setter
        was given an actor index that does not exist."""
        engine = self.ready()
        if grown := engine.engine.grow():
            log.warning("%s", grown)
            self.forget_graph()
        if self.bad_index.item():
            self.bad_index.zero_()
            raise PhalanxError(
                "one of the last calls of an indexed setter held actor indices outside 0 to"
                f" {self.sim.num_actors - 1}, which were ignored; actor indices count over all"
                " environments (gym.get_actor_index(env, actor, gymapi.DOMAIN_SIM))"
            )
        report = engine.divergence_report()
        if report and not self._warned_of_divergence:
            self._warned_of_divergence = True
            log.warning("%s; they start again from their initial pose", report)

    def build(self) -> None:
        """A new engine that measures what was asked for, in the state of the one before."""
        sim, layout = self.sim, self.layout
        state = self._state()
        asked = self.tensors.buffers
        contacts, sensors = "net_contact_force" in asked, "force_sensor" in asked
        self.scene = ActorScene(sim, layout, contacts, sensors)
        self.engine = engine = EngineSim(
            self.scene,
            self.num_envs,
            self.device,
            substeps=sim.params.substeps,
            engine=ENGINE,
        )
        self.model = engine.model
        self._fields, self._expanded = {}, set()
        self._graph = None
        if self.device.type == "cuda":
            self._graph = Graph(self._advance, engine.engine.capture)
        self._initial = self._initial_state()
        for name, value in (state or self._initial).items():
            if name in ("mocap_pos", "mocap_quat") and not len(self.fixed):
                continue
            getattr(engine, name).copy_(value)
        if len(layout.points):
            self._terrain = Terrain(sim.grounds, layout, engine, scenes.point_sizes(sim, layout))
        self._flush()
        self.tensors.begin()
        engine.forward()

    def _state(self) -> dict[str, Tensor] | None:
        if self.engine is None:
            return None
        return {name: getattr(self.engine, name).clone() for name in self._initial}

    def _initial_state(self) -> dict[str, Tensor]:
        """Every actor where `create_actor` put it, joints where the program has set them, or at
        zero or the nearest limit."""
        n, layout = self.num_envs, self.layout
        start = scenes.rest_positions(scenes.dof_properties(self.sim))
        qpos = torch.zeros((n, layout.nq), device=self.device)
        qpos[:, self.dof_q] = self.tensor(_set_before(self.sim, "pos", start))
        qvel = torch.zeros((n, layout.nv), device=self.device)
        qvel[:, self.dof_v] = self.tensor(_set_before(self.sim, "vel"))
        qpos[:, self.root_q] = self._poses[:, self.free].flatten(1)
        fixed = self._poses[:, self.fixed]
        return {
            "qpos": qpos,
            "qvel": qvel,
            "mocap_pos": fixed[..., :3],
            "mocap_quat": fixed[..., 3:],
        }

    def _advance(self) -> None:
        """One `simulate`; this is what is captured on a GPU."""
        engine = self.engine
        assert engine is not None
        engine.ctrl.copy_(
            self._push * self.dof_effort
            + self._spring * self.dof_target_pos
            + self._damper * self.dof_target_vel
        )
        if self._limited:
            self._saturate(engine)
        if self._terrain is not None:
            self._terrain.lay()
        engine.step()
        if self.forces_used:
            engine.xfrc_applied.zero_()
        lost = engine.diverged
        if self.device.type == "cuda" or lost.any():
            engine.reset(lost)
            for name, value in self._initial.items():
                if value.numel():
                    held = getattr(engine, name)
                    at = lost.view(-1, *(1,) * (held.dim() - 1))
                    held.copy_(torch.where(at, value, held))
            # What follows from the state is that of the lost one until `current`. A GPU cannot
            # know without waiting; there it is mended with the next change by the program.
            self.stale.logical_or_(lost)
            self.any_stale |= self.device.type == "cpu"
        if self.slows:  # as PhysX: v *= 1 - c dt
            engine.qvel.mul_(self._slowing)
        torch.clamp(engine.qvel, -self._speed_limit, self._speed_limit, out=engine.qvel)

    def _saturate(self, engine: EngineSim) -> None:
        """Bound drives whose implicit force, with the acceleration of a free joint or that of the
        last step, would be above their limit; see scene.py."""
        h = self.sim.timestep
        q, v = engine.qpos[:, self.dof_q], engine.qvel[:, self.dof_v]
        force = engine.ctrl - self._kp * q - (self._kd + h * self._kp) * v
        free = force * self._inertia0 / (self._inertia0 + self._implicit)
        last = force - self._implicit * self.field("qacc")[:, self.dof_v]
        beyond = torch.maximum(free.abs(), last.abs()) > self._limit
        beyond &= force.abs() > self._limit
        self.implicit_now.copy_(torch.where(beyond, 0.0, self._implicit))
        engine.model_field("dof_armature").index_copy_(
            1, self.dof_v, self.armature + self.implicit_now
        )
        bound = torch.where(beyond, self._limit, scenes.UNLIMITED)
        engine.model_field("actuator_forcerange").copy_(torch.stack([-bound, bound], -1))

    def _flush(self) -> None:
        """Give the engine the properties of all actors."""
        self.dirty = False
        engine = self.engine
        assert engine is not None
        sim, layout = self.sim, self.layout
        fields = scenes.model_fields(sim, layout, self.model)
        masks = scenes.collision_masks(layout)
        geoms = layout.shape_geoms
        changed = [n for n in STRUCTURAL if not _same(fields.pop(n, None), getattr(self.model, n))]
        if (
            changed
            or not _same(masks[0][None], self.model.geom_contype[geoms])
            or not _same(masks[1][None], self.model.geom_conaffinity[geoms])
            or self.scene.weightless != scenes.weightless_bodies(sim)
        ):
            self.build()
            return
        constants = False
        for name, values in fields.items():
            if name in self._expanded or not _same(values, getattr(self.model, name)):
                if name not in self._expanded:
                    self._expanded.add(name)
                    self.forget_graph()
                field = engine.model_field(name)
                new = self.tensor(values).to(field.dtype)
                # A bounding box is 6 numbers for MuJoCo and 2 vectors for MuJoCo Warp.
                field.copy_(new.view(len(new), *field.shape[1:]).expand(field.shape))
                constants |= name in INERTIAL
        if constants:
            engine.set_const()
        if self._terrain is not None:
            self._terrain.radius.copy_(self.tensor(scenes.point_sizes(sim, layout)))
        self._set_drives()
        rows = scenes.body_properties(sim)
        self.com = self.tensor(fields["body_ipos"])
        self.mass = self.tensor(fields["body_mass"])
        scale5 = fields["body_inertia"].sum(-1)[:, 1:]
        tensor = rows["inertia"].astype(float)
        trace = np.trace(tensor, axis1=-2, axis2=-1)
        self.inertia = self.tensor(tensor * (scale5 / np.where(trace, trace, 1))[..., None, None])

    def _set_drives(self) -> None:
        props = scenes.dof_properties(self.sim)
        mode = props["driveMode"]
        pos, vel = mode == DofDriveMode.DOF_MODE_POS, mode == DofDriveMode.DOF_MODE_VEL
        h = self.sim.timestep
        slowing = np.ones(self.layout.nv)
        fastest = np.full((len(props), self.layout.nv), MAX_DOF_SPEED)
        speeds = props["velocity"]
        fastest[:, self.layout.dof_v] = np.where(
            (speeds > 0) & (speeds < 0.5 * api.FLT_MAX), speeds, MAX_DOF_SPEED
        )
        for actor, k in zip(self.layout.actors, self.layout.root_v, strict=True):
            options, dt = actor.asset.options, self.sim.params.dt
            if k < 0:
                continue
            fastest[:, k : k + 3] = options.max_linear_velocity
            fastest[:, k + 3 : k + 6] = options.max_angular_velocity
            if actor.asset.num_bodies == 1:
                slowing[k : k + 3] = max(0.0, 1 - options.linear_damping * dt)
                slowing[k + 3 : k + 6] = max(0.0, 1 - options.angular_damping * dt)
        self.slows = bool((slowing < 1).any())
        # What moves with each joint when the others are free, without what its drive adds.
        v, model, implicit = self.layout.dof_v, self.model, scenes.implicit_inertia(props, h)
        moved = 1.0 / np.maximum(model.dof_invweight0[v], 1e-9)
        moved -= model.dof_armature[v] - props["armature"][0]
        coefficients = {
            "_push": mode == DofDriveMode.DOF_MODE_EFFORT,
            "_spring": np.where(pos, props["stiffness"], 0.0),
            "_damper": np.where(pos | vel, props["damping"], 0.0),
            "_implicit": implicit,
            "implicit_now": np.broadcast_to(implicit, (self.num_envs, implicit.shape[1])),
            "_inertia0": np.maximum(moved, 1e-6),
            "_slowing": slowing,
            "armature": props["armature"],
            "_kp": props["stiffness"],
            "_kd": props["damping"],
            "_limit": scenes.drive_limits(props),
            "_speed_limit": fastest,
        }
        limited = bool((coefficients["_limit"] < scenes.UNLIMITED).any())
        if limited != self._limited:
            self._limited = limited
            self.forget_graph()
        assert self.engine is not None
        if limited:  # before a graph is captured that writes them
            self.field("qacc")
            for name in ("dof_armature", "actuator_forcerange"):
                self._expanded.add(name)
                self.engine.model_field(name)
        for name, value in coefficients.items():
            held, new = getattr(self, name, None), self.tensor(value)
            if held is not None and held.shape == new.shape:
                held.copy_(new)  # a captured graph reads it
            else:
                setattr(self, name, new)
                self.forget_graph()

    def set_gravity(self, gravity: list[float]) -> None:
        """For all environments, from the next `simulate` on [m/s^2]."""
        engine = self.ready()
        if "opt.gravity" not in self._expanded:
            self._expanded.add("opt.gravity")
            self.forget_graph()
        self.gravity.copy_(self.tensor(gravity))
        engine.model_field("opt.gravity").copy_(self.gravity.expand(self.num_envs, 3))

    def forget_graph(self) -> None:
        """Capture anew: what `simulate` does has changed."""
        if self._graph is not None:
            self._graph.reset()

    def field(self, name: str, as_left: bool = False) -> Tensor:
        """A derived field. Asking for one changes what a step does, so not for the first time
        inside a captured one."""
        engine = self.ready()
        key = f"{name} left" if as_left else name
        if key not in self._fields:
            self.forget_graph()
            self._fields[key] = engine.stale(name) if as_left else getattr(engine, name)
        return self._fields[key]

    def current(self) -> None:
        """Derived fields at the present state, where a setter has changed it."""
        if self.any_stale:
            self.ready().forward(self.stale)
            self.stale.zero_()
            self.any_stale = False

    def note_change(self, mask: Tensor | None) -> None:
        """A setter has changed the state of some actors, mask (N, actors), or of all."""
        if mask is None:
            self.stale.fill_(True)
        else:
            self.stale |= mask.any(1)
        self.any_stale = True

    def tensor(self, values: Any) -> Tensor:
        """Numbers as float32 on the device."""
        return torch.tensor(np.array(values, np.float32), device=self.device)

    def index(self, values: np.ndarray) -> Tensor:
        """Rows or columns, on the device."""
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


def _same(values: np.ndarray | None, held: np.ndarray) -> bool:
    """Whether one row of values holds for all environments and is what the model has."""
    if values is None:
        return True
    return len(values) == 1 and np.array_equal(
        np.float32(values[0]), np.float32(held).reshape(values[0].shape)
    )


def _offsets(sim: Any, origins: np.ndarray) -> np.ndarray:
    """Where each environment is in its own copy of the world: at its origin if the ground has a
    shape there, else at zero, which keeps single precision fine."""
    for piece in sim.grounds:
        flat = piece.kind == "plane" and not (origins @ list(piece.params.normal)).any()
        if not flat and origins.any():
            return origins
    return np.zeros_like(origins)


def _set_before(sim: Any, name: str, otherwise: np.ndarray | float = 0.0) -> np.ndarray:
    """(environments, dofs) of what the program has set before the simulation was prepared."""
    values = np.empty((len(sim.envs), sim.envs[0].num_dofs))
    values[:] = otherwise
    for env in sim.envs:
        for actor in env.actors:
            if name in actor.start:
                own = slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)
                values[env.index, own] = actor.start[name]
    return values


def _poses(sim: Any) -> np.ndarray:
    """(environments, actors, 7): positions and quaternions w, x, y, z of `create_actor`."""
    return np.array([[np.concatenate([a.pos, a.quat]) for a in env.actors] for env in sim.envs])
