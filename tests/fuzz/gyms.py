"""Calls of the `isaacgym` drop-in with broken arguments."""

import copy
import enum
import inspect
import typing

import numpy as np
import torch

from fuzz import mutate
from isaac import GYM, World, pose
from isaacgym import gymapi, gymtorch
from isaacgym.structs import Struct
from phalanx.errors import PhalanxError

ROBOT = """
<mujoco><compiler autolimits="true"/><worldbody><body name="base"><freejoint/>
  <geom type="box" size=".1 .1 .1" mass="1"/>
  <body name="arm" pos=".1 0 0"><joint name="a" axis="0 1 0" range="-1 1" damping="0.1"/>
    <geom type="capsule" fromto="0 0 0 .2 0 0" size=".02" mass=".1"/>
    <body name="hand" pos=".2 0 0"><joint name="b" axis="0 1 0" range="-1 1" damping="0.1"/>
      <geom size=".03" mass=".1"/></body></body></body></worldbody>
  <tendon><fixed name="t"><joint joint="a" coef="1"/><joint joint="b" coef="1"/></fixed></tendon>
</mujoco>
"""
SKIPPED = """
create_sim destroy_sim destroy_env create_viewer destroy_viewer draw_viewer step_graphics initialize
acquire_gym sync_frame_time poll_viewer_events debug_print_asset create_env create_actor load_asset
load_urdf load_mjcf render_all_camera_sensors
""".split()


class Gym:
    """A small simulation, made anew after every accepted call that could have changed it."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.folder = folder
        self.names = [
            name
            for name, f in inspect.getmembers(type(GYM), inspect.isfunction)
            if not name.startswith("_") and name not in SKIPPED
        ]
        self.world = None

    def case(self, rng):
        return rng.choice(self.names), rng

    def make(self):
        self.world = world = World()
        world.ground()
        self.asset = world.load(self.folder, "robot.xml", ROBOT)
        for _ in range(2):
            env = world.env(2.0)
            self.handle = GYM.create_actor(env, self.asset, pose(z=1.0), "robot", -1, 0)
            properties = gymapi.AttractorProperties()
            properties.stiffness, properties.damping = 10.0, 1.0
            properties.axes, properties.rigid_handle = gymapi.AXIS_TRANSLATION, 0
            GYM.create_rigid_body_attractor(env, properties)
        self.env = world.envs[0]

    def valid(self, name, parameter, hint, rng):
        """A right value for a parameter."""
        kind = typing.get_args(hint)[0] if typing.get_args(hint) else hint
        number = {"flags": gymapi.STATE_ALL, "width": 2, "height": 2, "count": 1}
        held = {
            "sim": self.world.sim, "env": self.env, "asset": self.asset, "viewer": None,
            "envs": self.world.envs, "actors": [0], "handle": 0, "index": 0, "name": "a",
            "actor_name": "robot", "body_name": "arm", "joint_name": "a", "max_bodies": 3,
            "filename": "x.png", "rootpath": str(self.folder), "action": "QUIT",
            "buffer": np.zeros(16, np.uint8), "heightsamples": np.zeros((3, 3), np.int16),
            "vertices": np.array([0, 0, 0, 1, 0, 0, 0, 1, 0], np.float32),
            "triangles": np.array([0, 1, 2], np.uint32), "coefficients": [1.0, 1.0],
            "colors": np.zeros(3, np.float32), **number,
        }  # fmt: skip
        if parameter in ("properties", "props", "states", "targets", "efforts"):
            return self.rows(name, parameter)
        if parameter in held:
            return held[parameter]
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return next(iter(kind))
        if isinstance(kind, type) and issubclass(kind, Struct):
            return kind()
        if kind is gymtorch.Tensor if hasattr(gymtorch, "Tensor") else False:
            return None
        return {int: 0, float: 0.5, bool: True, str: "x"}.get(kind)

    def rows(self, name, parameter):
        """What the getter beside a setter returns, or a tensor of the right size."""
        if "tensor" in name:
            shape = {"actor_root": (2, 13), "dof_state": (4, 2)}
            size = next((v for k, v in shape.items() if k in name), (4,))
            return gymtorch.unwrap_tensor(torch.zeros(size))
        if name == "set_attractor_properties":
            return GYM.get_attractor_properties(self.env, 0)
        if name == "create_rigid_body_attractor":
            return gymapi.AttractorProperties()
        if name.startswith("create_camera"):
            return gymapi.CameraProperties()
        if name.startswith("create_asset_force"):
            return gymapi.ForceSensorProperties()
        if name.startswith("set_asset"):
            return getattr(GYM, name.replace("set_", "get_", 1))(self.asset)
        if name == "set_actor_dof_states":
            return GYM.get_actor_dof_states(self.env, 0, gymapi.STATE_ALL)
        if name.startswith("set_actor") and parameter == "properties":
            return getattr(GYM, name.replace("set_", "get_", 1))(self.env, 0)
        return np.zeros(2, np.float32)

    def broken(self, rng, value):
        """A wrong value in the place of this one."""
        if isinstance(value, list) and value and isinstance(value[0], Struct) and rng.randrange(4):
            value = [copy.copy(v) for v in value]
            at = rng.randrange(len(value))
            value[at] = self.broken(rng, value[at])
            return value
        if isinstance(value, Struct) and rng.randrange(4):
            value = copy.copy(value)
            name = rng.choice(list(value._fields))
            old = getattr(value, name)
            new = self.broken(rng, old) if isinstance(old, Struct) else mutate.values(rng, old)
            try:
                setattr(value, name, new)
            except (TypeError, AttributeError, OverflowError):  # the struct refuses it
                return value
            return value
        if isinstance(value, np.ndarray) and value.dtype.names and rng.randrange(4):
            value = value.copy()
            name = rng.choice(value.dtype.names)
            at = rng.randrange(len(value)) if len(value) else 0
            if len(value):
                number = rng.choice((np.nan, np.inf, -1.0, -1e30, 1e30, 0.0, 5.0))
                with np.errstate(all="ignore"):
                    value[name][at] = (
                        number if value[name].dtype.kind == "f" else int(rng.random() * 9)
                    )
            return value
        if rng.randrange(3) == 0:
            return rng.choice(
                (self.env, self.asset, self.world.sim, gymapi.Vec3(), [gymapi.Vec3()])
            )
        return mutate.values(
            rng, value if isinstance(value, (int, float, str, np.ndarray)) else 1.0
        )

    def __call__(self, argument):
        name, rng = argument
        if self.world is None:
            self.make()
            if rng.randrange(2):
                GYM.prepare_sim(self.world.sim)
                GYM.simulate(self.world.sim)
        method = getattr(GYM, name)
        hints = typing.get_type_hints(method)
        parameters = inspect.signature(method).parameters
        given = {p: self.valid(name, p, hints.get(p), rng) for p in parameters}
        if not given:
            return
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.choice(list(given))
            given[place] = self.broken(rng, given[place])
        try:
            method(**given)
        except (TypeError, NotImplementedError) as error:
            if str(error).startswith("gym."):
                raise PhalanxError(str(error)) from error
            raise
        if name.startswith(("set_", "apply_", "create_", "add_", "enable_")):
            world, self.world = self.world, None
            GYM.simulate(world.sim)
            GYM.simulate(world.sim)
            states = GYM.get_actor_dof_states(world.envs[0], 0, gymapi.STATE_ALL)
            assert np.isfinite(states["pos"]).all(), "a joint is nowhere"
            assert np.isfinite(states["vel"]).all(), "a joint has no velocity"
            GYM.destroy_sim(world.sim)
