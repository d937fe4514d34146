"""Networks: trunks and heads that a model wraps, built from RL Games' `network` section.

A network builder is `load(params)`, then `build(name, actions_num, input_shape, value_size, ...)`.
Parameter names and their order are RL Games', so that checkpoints of either load in the other.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.config import read
from phalanx.errors import PhalanxError
from phalanx.rl.layers import (
    CNNConfig,
    MLPConfig,
    Normalization,
    Recurrent,
    RNNConfig,
    activation,
    cnn,
    initialize,
    mlp,
)
from phalanx.rl.registry import register_network

NO_EFFECT = frozenset({"joint_obs_actions", "inputs", "norm_only_first_layer", "regularizer"})


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
    """`network.space`: exactly one of them; a central value has none."""

    continuous: ContinuousConfig | None = None
    discrete: dict[str, Any] | None = None
    multi_discrete: dict[str, Any] | None = None


@dataclass(frozen=True)
class ActorCriticConfig:
    """The `network` section of `actor_critic` and `resnet_actor_critic`."""

    name: str
    mlp: MLPConfig
    space: SpaceConfig = SpaceConfig()
    cnn: CNNConfig | None = None
    rnn: RNNConfig | None = None
    separate: bool = False
    """The critic has a trunk of its own."""
    normalization: Normalization = None
    """In the CNN and in a d2rl MLP; a plain MLP has its own `mlp.normalization`."""
    value_activation: str = "None"
    central_value: bool = False
    """A critic alone: it has no actions."""


def read_config(params: dict[str, Any]) -> ActorCriticConfig:
    """The YAML's `network` section. Raises PhalanxError for a wrong one."""
    params = {**params, "space": dict(params.get("space") or {})}
    for kind in ("discrete", "multi_discrete"):
        if kind in params["space"]:  # published files write `discrete:` with nothing below
            params["space"][kind] = params["space"][kind] or {}
    config = read(ActorCriticConfig, params, "params.network", NO_EFFECT)
    spaces = [config.space.continuous, config.space.discrete, config.space.multi_discrete]
    if sum(s is not None for s in spaces) != (0 if config.central_value else 1):
        raise PhalanxError(
            "params.network.space must have exactly one of continuous, discrete and"
            " multi_discrete, and none if central_value is true"
        )
    return config


class ActorCriticBuilder:
    """Builds `ActorCritic`; what the name `actor_critic` is registered to."""

    def load(self, params: dict[str, Any]) -> None:
        """Read the YAML's `network` section. Raises PhalanxError for a wrong one."""
        self.config = read_config(params)

    def build(self, name: str, **kwargs: Any) -> "ActorCritic":
        """A network; kwargs: actions_num, input_shape, value_size."""
        return ActorCritic(self.config, **kwargs)


class ActorCritic(nn.Module):
    """Actor and critic on one trunk (CNN, then MLP and RNN in either order), or on two if separate.

    forward takes {"obs": (B, ...) already normalised, or vectors (B, D) and at most one image by
    name} and, if recurrent, "rnn_states" (a tuple of
    (L, S, U)), "seq_length" (B = S * seq_length, sequence by sequence; 1 if absent) and
    "episode_begins" (B,) or nothing. It returns
    (mu, log std, value, states), (logits, value, states), (list of logits, value, states) or, for
    a central value, (value, states); value is (B, V) in normalised units, or None where inputs say
    "policy_only"; states are None if not recurrent.
    """

    cnn_name, mlp_name = "actor_cnn", "actor_mlp"

    def __init__(
        self,
        config: ActorCriticConfig,
        input_shape: Any,
        actions_num: Any = 0,
        value_size: int = 1,
        **_: Any,
    ) -> None:
        super().__init__()
        self.config = config
        self.separate = config.separate
        space = config.space
        self.fixed_sigma = bool(space.continuous and space.continuous.fixed_sigma)
        if self.fixed_sigma:
            # Registered first: it is parameter 0 of RL Games' optimiser state.
            self.sigma: Any = nn.Parameter(torch.zeros(actions_num))
        width = self._build_features(input_shape)
        rnn = config.rnn
        into_mlp = width
        if rnn and rnn.before_mlp:
            into_mlp = rnn.units + (width if rnn.concat_output else 0)
        out = config.mlp.units[-1] if config.mlp.units else into_mlp
        into_rnn = width
        if rnn and not rnn.before_mlp:
            into_rnn = out + (width if rnn.concat_input else 0)
            out = rnn.units + (width if rnn.concat_output else 0)
        self._build_trunk(into_mlp, into_rnn)
        self.value = nn.Linear(out, value_size)
        self.value_act = activation(config.value_activation)
        if space.continuous:
            self.mu = nn.Linear(out, actions_num)
            self.mu_act = activation(space.continuous.mu_activation)
            self.sigma_act = activation(space.continuous.sigma_activation)
            if not self.fixed_sigma:
                self.sigma = nn.Linear(out, actions_num)
        elif space.multi_discrete is not None:
            self.logits: Any = nn.ModuleList([nn.Linear(out, n) for n in actions_num])
        elif space.discrete is not None:
            self.logits = nn.Linear(out, actions_num)
        self._initialize()

    # -- forward ---------------------------------------------------------------------------------

    def forward(self, inputs: dict[str, Any]) -> tuple[Any, ...]:
        obs = inputs["obs"]
        states = inputs.get("rnn_states")
        rnn = self.config.rnn
        if self.separate:
            half = len(states) // 2 if states else 0
            own = (states[:half], states[half:]) if states else (None, None)
            hidden, after = self._trunk(obs, inputs, "actor", own[0])
            if rnn or not inputs.get("policy_only"):
                critic, critic_after = self._trunk(obs, inputs, "critic", own[1])
                after = (*after, *critic_after) if rnn else None
        else:
            hidden, after = self._trunk(obs, inputs, "actor", states)
            critic = hidden
        value = None if inputs.get("policy_only") else self.value_act(self.value(critic))
        space = self.config.space
        if space.continuous:
            mu = self.mu_act(self.mu(hidden))
            sigma = self.sigma_act(self.sigma if self.fixed_sigma else self.sigma(hidden))
            return mu, sigma.expand_as(mu), value, after
        if space.multi_discrete is not None:
            return [head(hidden) for head in self.logits], value, after
        if space.discrete is not None:
            return self.logits(hidden), value, after
        return value, after

    def _trunk(
        self, obs: Any, inputs: dict[str, Any], side: str, states: Any
    ) -> tuple[Tensor, Any]:
        """Hidden features of one side, (B, width), and its recurrent state after the step."""
        features = self._features(obs, side)
        perceptron = getattr(self, self.mlp_name if side == "actor" else "critic_mlp")
        rnn = self.config.rnn
        if rnn is None:
            return perceptron(features), None
        name = {"actor": "a_", "critic": "c_"}[side] if self.separate else ""
        x = features
        if not rnn.before_mlp:
            x = perceptron(x)
            x = torch.cat([x, features], 1) if rnn.concat_input else x
        layer: Recurrent = getattr(self, f"{name}rnn")
        begins = inputs.get("episode_begins")
        x, after = layer(x, states, inputs.get("seq_length", 1), begins)
        if rnn.layer_norm:
            x = getattr(self, f"{name}layer_norm")(x)
        x = torch.cat([x, features], 1) if rnn.concat_output else x
        return (perceptron(x) if rnn.before_mlp else x), after

    def _features(self, obs: Any, side: str) -> Tensor:
        """(B, width): an image through the side's CNN, then vectors as they are."""
        named = obs if isinstance(obs, dict) else {"": obs}
        parts = [named[name] for name in self._vectors]
        if self._image is not None:
            assert self.config.cnn is not None
            image = named[self._image]
            if self.config.cnn.permute_input and image.dim() == 4:
                image = image.permute(0, 3, 1, 2)
            convolve = getattr(self, self.cnn_name if side == "actor" else "critic_cnn")
            parts.insert(0, convolve(image).flatten(1))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    # -- recurrent state -------------------------------------------------------------------------

    def is_rnn(self) -> bool:
        """Whether it keeps a recurrent state."""
        return self.config.rnn is not None

    def get_default_rnn_state(self, num_seqs: int, device: torch.device) -> tuple[Tensor, ...]:
        """Zeros, a tuple of (L, num_seqs, U): (h, c) or (h,), twice if separate."""
        rnn = self.config.rnn
        assert rnn is not None
        count = (2 if rnn.name == "lstm" else 1) * (2 if self.separate else 1)
        shape = (rnn.layers, num_seqs, rnn.units)
        return tuple(torch.zeros(shape, device=device) for _ in range(count))

    # -- building --------------------------------------------------------------------------------

    def _build_features(self, input_shape: Any) -> int:
        """Convolutions, if any; returns the width of what the MLP or RNN sees."""
        config = self.config.cnn
        shapes = input_shape if isinstance(input_shape, dict) else {"": tuple(input_shape)}
        for name, shape in shapes.items():
            if isinstance(shape, dict):
                raise PhalanxError(
                    f"observations {name!r} are a dictionary again; give the network one level"
                )
        self._vectors = [name for name, shape in shapes.items() if len(shape) == 1]
        images = [name for name in shapes if name not in self._vectors]
        self._image = images[0] if images else None
        if config is None and images:
            raise PhalanxError(
                f"observations{_named(images)} of shape {shapes[images[0]]} need a `cnn` in"
                " params.network"
            )
        if len(images) > 1:
            raise PhalanxError(
                f"params.network.cnn takes one image, but the observations have {len(images)}:"
                f" {', '.join(images)}"
            )
        width = sum(shapes[name][0] for name in self._vectors)
        if config is None:
            return width
        if not images:
            raise PhalanxError(
                "params.network.cnn is given, but the observations hold no image; leave it out"
            )
        shape = shapes[images[0]]
        if config.permute_input and len(shape) == 3:
            shape = (shape[2], shape[0], shape[1])
        own = self._convolutions(shape)
        self.add_module(self.cnn_name, own)
        if self.separate:
            self.critic_cnn = self._convolutions(shape)
        with torch.no_grad():
            own.eval()
            width += own(torch.zeros(1, *shape)).flatten(1).shape[1]
            own.train()
        return width

    def _convolutions(self, shape: tuple[int, ...]) -> nn.Module:
        assert self.config.cnn is not None
        return cnn(shape[0], self.config.cnn, self.config.normalization)

    def _build_trunk(self, into_mlp: int, into_rnn: int) -> None:
        """The MLP before the RNN, whichever comes first in a forward pass: RL Games' order."""
        self._build_mlp(into_mlp)
        self._build_rnn(into_rnn)

    def _build_mlp(self, width: int) -> None:
        config = self.config
        normalization = config.normalization if config.mlp.d2rl else None
        self.add_module(self.mlp_name, mlp(width, config.mlp, normalization))
        self.critic_mlp: nn.Module = nn.Sequential()
        if self.separate:
            self.critic_mlp = mlp(width, config.mlp, normalization)

    def _build_rnn(self, width: int) -> None:
        rnn = self.config.rnn
        if rnn is None:
            return
        names = ("a_", "c_") if self.separate else ("",)
        for name in names:
            setattr(self, f"{name}rnn", Recurrent(width, rnn))
        for name in names:
            if rnn.layer_norm:
                setattr(self, f"{name}layer_norm", nn.LayerNorm(rnn.units))

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)) and self.config.cnn:
                initialize(module.weight, self.config.cnn.initializer)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                initialize(module.weight, self.config.mlp.initializer)
                nn.init.zeros_(module.bias)
        continuous = self.config.space.continuous
        if not continuous:
            return
        initialize(self.mu.weight, continuous.mu_init)
        if self.fixed_sigma:
            initialize(self.sigma, continuous.sigma_init)
        elif continuous.sigma_init.get("name") == "const_initializer":
            # A constant is meant for the log std itself: the head's bias, not its weights.
            nn.init.zeros_(self.sigma.weight)
            initialize(self.sigma.bias, continuous.sigma_init)
        else:
            initialize(self.sigma.weight, continuous.sigma_init)


def _named(images: list[str]) -> str:
    return f" {images[0]}" if images[0] else ""


class ResnetActorCriticBuilder(ActorCriticBuilder):
    """Builds `ResnetActorCritic`; what `resnet_actor_critic` is registered to."""

    def build(self, name: str, **kwargs: Any) -> "ActorCritic":
        return ResnetActorCritic(self.config, **kwargs)


class ResnetActorCritic(ActorCritic):
    """Images through the residual network of IMPALA, one block per `cnn.conv_depths`; its
    parameters are `cnn.*` and `mlp.*`. Source: arXiv:1802.01561, figure 3."""

    cnn_name, mlp_name = "cnn", "mlp"

    def __init__(self, config: ActorCriticConfig, **kwargs: Any) -> None:
        if config.separate or config.cnn is None or not config.cnn.conv_depths:
            raise PhalanxError(
                "resnet_actor_critic needs params.network.cnn.conv_depths, as in [16, 32, 32], and"
                " separate: false"
            )
        super().__init__(config, **kwargs)

    def _convolutions(self, shape: tuple[int, ...]) -> nn.Module:
        assert self.config.cnn is not None
        blocks, channels = [], shape[0]
        for depth in self.config.cnn.conv_depths:
            blocks.append(ImpalaBlock(channels, depth))
            channels = depth
        # RL Games applies the MLP's activation to what the last block gives, not the CNN's.
        return nn.Sequential(*blocks, nn.Flatten(), activation(self.config.mlp.activation))

    def _build_trunk(self, into_mlp: int, into_rnn: int) -> None:
        self._build_rnn(into_rnn)
        self._build_mlp(into_mlp)

    def _initialize(self) -> None:
        super()._initialize()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Conv3x3(nn.Module):
    """Convolution of 3 x 3 that keeps height and width."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, channels)
        self.conv2 = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x.relu()).relu())


class ImpalaBlock(nn.Module):
    """Convolution, pooling to half the size, two residual blocks."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, depth)
        self.max_pool = nn.MaxPool2d(3, 2, 1)
        self.res_block1 = Residual(depth)
        self.res_block2 = Residual(depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_block2(self.res_block1(self.max_pool(self.conv(x))))


register_network("actor_critic", lambda **kwargs: ActorCriticBuilder())
register_network("resnet_actor_critic", lambda **kwargs: ResnetActorCriticBuilder())
