"""Speed of the drop-in's cameras: depth images from quadrupeds on terrain.

    uv run python benchmarks/cameras.py num_envs=4096 size=64 out=cameras.json
    uv run python benchmarks/cameras.py sim_device=cpu num_envs=16          # a quick look

Each robot has one camera in its head that looks ahead and down. `robot=` takes a URDF or MJCF file
instead of the quadruped of boxes and capsules that is written here. The frame of a control step is
two `simulate` of 5 ms, new images, and one tensor of all images. Prints JSON.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isaacgym import gymapi, gymtorch
from phalanx.cli.result import git_commit, versions

FRAMES, WARM = 20, 3
LEG = """
  <joint name="{n}_hip" type="revolute"><parent link="base"/><child link="{n}_thigh"/>
    <origin xyz="{x} {y} 0"/><axis xyz="0 1 0"/>
    <limit lower="-1.5" upper="1.5" effort="40" velocity="20"/></joint>
  <link name="{n}_thigh"><inertial><mass value="1"/><origin xyz="0 0 -0.12"/>
    <inertia ixx="0.006" iyy="0.006" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial>
    {shape}</link>
  <joint name="{n}_knee" type="revolute"><parent link="{n}_thigh"/><child link="{n}_shank"/>
    <origin xyz="0 0 -0.25"/><axis xyz="0 1 0"/>
    <limit lower="-2.5" upper="2.5" effort="40" velocity="20"/></joint>
  <link name="{n}_shank"><inertial><mass value="0.5"/><origin xyz="0 0 -0.12"/>
    <inertia ixx="0.003" iyy="0.003" izz="0.0005" ixy="0" ixz="0" iyz="0"/></inertial>
    {shape}</link>"""


def quadruped() -> str:
    """URDF of a trunk on four legs of two links each."""
    cylinder = '<geometry><cylinder radius="0.03" length="0.25"/></geometry>'
    at = '<origin xyz="0 0 -0.125"/>'
    shape = f"<visual>{at}{cylinder}</visual><collision>{at}{cylinder}</collision>"
    corners = {"fl": (0.25, 0.15), "fr": (0.25, -0.15), "rl": (-0.25, 0.15), "rr": (-0.25, -0.15)}
    legs = "".join(LEG.format(n=n, x=x, y=y, shape=shape) for n, (x, y) in corners.items())
    box = '<geometry><box size="0.6 0.24 0.12"/></geometry>'
    return f"""<robot name="quadruped"><link name="base"><inertial><mass value="10"/>
      <inertia ixx="0.1" iyy="0.35" izz="0.35" ixy="0" ixz="0" iyz="0"/></inertial>
      <visual>{box}</visual><collision>{box}</collision></link>{legs}</robot>"""


def build(gym: Any, settings: dict[str, str], device: torch.device) -> tuple[Any, list[Any]]:
    """The simulation and its environments, each with a camera."""
    params = gymapi.SimParams()
    params.dt, params.substeps = 0.005, 1
    params.up_axis, params.gravity = gymapi.UP_AXIS_Z, gymapi.Vec3(0, 0, -9.81)
    params.use_gpu_pipeline = device.type == "cuda"
    sim = gym.create_sim(device.index or 0, 0, gymapi.SIM_PHYSX, params)
    terrain = gymapi.HeightFieldParams()
    cells = 400
    terrain.nbRows = terrain.nbColumns = cells
    terrain.row_scale = terrain.column_scale = 0.1
    terrain.vertical_scale = 0.005
    terrain.transform.p = gymapi.Vec3(-2, -2, 0)
    heights = np.random.default_rng(0).integers(0, 20, (cells, cells)).astype(np.int16)
    gym.add_heightfield(sim, heights.flatten(), terrain)
    options = gymapi.AssetOptions()
    options.collapse_fixed_joints = True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(settings.get("robot", Path(folder, "quadruped.urdf")))
        if "robot" not in settings:
            file.write_text(quadruped())
        asset = gym.load_asset(sim, str(file.parent), file.name, options)
    count, size = int(settings["num_envs"]), int(settings["size"])
    lens = gymapi.CameraProperties()
    lens.width = lens.height = size
    lens.horizontal_fov, lens.far_plane, lens.enable_tensors = 87.0, 10.0, True
    down = gymapi.Transform(gymapi.Vec3(0.35, 0, 0.05), gymapi.Quat.from_euler_zyx(0, 0.5, 0))
    per_row = int(count**0.5)
    cell = 36.0 / per_row
    envs = []
    for k in range(count):
        env = gym.create_env(sim, gymapi.Vec3(), gymapi.Vec3(cell, cell, 0), per_row)
        start = gymapi.Transform(gymapi.Vec3(0, 0, 0.65))
        gym.create_actor(env, asset, start, "robot", k, 0, 1)
        camera = gym.create_camera_sensor(env, lens)
        gym.attach_camera_to_body(camera, env, 0, down, gymapi.FOLLOW_TRANSFORM)
        envs.append(env)
    gym.prepare_sim(sim)
    return sim, envs


def clock(device: torch.device) -> float:
    """Now [s], once the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main(arguments: list[str]) -> None:
    settings = {"num_envs": "4096", "size": "64", "images": "depth", "sim_device": "cuda:0"}
    settings |= dict(argument.split("=", 1) for argument in arguments)
    device = torch.device(settings["sim_device"])
    kind = getattr(gymapi, f"IMAGE_{settings['images'].upper()}")
    gym = gymapi.acquire_gym()
    start = clock(device)
    sim, envs = build(gym, settings, device)
    built = clock(device)
    images = [
        gymtorch.wrap_tensor(gym.get_camera_image_gpu_tensor(sim, env, 0, kind)) for env in envs
    ]
    gym.render_all_camera_sensors(sim)
    first = clock(device)
    took: dict[str, list[float]] = {"physics": [], "images": [], "one tensor": []}
    for _ in range(WARM + FRAMES):
        times = [clock(device)]
        for _ in range(2):
            gym.simulate(sim)
            gym.fetch_results(sim, True)
        times.append(clock(device))
        gym.render_all_camera_sensors(sim)
        times.append(clock(device))
        gym.start_access_image_tensors(sim)
        batch = torch.stack(images)
        gym.end_access_image_tensors(sim)
        times.append(clock(device))
        for name, duration in zip(took, np.diff(times), strict=True):
            took[name].append(float(duration))
    medians = {name: float(np.median(values[WARM:])) for name, values in took.items()}
    shown = batch[torch.isfinite(batch)] if batch.is_floating_point() else batch
    seconds = medians["images"] + medians["one tensor"]
    result = {
        "settings": settings,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "seconds_to_build": round(built - start, 2),
        "seconds_to_first_images": round(first - built, 2),
        "milliseconds": {name: round(1e3 * value, 3) for name, value in medians.items()},
        "images_per_second": round(len(envs) / seconds),
        "frames_per_second_with_physics": round(1 / sum(medians.values()), 1),
        "memory_gb": (
            round(
                (torch.cuda.mem_get_info(device)[1] - torch.cuda.mem_get_info(device)[0]) / 1e9, 2
            )
            if device.type == "cuda"
            else None
        ),
        "seen": {"share": shown.numel() / batch.numel(), "mean": float(shown.double().mean())},
        "commit": git_commit(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))
    if "out" in settings:
        Path(settings["out"]).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
