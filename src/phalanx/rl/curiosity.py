"""Random network distillation: a reward for states that a network has not learnt to predict.

A fixed random network maps observations to features. A predictor learns to reproduce the features
of visited states; a large error means that a state is novel. Source: arXiv:1810.12894. As there,
observations are normalised and clamped to +-5 and the error is divided by its running standard
deviation; unlike there, one value function estimates the sum of both rewards.

RL Games registers a network `rnd_curiosity` but has no class for it.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.rl import checkpoint, registry
from phalanx.rl.initializers import initialize
from phalanx.rl.layers import mlp
from phalanx.rl.network_config import WIDEST, MLPConfig
from phalanx.rl.normalize import RunningMeanStd
from phalanx.rl.optimizer import adam, check_optimizer, load_optimizer, optimizer_state
from phalanx.rl.part import Part
from phalanx.rl.registry import register_network


@dataclass(frozen=True)
class RNDConfig:
    """`params.config.rnd_config`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"episodic", "episode_length", "gamma", "minibatch_size"}
    )

    network: dict[str, Any] = field(
        default_factory=lambda: {"name": "rnd_curiosity", "mlp": {"units": [128, 128]}}
    )
    """Its two networks; `mlp.rnd.units` are those of the fixed one, if they differ."""
    scale_value: float = 1.0
    """Weight of the curiosity reward; that of the shaped reward is 1."""
    learning_rate: float = ranged(1e-4, above=0)
    """Of the predictor."""
    mini_epochs: int = ranged(1, at_least=1, at_most=1000)
    """Passes over each rollout."""


@dataclass(frozen=True)
class Units:
    """Hidden layers of one of the two networks."""

    units: tuple[int, ...] = ranged(at_least=1, at_most=WIDEST)


@dataclass(frozen=True)
class RNDMLPConfig(MLPConfig):
    """`mlp` of `rnd_curiosity`: one list of `units` for both networks, or one for each."""

    units: tuple[int, ...] = ranged((), at_least=1, at_most=WIDEST)
    rnd: Units | None = None
    """Hidden layers of the fixed random network; replaces `units`."""
    net: Units | None = None
    """Hidden layers of the predictor; replaces `units`."""


@dataclass(frozen=True)
class RNDNetworkConfig:
    """The `network` section of `rnd_curiosity`."""

    mlp: RNDMLPConfig
    name: str = "rnd_curiosity"
    features: int = ranged(64, at_least=1, at_most=WIDEST)
    """Number of predicted features."""


class RNDCuriosityBuilder:
    """Builds `RNDCuriosity`; registered as `rnd_curiosity`."""

    def load(self, params: dict[str, Any]) -> None:
        """Read the `network` section. Raises PhalanxError for a wrong one."""
        self.config = read(RNDNetworkConfig, params, "params.config.rnd_config.network")

    def build(self, name: str, input_shape: tuple[int, ...], **_: Any) -> "RNDCuriosity":
        """A network for observations of `input_shape`. Raises PhalanxError unless they are
        vectors."""
        if isinstance(input_shape, dict) or len(input_shape) != 1:
            raise PhalanxError(
                f"rnd_curiosity needs vector observations, not of shape {input_shape}; flatten them"
            )
        return RNDCuriosity(self.config, input_shape[0])


class RNDCuriosity(nn.Module):
    """Maps normalised observations (B, D) to the predictor's mean squared error (B,); the target
    network is fixed."""

    def __init__(self, config: RNDNetworkConfig, width: int) -> None:
        super().__init__()
        self.target = _features(width, config, config.mlp.rnd)
        self.predictor = _features(width, config, config.mlp.net)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialize(module.weight, config.mlp.initializer)
        self.target.requires_grad_(False)

    def forward(self, obs: Tensor) -> Tensor:
        return (self.predictor(obs) - self.target(obs)).square().mean(-1)


def _features(width: int, config: RNDNetworkConfig, own: Units | None) -> nn.Sequential:
    """A perceptron from observations (B, width) to features (B, config.features)."""
    hidden = config.mlp if own is None else replace(config.mlp, units=own.units)
    out = hidden.units[-1] if hidden.units else width
    return nn.Sequential(mlp(width, hidden), nn.Linear(out, config.features))


class Curiosity(Part):
    """Curiosity as a part of PPO: the network, its normalisers and its optimiser."""

    name = "curiosity"

    def __init__(self, config: RNDConfig, obs_shape: tuple[int, ...], device: torch.device) -> None:
        self.config = config
        builder = registry.networks.create(config.network.get("name", "rnd_curiosity"))
        builder.load(config.network)
        self.network = builder.build("rnd", input_shape=obs_shape)
        self.obs_mean_std = RunningMeanStd(obs_shape)
        self.error_mean_std = RunningMeanStd((1,))
        parts = ("network", "obs_mean_std", "error_mean_std")
        self.nets = nn.ModuleDict({name: getattr(self, name) for name in parts})
        self.nets.to(device).eval()
        self.optimizer = adam(self.network.predictor.parameters(), config.learning_rate, device)
        self.mean_error = torch.zeros((), device=device)

    @torch.no_grad()
    def reward(self, obs: Tensor) -> Tensor:
        """Curiosity rewards (N,) for the observations (N, D) that a step reached."""
        error = self.network(self.obs_mean_std(obs))
        scale = torch.sqrt(self.error_mean_std.running_var.float() + 1e-8)
        return self.config.scale_value * error / scale

    def step_reward(self, reward: Tensor, reached: dict[str, Any]) -> Tensor:
        """The shaped reward plus the curiosity reward, (N,)."""
        return reward + self.reward(reached["obs"])

    def fit(self, dataset: dict[str, Any]) -> None:
        """Train the predictor on the visited observations."""
        obs = dataset["obs"]
        self.obs_mean_std.update(obs)
        normal = self.obs_mean_std(obs)
        for _ in range(self.config.mini_epochs):
            error = self.network(normal)
            self.optimizer.zero_grad(set_to_none=True)
            error.mean().backward()
            self.optimizer.clip_and_step(None)
        self.error_mean_std.update(error.detach()[:, None])
        self.mean_error.copy_(error.detach().mean())

    def statistics(self) -> dict[str, Tensor]:
        """The predictor's mean error, a scalar."""
        return {"losses/rnd_loss": self.mean_error}

    def weights(self) -> dict[str, Any]:
        """Networks, normalisers and optimiser."""
        state = self.nets.state_dict()
        return {"rnd_nets": state, "rnd_optimizer": optimizer_state(self.optimizer)}

    def check_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        if "rnd_nets" in weights:
            checkpoint.check_weights(self.nets, weights["rnd_nets"], source)
            check_optimizer(self.optimizer, weights.get("rnd_optimizer"))

    def load_weights(self, weights: dict[str, Any], source: object) -> None:
        """See `Part`."""
        if "rnd_nets" in weights:
            checkpoint.load_weights(self.nets, weights["rnd_nets"], source)
            load_optimizer(self.optimizer, weights["rnd_optimizer"])


register_network("rnd_curiosity", lambda **kwargs: RNDCuriosityBuilder())
