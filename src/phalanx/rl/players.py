"""Players: evaluate a trained policy over whole episodes.

Their environments are those of the end of training: schedules have ended, and every episode begins
at its beginning.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.config import read
from phalanx.errors import PhalanxError, PhalanxWarning
from phalanx.gate import show
from phalanx.rl import checkpoint
from phalanx.rl.build import build_model, check_masks, make_env, with_default_model
from phalanx.rl.config import AgentConfig, DistillationConfig, DQNConfig, PPOConfig, SACConfig
from phalanx.rl.nested import nested
from phalanx.rl.vecenv import image_to_float
from phalanx.spaces import Box, MultiDiscrete


@dataclass(frozen=True)
class PlayResult:
    """Means over the played episodes."""

    mean_return: float
    std_return: float
    mean_length: float
    games: int
    measures: dict[str, float] = field(default_factory=dict)
    """Other measurements of the player, by a name for display."""


MAX_STEPS = 27_000
"""Steps after which a running episode is counted; RL Games' constant."""


class PpoPlayerContinuous:
    """Plays a policy with continuous actions; registered as the player `a2c_continuous`."""

    Config: ClassVar[type[AgentConfig]] = PPOConfig

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.config = read(self.Config, params["config"], "params.config")
        self.env: Any = make_env(self.config)
        if hasattr(self.env, "end_schedules"):
            self.env.end_schedules()
        self.device = torch.device(self.env.device)
        self.model = build_model(params, self.config, self.env).to(self.device).eval()
        self.is_rnn = getattr(self.model, "is_rnn", lambda: False)()
        self.states: tuple[Tensor, ...] | None = None
        self.uses_masks = getattr(self.config, "use_action_masks", False)
        if self.uses_masks:
            check_masks(self.env, self.config.name)
        self.is_deterministic = self.config.player.deterministic
        self.games_num = self.config.player.games_num
        self.max_steps = MAX_STEPS
        self.batch_size = self.env.num_envs
        self.has_batch_dimension = True
        self.warnings: list[str] = []
        self.on_step: Callable[[int, int, int], None] | None = None
        """What `run` calls after a step: with the episodes that have ended, all of them, and the
        steps so far."""

    def restore(self, fn: str | Path) -> None:
        """Load the weights of the checkpoint at `fn`, and zero the recurrent state, which is of
        others. Raises PhalanxError if they do not fit."""
        state = checkpoint.load(fn)
        own, name = self.config.name, (state.get("phalanx") or {}).get("name", self.config.name)
        try:
            checkpoint.load_weights(self.model, state["model"], fn)
        except PhalanxError as error:
            if name == own:
                raise
            raise PhalanxError(
                f"{fn} is a checkpoint of {show(name)}, not of {own!r}; use task={name}"
            ) from error
        self.reset()
        if name != own:
            self.warnings.append(
                f"{fn} is a checkpoint of {show(name)}; its policy now plays {own!r}"
            )
            warnings.warn(self.warnings[-1], PhalanxWarning, stacklevel=2)

    def reset(self) -> None:
        """Zero the recurrent state of all environments."""
        self.states = None

    def reset_states(self, done: Tensor) -> None:
        """Zero the recurrent state of environments `done`, (N,) bool."""
        if self.states is not None:
            alive = 1.0 - done.float()[None, :, None]
            self.states = tuple(s * alive for s in self.states)

    def act(self, obs: Any) -> Tensor:
        """The actions of an evaluation for the environment's present observations, (N, ...): with
        its masks, if the policy was trained with some, and drawn only where
        `player.deterministic` is false."""
        masks = self.env.get_action_masks() if self.uses_masks else None
        return self.get_masked_action(obs, masks, self.is_deterministic)

    # -- RL Games' way to play in a loop of your own, as Isaac Lab's play.py does ------------------

    def obs_to_torch(self, obs: Any) -> Any:
        """Observations for `get_action`: the "obs" of a dictionary, as tensors on the device, with
        bytes converted to 0 .. 1."""
        if isinstance(obs, dict) and "obs" in obs:
            obs = obs["obs"]
        return nested(
            lambda x: image_to_float(torch.as_tensor(x)).to(self.device, torch.float32), obs
        )

    def get_batch_size(self, obses: Any, batch_size: int) -> int:
        """Number of environments in observations (N, ...), or `batch_size` for those of a single
        environment, without N; `init_rnn` makes states for this number."""
        self.has_batch_dimension = self._is_batch(obses)
        if self.has_batch_dimension:
            batch_size = len(_first(obses))
        self.batch_size = batch_size
        return batch_size

    def init_rnn(self) -> None:
        """Set `states` of a recurrent network to zeros (L, batch_size, U)."""
        if self.is_rnn:
            network = self.model.a2c_network
            self.states = network.get_default_rnn_state(self.batch_size, self.device)

    def get_action(self, obs: Any, is_deterministic: bool = True) -> Tensor:
        """Actions for observations (N, ...), or for those of one environment, in the environment's
        units. Advances a recurrent network's state."""
        return self.get_masked_action(obs, None, is_deterministic)

    def get_masked_action(
        self, obs: Any, action_masks: Tensor | None, is_deterministic: bool = True
    ) -> Tensor:
        """The same, choosing only actions whose mask, (N, n) bool, is True."""
        is_batch = self._is_batch(obs)
        if not is_batch:
            obs = nested(lambda x: x[None], obs)
        inputs: dict[str, Any] = {"is_train": False, "obs": nested(image_to_float, obs)}
        if action_masks is not None:
            inputs["action_masks"] = action_masks
        if self.is_rnn:
            if self.states is None:
                self.batch_size = len(_first(obs))
                self.init_rnn()
            inputs["rnn_states"] = self.states
        with torch.no_grad():
            result = self.model(inputs)
        if self.is_rnn:
            self.states = result["rnn_states"]
        actions = self.to_env(self.choose(result, is_deterministic))
        return actions if is_batch else actions[0]

    def _is_batch(self, obs: Any) -> bool:
        shape = self.env.observation_space.shape
        if isinstance(obs, dict) and "obs" in obs:
            obs = obs["obs"]
        return len(_first(obs).shape) > len(_first(shape))

    def choose(self, result: dict[str, Tensor], is_deterministic: bool) -> Tensor:
        """The actions to take, (N, A) or (N,) integers, from the model's outputs."""
        return result["mus"] if is_deterministic else result["actions"]

    def to_env(self, actions: Tensor) -> Tensor:
        """Actions (N, A) clamped to +-1 and rescaled to the environment's bounds."""
        space = self.env.action_space
        if not self.config.clip_actions or not isinstance(space, Box):
            return actions
        return space.rescale(actions.clamp(-1.0, 1.0))

    def run(self) -> PlayResult:
        """Play `games_num` episodes, the same number in every environment.

        Counting episodes in the order in which they end would favour short ones. So every
        environment plays ceil(games_num / N) episodes, and further ones do not count. Once an
        episode is `max_steps` long, playing stops, and running episodes count as they are.
        """
        env, n = self.env, self.env.num_envs
        per_env = -(-self.games_num // n)
        obs = env.reset()
        self.reset()
        total = torch.zeros(n, device=self.device)
        length = torch.zeros(n, device=self.device)
        played = torch.zeros(n, dtype=torch.long, device=self.device)
        steps = 0
        returns: list[Tensor] = []
        lengths: list[Tensor] = []
        while int(played.min()) < per_env:
            actions = self.act(obs["obs"])
            obs, reward, terminated, truncated, infos = env.step(actions)
            self.post_step(infos)
            total += reward
            length += 1
            done = terminated | truncated
            self.reset_states(done)
            steps += 1
            if steps >= self.max_steps and int(length.max()) >= self.max_steps:
                running = played < per_env
                self.warnings.append(
                    f"{int(running.sum())} of {n} environments have an episode of up to"
                    f" {self.max_steps} steps that has not ended; it counts as it is"
                )
                warnings.warn(self.warnings[-1], PhalanxWarning, stacklevel=2)
                done, played = torch.ones_like(done), torch.where(running, per_env - 1, played)
            counted = done & (played < per_env)
            returns.append(total[counted])
            lengths.append(length[counted])
            played += done
            total[done] = 0.0
            length[done] = 0.0
            if self.on_step is not None:
                self.on_step(int(played.clamp(max=per_env).sum()), per_env * n, steps)
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
        """Measurements that `run` adds to its result."""
        return {}


class PpoPlayerDiscrete(PpoPlayerContinuous):
    """Plays a policy with one or several discrete actions; registered as the player
    `a2c_discrete`."""

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


class StudentPlayer(PpoPlayerContinuous):
    """Plays a student without its teacher; registered as the player `distillation`."""

    Config = DistillationConfig


class SACPlayer(PpoPlayerContinuous):
    """Plays SAC's policy; registered as the player `sac`."""

    Config = SACConfig

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__(with_default_model(params, "soft_actor_critic"))


class DQNPlayer(PpoPlayerDiscrete):
    """Plays the best action; registered as the player `dqn`. Without `player.deterministic`, a
    fraction min_epsilon of the actions is random, as at the end of training."""

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


def _first(x: Any) -> Any:
    """The first leaf of nested dictionaries."""
    while isinstance(x, dict):
        x = next(iter(x.values()))
    return x
