"""Our tasks with mjlab's definition compute what mjlab computes, in the same states.

`benchmarks/mjlab_terms.py` has written mjlab's numbers.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx import tasks

MJLAB = json.loads(
    (Path(__file__).parents[1] / "benchmarks/results/mjlab_terms_2026-11-29.json").read_text()
)["tasks"]
THEIR_NAMES = {
    "track_lin_vel": "track_linear_velocity",
    "track_ang_vel": "track_angular_velocity",
    "at_limit": "dof_pos_limits",
    "action_rate": "action_rate_l2",
    "swing_height": "foot_swing_height",
    "slip": "foot_slip",
    "self_collision": "self_collisions",
}
UNUSED = "air_time"  # with weight 0 in both of mjlab's tasks
BY_CONTACT = ("swing_height", "slip", "soft_landing", "self_collision")  # nothing touches here
IMU = {
    "Go1VelocityMjlab": (-0.01592, -0.06659, -0.00617),
    "G1VelocityMjlab": (0.04525, 0.0, -0.08339),
}
"""Where mjlab's velocimeter is, in the base's frame [m]; ours is at the origin."""


@pytest.mark.parametrize("name", MJLAB)
def test_reward_observation_and_model_are_mjlabs(name):
    theirs = MJLAB[name]
    given = {k: torch.tensor(v) for k, v in theirs.items() if isinstance(v, list)}
    n = len(given["qpos"])
    task = tasks.make(name, n, device="cpu", engine="mujoco", randomize=False)
    task.reset()
    sim = task.sim
    sim.qpos.copy_(given["qpos"])
    sim.qvel.copy_(given["qvel"])
    sim.forward()
    task.encoder_bias.zero_()
    task.commands.values.copy_(given["command"])
    task.actions.copy_(given["action"])
    task.previous_actions.copy_(given["action"])
    task.last_actions.copy_(given["last_action"])
    task.feet.update(task.robot.contact_force)
    observed = task.compute_observations()
    terms = task.reward_terms(task.base, torch.zeros(n, 0))

    weights = {THEIR_NAMES.get(k, k): w for k, w in asdict(task.config.rewards).items()}
    assert theirs["weights"].pop(UNUSED) == 0
    assert theirs["weights"] == {k: w for k, w in weights.items() if k in theirs["weights"] or w}
    for ours, values in terms.items():
        term = theirs["terms"].get(THEIR_NAMES.get(ours, ours))
        if term is not None and ours not in BY_CONTACT:
            np.testing.assert_allclose(values, term, rtol=2e-5, atol=2e-6, err_msg=ours)
            assert np.ptp(term) > 0 or ours == "at_limit", ours

    at_imu = observed[:, :3] + torch.linalg.cross(observed[:, 3:6], torch.tensor(IMU[name])[None])
    seen = torch.cat([at_imu, observed[:, 3:]], 1)
    np.testing.assert_allclose(seen, given["observation"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(task.action_scale, given["action_scale"], rtol=1e-4)

    model, definition = sim.model, theirs["definition"]
    assert task.robot.joint_names == definition.pop("joints")
    option = ("timestep", "integrator", "solver", "iterations", "ls_iterations", "cone", "impratio")
    assert [float(getattr(model.opt, k)) for k in option] == definition.pop("option")
    sole = next(i for i in range(model.ngeom) if model.geom_priority[i])
    places = {"foot": sole, "ground": model.geom("ground").id}
    for key, values in definition.items():
        part, _, field = key.partition("_")
        if part in places:
            ours = np.atleast_1d(getattr(model, field)[places[part]])
        elif part == "actuator":
            ours = getattr(model, key)[:, :3]
        else:
            ours = getattr(model, key)[6 if part == "dof" else 1 :]
        np.testing.assert_allclose(
            ours[..., : np.shape(values)[-1]], values, rtol=1e-4, err_msg=key
        )
