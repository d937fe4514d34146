"""Environments with objects of many shapes against those with one shape, on our `isaacgym`.

    python benchmarks/drop_in_objects.py assets=/path/to/IsaacGymEnvs/assets device=cuda:0 \\
        num_envs=4096 objects=100 steps=100 rounds=2 out=objects.json

Each environment has an Allegro hand, its palm up, and above that an object: a convex mesh of 80
triangles, one of `objects` shapes, turned at random (worlds in one state would take the same
branches together on a GPU, which those of a training do not). The fingers hold their pose. Rows
alternate between one shape, another one in each round, and all: three of four objects or more stay
in the hand and the others roll off it onto the ground. `in_hand` is the share that is there at the
end. The seconds of `created_s` are those until the tensor of roots exists, of `ready_s` until the
engine is built, too. `step_cpu_ms` is processor time of all cores, which other programs disturb
less.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import trimesh

from isaacgym import gymapi, gymtorch
from phalanx.cli.result import git_commit, versions

HAND = "urdf/kuka_allegro_description/allegro_touch_sensor.urdf"
OBJECT = """<robot name="object"><link name="object">
  <inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4"/></inertial>
  <collision><geometry><mesh filename="{}.stl"/></geometry></collision>
</link></robot>"""
FIRST = 5  # steps that are not timed: they compile what is missing


def write_objects(folder: Path, count: int) -> list[str]:
    """URDF files of different objects, of about 6 cm: a ball turned and stretched at random."""
    rng, ball = np.random.default_rng(0), trimesh.creation.icosphere(subdivisions=1)
    for k in range(count):
        made = ball.copy()
        made.vertices = ball.vertices @ (np.eye(3) + 0.35 * rng.normal(size=(3, 3))) * 0.03
        made.export(folder / f"{k}.stl")
        (folder / f"{k}.urdf").write_text(OBJECT.format(k))
    return [f"{k}.urdf" for k in range(count)]


def placed(y: float, z: float, turned: gymapi.Quat) -> gymapi.Transform:
    return gymapi.Transform(gymapi.Vec3(0, y, z), turned)


def palm_up() -> gymapi.Quat:
    """As in IsaacGymEnvs' AllegroHand."""
    axes = gymapi.Vec3(0, 1, 0), gymapi.Vec3(1, 0, 0), gymapi.Vec3(0, 0, 1)
    y, x, z = map(gymapi.Quat.from_axis_angle, axes, (math.pi, 0.47 * math.pi, 0.25 * math.pi))
    return y * x * z


def measure(
    assets: str, folder: Path, files: list[str], num_envs: int, steps: int, gpu: bool
) -> dict[str, object]:
    gym, params = gymapi.acquire_gym(), gymapi.SimParams()
    params.use_gpu_pipeline, params.dt, params.substeps = gpu, 1 / 60, 2
    params.up_axis, params.gravity = gymapi.UP_AXIS_Z, gymapi.Vec3(0, 0, -9.81)
    began = time.perf_counter()
    sim = gym.create_sim(0, -1, gymapi.SIM_PHYSX, params)
    ground = gymapi.PlaneParams()
    ground.normal = gymapi.Vec3(0, 0, 1)
    gym.add_ground(sim, ground)
    options = gymapi.AssetOptions()
    objects = [gym.load_asset(sim, str(folder), file, options) for file in files]
    options.fix_base_link = options.collapse_fixed_joints = options.disable_gravity = True
    options.default_dof_drive_mode = gymapi.DOF_MODE_POS
    hand = gym.load_asset(sim, assets, HAND, options)
    drives = gym.get_asset_dof_properties(hand)
    drives["stiffness"], drives["damping"] = 3.0, 0.1
    rng = np.random.default_rng(1)
    for i in range(num_envs):
        turned = gymapi.Quat(*rng.normal(size=4)).normalize()
        env = gym.create_env(sim, gymapi.Vec3(), gymapi.Vec3(1, 1, 1), 64)
        held = gym.create_actor(env, hand, placed(0, 0.5, palm_up()), "hand", i, -1, 0)
        gym.set_actor_dof_properties(env, held, drives)
        object_ = objects[i % len(objects)]
        gym.create_actor(env, object_, placed(-0.2, 0.61, turned), "object", i, 0, 0)
    gym.prepare_sim(sim)
    roots = gymtorch.wrap_tensor(gym.acquire_actor_root_state_tensor(sim))
    assert roots is not None
    created = time.perf_counter() - began

    def run(count: int) -> float:
        for _ in range(count):
            gym.simulate(sim)
            gym.refresh_actor_root_state_tensor(sim)
        return float(torch.sum(roots))  # waits for the device

    gym.refresh_actor_root_state_tensor(sim)
    ready = time.perf_counter() - began
    run(FIRST)
    start, busy = time.perf_counter(), time.process_time()
    finite = np.isfinite(run(steps))
    seconds, busy = (time.perf_counter() - start) / steps, (time.process_time() - busy) / steps
    row: dict[str, object] = {
        "objects": len(files),
        "created_s": round(created, 1),
        "ready_s": round(ready, 1),
        "step_ms": round(seconds * 1e3, 2),
        "step_cpu_ms": round(busy * 1e3, 2),
        "steps_per_s": round(num_envs / seconds),
        "finite": bool(finite),
        "in_hand": round(float((roots[1::2, 2] > 0.45).float().mean()), 3),
    }
    gym.destroy_sim(sim)
    return row


def main() -> None:
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    device, num_envs = given.get("device", "cuda:0"), int(given.get("num_envs", 4096))
    steps, gpu = int(given.get("steps", 100)), device.startswith("cuda")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_objects(Path(folder), int(given.get("objects", 100)))
        measure(given["assets"], Path(folder), files[:1], 16, 1, gpu)  # imports, caches
        for k in range(int(given.get("rounds", 2))):
            for own in (files[k % len(files) :][:1], files):
                row = measure(given["assets"], Path(folder), own, num_envs, steps, gpu)
                print(json.dumps(row), flush=True)
                rows.append(row)
    result = {
        "command": "benchmarks/drop_in_objects.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "hardware": torch.cuda.get_device_name() if gpu else given.get("hardware", ""),
        "versions": versions(),
        "git_commit": git_commit(),
        "num_envs": num_envs,
        "rows": rows,
    }
    if "out" in given:
        Path(given["out"]).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
