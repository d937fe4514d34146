"""Networks: the trunk and heads that a model wraps, built from RL Games' `network` section.

A network builder is `load(params)`, then `build(name, actions_num, input_shape, value_size, ...)`.
Parameter names and their order are RL Games', so that checkpoints of either load in the other.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from phalanx.config import read
from phalanx.errors import PhalanxError, did_you_mean
from phalanx.rl.registry import register_network

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "None": nn.Identity,
}
INITIALIZERS: dict[str, Any] = {
    "default": lambda w: None,
    "const_initializer": lambda w, val=0.0: nn.init.constant_(w, val),
    "orthogonal_initializer": nn.init.orthogonal_,
    "glorot_normal_initializer": nn.init.xavier_normal_,
    "glorot_uniform_initializer": nn.init.xavier_uniform_,
    "random_uniform_initializer": nn.init.uniform_,
    "kaiming_normal": nn.init.kaiming_normal_,
}


@dataclass(frozen=True)
class MLPConfig:
    """`network.mlp`."""

    units: tuple[int, ...]
    """Widths of the hidden layers."""
    activation: str = "elu"
    initializer: dict[str, Any] = field(default_factory=lambda: {"name": "default"})
    d2rl: Literal[False] = False


@dataclass(frozen=True)
class ContinuousConfig:
    """`network.space.continuous`: mean and standard deviation of a Gaussian."""

    mu_activation: str = "None"
    sigma_activation: str = "None"
    mu_init: dict[str, Any] = field(default_factory=lambda: {"name": "default"})
    sigma_init: dict[str, Any] = field(default_factory=lambda: {"name": "const_initializer"})
    fixed_sigma: bool = True
    """True: one free parameter an action; False: a linear head on the trunk."""


@dataclass(frozen=True)
class SpaceConfig:
    """`network.space`: exactly one of the two."""

    continuous: ContinuousConfig | None = None
    discrete: dict[str, Any] | None = None


@dataclass(frozen=True)
class ActorCriticConfig:
    """The `network` section of `actor_critic`."""

    name: str
    mlp: MLPConfig
    space: SpaceConfig
    separate: bool = False
    """The critic has a trunk of its own."""
    value_activation: str = "None"


class ActorCriticBuilder:
    """Builds `ActorCritic`; what the name `actor_critic` is registered to."""

    def load(self, params: dict[str, Any]) -> None:
        """Read the YAML's `network` section. Raises PhalanxError for a wrong one."""
        params = dict(params)
        params.setdefault("space", {})
        if "discrete" in params["space"]:  # published files write `discrete:` with nothing below
            params["space"] = {**params["space"], "discrete": params["space"]["discrete"] or {}}
        self.config = read(ActorCriticConfig, params, "params.network", _NO_EFFECT)

    def build(self, name: str, **kwargs: Any) -> "ActorCritic":
        """A network; kwargs: actions_num, input_shape, value_size."""
        return ActorCritic(self.config, **kwargs)


class ActorCritic(nn.Module):
    """Actor and critic on one trunk, or on two if `separate`.

    forward({"obs": (B, D), already normalised}) returns (mu, log std, value, None) for continuous
    actions and (logits, value, None) for discrete ones; value is (B, V) in normalised units.
    """

    def __init__(
        self,
        config: ActorCriticConfig,
        actions_num: int,
        input_shape: tuple[int, ...],
        value_size: int = 1,
        **_: Any,
    ) -> None:
        super().__init__()
        self.separate = config.separate
        if len(input_shape) != 1:
            raise PhalanxError(
                f"observations of shape {tuple(input_shape)} need params.network.cnn,"
                " which actor_critic does not have yet; give it vectors"
            )
        continuous = config.space.continuous
        self.is_continuous = continuous is not None
        if self.is_continuous == (config.space.discrete is not None):
            raise PhalanxError(
                "params.network.space must have exactly one of `continuous` and `discrete`"
            )
        self.fixed_sigma = bool(continuous and continuous.fixed_sigma)
        if continuous and continuous.fixed_sigma:
            # Registered first: it is parameter 0 of RL Games' optimiser state.
            self.sigma: Any = nn.Parameter(torch.zeros(actions_num))
        self.actor_mlp = _mlp(input_shape[0], config.mlp)
        self.critic_mlp = _mlp(input_shape[0], config.mlp) if self.separate else nn.Sequential()
        width = config.mlp.units[-1] if config.mlp.units else input_shape[0]
        self.value = nn.Linear(width, value_size)
        self.value_act = _activation(config.value_activation)
        if continuous:
            self.mu = nn.Linear(width, actions_num)
            self.mu_act = _activation(continuous.mu_activation)
            self.sigma_act = _activation(continuous.sigma_activation)
            if not continuous.fixed_sigma:
                self.sigma = nn.Linear(width, actions_num)
        else:
            self.logits = nn.Linear(width, actions_num)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _initialize(module.weight, config.mlp.initializer)
                nn.init.zeros_(module.bias)
        if continuous:
            _initialize(self.mu.weight, continuous.mu_init)
            # A constant is meant for the log std itself: the bias of a head, not its weights.
            head = isinstance(self.sigma, nn.Linear)
            constant = continuous.sigma_init.get("name") == "const_initializer"
            if head and constant:
                nn.init.zeros_(self.sigma.weight)
                _initialize(self.sigma.bias, continuous.sigma_init)
            else:
                _initialize(self.sigma.weight if head else self.sigma, continuous.sigma_init)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Any, ...]:
        obs = inputs["obs"]
        hidden = self.actor_mlp(obs)
        value = self.value_act(self.value(self.critic_mlp(obs) if self.separate else hidden))
        if not self.is_continuous:
            return self.logits(hidden), value, None
        mu = self.mu_act(self.mu(hidden))
        sigma = self.sigma_act(self.sigma if self.fixed_sigma else self.sigma(hidden))
        return mu, sigma.expand_as(mu), value, None

    def is_rnn(self) -> bool:
        """Whether it keeps a recurrent state."""
        return False


_NO_EFFECT = frozenset({"normalization", "joint_obs_actions", "inputs", "regularizer"})


def _mlp(width: int, config: MLPConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for units in config.units:
        layers += [nn.Linear(width, units), _activation(config.activation)]
        width = units
    return nn.Sequential(*layers)


def _activation(name: str) -> nn.Module:
    if name not in ACTIVATIONS:
        raise PhalanxError(
            f"unknown activation {name!r} in params.network{did_you_mean(str(name), ACTIVATIONS)};"
            f" accepted: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]()


def _initialize(weight: Tensor, config: dict[str, Any]) -> None:
    options = dict(config)
    name = options.pop("name", "default")
    if name not in INITIALIZERS:
        raise PhalanxError(
            f"unknown initializer {name!r} in params.network{did_you_mean(name, INITIALIZERS)};"
            f" accepted: {', '.join(INITIALIZERS)}"
        )
    try:
        with torch.no_grad():
            INITIALIZERS[name](weight, **options)
    except TypeError as error:
        raise PhalanxError(f"initializer {name!r} in params.network: {error}") from error


register_network("actor_critic", lambda **kwargs: ActorCriticBuilder())
