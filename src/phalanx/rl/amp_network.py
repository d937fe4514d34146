"""AMP's network: actor and critic with separate trunks, and a discriminator.

IsaacGymEnvs registers these as network `amp` and model `continuous_amp`. The discriminator maps
observations of a few steps (B, D) to the logit (B, 1) that they are a demonstration. Parameter
names and order are IsaacGymEnvs'. The discriminator shares no layers with actor and critic.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from phalanx.config import ranged, read
from phalanx.errors import PhalanxError
from phalanx.rl.activations import IS_ACTIVATION
from phalanx.rl.initializers import IS_INITIALIZER, initialize
from phalanx.rl.layers import Aligned, mlp
from phalanx.rl.models import ContinuousLogStdNetwork, Model
from phalanx.rl.network_config import (
    WIDEST,
    ActorCriticConfig,
    ContinuousConfig,
    MLPConfig,
    SpaceConfig,
    default_initializer,
)
from phalanx.rl.networks import ActorCritic, ActorCriticBuilder
from phalanx.rl.registry import register_model, register_network

LARGEST_LOGIT_WEIGHT = 1.0
"""The last layer's weights are initialised uniformly within +- this value."""


@dataclass(frozen=True)
class AMPContinuousConfig(ContinuousConfig):
    """`network.space.continuous` of `amp`."""

    learn_sigma: bool = False
    """False keeps the standard deviation at `sigma_init`."""


@dataclass(frozen=True)
class AMPSpaceConfig(SpaceConfig):
    """`network.space` of `amp`: continuous actions."""

    continuous: AMPContinuousConfig | None = None


@dataclass(frozen=True)
class DiscriminatorConfig:
    """`network.disc`."""

    units: tuple[int, ...] = ranged(at_least=1, at_most=WIDEST)
    """Widths of the hidden layers."""
    activation: str = field(default="relu", metadata=IS_ACTIVATION)
    """Activation function, by RL Games' name."""
    initializer: dict[str, Any] = field(
        default_factory=default_initializer, metadata=IS_INITIALIZER
    )
    """Initialiser of the hidden layers' weights; biases start at zero."""


@dataclass(frozen=True, kw_only=True)
class AMPNetworkConfig(ActorCriticConfig):
    """The `network` section of `amp`."""

    disc: DiscriminatorConfig
    space: AMPSpaceConfig = AMPSpaceConfig()
    separate: bool = True


class AMPBuilder(ActorCriticBuilder):
    """Builds `AMPNetwork`; registered as `amp`."""

    Config = AMPNetworkConfig

    def load(self, params: dict[str, Any]) -> None:
        config = read(AMPNetworkConfig, params, "params.network")
        if config.space.continuous is None:
            raise PhalanxError("the network `amp` needs params.network.space.continuous; add it")
        if not config.separate or config.rnn is not None:
            raise PhalanxError("params.network: `amp` needs separate: true and no rnn")
        self.config = config

    def build(self, name: str, **kwargs: Any) -> "AMPNetwork":
        """A network; kwargs: actions_num, input_shape, value_size, amp_input_shape."""
        if "amp_input_shape" not in kwargs:
            raise PhalanxError(
                "the network `amp` needs an environment with an `amp_observation_space`, as"
                " HumanoidAMP has"
            )
        return AMPNetwork(self.config, **kwargs)


class AMPNetwork(ActorCritic):
    """An `ActorCritic` with a discriminator."""

    def __init__(self, config: Any, amp_input_shape: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        if self.fixed_sigma and not config.space.continuous.learn_sigma:
            self.sigma.requires_grad_(False)
        disc = config.disc
        (width,) = amp_input_shape
        self._disc_mlp = mlp(width, MLPConfig(units=disc.units, activation=disc.activation), None)
        self._disc_logits = nn.Linear(disc.units[-1] if disc.units else width, 1)
        for module in self._disc_mlp.modules():
            if isinstance(module, nn.Linear):
                initialize(module.weight, disc.initializer)
                nn.init.zeros_(module.bias)
        limit = LARGEST_LOGIT_WEIGHT
        nn.init.uniform_(self._disc_logits.weight, -limit, limit)
        nn.init.zeros_(self._disc_logits.bias)

    def eval_disc(self, amp_obs: Tensor) -> Tensor:
        """Logits (B, 1) of being a demonstration, for normalised observations (B, D)."""
        logits: Tensor = self._disc_logits(self._disc_mlp(amp_obs))
        return logits

    @property
    def disc_is_plain(self) -> bool:
        """Whether the discriminator is a perceptron with ReLU, as `eval_disc_and_slope` needs."""
        own = type(self).eval_disc is AMPNetwork.eval_disc
        return own and all(isinstance(m, (Aligned, nn.ReLU)) for m in self._disc_mlp.children())

    def eval_disc_and_slope(self, amp_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 1) for normalised observations (B, D), and their gradients with respect to
        them (B, D), on a GPU with more columns of zeros; torch.autograd is needed for neither, so
        that torch.compile can fuse what uses them."""
        layers = [m for m in self._disc_mlp.children() if isinstance(m, Aligned)]
        x, active = amp_obs, []
        for layer in layers:
            x = layer(x).relu()
            active.append(x > 0)
        slope = self._disc_logits.weight.expand(len(x), -1)
        for layer, on in zip(reversed(layers), reversed(active), strict=True):
            slope = layer.back(slope * on)
        return self._disc_logits(x), slope

    def get_disc_logit_weights(self) -> Tensor:
        """The last layer's weights, flattened to (n,)."""
        return self._disc_logits.weight.flatten()

    def get_disc_weights(self) -> list[Tensor]:
        """The weights of every layer, flattened to (n,) each, without biases."""
        layers = [m for m in self._disc_mlp.modules() if isinstance(m, nn.Linear)]
        return [layer.weight.flatten() for layer in (*layers, self._disc_logits)]


register_network("amp", lambda **kwargs: AMPBuilder())
register_model(
    "continuous_amp", lambda network, **kwargs: Model(network, ContinuousLogStdNetwork, tag="amp")
)
