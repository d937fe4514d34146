"""Players: a trained policy in its environments, measured over whole episodes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint
from phalanx.rl.agent import build_model, make_env
from phalanx.rl.config import NO_EFFECT, AgentConfig, PPOConfig
from phalanx.spaces import Box


@dataclass(frozen=True)
class PlayResult:
    """Means over the played episodes."""

    mean_return: float
    std_return: float
    mean_length: float
    games: int


class PpoPlayerContinuous:
    """Plays a policy with continuous actions; what `a2c_continuous` names among players."""

    Config: ClassVar[type[AgentConfig]] = PPOConfig

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.config = read(self.Config, params["config"], "params.config", NO_EFFECT)
        self.env: Any = make_env(self.config)
        self.device = torch.device(self.env.device)
        self.model = build_model(params, self.config, self.env).to(self.device).eval()
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

    def get_action(self, obs: Tensor, is_deterministic: bool = True) -> Tensor:
        """Actions for (N, ...) observations, as the environment takes them."""
        with torch.no_grad():
            result = self.model({"is_train": False, "obs": obs})
        return self.to_env(self.choose(result, is_deterministic))

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        """The action among the model's outputs."""
        return result["mus"] if is_deterministic else result["actions"]

    def to_env(self, actions: Tensor) -> Tensor:
        """Clamped to +-1 and rescaled to the environment's bounds."""
        space = self.env.action_space
        if not self.config.clip_actions or not isinstance(space, Box):
            return actions
        actions = actions.clamp(-1.0, 1.0)
        return actions * (space.high - space.low) / 2 + (space.high + space.low) / 2

    def run(self) -> PlayResult:
        """Play `games_num` episodes, the same number in every environment.

        Counting episodes as they come would favour short ones, so every environment plays
        ceil(games_num / N) and what it plays beyond that is not counted.
        """
        env, n = self.env, self.env.num_envs
        per_env = -(-self.games_num // n)
        obs = env.reset()
        total = torch.zeros(n, device=self.device)
        length = torch.zeros(n, device=self.device)
        played = torch.zeros(n, dtype=torch.long, device=self.device)
        returns: list[Tensor] = []
        lengths: list[Tensor] = []
        while int(played.min()) < per_env:
            actions = self.get_action(obs["obs"], self.is_deterministic)
            obs, reward, terminated, truncated, _ = env.step(actions)
            total += reward
            length += 1
            done = terminated | truncated
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
        )


class PpoPlayerDiscrete(PpoPlayerContinuous):
    """Plays a policy with discrete actions; what `a2c_discrete` names among players."""

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        return result["logits"].argmax(-1) if is_deterministic else result["actions"]

    def to_env(self, actions: Tensor) -> Tensor:
        return actions
