"""A small Isaac Gym client for tests: `World` creates environments and steps them."""

from pathlib import Path
from typing import Any

import torch

from isaacgym import gymapi, gymtorch

GYM = gymapi.acquire_gym()


def params(
    dt: float = 0.01, substeps: int = 1, gravity: float = -9.81, gpu: bool = False
) -> gymapi.SimParams:
    held = gymapi.SimParams()
    held.use_gpu_pipeline = gpu
    held.dt, held.substeps = dt, substeps
    held.up_axis = gymapi.UP_AXIS_Z
    held.gravity = gymapi.Vec3(0.0, 0.0, gravity)
    return held


def options(**fields: Any) -> gymapi.AssetOptions:
    held = gymapi.AssetOptions()
    held.angular_damping = 0.0
    for name, value in fields.items():
        setattr(held, name, value)
    return held


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, r: Any = None) -> gymapi.Transform:
    return gymapi.Transform(gymapi.Vec3(x, y, z), r or gymapi.Quat())


class World:
    """One simulation. `add` places an asset in each environment that `envs` creates."""

    def __init__(self, **kwargs: Any) -> None:
        self.sim = GYM.create_sim(0, -1, gymapi.SIM_PHYSX, params(**kwargs))
        self.envs: list[Any] = []
        self.tensors: dict[str, Any] = {}

    def ground(self, normal: tuple[float, float, float] = (0, 0, 1), friction: float = 1.0) -> None:
        plane = gymapi.PlaneParams()
        plane.normal = gymapi.Vec3(*normal)
        plane.static_friction = plane.dynamic_friction = friction
        GYM.add_ground(self.sim, plane)

    def env(self, spacing: float = 0.0, per_row: int = 2) -> Any:
        far = gymapi.Vec3(spacing, spacing, spacing)
        self.envs.append(GYM.create_env(self.sim, gymapi.Vec3(), far, per_row))
        return self.envs[-1]

    def load(self, folder: Path, name: str, text: str, **fields: Any) -> Any:
        (folder / name).write_text(text)
        return GYM.load_asset(self.sim, str(folder), name, options(**fields))

    def tensor(self, name: str, *args: Any) -> torch.Tensor:
        """Acquired, at most once, and refreshed now."""
        key = name + "".join(args)
        if key not in self.tensors:
            acquired = getattr(GYM, f"acquire_{name}_tensor")(self.sim, *args)
            self.tensors[key] = gymtorch.wrap_tensor(acquired)
        plural = "s" if name in ("jacobian", "mass_matrix") else ""
        getattr(GYM, f"refresh_{name}_tensor{plural}")(self.sim)
        return self.tensors[key]

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            GYM.simulate(self.sim)
            GYM.fetch_results(self.sim, True)


def indices(*values: int) -> Any:
    return gymtorch.unwrap_tensor(torch.tensor(values, dtype=torch.int32))


SLIDER = """<robot name="slider">
  <link name="rail"/>
  <link name="cart"><inertial><mass value="2"/><inertia ixx="1" iyy="1" izz="1"/></inertial></link>
  <joint name="slide" type="prismatic">
    <parent link="rail"/><child link="cart"/><axis xyz="1 0 0"/>
    <limit effort="{effort}" velocity="100" lower="-10" upper="10"/>
  </joint>
</robot>"""

PENDULUM = """<robot name="pendulum">
  <link name="pivot"/>
  <link name="rod"><inertial><origin xyz="0 0 -0.5"/><mass value="1"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.01"/></inertial></link>
  <joint name="hinge" type="continuous">
    <parent link="pivot"/><child link="rod"/><axis xyz="0 1 0"/>
  </joint>
</robot>"""

TWO_LINKS = """<robot name="arm">
  <link name="base"/>
  <link name="upper"><inertial><origin xyz="0.5 0 0"/><mass value="1"/>
    <inertia ixx="0.01" iyy="0.1" izz="0.1"/></inertial></link>
  <link name="lower"><inertial><origin xyz="0.25 0 0"/><mass value="0.5"/>
    <inertia ixx="0.01" iyy="0.02" izz="0.02"/></inertial></link>
  <joint name="shoulder" type="continuous">
    <parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
  </joint>
  <joint name="elbow" type="continuous">
    <origin xyz="1 0 0"/><parent link="upper"/><child link="lower"/><axis xyz="0 0 1"/>
  </joint>
</robot>"""

# A light foot under a heavy base, with a velocity limit of 12 rad/s.
FOOT = """<robot name="two"><link name="base"><inertial><mass value="10"/>
  <inertia ixx="0.4" iyy="0.4" izz="0.4" ixy="0" ixz="0" iyz="0"/></inertial></link>
<link name="foot"><inertial><origin xyz="0 0 -0.03"/><mass value="0.34"/>
  <inertia ixx="0.0002" iyy="0.0002" izz="0.0002" ixy="0" ixz="0" iyz="0"/></inertial></link>
<joint name="ankle" type="revolute"><parent link="base"/><child link="foot"/>
  <origin xyz="0 0 -0.5"/><axis xyz="1 0 0"/>
  <limit lower="-3" upper="3" effort="100" velocity="12"/></joint></robot>"""
