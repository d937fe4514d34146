"""Compares robots: our files with the original ones, if these are available; a task on MuJoCo's C
engine with the same task on MuJoCo Warp, and with a fully converged solution."""

from pathlib import Path

import pytest
import torch

from phalanx import tasks
from phalanx.sim import Sim
from phalanx.sim.assets import load_robot

ISAAC_MJCF = Path(__file__).parents[2] / "shared" / "assets" / "isaacgymenvs" / "mjcf"

needs_isaac_gyms_files = pytest.mark.skipif(
    not ISAAC_MJCF.exists(), reason=f"Isaac Gym's assets are not at {ISAAC_MJCF}"
)


def facts(model):
    """The properties that define a robot, by name, in the order of the file."""
    names = [model.jnt(i).name for i in range(model.njnt)]
    motors = {
        names[model.actuator_trnid[i, 0]]: (model.actuator_gear[i, 0], model.actuator_ctrlrange[i])
        for i in range(model.nu)
    }
    bodies = {
        model.body(i).name: (model.body_mass[i], model.body_inertia[i], model.body_ipos[i])
        for i in range(1, model.nbody)
    }
    joints = {
        name: (
            *(model.jnt_type[i], model.jnt_range[i], model.jnt_axis[i], model.jnt_pos[i]),
            *(model.jnt_stiffness[i], model.jnt_solimp[i]),
            *(model.dof_armature[model.jnt_dofadr[i]], model.dof_damping[model.jnt_dofadr[i]]),
        )
        for i, name in enumerate(names)
    }
    shapes = {
        (model.body(model.geom_bodyid[i]).name, i - model.body_geomadr[model.geom_bodyid[i]]): (
            *(model.geom_type[i], model.geom_size[i], model.geom_pos[i], model.geom_friction[i]),
            *(model.geom_condim[i], model.geom_margin[i], model.geom_solref[i]),
        )
        for i in range(model.ngeom)
        if model.geom_bodyid[i]
    }
    return {"motors": motors, "bodies": bodies, "joints": joints, "shapes": shapes}


def assert_same_robot(ours, theirs):
    """Both arguments are files. The order of motors may differ; in our files it is that of the
    joints."""
    mine, reference = [facts(load_robot(file).compile()) for file in (ours, theirs)]
    for kind, entries in reference.items():
        assert sorted(map(str, mine[kind])) == sorted(map(str, entries))
        if kind != "motors":
            assert list(mine[kind]) == list(entries)
        for name, values in entries.items():
            for a, b in zip(mine[kind][name], values, strict=True):
                assert a == pytest.approx(b, rel=1e-6, abs=1e-9), (kind, name)
    assert list(mine["motors"]) == [j for j in mine["joints"] if j != "root"]


def engines_apart(name, steps=60, num_envs=4):
    """Difference between one step of both engines from the same state: observations reached,
    (steps, num_envs, num_obs), relative to 1 + their size, and rewards, (steps, num_envs)."""
    cpu, warp = (tasks.make(name, num_envs, device="cpu", engine=e) for e in ("mujoco", "warp"))
    for task in (cpu, warp):
        torch.manual_seed(0)
        task.reset()
    obs, rewards = [], []
    for t in range(steps):
        for field in ("qpos", "qvel"):
            getattr(warp.sim, field).copy_(getattr(cpu.sim, field))
        for buffer in vars(cpu).keys() & {"distance", "actions", "progress_buf"}:
            getattr(warp, buffer).copy_(getattr(cpu, buffer))
        for task in (cpu, warp):
            torch.manual_seed(t)  # the same actions, and the same new episodes
            task.step(2 * torch.rand(num_envs, task.num_actions) - 1)
        assert torch.equal(cpu.terminated, warp.terminated)
        reached = cpu.terminal_obs_buf
        obs.append((reached - warp.terminal_obs_buf).abs() / (1 + reached.abs()))
        rewards.append((cpu.rew_buf - warp.rew_buf).abs())
    return torch.stack(obs), torch.stack(rewards)


def assert_solved_exactly(name, steps=30, num_envs=64):
    """Assert that every step with random actions gives the velocities of 100 solver iterations."""
    torch.manual_seed(0)
    task = tasks.make(name, num_envs, device="cpu")
    task.reset()
    scene = task.create_scene()
    scene.spec.option.iterations, scene.spec.option.ls_iterations = 100, 50
    exact = Sim(scene, num_envs, device="cpu", substeps=task.config.substeps)
    for _ in range(steps):
        exact.qpos.copy_(task.sim.qpos)
        exact.qvel.copy_(task.sim.qvel)
        task.pre_physics_step(2 * torch.rand(num_envs, task.num_actions) - 1)
        exact.ctrl.copy_(task.sim.ctrl)
        task.sim.step()
        exact.step()
        torch.testing.assert_close(task.sim.qvel, exact.qvel, rtol=1e-4, atol=1e-2)
