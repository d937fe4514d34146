"""The `network` section of RL Games' YAML, as dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.gate import show
from phalanx.rl.activations import IS_ACTIVATION
from phalanx.rl.initializers import IS_INITIALIZER

WIDEST = 2**16
"""Units of a layer."""
Normalization = Literal["layer_norm", "batch_norm"] | None


def default_initializer() -> dict[str, Any]:
    """PyTorch's default initialisation."""
    return {"name": "default"}


@dataclass(frozen=True)
class MLPConfig:
    """`network.mlp`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"regularizer", "norm_only_first_layer"})

    units: tuple[int, ...] = ranged(at_least=1, at_most=WIDEST)
    """Widths of the hidden layers; an empty list passes the input through."""
    activation: str = field(default="elu", metadata=IS_ACTIVATION)
    """Activation function, by RL Games' name."""
    initializer: dict[str, Any] = field(
        default_factory=default_initializer, metadata=IS_INITIALIZER
    )
    """Initialiser of every linear layer's weights, including the heads; biases start at zero."""
    d2rl: bool = False
    """Feed the input to every layer after the first as well. Source: arXiv:2010.09163."""
    normalization: Normalization = None
    """Normalisation after every activation. RL Games' `network.normalization` does not apply to a
    plain MLP."""


@dataclass(frozen=True)
class ConvConfig:
    """One entry of `network.cnn.convs`."""

    filters: int = ranged(at_least=1, at_most=WIDEST)
    """Channels of the result."""
    kernel_size: int | tuple[int, ...] = ranged(3, at_least=1, at_most=1000)
    """Size of the kernel [pixels]."""
    strides: int | tuple[int, ...] = ranged(1, at_least=1, at_most=1000)
    """Distance between places of the kernel [pixels]."""
    padding: int | tuple[int, ...] = ranged(0, at_least=0, at_most=1000)
    """Zeros around the image [pixels]."""


@dataclass(frozen=True)
class CNNConfig:
    """`network.cnn`: `conv_depths` for a resnet, `convs` for all others."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"regularizer"})

    convs: tuple[ConvConfig, ...] = ()
    """Convolutions, one entry each."""
    type: Literal[
        "conv2d", "conv2d_spatial_softargmax", "conv2d_flatten", "coord_conv2d", "conv1d"
    ] = "conv2d"
    """Kind of convolution, by RL Games' name."""
    activation: str = field(default="relu", metadata=IS_ACTIVATION)
    """Activation function, by RL Games' name."""
    initializer: dict[str, Any] = field(
        default_factory=default_initializer, metadata=IS_INITIALIZER
    )
    """Initialisation of weights, `name` and its arguments."""
    permute_input: bool = True
    """Images are (height, width, channels), not (channels, height, width)."""
    conv_depths: tuple[int, ...] = ranged((), at_least=1, at_most=WIDEST)
    """Channels of each stage of a resnet."""


@dataclass(frozen=True)
class RNNConfig:
    """`network.rnn`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"zero_rnn_on_done"})

    name: Literal["lstm", "gru"]
    """Registered name."""
    units: int = ranged(at_least=1, at_most=WIDEST)
    """Width of the state."""
    layers: int = ranged(1, at_least=1, at_most=100)
    """Layers on top of each other."""
    before_mlp: bool = False
    """True: input, RNN, MLP, heads; False: input, MLP, RNN, heads."""
    layer_norm: bool = False
    """Normalise the memory's output."""
    concat_input: bool = False
    """Feed the input to an RNN after the MLP as well."""
    concat_output: bool = False
    """Feed the input to the layer after the RNN as well."""


@dataclass(frozen=True)
class ContinuousConfig:
    """`network.space.continuous`: mean and standard deviation of a Gaussian."""

    mu_activation: str = field(default="None", metadata=IS_ACTIVATION)
    """Activation of the mean."""
    sigma_activation: str = field(default="None", metadata=IS_ACTIVATION)
    """Activation of the deviation."""
    mu_init: dict[str, Any] = field(default_factory=default_initializer, metadata=IS_INITIALIZER)
    """Initialisation of the mean's layer."""
    sigma_init: dict[str, Any] = field(
        default_factory=lambda: {"name": "const_initializer"}, metadata=IS_INITIALIZER
    )
    """Initialisation of the log deviation."""
    fixed_sigma: bool = True
    """True: one free parameter per action; False: a linear head on the trunk."""
    sigma_parametrization: Literal["exp", "softplus", "linear", "scalar"] = "exp"
    """Mapping from that number to the log standard deviation in the model continuous_a2c_logstd;
    see `formulas.log_std`."""
    min_sigma: float = ranged(0.0, at_least=0)
    """Added to the standard deviation."""
    logstd_bounds: tuple[float, float] | None = None
    """Bounds to which the number is clamped first, with exp."""

    def __post_init__(self) -> None:
        if self.logstd_bounds is not None and self.logstd_bounds[0] > self.logstd_bounds[1]:
            raise PhalanxError(
                f"params.network.space.continuous.logstd_bounds is {show(self.logstd_bounds)};"
                " its first number must not be above the second"
            )


@dataclass(frozen=True)
class SpaceConfig:
    """`network.space`: exactly one of the three; none for a central value."""

    continuous: ContinuousConfig | None = None
    """Settings for real actions."""
    discrete: dict[str, Any] | None = None
    """Given for one choice."""
    multi_discrete: dict[str, Any] | None = None
    """Given for several choices."""


@dataclass(frozen=True)
class ActorCriticConfig:
    """The `network` section of `actor_critic` and `resnet_actor_critic`."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset(
        {"inputs", "joint_obs_actions", "norm_only_first_layer", "regularizer", "value_shape"}
        | {"require_rewards", "require_last_actions", "lstm", "rnn1"}
    )

    name: str
    """Registered name."""
    mlp: MLPConfig
    space: SpaceConfig = SpaceConfig()
    cnn: CNNConfig | None = None
    """Convolutions before the MLP, for images."""
    rnn: RNNConfig | None = None
    """Memory: an LSTM or a GRU."""
    separate: bool = False
    """Separate trunks for actor and critic."""
    normalization: Normalization = None
    """Normalisation in the CNN and in a d2rl MLP; a plain MLP has `mlp.normalization`."""
    value_activation: str = field(default="None", metadata=IS_ACTIVATION)
    """Activation of the value."""
    central_value: bool = False
    """A critic only, without actions."""


def read_config(params: dict[str, Any]) -> ActorCriticConfig:
    """The YAML's `network` section. Raises PhalanxError for a wrong one."""
    where = section(bool(params.get("central_value")))
    space = params.get("space") or {}
    if not isinstance(space, Mapping):
        raise PhalanxError(f"{where}.space is {show(space)}; it must be a mapping")
    params = {**params, "space": dict(space)}
    for kind in ("discrete", "multi_discrete"):
        if kind in params["space"]:  # published files have `discrete:` without a value
            params["space"][kind] = params["space"][kind] or {}
    config = read(ActorCriticConfig, params, where)
    spaces = [config.space.continuous, config.space.discrete, config.space.multi_discrete]
    if sum(s is not None for s in spaces) != (0 if config.central_value else 1):
        raise PhalanxError(
            f"{where}.space must have exactly one of continuous, discrete and"
            " multi_discrete, and none if central_value is true"
        )
    return config


def section(central_value: bool) -> str:
    """The path of a `network` section in the YAML: a central value's, or the policy's."""
    return "params.config.central_value_config.network" if central_value else "params.network"
