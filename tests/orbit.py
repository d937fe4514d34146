"""A point that moves freely, and demonstrations of a point that circles the origin: the smallest
imitation task, with known arithmetic."""

import contextlib

import torch

from phalanx.rl import vecenv
from phalanx.spaces import Box

STEP = 0.3
"""Angle by which the demonstrated point moves in a step [rad]."""


class Orbit:
    """x' = x + 0.4 a in the plane; reward 1; an episode terminates 2 from the origin and times out
    after 20 steps, and starts on the unit circle. The discriminator's input is (x', x)."""

    observation_space = Box((2,))
    action_space = Box((2,), -1.0, 1.0)
    amp_observation_space = Box((4,))

    def __init__(self, num_envs, device):
        self.num_envs, self.device = num_envs, torch.device(device)
        self.x = torch.zeros(num_envs, 2, device=device)
        self.t = torch.arange(num_envs, device=device) % 20
        self.reached = torch.zeros_like(self.x)
        self.amp_obs = torch.zeros(num_envs, 4, device=device)
        self.reward = torch.ones(num_envs, device=device)
        self.terminated = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.truncated = torch.zeros_like(self.terminated)

    @property
    def observations(self):
        return {"obs": self.x}

    def on_circle(self, n):
        angle = 6.2831853 * torch.rand(n, device=self.device)
        return angle, torch.stack([angle.cos(), angle.sin()], 1)

    def reset(self):
        self.x.copy_(self.on_circle(self.num_envs)[1])
        return self.observations

    def step(self, actions):
        self.t += 1
        self.reached.copy_(self.x + 0.4 * actions)
        self.amp_obs.copy_(torch.cat([self.reached, self.x], 1))
        self.terminated.copy_(self.reached.norm(dim=1) > 2)
        self.truncated.copy_((self.t >= 20) & ~self.terminated)
        done = self.terminated | self.truncated
        start = self.on_circle(self.num_envs)[1]
        self.x.copy_(torch.where(done[:, None], start, self.reached))
        self.t.masked_fill_(done, 0)
        infos = {"terminal": {"obs": self.reached}, "amp_obs": self.amp_obs}
        return self.observations, self.reward, self.terminated, self.truncated, infos

    def fetch_amp_obs_demo(self, num_samples):
        angle, before = self.on_circle(num_samples)
        after = torch.stack([(angle + STEP).cos(), (angle + STEP).sin()], 1)
        return torch.cat([after, before], 1)

    def state_dict(self):
        return {"x": self.x.clone(), "t": self.t.clone()}

    def load_state_dict(self, state):
        self.x.copy_(state["x"])
        self.t.copy_(state["t"])

    def capture(self):
        return contextlib.nullcontext()


vecenv.register("orbit", lambda name, num_envs, device: Orbit(num_envs, device))

NETWORK = {
    "name": "amp",
    "space": {
        "continuous": {"sigma_init": {"name": "const_initializer", "val": -1.5}},
    },
    "mlp": {"units": [32, 32], "activation": "relu"},
    "disc": {"units": [64, 32], "activation": "relu"},
}
CONFIG = {
    "name": "orbit",
    "env_name": "orbit",
    "device": "cpu",
    "num_actors": 64,
    "horizon_length": 8,
    "minibatch_size": 256,
    "amp_minibatch_size": 128,
    "mini_epochs": 3,
    "learning_rate": 1e-3,
    "normalize_value": True,
    "clip_value": False,
    "amp_obs_demo_buffer_size": 1000,
    "amp_batch_size": 64,
    "amp_replay_buffer_size": 1000,
    "amp_replay_keep_prob": 0.1,
    "disc_grad_penalty": 0.5,
    "disc_logit_reg": 0.01,
    "max_epochs": 5,
}


def params(folder, network=NETWORK, **changes):
    """RL Games' `params` of an agent that learns to orbit."""
    return {
        "seed": 1,
        "algo": {"name": "amp_continuous"},
        "model": {"name": "continuous_amp"},
        "network": network,
        "config": {**CONFIG, "train_dir": str(folder), "full_experiment_name": "orbit", **changes},
    }
