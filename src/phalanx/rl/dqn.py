"""Deep Q-learning.

    y = r + gamma^n Q'(s', argmax_a Q(s', a))      double: Q chooses the action, Q' evaluates it
    loss = mean of weight * huber(Q(s, a) - y)

Source: Mnih et al. 2015 (Nature 518), with the options double (arXiv:1509.06461), dueling (in the
network, arXiv:1511.06581), prioritised replay (arXiv:1511.05952) and n-step returns; the target
network is updated by Polyak averaging instead of periodic copies. Keys have the names of RL Games'
former DQN. Exploration is epsilon-greedy: a fraction epsilon of all actions is random.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.rl.config import DQNConfig
from phalanx.rl.formulas import discounted, soft_update, values_of
from phalanx.rl.off_policy import OffPolicy
from phalanx.rl.one_optimizer import OneOptimizer
from phalanx.rl.optimizer import adam
from phalanx.rl.q_network import DQNModel
from phalanx.rl.replay import PrioritizedReplay, Replay
from phalanx.spaces import Discrete


class DQN(OneOptimizer, OffPolicy):
    """DQN with one discrete action."""

    Config = DQNConfig
    model: DQNModel
    LOGGED = ("losses/q_loss", "info/q_value", "info/epsilon")

    CHANGEABLE = (
        *("gamma", "learning_rate", "target_tau", "grad_norm", "is_double"),
        *("epsilon", "min_epsilon", "epsilon_decay_frames"),
    )

    def __init__(self, config: DQNConfig, env: Any, model: Any) -> None:
        super().__init__(config, env, model)
        c = config
        # A tensor, so that the schedule can change it between graphs.
        self.epsilon = torch.tensor(c.epsilon, device=self.device)
        self.optimizer = adam(self.model.q_network.parameters(), c.learning_rate, self.device)
        self.lr: Tensor = self.optimizer.param_groups[0]["lr"]

    def change_config(self, config: Any) -> None:
        super().change_config(config)
        self.lr.fill_(config.learning_rate)

    # -- the update ------------------------------------------------------------------------------

    def update(self, phase: int) -> None:
        c = self.config
        for _ in range(self.updates_per_step):
            batch = self.replay.sample(c.batch_size)
            td_error = self.update_network(batch)
            if isinstance(self.replay, PrioritizedReplay):
                self.replay.update_priorities(batch["rows"], td_error)
            soft_update(self.model.target_network, self.model.q_network, c.target_tau)

    def update_network(self, batch: dict[str, Tensor]) -> Tensor:
        """One gradient step on a batch; returns its TD errors, (B,)."""
        c, m = self.config, self.model
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision)
        with torch.no_grad(), autocast:
            next_obs = m.norm_obs(batch["next_obs"])
            judge = m.target_network(next_obs).float()
            chooser = m.q_network(next_obs).float() if c.is_double else judge
            value = values_of(judge, chooser.argmax(-1))
            target = batch["rewards"] + discounted(batch["discounts"], value)
        with autocast:
            q_values = m.q_network(m.norm_obs(batch["obs"])).float()
        q = values_of(q_values, batch["actions"])
        loss = F.smooth_l1_loss(q, target, reduction="none")
        loss = (loss * batch["weights"]).mean() if "weights" in batch else loss.mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.clip_and_step(c.grad_norm or None)
        self.record("losses/q_loss", loss, q.mean(), self.epsilon)
        return (q - target).detach()

    # -- acting ----------------------------------------------------------------------------------

    def explore(self, obs: Tensor) -> Tensor:
        random = torch.rand(self.num_actors, device=self.device) < self.epsilon
        return torch.where(random, self.random_actions(), self.model({"obs": obs})["actions"])

    def random_actions(self) -> Tensor:
        return torch.randint(self.action_space.n, (self.num_actors,), device=self.device)

    def begin_iteration(self, epoch: int, frame: int) -> None:
        super().begin_iteration(epoch, frame)
        c = self.config
        done = min(frame / c.epsilon_decay_frames, 1.0)
        self.epsilon.fill_(c.epsilon + (c.min_epsilon - c.epsilon) * done)
        if isinstance(self.replay, PrioritizedReplay):
            done = min(frame / c.beta_decay_frames, 1.0)
            self.replay.beta.fill_(c.priority_beta + (1.0 - c.priority_beta) * done)

    @classmethod
    def check_spaces(cls, env: Any, config: Any) -> None:
        space = env.action_space
        if not isinstance(space, Discrete):
            raise PhalanxError(
                f"dqn needs one discrete action, but this environment has {space};"
                " set task.env.discrete_actions if the task has it, or use sac"
            )

    # -- parts -----------------------------------------------------------------------------------

    def make_replay(self, env: Any) -> Replay:
        c = self.config
        kind: Any = Replay
        options = {}
        if c.replay_buffer_type == "prioritized":
            kind, options = PrioritizedReplay, {"alpha": c.priority_alpha}
        made: Replay = kind(
            c.replay_buffer_size,
            self.num_actors,
            env.observation_space.shape,
            (),
            torch.long,
            self.device,
            c.n_step,
            c.gamma,
            **options,
        )
        return made
