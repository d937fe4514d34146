"""The network of DQN, `q_network`, and its model, `dqn`.

`params.network`:

    name: q_network
    mlp: {units: [128, 128], activation: relu}
    dueling: true               # separate value and advantages, arXiv:1511.06581
    normalization: layer_norm   # after every hidden layer

RL Games 1.6.5 has neither, since it has no DQN.
"""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl.initializers import initialize
from phalanx.rl.layers import mlp
from phalanx.rl.network_config import MLPConfig
from phalanx.rl.normalize import RunningMeanStd, as_floats
from phalanx.rl.registry import register_model, register_network


@dataclass(frozen=True)
class QNetworkConfig:
    """The `network` section of `q_network`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"space"})

    name: str
    """Registered name."""
    mlp: MLPConfig
    dueling: bool = False
    """Use Q = V + A - mean of A, so that a state's value is learned from all its actions."""
    normalization: Literal["layer_norm"] | None = None
    """Normalisation after every hidden layer."""


class QNetworkBuilder:
    """Builds `QNetwork`."""

    Config = QNetworkConfig

    def load(self, params: dict[str, Any]) -> None:
        """Read the YAML's `network` section. Raises PhalanxError for a wrong one."""
        self.config = read(QNetworkConfig, params, "params.network")

    def build(self, name: str, **kwargs: Any) -> "QNetwork":
        """A network; kwargs: actions_num, input_shape."""
        return QNetwork(self.config, kwargs["actions_num"], kwargs["input_shape"])


class QNetwork(nn.Module):
    """Maps normalised observations (B, D) to the values of all actions, (B, n)."""

    def __init__(
        self, config: QNetworkConfig, actions_num: int, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        if not isinstance(input_shape, tuple) or len(input_shape) != 1:
            raise PhalanxError(
                f"q_network needs vector observations, not of shape {input_shape}; flatten them"
            )
        self.mlp = mlp(input_shape[0], config.mlp, config.normalization)
        width = config.mlp.units[-1] if config.mlp.units else input_shape[0]
        self.advantage = nn.Linear(width, actions_num)
        self.value = nn.Linear(width, 1) if config.dueling else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialize(module.weight, config.mlp.initializer)
                nn.init.zeros_(module.bias)

    def forward(self, obs: Tensor) -> Tensor:
        hidden = self.mlp(obs)
        advantage: Tensor = self.advantage(hidden)
        if self.value is None:
            return advantage
        value: Tensor = self.value(hidden)
        return value + advantage - advantage.mean(-1, keepdim=True)


class DQNModel(nn.Module):
    """Observation normaliser, network and target network, which starts equal to the network.
    forward({"obs"}) -> q_values (B, n) and the best actions (B,)."""

    running_mean_std: RunningMeanStd | None

    def __init__(self, network: QNetwork, config: dict[str, Any]) -> None:
        super().__init__()
        shape = config["input_shape"]
        self.running_mean_std = RunningMeanStd(shape) if config["normalize_input"] else None
        self.q_network = network
        self.target_network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def norm_obs(self, obs: Tensor) -> Tensor:
        """Normalised observations (B, D). Raises PhalanxError for bytes."""
        obs = as_floats(obs)
        return obs if self.running_mean_std is None else self.running_mean_std(obs)

    def forward(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        q_values = self.q_network(self.norm_obs(inputs["obs"])).float()
        return {"q_values": q_values, "actions": q_values.argmax(-1)}

    def is_rnn(self) -> bool:
        """Whether it has a recurrent state."""
        return False


class DQNModelBuilder:
    """Builds `DQNModel`; registered as the model `dqn`."""

    def __init__(self, network: Any) -> None:
        self.network_builder = network

    def build(self, config: dict[str, Any]) -> DQNModel:
        """config: actions_num, input_shape, normalize_input."""
        return DQNModel(self.network_builder.build("dqn", **config), config)


register_network("q_network", lambda **kwargs: QNetworkBuilder())
register_model("dqn", lambda network, **kwargs: DQNModelBuilder(network))
