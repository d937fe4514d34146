"""DQN in one file: https://www.nature.com/articles/nature14236, double, with n-step returns.

Every step of all environments is stored in a replay buffer on the device, followed by one gradient
step on a batch drawn from it. Shapes: N environments, S steps in the buffer, B rows of a batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phalanx import tasks

NUM_ACTIONS = 10  # evenly spaced forces to choose from, full left to full right
REPLAY_STEPS = 1000  # steps of every environment; the oldest are overwritten
WARMUP_STEPS = 16  # steps before learning begins
BATCH_PER_ENV = 2
LEARNING_RATE = 2e-3
GAMMA = 0.99
N_STEP = 5  # a cart drifts off its rail slowly; one-step returns would learn that too slowly
REWARD_SCALE = 0.1  # brings values to a size that a new network soon reaches
TARGET_RATE = 0.1  # Polyak coefficient of the target network, per step
EPSILON_START, EPSILON_END, EPSILON_STEPS = 1.0, 0.01, 300  # fraction of random actions


class Replay:
    """The last S steps of N environments, (S, N, ...) each, allocated once and then overwritten."""

    def __init__(self, num_envs: int, num_obs: int, device: torch.device) -> None:
        shape = (REPLAY_STEPS, num_envs)
        self.obs = torch.zeros(*shape, num_obs, device=device)
        self.action = torch.zeros(shape, dtype=torch.long, device=device)
        self.reward = torch.zeros(shape, device=device)
        self.reached = torch.zeros_like(self.obs)  # observations reached, before any reset
        self.terminated = torch.zeros(shape, dtype=torch.bool, device=device)
        self.done = torch.zeros_like(self.terminated)  # terminated or out of time
        self.ring = (self.obs, self.action, self.reward, self.reached, self.terminated, self.done)
        self.ahead = torch.arange(N_STEP, device=device)
        self.steps = 0  # written so far, counted on the host, so that nothing waits

    def write(self, *step: Tensor) -> None:
        """Store one step of every environment, (N, ...) each, in the order of `ring`."""
        for buffer, value in zip(self.ring, step, strict=True):
            buffer[self.steps % REPLAY_STEPS] = value
        self.steps += 1

    def sample(self, batch_size: int) -> tuple[Tensor, ...]:
        """Rows drawn with replacement, (B, ...): obs, action, return of the next N_STEP steps
        (fewer if the episode ends), the observation reached after them, and the discount of its
        value."""
        num_envs, device = self.obs.shape[1], self.obs.device
        oldest = min(self.steps, REPLAY_STEPS)
        age = torch.randint(N_STEP, oldest + 1, (batch_size, 1), device=device)
        env = torch.randint(num_envs, (batch_size, 1), device=device)
        step = (self.steps - age + self.ahead) % REPLAY_STEPS  # (B, N_STEP)

        done = self.done[step, env].long()
        same_episode = done.cumsum(1) - done == 0  # no end before this step
        returns = (self.reward[step, env] * same_episode * GAMMA**self.ahead).sum(1)
        length = same_episode.sum(1)
        last = step.gather(1, length[:, None] - 1)
        # After a termination the value is 0; a time-out bootstraps from the state it reached.
        weight = GAMMA**length * ~self.terminated[last, env].squeeze(1)
        first, last, env = step[:, 0], last[:, 0], env[:, 0]
        obs, action = self.obs[first, env], self.action[first, env]
        return obs, action, returns, self.reached[last, env], weight


def q_network(num_obs: int) -> nn.Sequential:
    """A network from observations (B, num_obs) to the values of all actions, (B, NUM_ACTIONS)."""
    hidden = [nn.Linear(num_obs, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU()]
    return nn.Sequential(*hidden, nn.Linear(64, NUM_ACTIONS))


class DQN:
    def __init__(self, sim_device: str, num_envs: int | None) -> None:
        self.env = tasks.make("Cartpole", num_envs, sim_device, discrete_actions=NUM_ACTIONS)
        self.env.reset()
        self.q = q_network(self.env.num_obs).to(self.env.device)
        self.target = q_network(self.env.num_obs).to(self.env.device)
        self.target.load_state_dict(self.q.state_dict())
        self.optimizer = torch.optim.Adam(self.q.parameters(), LEARNING_RATE)
        self.replay = Replay(self.env.num_envs, self.env.num_obs, self.env.device)

    def run(self) -> None:
        """Take one step in every environment, then one gradient step."""
        obs = self.env.obs_buf.clone()  # the environment writes the next one into the same buffer
        action = self.act(obs)
        _, reward, terminated, truncated, infos = self.env.step(action)
        reached, done = infos["terminal"]["obs"], terminated | truncated
        self.replay.write(obs, action, REWARD_SCALE * reward, reached, terminated, done)
        if self.replay.steps >= WARMUP_STEPS:
            self.learn()

    @torch.no_grad()
    def act(self, obs: Tensor) -> Tensor:
        """Actions (N,): the best, or a random one in a fraction epsilon of the environments."""
        progress = min(self.replay.steps / EPSILON_STEPS, 1.0)
        epsilon = EPSILON_START + (EPSILON_END - EPSILON_START) * progress
        best = self.q(obs).argmax(-1)
        explore = torch.rand(len(obs), device=obs.device) < epsilon
        return torch.where(explore, torch.randint_like(best, NUM_ACTIONS), best)

    def learn(self) -> None:
        """Take one gradient step on the Huber loss of the TD error."""
        batch = self.replay.sample(BATCH_PER_ENV * self.env.num_envs)
        obs, action, returns, reached, weight = batch
        with torch.no_grad():
            # Double: the network chooses the action and the target evaluates it, against
            # overestimation.
            choice = self.q(reached).argmax(-1)
            target = returns + weight * chosen(self.target(reached), choice)
        loss = F.smooth_l1_loss(chosen(self.q(obs), action), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.q.parameters(), strict=True):
                slow.lerp_(fast, TARGET_RATE)


def chosen(q: Tensor, action: Tensor) -> Tensor:
    """The values (B,) of the actions (B,), from those of all actions (B, NUM_ACTIONS)."""
    return q.gather(-1, action[:, None]).squeeze(-1)
