"""Actor, critics and target critics of SAC: the network and the model `soft_actor_critic`.

Parameter names are RL Games', so that its checkpoints load: actor.trunk, critic.Q1, critic.Q2,
critic_target.Q1, critic_target.Q2. `params.network`:

    name: soft_actor_critic
    mlp: {units: [256, 256], activation: relu}
    log_std_bounds: [-5, 2]
    normalization: layer_norm   # after every hidden layer; RL Games ignores it
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl.initializers import initialize
from phalanx.rl.layers import mlp
from phalanx.rl.network_config import MLPConfig, Normalization
from phalanx.rl.normalize import RunningMeanStd, as_floats
from phalanx.rl.registry import register_model, register_network

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class SACNetworkConfig:
    """The `network` section of `soft_actor_critic`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"space", "value_activation", "value_shape", "joint_obs_actions"}
    )

    name: str
    """Registered name."""
    mlp: MLPConfig
    log_std_bounds: tuple[float, ...] = (-5.0, 2.0)
    """Smallest and largest log standard deviation before squashing."""
    normalization: Literal["layer_norm"] | None = None
    """Normalisation after every hidden layer."""
    separate: Literal[True] = True
    """Always true: the critics have separate trunks."""

    def __post_init__(self) -> None:
        bounds = self.log_std_bounds
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise PhalanxError(
                f"params.network.log_std_bounds is {list(bounds)}; it must be two numbers,"
                " the smaller one first, as in [-5, 2]"
            )


class SACBuilder:
    """Builds `SACNetwork`."""

    Config = SACNetworkConfig

    def load(self, params: dict[str, Any]) -> None:
        """Read the YAML's `network` section. Raises PhalanxError for a wrong one."""
        self.config = read(SACNetworkConfig, params, "params.network")

    def build(self, name: str, **kwargs: Any) -> "SACNetwork":
        """A network; kwargs: actions_num, input_shape."""
        return SACNetwork(self.config, kwargs["actions_num"], kwargs["input_shape"])


class SACNetwork(nn.Module):
    """Actor, critic and target critic; the target starts equal to the critic."""

    def __init__(
        self, config: SACNetworkConfig, actions_num: int, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        if not isinstance(input_shape, tuple) or len(input_shape) != 1:
            raise PhalanxError(
                f"soft_actor_critic needs vector observations, not of shape {input_shape};"
                " flatten them"
            )
        width = input_shape[0]
        self.actor = SquashedGaussianActor(width, actions_num, config)
        self.critic = TwinCritic(width + actions_num, config)
        self.critic_target = TwinCritic(width + actions_num, config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialize(module.weight, config.mlp.initializer)
                nn.init.zeros_(module.bias)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False)


class SquashedGaussianActor(nn.Module):
    """tanh of a Gaussian. Its log standard deviation is kept within bounds by another tanh."""

    def __init__(self, width: int, actions_num: int, config: SACNetworkConfig) -> None:
        super().__init__()
        self.low, self.high = config.log_std_bounds
        self.trunk = mlp_with_head(width, 2 * actions_num, config.mlp, config.normalization)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(mu, log std) before squashing, (B, A) each, for normalised observations."""
        mu, raw = self.trunk(obs).float().chunk(2, dim=-1)
        return mu, self.low + 0.5 * (self.high - self.low) * (raw.tanh() + 1)

    def sample(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Reparametrised actions in (-1, 1), (B, A), and their log density, (B,)."""
        mu, log_std = self(obs)
        before = mu + log_std.exp() * torch.randn_like(mu)
        return before.tanh(), squashed_log_prob(before, mu, log_std)


class TwinCritic(nn.Module):
    """Two Q values (B,) of observations (B, D) and actions (B, A), in the environment's units."""

    def __init__(self, width: int, config: SACNetworkConfig) -> None:
        super().__init__()
        self.Q1 = mlp_with_head(width, 1, config.mlp, config.normalization)
        self.Q2 = mlp_with_head(width, 1, config.mlp, config.normalization)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([obs, actions], -1)
        return self.Q1(both).float().squeeze(-1), self.Q2(both).float().squeeze(-1)


class SACModel(nn.Module):
    """Observation normaliser and network. forward({"obs"}) -> sampled "actions" and "mus", the
    squashed means, both (B, A) in (-1, 1)."""

    running_mean_std: RunningMeanStd | None

    def __init__(self, network: SACNetwork, config: dict[str, Any]) -> None:
        super().__init__()
        shape = config["input_shape"]
        self.running_mean_std = RunningMeanStd(shape) if config["normalize_input"] else None
        self.sac_network = network

    @torch.no_grad()
    def norm_obs(self, obs: Tensor) -> Tensor:
        """Normalised observations (B, D). Raises PhalanxError for bytes."""
        obs = as_floats(obs)
        return obs if self.running_mean_std is None else self.running_mean_std(obs)

    def forward(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        mu, log_std = self.sac_network.actor(self.norm_obs(inputs["obs"]))
        return {
            "mus": mu.tanh(),
            "actions": (mu + log_std.exp() * torch.randn_like(mu)).tanh(),
        }

    def is_rnn(self) -> bool:
        """Whether it has a recurrent state."""
        return False


class SACModelBuilder:
    """Builds `SACModel`; registered as the model `soft_actor_critic`."""

    def __init__(self, network: Any) -> None:
        self.network_builder = network

    def build(self, config: dict[str, Any]) -> SACModel:
        """config: actions_num, input_shape, normalize_input."""
        return SACModel(self.network_builder.build("sac", **config), config)


def squashed_log_prob(before: Tensor, mu: Tensor, log_std: Tensor) -> Tensor:
    """Log density (B,) of tanh(before), with `before` (B, A) drawn from a Gaussian.

    log N(u) - log(1 - tanh(u)^2), summed over actions. The latter is computed as 2 (log 2 - u -
    softplus(-2u)), which stays accurate where tanh saturates. Source: arXiv:1812.05905, appendix C.
    """
    z = (before - mu) / log_std.exp()
    gaussian = -0.5 * z**2 - log_std - HALF_LOG_2PI
    jacobian = 2 * (math.log(2) - before - F.softplus(-2 * before))
    return (gaussian - jacobian).sum(-1)


def mlp_with_head(
    width: int, outputs: int, config: MLPConfig, norm: Normalization
) -> nn.Sequential:
    """A perceptron and a linear head, as one `nn.Sequential`."""
    trunk = mlp(width, config, norm)
    layers = list(trunk) if isinstance(trunk, nn.Sequential) else [trunk]
    return nn.Sequential(*layers, nn.Linear(config.units[-1] if config.units else width, outputs))


register_network("soft_actor_critic", lambda **kwargs: SACBuilder())
register_model("soft_actor_critic", lambda network, **kwargs: SACModelBuilder(network))
