"""Runs what `world.py` describes, and shows it as Isaac Gym's tensors.

    physics = Physics(sim)                # sizes are known, no engine yet
    states = physics.acquire("dof_state")
    physics.simulate(); physics.refresh_dof_state()

The engine is built at the first call that needs one, so that tensors acquired until then decide
what it measures. Tensors of the program are copies: `refresh_*` fills them, setters read them.

Rows are environment-major. Positions are relative to the origin of the environment, quaternions
x, y, z, w, velocities along world axes and those of the centre of mass; a free joint of MuJoCo has
the velocity of the link frame's origin and the angular velocity in body axes, w, x, y, z.

What is current when
- Root and DOF states: always; a setter's values are there at once.
- Rigid body states, Jacobians, mass matrices: at `refresh` after `simulate` or a setter. PhysX
  leaves them stale after a setter until the next `simulate`.
- Forces: those of the last substep of the last `simulate`.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isaacgym import params as api
from isaacgym import scene as scenes
from isaacgym.enums import CoordinateSpace, DofDriveMode
from isaacgym.scene import ActorScene, Layout
from isaacgym.terrain import Terrain
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.rl.capture import Graph
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
    """The engine and the tensors of one simulation."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim
        self.layout = layout = Layout(sim.envs[0], sim.grounds)
        self.num_envs = n = len(sim.envs)
        self.device = device = sim.device
        self.engine: EngineSim | None = None
        self.buffers: dict[str, Tensor] = {}
        self._descriptors: dict[str, api.Tensor] = {}
        self.dirty = False  # properties have changed since the engine got them
        origins = np.array([env.origin for env in sim.envs])
        offsets = _offsets(sim, origins)
        self.offset = self._tensor(offsets)[:, None]  # (N, 1, 3)
        self._beyond_offset = self._tensor(origins - offsets)[:, None]
        self._poses = self._tensor(_poses(sim)) + torch.nn.functional.pad(self.offset, (0, 4))
        self.dof_target_pos = torch.zeros((n, layout.num_dofs), device=device)
        self.dof_target_vel = torch.zeros_like(self.dof_target_pos)
        self.dof_effort = torch.zeros_like(self.dof_target_pos)
        self._dof_q, self._dof_v = self._index(layout.dof_q), self._index(layout.dof_v)
        free, fixed = np.flatnonzero(layout.free), np.flatnonzero(~layout.free)
        self._free, self._fixed = self._index(free), self._index(fixed)
        root_q, root_v = np.array(layout.root_q, int)[free], np.array(layout.root_v, int)[free]
        self._root_q = self._index((root_q[:, None] + np.arange(7)).flatten())
        self._root_v = self._index((root_v[:, None] + np.arange(6)).flatten())
        self._roots = self._index(layout.root_body[free] + 1)
        self._actor_of_dof = self._index(layout.actor_of_dof)
        self._conjugate = self._tensor([1, -1, -1, -1])
        self._gravity = self._tensor([*sim.params.gravity])
        self._moves: dict[int, Tensor] = {}
        self._stale = torch.zeros(n, dtype=torch.bool, device=device)
        self._any_stale = False
        self._bad_index = torch.zeros((), dtype=torch.bool, device=device)
        self._forces_used = False
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
        self._armature: Tensor
        self._kp: Tensor
        self._kd: Tensor
        self._limit: Tensor
        self._speed_limit: Tensor
        self._implicit_now: Tensor  # of drives within their limits
        self._inertia0: Tensor
        self._slowing: Tensor
        self._slows = self._limited = False

    # The engine -------------------------------------------------------------------------------

    def ready(self) -> EngineSim:
        """The engine, built or brought up to date as needed."""
        if self.engine is None:
            self._build()
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
            self._current()
        if self._graph is not None:
            self._graph()
        else:
            self._advance()
        self.sim.frame_count += 1
        self._any_stale = False
        if self.sim.frame_count % CHECK_EVERY == 0:
            self.check()

    def check(self) -> None:
        """Look at what the device noted meanwhile; waits for it. Raises PhalanxError if a setter
        was given an actor index that does not exist."""
        engine = self.ready()
        if grown := engine.engine.grow():
            log.warning("%s", grown)
            self._forget_graph()
        if self._bad_index.item():
            self._bad_index.zero_()
            raise PhalanxError(
                "one of the last calls of an indexed setter held actor indices outside 0 to"
                f" {self.sim.num_actors - 1}, which were ignored; actor indices count over all"
                " environments (gym.get_actor_index(env, actor, gymapi.DOMAIN_SIM))"
            )
        report = engine.divergence_report()
        if report and not self._warned_of_divergence:
            self._warned_of_divergence = True
            log.warning("%s; they start again from their initial pose", report)

    def _build(self) -> None:
        sim, layout = self.sim, self.layout
        state = self._state()
        contacts = "net_contact_force" in self.buffers
        self.scene = ActorScene(sim, layout, contacts, "force_sensor" in self.buffers)
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
            if name in ("mocap_pos", "mocap_quat") and not len(self._fixed):
                continue
            getattr(engine, name).copy_(value)
        self._trees = self._index(self.model.body_rootid[1:])
        self._prepare_sensors()
        if len(layout.points):
            self._terrain = Terrain(sim.grounds, layout, engine, scenes.point_sizes(sim, layout))
        self._flush()
        for name in self.buffers:
            self._watch(name)
        engine.forward()

    def _state(self) -> dict[str, Tensor] | None:
        if self.engine is None:
            return None
        return {name: getattr(self.engine, name).clone() for name in self._initial}

    def _initial_state(self) -> dict[str, Tensor]:
        """Every actor where `create_actor` put it, joints at zero or the nearest limit."""
        n, layout = self.num_envs, self.layout
        props = scenes.dof_properties(self.sim)
        lower = np.minimum(props["lower"], props["upper"])
        upper = np.maximum(props["lower"], props["upper"])
        start = np.where(props["hasLimits"], np.clip(0.0, lower, upper), 0.0)
        qpos = torch.zeros((n, layout.nq), device=self.device)
        qpos[:, self._dof_q] = self._tensor(start)
        qpos[:, self._root_q] = self._poses[:, self._free].flatten(1)
        fixed = self._poses[:, self._fixed]
        return {
            "qpos": qpos,
            "qvel": torch.zeros((n, layout.nv), device=self.device),
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
        if self._forces_used:
            engine.xfrc_applied.zero_()
        lost = engine.diverged
        if self.device.type == "cuda" or lost.any():
            engine.reset(lost)
            for name, value in self._initial.items():
                if value.numel():
                    held = getattr(engine, name)
                    at = lost.view(-1, *(1,) * (held.dim() - 1))
                    held.copy_(torch.where(at, value, held))
        if self._slows:  # as PhysX: v *= 1 - c dt
            engine.qvel.mul_(self._slowing)
        torch.clamp(engine.qvel, -self._speed_limit, self._speed_limit, out=engine.qvel)

    def _saturate(self, engine: EngineSim) -> None:
        """Bound drives whose implicit force, with the acceleration of a free joint or that of the
        last step, would be above their limit; see scene.py."""
        h = self.sim.timestep
        q, v = engine.qpos[:, self._dof_q], engine.qvel[:, self._dof_v]
        force = engine.ctrl - self._kp * q - (self._kd + h * self._kp) * v
        free = force * self._inertia0 / (self._inertia0 + self._implicit)
        last = force - self._implicit * self._field("qacc")[:, self._dof_v]
        beyond = torch.maximum(free.abs(), last.abs()) > self._limit
        beyond &= force.abs() > self._limit
        self._implicit_now.copy_(torch.where(beyond, 0.0, self._implicit))
        engine.model_field("dof_armature").index_copy_(
            1, self._dof_v, self._armature + self._implicit_now
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
            self._build()
            return
        constants = False
        for name, values in fields.items():
            if name in self._expanded or not _same(values, getattr(self.model, name)):
                if name not in self._expanded:
                    self._expanded.add(name)
                    self._forget_graph()
                field = engine.model_field(name)
                field.copy_(self._tensor(values).to(field.dtype).expand(field.shape))
                constants |= name in INERTIAL
        if constants:
            engine.set_const()
        if self._terrain is not None:
            self._terrain.radius.copy_(self._tensor(scenes.point_sizes(sim, layout)))
        self._set_drives()
        rows = scenes.body_properties(sim)
        self._com = self._tensor(fields["body_ipos"])  # (N or 1, bodies + 1, 3), link axes
        self._mass = self._tensor(fields["body_mass"])
        scale5 = fields["body_inertia"].sum(-1)[:, 1:]
        tensor = rows["inertia"].astype(float)
        trace = np.trace(tensor, axis1=-2, axis2=-1)
        self._inertia = self._tensor(tensor * (scale5 / np.where(trace, trace, 1))[..., None, None])

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
        self._slows = bool((slowing < 1).any())
        # What moves with each joint when the others are free, without what its drive adds.
        v, model, implicit = self.layout.dof_v, self.model, scenes.implicit_inertia(props, h)
        moved = 1.0 / np.maximum(model.dof_invweight0[v], 1e-9)
        moved -= model.dof_armature[v] - props["armature"][0]
        coefficients = {
            "_push": mode == DofDriveMode.DOF_MODE_EFFORT,
            "_spring": np.where(pos, props["stiffness"], 0.0),
            "_damper": np.where(pos | vel, props["damping"], 0.0),
            "_implicit": implicit,
            "_implicit_now": np.broadcast_to(implicit, (self.num_envs, implicit.shape[1])),
            "_inertia0": np.maximum(moved, 1e-6),
            "_slowing": slowing,
            "_armature": props["armature"],
            "_kp": props["stiffness"],
            "_kd": props["damping"],
            "_limit": scenes.drive_limits(props),
            "_speed_limit": fastest,
        }
        limited = bool((coefficients["_limit"] < scenes.UNLIMITED).any())
        if limited != self._limited:
            self._limited = limited
            self._forget_graph()
        assert self.engine is not None
        if limited:  # before a graph is captured that writes them
            self._field("qacc")
            for name in ("dof_armature", "actuator_forcerange"):
                self._expanded.add(name)
                self.engine.model_field(name)
        for name, value in coefficients.items():
            held, new = getattr(self, name, None), self._tensor(value)
            if held is not None and held.shape == new.shape:
                held.copy_(new)  # a captured graph reads it
            else:
                setattr(self, name, new)
                self._forget_graph()

    def set_gravity(self, gravity: list[float]) -> None:
        """For all environments, from the next `simulate` on [m/s^2]."""
        engine = self.ready()
        if "opt.gravity" not in self._expanded:
            self._expanded.add("opt.gravity")
            self._forget_graph()
        self._gravity.copy_(self._tensor(gravity))
        engine.model_field("opt.gravity").copy_(self._gravity.expand(self.num_envs, 3))

    def _forget_graph(self) -> None:
        if self._graph is not None:
            self._graph.reset()

    def _field(self, name: str, as_left: bool = False) -> Tensor:
        """A derived field. Asking for one changes what a step does, so not for the first time
        inside a captured one."""
        engine = self.ready()
        key = f"{name} left" if as_left else name
        if key not in self._fields:
            self._forget_graph()
            self._fields[key] = engine.as_left(name) if as_left else getattr(engine, name)
        return self._fields[key]

    def _watch(self, buffer: str) -> None:
        """Have the engine compute what a buffer is made of."""
        kind = buffer.split(":")[0]
        for name in _MADE_OF.get(kind, ()):
            self._field(name)
        for name in _MADE_OF_LEFT.get(kind, ()):
            self._field(name, as_left=True)

    def _current(self) -> None:
        """Derived fields at the present state, where a setter has changed it."""
        if self._any_stale:
            self.ready().forward(self._stale)
            self._stale.zero_()
            self._any_stale = False

    # Tensors ----------------------------------------------------------------------------------

    def acquire(self, name: str) -> api.Tensor:
        """The descriptor of tensor `name`, the same memory whenever it is asked for."""
        if name not in self._descriptors:
            sim, layout = self.sim, self.layout
            kind, _, actor = name.partition(":")
            sizes: dict[str, Callable[[], tuple[int, ...]]] = {
                "root_state": lambda: (sim.num_actors, 13),
                "dof_state": lambda: (sim.num_dofs, 2),
                "rigid_body_state": lambda: (sim.num_bodies, 13),
                "net_contact_force": lambda: (sim.num_bodies, 3),
                "dof_force": lambda: (sim.num_dofs,),
                "force_sensor": lambda: (self.num_envs * len(layout.sensors), 6),
                "jacobian": lambda: self._jacobian_shape(self._slot(actor, "jacobian")),
                "mass_matrix": lambda: (
                    (self.num_envs,)
                    + (self._jacobian_shape(self._slot(actor, "mass_matrix"))[-1],) * 2
                ),
            }
            self.buffers[name] = torch.zeros(sizes[kind](), device=self.device)
            self._descriptors[name] = api.Tensor(self.buffers[name])
            if self.engine is not None:
                measured = {"net_contact_force": self.scene.measures_contacts}
                measured["force_sensor"] = self.scene.measures_accelerations
                if not measured.get(kind, True):
                    self._build()
                self._watch(name)
        return self._descriptors[name]

    def refresh(self, kind: str) -> None:
        """Fill the tensors of a kind that were acquired; nothing if none was."""
        names = [name for name in self.buffers if name.split(":")[0] == kind]
        if names:
            self.ready()
            for name in names:
                if self.buffers[name].numel():
                    getattr(self, f"_fill_{kind}")(name, self.buffers[name])

    def _fill_root_state(self, _: str, buffer: Tensor) -> None:
        rows = buffer.view(self.num_envs, -1, 13)
        engine = self.engine
        assert engine is not None
        if len(self._free):
            q = engine.qpos[:, self._root_q].view(self.num_envs, -1, 7)
            v = engine.qvel[:, self._root_v].view(self.num_envs, -1, 6)
            quat = q[..., 3:]
            omega = rotate(quat, v[..., 3:])
            arm = rotate(quat, self._com[:, self._roots])
            speed = v[..., :3] + torch.linalg.cross(omega, arm)
            state = torch.cat([q[..., :3] - self.offset, xyzw(quat), speed, omega], -1)
            rows[:, self._free] = state
        if len(self._fixed):
            pos, quat = engine.mocap_pos - self.offset, xyzw(engine.mocap_quat)
            rows[:, self._fixed] = torch.nn.functional.pad(torch.cat([pos, quat], -1), (0, 6))

    def _fill_dof_state(self, _: str, buffer: Tensor) -> None:
        rows = buffer.view(self.num_envs, -1, 2)
        engine = self.engine
        assert engine is not None
        rows[..., 0] = engine.qpos[:, self._dof_q]
        rows[..., 1] = engine.qvel[:, self._dof_v]

    def _fill_rigid_body_state(self, _: str, buffer: Tensor) -> None:
        self._current()
        pos, quat, cvel = (self._field(name)[:, 1:] for name in ("xpos", "xquat", "cvel"))
        omega = cvel[..., :3]
        arm = self._field("xipos")[:, 1:] - self._field("subtree_com")[:, self._trees]
        speed = cvel[..., 3:] + torch.linalg.cross(omega, arm)
        rows = torch.cat([pos - self.offset, xyzw(quat), speed, omega], -1)
        buffer.copy_(rows.view_as(buffer))

    def _fill_net_contact_force(self, _: str, buffer: Tensor) -> None:
        rows = buffer.view(self.num_envs, -1, 3)
        count = len(self.scene.contact_bodies)
        forces = self._field("sensordata")[:, : 3 * count].view(self.num_envs, count, 3)
        # MuJoCo's sensor gives the force that the body exerts.
        rows[:, self._contact_rows] = -forces

    def _fill_dof_force(self, _: str, buffer: Tensor) -> None:
        drive = self._field("qfrc_actuator")[:, self._dof_v]
        drive = drive - self._implicit_now * self._field("qacc")[:, self._dof_v]
        buffer.copy_(drive.view_as(buffer))

    def _fill_force_sensor(self, _: str, buffer: Tensor) -> None:
        """The net force on a sensor's body, mass times acceleration, and the torque about the
        sensor: gravity, drives, contacts and all else add up in it, so it is zero at rest."""
        first = 3 * len(self.scene.contact_bodies)
        data = self._field("sensordata")[:, first:].view(self.num_envs, -1, 6)[:, self._measured]
        bodies = self._sensor_bodies
        quat = self._field("xquat", as_left=True)[:, bodies + 1]
        back = quat * self._conjugate
        omega = rotate(back, self._field("cvel", as_left=True)[:, bodies + 1, :3])
        force = self._mass[:, bodies + 1, None] * rotate(back, data[..., :3] + self._gravity)
        inertia = self._inertia[:, bodies]
        spin = _apply(inertia, omega)
        torque = _apply(inertia, rotate(back, data[..., 3:])) + torch.linalg.cross(omega, spin)
        arm = self._com[:, bodies + 1] - self._sensor_place
        torque = torque + torch.linalg.cross(arm.expand_as(force), force)
        turn = self._sensor_turn.expand_as(quat)
        parts = [
            torch.where(self._sensor_in_world, rotate(quat, x), rotate(turn, x))
            for x in (force, torque)
        ]
        buffer.copy_(torch.cat(parts, -1).view_as(buffer))

    def _prepare_sensors(self) -> None:
        """What refreshing force tensors needs, on the device."""
        scene, sensors = self.scene, self.layout.sensors
        self._contact_rows = self._index(np.array(scene.contact_bodies, int))
        self._sensor_bodies = self._index(np.array([b for b, _, _ in sensors], int))
        measured = scene.accelerated_bodies
        places = [measured.index(b) for b, _, _ in sensors if b in measured]
        self._measured = self._index(np.array(places, int))
        self._sensor_place = self._tensor([[*p.p] for _, p, _ in sensors])
        turns = [[p.r.w, -p.r.x, -p.r.y, -p.r.z] for _, p, _ in sensors]
        self._sensor_turn = self._tensor(turns)
        in_world = self._tensor([float(p.use_world_frame) for _, _, p in sensors])
        self._sensor_in_world = in_world[:, None] > 0

    # Jacobians --------------------------------------------------------------------------------

    def _slot(self, actor: str, tensor: str) -> int:
        names = [a.name for a in self.layout.actors]
        if actor not in names:
            raise PhalanxError(
                f"gym.acquire_{tensor}_tensor: no actor {actor!r} in the environments"
                f"{did_you_mean(actor, names)}; their actors are {', '.join(map(repr, names))}"
            )
        return names.index(actor)

    def _jacobian_shape(self, slot: int) -> tuple[int, ...]:
        asset = self.layout.actors[slot].asset
        if asset.fixed:
            return (self.num_envs, asset.num_bodies - 1, 6, asset.num_dofs)
        return (self.num_envs, asset.num_bodies, 6, asset.num_dofs + 6)

    def _jacobian(self, slot: int) -> Tensor:
        """(N, bodies, 6, columns) of an actor, root included: linear velocity of each body's
        centre of mass and angular velocity, world axes, for unit velocities of the root's centre
        of mass, of its rotation about world axes, and of the joints."""
        self._current()
        layout = self.layout
        actor = layout.actors[slot]
        bodies = slice(actor.first_body + 1, actor.first_body + 1 + actor.asset.num_bodies)
        dofs = self._dof_v[actor.first_dof : actor.first_dof + actor.asset.num_dofs]
        com = self._field("xipos")[:, bodies]  # (N, B, 3)
        cdof = self._field("cdof")[:, dofs]  # (N, D, 6): angular, linear at the tree's centre
        centre = self._field("subtree_com")[:, actor.first_body + 1]
        angular = cdof[:, None, :, :3].expand(-1, com.shape[1], -1, -1)
        arm = (com - centre[:, None])[:, :, None]
        linear = cdof[:, None, :, 3:] + torch.linalg.cross(angular, arm.expand_as(angular))
        if slot not in self._moves:
            self._moves[slot] = self._tensor(_moved_by(actor.asset))
        moves = self._moves[slot]  # (B, D)
        columns = torch.cat([linear, angular], -1) * moves[None, :, :, None]
        if not actor.asset.fixed:
            eye = torch.eye(3, device=self.device).expand(*com.shape[:2], 3, 3)
            lever = (com - com[:, :1])[:, :, None].expand_as(eye)
            shift = torch.cat([eye, torch.zeros_like(eye)], -1)
            turn = torch.cat([torch.linalg.cross(eye, lever), eye], -1)
            columns = torch.cat([shift, turn, columns], 2)
        return columns.transpose(2, 3)

    def _fill_jacobian(self, name: str, buffer: Tensor) -> None:
        slot = self._slot(name.partition(":")[2], "jacobian")
        first = int(self.layout.actors[slot].asset.fixed)
        buffer.copy_(self._jacobian(slot)[:, first:])

    def _fill_mass_matrix(self, name: str, buffer: Tensor) -> None:
        """Sum over bodies of J^T M J, and armature."""
        slot = self._slot(name.partition(":")[2], "mass_matrix")
        actor = self.layout.actors[slot]
        rows = slice(actor.first_body, actor.first_body + actor.asset.num_bodies)
        jacobian = self._jacobian(slot)
        linear, angular = jacobian[:, :, :3], jacobian[:, :, 3:]
        quat = self._field("xquat")[:, 1:][:, rows]
        turn = torch.stack(
            [rotate(quat, e.expand(*quat.shape[:2], 3)) for e in torch.eye(3, device=self.device)],
            -1,
        )
        inertia = turn @ self._inertia[:, rows] @ turn.transpose(-1, -2)
        mass = self._mass[:, 1:][:, rows]
        matrix = torch.einsum("nbij,nbik,nb->njk", linear, linear, mass.expand(len(linear), -1))
        matrix = matrix + torch.einsum("nbij,nbil,nblk->njk", angular, inertia, angular)
        own = slice(actor.first_dof, actor.first_dof + actor.asset.num_dofs)
        armature = self._armature[:, own]
        pad = matrix.shape[-1] - armature.shape[-1]
        matrix = matrix + torch.diag_embed(torch.nn.functional.pad(armature, (pad, 0)))
        buffer.copy_(matrix)

    # Setters ----------------------------------------------------------------------------------

    def set_root_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Poses and velocities of all actors, or of those listed."""
        new = self._given(states, (self.sim.num_actors, 13), call).view(self.num_envs, -1, 13)
        mask = self._listed(indices, count, call)
        engine = self.ready()
        quat = new[..., 3:7].roll(1, -1)  # w first
        quat = quat / torch.linalg.vector_norm(quat, dim=-1, keepdim=True).clamp_min(1e-9)
        pos = new[..., :3] + self.offset
        if len(self._free):
            f = self._free
            omega = new[:, f, 10:]
            arm = rotate(quat[:, f], self._com[:, self._roots])
            speed = new[:, f, 7:10] - torch.linalg.cross(omega, arm)
            back = quat[:, f] * self._conjugate
            q = torch.cat([pos[:, f], quat[:, f]], -1)
            v = torch.cat([speed, rotate(back, omega)], -1)
            self._write(engine.qpos, self._root_q, q, mask, f)
            self._write(engine.qvel, self._root_v, v, mask, f)
        if len(self._fixed):
            f = self._fixed
            keep = (
                torch.ones((), dtype=torch.bool, device=self.device)
                if mask is None
                else mask[:, f, None]
            )
            engine.mocap_pos.copy_(torch.where(keep, pos[:, f], engine.mocap_pos))
            engine.mocap_quat.copy_(torch.where(keep, quat[:, f], engine.mocap_quat))
        self._note_change(mask)

    def _write(
        self, field: Tensor, index: Tensor, values: Tensor, mask: Tensor | None, of: Tensor
    ) -> None:
        """Columns `index` of a state field, of the actors `of` that `mask` lists."""
        values = values.flatten(1)
        if mask is not None:
            listed = mask[:, of].repeat_interleave(values.shape[1] // max(len(of), 1), 1)
            values = torch.where(listed, values, field[:, index])
        field.index_copy_(1, index, values)

    def set_dof_states(self, states: Any, indices: Any, count: Any, call: str) -> None:
        """Positions and velocities of all degrees of freedom, or of the listed actors'."""
        new = self._given(states, (self.sim.num_dofs, 2), call).view(self.num_envs, -1, 2)
        mask = self._listed(indices, count, call)
        engine = self.ready()
        for field, index, column in (
            (engine.qpos, self._dof_q, 0),
            (engine.qvel, self._dof_v, 1),
        ):
            self._write(field, index, new[..., column], mask, self._actor_of_dof)
        self._note_change(mask)

    def set_dof_commands(self, what: str, values: Any, indices: Any, count: Any, call: str) -> None:
        """Targets or efforts, `what` names the tensor, of all or of the listed actors."""
        held: Tensor = getattr(self, what)
        new = self._given(values, (self.sim.num_dofs,), call).view(held.shape)
        mask = self._listed(indices, count, call)
        if mask is not None:
            new = torch.where(mask[:, self._actor_of_dof], new, held)
        held.copy_(new)

    def apply_forces(self, forces: Any, torques: Any, space: int, call: str) -> None:
        """Add forces at the centres of mass and torques for the next `simulate`."""
        shape = (self.sim.num_bodies, 3)
        wrench = [
            torch.zeros(self.num_envs, self.layout.num_bodies, 3, device=self.device)
            if given is None
            else self._given(given, shape, call).view(self.num_envs, -1, 3)
            for given in (forces, torques)
        ]
        if space == CoordinateSpace.LOCAL_SPACE:
            self._current()
            quat = self._field("xquat")[:, 1:]
            wrench = [rotate(quat, x) for x in wrench]
        self._add_wrench(*wrench)

    def apply_forces_at(self, forces: Any, positions: Any, space: int, call: str) -> None:
        """Add forces at positions for the next `simulate`."""
        if positions is None:
            self.apply_forces(forces, None, space, call)
            return
        shape = (self.sim.num_bodies, 3)
        force = self._given(forces, shape, call).view(self.num_envs, -1, 3)
        place = self._given(positions, shape, call).view(self.num_envs, -1, 3)
        self._current()
        if space == CoordinateSpace.LOCAL_SPACE:
            quat = self._field("xquat")[:, 1:]
            force = rotate(quat, force)
            place = rotate(quat, place) + self._field("xpos")[:, 1:]
        elif space == CoordinateSpace.ENV_SPACE:
            place = place + self.offset
        else:
            place = place - self._beyond_offset
        torque = torch.linalg.cross(place - self._field("xipos")[:, 1:], force)
        self._add_wrench(force, torque)

    def _add_wrench(self, force: Tensor, torque: Tensor) -> None:
        engine = self.ready()
        if not self._forces_used:
            self._forces_used = True
            self._forget_graph()
        engine.xfrc_applied[:, 1:] += torch.cat([force, torque], -1)

    def _note_change(self, mask: Tensor | None) -> None:
        if mask is None:
            self._stale.fill_(True)
        else:
            self._stale |= mask.any(1)
        self._any_stale = True

    def _given(self, descriptor: Any, shape: tuple[int, ...], call: str) -> Tensor:
        """The float tensor of a setter's argument. Raises PhalanxError or TypeError."""
        tensor = _unwrapped(descriptor, call)
        if tensor.dtype != torch.float32:
            raise PhalanxError(f"gym.{call} takes a tensor of float32, not of {tensor.dtype}")
        self._check_device(tensor, call)
        if tensor.numel() != int(np.prod(shape)):
            raise PhalanxError(
                f"gym.{call} takes the tensor of the whole simulation, {shape}, not one of shape"
                f" {tuple(tensor.shape)}"
            )
        return tensor

    def _listed(self, descriptor: Any, count: Any, call: str) -> Tensor | None:
        """Mask (N, actors) of the actors that an index tensor lists; None for all."""
        if descriptor is None:
            return None
        index = _unwrapped(descriptor, call)
        if index.dtype != torch.int32:
            raise PhalanxError(
                f"gym.{call} takes actor indices of int32, not of {index.dtype};"
                " convert them with .to(torch.int32)"
            )
        self._check_device(index, call)
        if not 0 <= int(count) <= index.numel():
            raise PhalanxError(
                f"gym.{call} was given count {int(count)} for {index.numel()} actor indices"
            )
        total = self.sim.num_actors
        index = index.flatten()[: int(count)].long()
        good = (index >= 0) & (index < total)
        if self.device.type == "cpu":
            if not good.all():
                raise PhalanxError(
                    f"gym.{call} was given actor index {int(index[~good][0])}; the simulation has"
                    f" {total} actors, counted from 0 over all environments"
                )
        else:  # found at the next check, since looking now would wait for the device
            self._bad_index |= ~good.all()
            index = torch.where(good, index, total)
        mask = torch.zeros(total + 1, dtype=torch.bool, device=self.device)
        return mask.index_fill_(0, index, True)[:total].view(self.num_envs, -1)

    def _check_device(self, tensor: Tensor, call: str) -> None:
        if tensor.device != self.device:
            raise PhalanxError(
                f"gym.{call} was given a tensor on {tensor.device}; this simulation's are on"
                f" {self.device}"
            )

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(np.array(values, np.float32), device=self.device)

    def _index(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)


_MADE_OF = {
    "rigid_body_state": ("xpos", "xquat", "cvel", "xipos", "subtree_com"),
    "net_contact_force": ("sensordata",),
    "dof_force": ("qfrc_actuator", "qacc"),
    "force_sensor": ("sensordata",),
    "jacobian": ("xipos", "cdof", "subtree_com"),
    "mass_matrix": ("xipos", "cdof", "subtree_com", "xquat"),
}
_MADE_OF_LEFT = {"force_sensor": ("xquat", "cvel")}


def rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Vectors (..., 3) turned by unit quaternions (..., 4), w, x, y, z."""
    w, axis = quat[..., :1], quat[..., 1:]
    axis, vector = torch.broadcast_tensors(axis, vector)
    t = 2 * torch.linalg.cross(axis, vector)
    return vector + w * t + torch.linalg.cross(axis, t)


def xyzw(quat: Tensor) -> Tensor:
    """Quaternions (..., 4) from w, x, y, z to x, y, z, w."""
    return quat.roll(-1, -1)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _unwrapped(descriptor: Any, call: str) -> Tensor:
    if not isinstance(descriptor, api.Tensor):
        raise TypeError(
            f"gym.{call} takes gymtorch.unwrap_tensor(tensor), not a {type(descriptor).__name__}"
        )
    return descriptor.torch


def _same(values: np.ndarray | None, held: np.ndarray) -> bool:
    """Whether one row of values holds for all environments and is what the model has."""
    if values is None:
        return True
    return len(values) == 1 and np.array_equal(
        np.float32(values[0]), np.float32(held).reshape(values[0].shape)
    )


def _moved_by(asset: Any) -> np.ndarray:
    """(bodies, dofs) 1 where a degree of freedom moves a body."""
    model = asset.model
    moved = np.zeros((asset.num_bodies, asset.num_dofs))
    for d, joint in enumerate(asset.dof_joints):
        for b in range(1, model.nbody):
            above = b
            while above and above != model.jnt_bodyid[joint]:
                above = model.body_parentid[above]
            moved[b - 1, d] = above > 0
    return moved


def _offsets(sim: Any, origins: np.ndarray) -> np.ndarray:
    """Where each environment is in its own copy of the world: at its origin if the ground has a
    shape there, else at zero, which keeps single precision fine."""
    for piece in sim.grounds:
        flat = piece.kind == "plane" and not (origins @ list(piece.params.normal)).any()
        if not flat and origins.any():
            return origins
    return np.zeros_like(origins)


def _poses(sim: Any) -> np.ndarray:
    """(environments, actors, 7): positions and quaternions w, x, y, z of `create_actor`."""
    return np.array([[np.concatenate([a.pos, a.quat]) for a in env.actors] for env in sim.envs])
