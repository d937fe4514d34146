"""Writes what mjlab computes in given states, which our tasks with its definition must equal.

    python benchmarks/mjlab_terms.py out=mjlab_terms.json      in an environment with mjlab 1.6

Six states of its flat velocity tasks of the Go1 and the G1, by seed: tilted bases above the ground,
joints off their pose, velocities, commands from standing to running, two actions. For each the
terms of the reward before their weights, the weights, the policy's observation without noise and
the numbers of actuators, joints and feet that the definition sets. On the CPU; Warp compiles its
kernels for two minutes first. `tests/test_mjlab_terms.py` compares.
"""

import datetime
import json
import platform
import sys
from importlib.metadata import version
from typing import Any

import mjlab.tasks  # noqa: F401  registers the tasks
import mujoco
import numpy as np
import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.tasks.registry import load_env_cfg

TASKS = {
    "Go1VelocityMjlab": "Mjlab-Velocity-Flat-Unitree-Go1",
    "G1VelocityMjlab": "Mjlab-Velocity-Flat-Unitree-G1",
}
STATES = 6
JOINT = ("jnt_range",)
DOF = ("dof_armature", "dof_damping", "dof_frictionloss")
ACTUATOR = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")
OPTION = ("timestep", "integrator", "solver", "iterations", "ls_iterations", "cone", "impratio")
GEOM = ("geom_condim", "geom_friction", "geom_solref", "geom_solimp")


def plain(values: Any) -> Any:
    """As lists, with seven digits."""
    return [float(f"{v:.7g}") if np.ndim(v) == 0 else plain(v) for v in values]


def definition(model: mujoco.MjModel) -> dict[str, Any]:
    """The numbers of a compiled model that are mjlab's choice, by joint, for feet and ground."""
    joints = [model.joint(i) for i in range(1, model.njnt)]
    driven = {int(model.actuator_trnid[i, 0]): i for i in range(model.nu)}
    actuators = [driven[j.id] for j in joints]
    dofs = [int(j.dofadr[0]) for j in joints]
    names = [model.geom(i).name for i in range(model.ngeom)]
    feet = [i for i, name in enumerate(names) if "_foot" in name]
    return {
        "joints": [j.name.split("/")[-1] for j in joints],
        "option": plain(float(getattr(model.opt, k)) for k in OPTION),
        **{k: plain(getattr(model, k)[1:]) for k in JOINT},
        **{k: plain(getattr(model, k)[dofs]) for k in DOF},
        **{k: plain(getattr(model, k)[actuators][:, :3]) for k in ACTUATOR},
        **{f"foot_{k}": plain(np.atleast_1d(getattr(model, k)[feet[0]])) for k in GEOM},
        **{
            f"ground_{k}": plain(np.atleast_1d(getattr(model, k)[names.index("terrain")]))
            for k in GEOM
        },
    }


def measure(task: str) -> dict[str, Any]:
    config = load_env_cfg(task)
    config.scene.num_envs = STATES
    config.events = {k: v for k, v in config.events.items() if k.startswith("reset")}
    config.observations["actor"].enable_corruption = False
    env = ManagerBasedRlEnv(cfg=config, device="cpu")
    env.reset()
    model, data, rng = env.sim.mj_model, env.sim.data, np.random.default_rng(0)
    given = {
        "qpos": data.qpos[:].clone().double().numpy(),
        "qvel": rng.uniform(-1, 1, (STATES, model.nv)),
        "command": rng.uniform(-1, 1, (STATES, 3)),
        "action": rng.normal(size=(STATES, model.nu)),
        "last_action": rng.normal(size=(STATES, model.nu)),
    }
    given["qpos"][:, :2] = 0
    given["qpos"][:, 2] += rng.uniform(0, 0.2, STATES)
    given["qpos"][:, 3:7] = np.array([1, 0, 0, 0]) + 0.2 * rng.normal(size=(STATES, 4))
    given["qpos"][:, 3:7] /= np.linalg.norm(given["qpos"][:, 3:7], axis=1, keepdims=True)
    given["qpos"][:, 7:] += rng.uniform(-0.3, 0.3, (STATES, model.nu))
    given["command"][:3] = [[0, 0, 0], [0.02, 0, 0], [1, 1, 0.5]]
    tensors = {k: torch.tensor(v, dtype=torch.float32) for k, v in given.items()}
    data.qpos[:], data.qvel[:] = tensors["qpos"], tensors["qvel"]
    env.sim.forward()
    env.sim.sense()
    env.command_manager.get_term("twist").vel_command_b[:] = tensors["command"]
    env.action_manager._action[:] = tensors["action"]
    env.action_manager._prev_action[:] = tensors["last_action"]
    env.scene.update(dt=env.physics_dt)
    env.extras["log"] = {}
    rewards = env.reward_manager
    terms = dict(zip(rewards._term_names, rewards._term_cfgs, strict=True))
    action = env.action_manager.get_term("joint_pos")
    return {
        **{k: plain(v.numpy()) for k, v in tensors.items()},
        "terms": {k: plain(t.func(env, **t.params).numpy()) for k, t in terms.items()},
        "weights": {k: t.weight for k, t in terms.items()},
        "observation": plain(env.observation_manager.compute(update_history=True)["actor"].numpy()),
        "action_scale": plain(np.broadcast_to(action._scale, (STATES, model.nu))[0]),
        "definition": definition(model),
    }


def main() -> None:
    out = dict(arg.split("=", 1) for arg in sys.argv[1:])["out"]
    packages = ("mjlab", "mujoco", "mujoco-warp", "warp-lang", "torch", "numpy")
    result = {
        "date": str(datetime.date.today()),
        "command": "python benchmarks/mjlab_terms.py out=mjlab_terms.json",
        "hardware": platform.machine(),
        "versions": {p: version(p) for p in packages},
        "tasks": {ours: measure(task) for ours, task in TASKS.items()},
    }
    with open(out, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
