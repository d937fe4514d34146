"""PPO with continuous actions: https://arxiv.org/abs/1707.06347, in one file.

Every environment takes ROLLOUT steps with the same policy. Then the network learns from these
transitions for a few epochs, and they are discarded. `ppo_discrete.py` is the same file with
another distribution: `diff` them. Shapes: N environments, T steps of a rollout, B rows of a
minibatch.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from phalanx import tasks

ROLLOUT = 16  # steps of every environment between two updates
EPOCHS = 5
MINIBATCHES = 4
LEARNING_RATE = 1e-3
GAMMA = 0.99
LAMBDA = 0.95
CLIP = 0.2
REWARD_SCALE = 0.1  # brings values to a size that a new network soon reaches


class Net(nn.Module):
    """Actor and critic, as separate networks."""

    def __init__(self, num_obs: int, num_actions: int) -> None:
        super().__init__()
        self.mean = mlp(num_obs, num_actions)
        self.log_std = nn.Parameter(torch.zeros(num_actions))
        self.critic = mlp(num_obs, 1)

    def policy(self, obs: Tensor) -> Normal:
        # validate_args would read the numbers, and so wait for the device.
        return Normal(self.mean(obs), self.log_std.exp(), validate_args=False)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs).squeeze(-1)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    hidden = [nn.Linear(inputs, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU()]
    return nn.Sequential(*hidden, nn.Linear(64, outputs))


class PPO:
    def __init__(self, sim_device: str, num_envs: int | None) -> None:
        self.env = tasks.make("Cartpole", num_envs, sim_device)
        self.env.reset()
        self.net = Net(self.env.num_obs, self.env.num_actions).to(self.env.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), LEARNING_RATE)
        self.rollout: list[tuple[Tensor, ...]] = []

    def run(self) -> None:
        """Take one step in every environment, and an update when the rollout is complete."""
        obs = self.env.obs_buf.clone()  # the environment writes the next one into the same buffer
        action, log_prob = self.act(obs)
        _, reward, terminated, truncated, infos = self.env.step(action)
        reached = infos["terminal"]["obs"].clone()  # before any reset
        ends = terminated.clone(), terminated | truncated
        self.rollout.append((obs, action, log_prob, REWARD_SCALE * reward, reached, *ends))
        if len(self.rollout) == ROLLOUT:
            self.update()
            self.rollout.clear()

    @torch.no_grad()
    def act(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions drawn from the policy and their log probabilities, (N, ...) and (N,)."""
        policy = self.net.policy(obs)
        # Normal.sample() would be equivalent, but checks on the host that std is positive. The
        # environment clamps actions to +-1; the policy learns from the unclamped samples.
        action = policy.mean + policy.stddev * torch.randn_like(policy.mean)
        return action, policy.log_prob(action).sum(-1)

    def update(self) -> None:
        """Learn from the rollout: GAE, then epochs of minibatches."""
        columns = zip(*self.rollout, strict=True)
        obs, action, log_prob, reward, reached, terminated, done = map(torch.stack, columns)
        with torch.no_grad():
            value = self.net.value(obs)
            # After a termination the value is 0; a time-out bootstraps from the state it reached.
            target = reward + GAMMA * self.net.value(reached) * ~terminated
        advantage = gae(target - value, done)
        returns = advantage + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        data = [x.flatten(0, 1) for x in (obs, action, log_prob, advantage, returns)]  # (T N, ...)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(data[0]), device=obs.device).chunk(MINIBATCHES):
                self.learn(*(x[rows] for x in data))

    def learn(
        self, obs: Tensor, action: Tensor, old_log_prob: Tensor, advantage: Tensor, returns: Tensor
    ) -> None:
        """Take one gradient step on a minibatch, (B, ...) each."""
        log_prob = self.net.policy(obs).log_prob(action).sum(-1)
        ratio = (log_prob - old_log_prob).exp()
        # The smaller of both: no gain from ratios beyond CLIP, but full gain from moving back.
        gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        value_loss = (self.net.value(obs) - returns).square()
        loss = (value_loss - gain).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()


def gae(delta: Tensor, done: Tensor) -> Tensor:
    """Generalised advantages (T, N): TD errors summed until the end of the episode, discounted by
    GAMMA LAMBDA per step. Source: https://arxiv.org/abs/1506.02438."""
    advantage = torch.zeros_like(delta)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + GAMMA * LAMBDA * following * ~done[t]
        advantage[t] = following
    return advantage
