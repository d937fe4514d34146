"""`Learner`: the base of `PPO`, `SAC` and `DQN`, driven by a `Run`.

    learner.begin_iteration(epoch, frame)        # on the host: schedules
    for k in range(learner.rounds):
        learner.collect(env)                     # steps the environments
        learner.collected(k)                     # on the host: counting
        if learner.ready:
            learner.learn()                      # gradient steps
            learner.learned()                    # on the host: counting

`collect` and `learn` may be captured as CUDA graphs: they have fixed shapes, never wait for the
device and write into permanent buffers. Everything that a replayed graph cannot do is in the host's
methods.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from phalanx.compute.graphs import Graphs
from phalanx.errors import PhalanxError
from phalanx.fits import check_fits
from phalanx.rl.absurd import AbsurdRewards
from phalanx.rl.config import AgentConfig
from phalanx.rl.part import Part
from phalanx.rl.statistics import EpisodeSums


class Learner:
    """Base of the algorithms. `config` is a `Config`, `model` the network with its normalisers,
    `obs` the observations for the next step, `episodes` the sums over running episodes."""

    Config: ClassVar[type[AgentConfig]] = AgentConfig
    FUSED: ClassVar[tuple[str, ...]] = ()
    """Names of methods for `fused_methods`."""
    CHANGEABLE: ClassVar[tuple[str, ...]] = ()
    """Settings that may change during a run."""
    ALIASES: ClassVar[dict[str, str]] = {}
    """Additional tags of logged values: {additional tag: tag}."""

    config: Any
    model: Any
    device: torch.device
    lr: Tensor
    episodes: EpisodeSums
    rounds = 1
    """Alternations of `collect` and `learn` in an iteration."""
    collect_variant: Any = 0
    learn_variant: Any = 0
    """Variant of the next call, if there are several; a graph is captured for each."""
    ready = True
    """Whether there is enough data to learn from."""

    @classmethod
    def check_spaces(cls, env: Any, config: Any) -> None:
        """Raise PhalanxError if the algorithm does not fit the environment's spaces."""

    def __init__(self, config: Any, env: Any, model: Any) -> None:
        self.config, self.model = config, model
        self.num_actors = env.num_envs
        self.device = torch.device(env.device)
        # Only on CUDA, as in RL Games: CPUs without bfloat16 take ten times as long with it.
        self.mixed_precision = config.mixed_precision and self.device.type == "cuda"
        self.half_products = False
        """Whether compiled functions on a CPU multiply in bfloat16."""
        self.obs: dict[str, Any] = {}
        self.parts: list[Part] = []
        self.absurd = AbsurdRewards(env.num_envs, self.device)

    @property
    def batch_size(self) -> int:
        """Environment steps per iteration, of all environments together."""
        raise NotImplementedError

    def fused_methods(self) -> tuple[str, ...]:
        """Methods whose small kernels torch.compile may fuse on CUDA."""
        return self.FUSED

    def compile_on_cpu(self) -> None:
        """Compute in compiled functions on a CPU, where that is faster. Raises PhalanxError if they
        fail to compile."""

    def change_config(self, config: Any) -> None:
        """Continue with these settings, of which only `CHANGEABLE` ones differ; tensors that depend
        on them are written in place."""
        self.config = config
        for part in self.parts:
            part.change_config(config)

    # -- one iteration -----------------------------------------------------------------------------

    def reset(self, env: Any) -> None:
        """Start an episode in every environment."""
        self.obs = env.reset()
        self.restart_episodes()

    def restart_episodes(self) -> None:
        """Discard the state of the running episodes."""
        self.episodes.restart()

    def resets_in(self, epoch: int) -> bool:
        """Whether all environments are reset in iteration `epoch`."""
        return False

    def begin_iteration(self, epoch: int, frame: int) -> None:
        """Begin iteration `epoch`, counted from 1, after `frame` environment steps."""
        for part in self.parts:
            part.begin_iteration(epoch, frame)

    def collect(self, env: Any) -> None:
        """Step the environments and store the data that `learn` needs."""
        raise NotImplementedError

    def collect_between_steps(self, env: Any, graphs: Graphs) -> None:
        """`collect` in an environment whose steps cannot be captured; `graphs` may hold graphs of
        what is between them."""
        self.collect(env)

    def collected(self, k: int) -> None:
        """Count collection k of the iteration."""

    def learn(self) -> None:
        """Take gradient steps."""
        raise NotImplementedError

    def learned(self) -> None:
        """Count one `learn`."""

    # -- logging -----------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Tensor]:
        """Results of the iteration on the device. Keys with a slash are TensorBoard tags of
        scalars; "finished" is `EpisodeSums.finished` of its steps, (T, 4)."""
        return merged(part.statistics() for part in self.parts)

    def scalars(self, values: dict[str, list[float]]) -> dict[str, float]:
        """Values by tag, from `statistics` read to the host."""
        return {tag: v[0] for tag, v in values.items() if "/" in tag}

    def blame(self) -> dict[str, Any]:
        """Buffers (N, T, ...) by name in which a NaN may have originated, the environment's
        first."""
        return merged(part.blame() for part in self.parts)

    # -- checkpoints -------------------------------------------------------------------------------

    def weights(self) -> dict[str, Any]:
        """Weights and optimisers, in RL Games' layout of a checkpoint."""
        return merged(part.weights() for part in self.parts)

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        """Raise PhalanxError unless `load_weights` can load all of a checkpoint."""
        for part in self.parts:
            part.check_weights(weights, source)

    def load_weights(self, weights: dict[str, Any], source: object) -> list[str]:
        """Load weights and optimisers of a checkpoint; returns a sentence for each missing part.
        Raises PhalanxError if they do not fit."""
        for part in self.parts:
            part.load_weights(weights, source)
        return []

    def stateful(self) -> dict[str, Any]:
        """State for exact continuation besides weights and episodes: objects with `state_dict` and
        `load_state_dict`, by name."""
        return {part.name: part for part in self.parts}

    def episodic(self) -> dict[str, Any]:
        """The same for the state of the running episodes."""
        return {"episode_sums": self.episodes, "usual_rewards": self.absurd}

    def state_dict(self) -> dict[str, Any]:
        """The states of `stateful`, by name."""
        return {name: part.state_dict() for name, part in self.stateful().items()}

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise PhalanxError unless `state` is what `state_dict` returned, of any size."""
        for name, part in self.stateful().items():
            if name in state:
                check = getattr(part, "check_state", None)
                where = name.replace("_", " ")
                if check is None:
                    check_fits(part.state_dict(), state[name], where)
                else:
                    check(state[name])

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Restore each part of `state` separately; returns a sentence for each that was lost."""
        return load_each(self.stateful(), state)


def merged(mappings: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One dictionary with the entries of all `mappings`."""
    return {key: value for mapping in mappings for key, value in mapping.items()}


def load_each(parts: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """Load `state` into `parts` by name; returns a sentence for each part that was lost."""
    lost = []
    for name, part in parts.items():
        if name not in state:
            lost.append(f"it has no {name.replace('_', ' ')}, which is initialised again")
            continue
        try:
            part.load_state_dict(state[name])
        except PhalanxError as error:
            lost.append(str(error))
    return lost
