"""Players: a trained policy in its environments, measured over whole episodes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.build import build_model, check_masks, make_env, with_default_model
from phalanx.rl.config import AgentConfig, DQNConfig, PPOConfig, SACConfig
from phalanx.spaces import Box, MultiDiscrete


@dataclass(frozen=True)
class PlayResult:
    """Means over the played episodes."""

    mean_return: float
    std_return: float
    mean_length: float
    games: int
    measures: dict[str, float] = field(default_factory=dict)
    """What else the player measured, by name in words."""


class PpoPlayerContinuous:
    """Plays a policy with continuous actions; what `a2c_continuous` names among players."""

    Config: ClassVar[type[AgentConfig]] = PPOConfig

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.config = read(self.Config, params["config"], "params.config")
        self.env: Any = make_env(self.config)
        self.device = torch.device(self.env.device)
        self.model = build_model(params, self.config, self.env).to(self.device).eval()
        self.is_rnn = getattr(self.model, "is_rnn", lambda: False)()
        self.states: tuple[Tensor, ...] | None = None
        self.uses_masks = getattr(self.config, "use_action_masks", False)
        if self.uses_masks:
            check_masks(self.env, self.config.name)
        self.is_deterministic = self.config.player.deterministic
        self.games_num = self.config.player.games_num

    def restore(self, fn: str | Path) -> None:
        """Load the weights of the checkpoint at `fn`. Raises PhalanxError for what does not fit."""
        state = checkpoint.load(fn)
        name = state.get("phalanx", {}).get("name", self.config.name)
        if name != self.config.name:
            raise PhalanxError(
                f"{fn} is a checkpoint of {name!r}, not of {self.config.name!r}; use task={name}"
            )
        checkpoint.load_weights(self.model, state["model"], fn)

    def reset(self) -> None:
        """Forget the recurrent state, of all environments."""
        self.states = None

    def forget(self, done: Tensor) -> None:
        """Forget the recurrent state of environments `done`, (N,) bool."""
        if self.states is not None:
            alive = 1.0 - done.float()[None, :, None]
            self.states = tuple(s * alive for s in self.states)

    def get_action(self, obs: Any, is_deterministic: bool = True) -> Tensor:
        """Actions for (N, ...) observations, as the environment takes them; a recurrent network's
        state moves on."""
        return self.get_masked_action(obs, None, is_deterministic)

    def get_masked_action(
        self, obs: Any, action_masks: Tensor | None, is_deterministic: bool = True
    ) -> Tensor:
        """The same among the actions whose mask, (N, n) bool, is True."""
        inputs: dict[str, Any] = {"is_train": False, "obs": obs}
        if action_masks is not None:
            inputs["action_masks"] = action_masks
        if self.is_rnn:
            if self.states is None:
                network, n = self.model.a2c_network, self.env.num_envs
                self.states = network.get_default_rnn_state(n, self.device)
            inputs["rnn_states"] = self.states
        with torch.no_grad():
            result = self.model(inputs)
        if self.is_rnn:
            self.states = result["rnn_states"]
        return self.to_env(self.choose(result, is_deterministic))

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        """The action among the model's outputs."""
        return result["mus"] if is_deterministic else result["actions"]

    def to_env(self, actions: Tensor) -> Tensor:
        """Clamped to +-1 and rescaled to the environment's bounds."""
        space = self.env.action_space
        if not self.config.clip_actions or not isinstance(space, Box):
            return actions
        return space.rescale(actions.clamp(-1.0, 1.0))

    def run(self) -> PlayResult:
        """Play `games_num` episodes, the same number in every environment.

        Counting episodes as they come would favour short ones, so every environment plays
        ceil(games_num / N) and what it plays beyond that is not counted.
        """
        env, n = self.env, self.env.num_envs
        per_env = -(-self.games_num // n)
        obs = env.reset()
        self.reset()
        total = torch.zeros(n, device=self.device)
        length = torch.zeros(n, device=self.device)
        played = torch.zeros(n, dtype=torch.long, device=self.device)
        returns: list[Tensor] = []
        lengths: list[Tensor] = []
        while int(played.min()) < per_env:
            masks = env.get_action_masks() if self.uses_masks else None
            actions = self.get_masked_action(obs["obs"], masks, self.is_deterministic)
            obs, reward, terminated, truncated, infos = env.step(actions)
            self.post_step(infos)
            total += reward
            length += 1
            done = terminated | truncated
            self.forget(done)
            counted = done & (played < per_env)
            returns.append(total[counted])
            lengths.append(length[counted])
            played += done
            total[done] = 0.0
            length[done] = 0.0
        all_returns = torch.cat(returns)
        return PlayResult(
            float(all_returns.mean()),
            float(all_returns.std(correction=0)),
            float(torch.cat(lengths).mean()),
            int(all_returns.numel()),
            self.measures(),
        )

    def post_step(self, infos: dict[str, Any]) -> None:
        """Called by `run` after every step of the environments."""

    def measures(self) -> dict[str, float]:
        """What `run` adds to its result."""
        return {}


class PpoPlayerDiscrete(PpoPlayerContinuous):
    """Plays a policy with discrete actions, one or several; what `a2c_discrete` names."""

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        if not is_deterministic:
            return result["actions"]
        space = self.env.action_space
        if isinstance(space, MultiDiscrete):
            heads = result["logits"].split(list(space.nvec), -1)
            return torch.stack([head.argmax(-1) for head in heads], -1)
        return result["logits"].argmax(-1)

    def to_env(self, actions: Tensor) -> Tensor:
        return actions


class SACPlayer(PpoPlayerContinuous):
    """Plays SAC's policy; what `sac` names among players."""

    Config = SACConfig

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(with_default_model(params, "soft_actor_critic"))


class DQNPlayer(PpoPlayerDiscrete):
    """Plays the best action; what `dqn` names among players. Without `player.deterministic`, a
    share min_epsilon of the actions is random, as at the end of training."""

    Config = DQNConfig
    config: DQNConfig

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(with_default_model(params, "dqn"))

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        best, n = result["actions"], result["q_values"].shape[-1]
        if is_deterministic:
            return best
        random = torch.rand(best.shape, device=best.device) < self.config.min_epsilon
        return torch.where(random, torch.randint(n, best.shape, device=best.device), best)
