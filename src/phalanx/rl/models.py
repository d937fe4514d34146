"""Models: a network between its normalisers and its action distribution.

A model object is `build(config) -> nn.Module`. The module's `forward(inputs)` takes and returns
dictionaries with RL Games' names:

is_train False: {"obs"} -> neglogpacs (B,), values (B, V) in reward units, actions sampled (not
clamped), and mus, sigmas (B, A) or logits (B, n).
is_train True: {"obs", "prev_actions"} -> prev_neglogp (B,), values (B, V) in normalised units,
entropy (B,), and mus, sigmas or logits. Observations update the normaliser on the way, before they
are used, as in RL Games.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.rl.normalize import RunningMeanStd
from phalanx.rl.registry import register_model

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class ModelNetwork(nn.Module):
    """What all models share: the two normalisers around `a2c_network`."""

    value_mean_std: RunningMeanStd | None
    running_mean_std: RunningMeanStd | None

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        # The order of registration is that of RL Games' state dict.
        value_size = config.get("value_size", 1)
        self.value_mean_std = RunningMeanStd((value_size,)) if config["normalize_value"] else None
        shape = config["input_shape"]
        self.running_mean_std = RunningMeanStd(shape) if config["normalize_input"] else None
        self.a2c_network: Any = network

    @torch.no_grad()
    def norm_obs(self, obs: Tensor) -> Tensor:
        """Observations as the network wants them."""
        return obs if self.running_mean_std is None else self.running_mean_std(obs)

    @torch.no_grad()
    def denorm_value(self, value: Tensor) -> Tensor:
        """Value in reward units from the network's."""
        return value if self.value_mean_std is None else self.value_mean_std(value, denorm=True)

    def is_rnn(self) -> bool:
        """Whether the network keeps a recurrent state."""
        return self.a2c_network.is_rnn()

    def get_values(self, obs: Tensor) -> Tensor:
        """(B, V) in reward units, normalisers untouched."""
        outputs = self.a2c_network({"obs": self.norm_obs(obs)})
        return self.denorm_value(outputs[-2].float())


class ContinuousLogStdNetwork(ModelNetwork):
    """Gaussian with a mean and a log standard deviation per action."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        obs = {**inputs, "obs": self.norm_obs(inputs["obs"])}
        mu, log_std, value, _ = self.a2c_network(obs)
        mu, log_std, value = mu.float(), log_std.float(), value.float()
        sigma = log_std.exp()
        if inputs["is_train"]:
            return {
                "prev_neglogp": _gaussian_neglogp(inputs["prev_actions"], mu, sigma, log_std),
                "values": value,
                "entropy": (0.5 + HALF_LOG_2PI + log_std).sum(-1),
                "mus": mu,
                "sigmas": sigma,
            }
        actions = mu + sigma * torch.randn_like(mu)
        return {
            "neglogpacs": _gaussian_neglogp(actions, mu, sigma, log_std),
            "values": self.denorm_value(value),
            "actions": actions,
            "mus": mu,
            "sigmas": sigma,
        }


class DiscreteNetwork(ModelNetwork):
    """Categorical over one set of actions."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Tensor]:
        obs = {**inputs, "obs": self.norm_obs(inputs["obs"])}
        logits, value, _ = self.a2c_network(obs)
        log_prob, value = logits.float().log_softmax(-1), value.float()
        if inputs["is_train"]:
            chosen = log_prob.gather(-1, inputs["prev_actions"][:, None]).squeeze(-1)
            entropy = -(log_prob.exp() * log_prob).sum(-1)
            return {
                "prev_neglogp": -chosen,
                "values": value,
                "entropy": entropy,
                "logits": log_prob,
            }
        # Gumbel's trick samples without the host check of torch.multinomial.
        noise = -torch.empty_like(log_prob).exponential_().log()
        actions = (log_prob + noise).argmax(-1)
        return {
            "neglogpacs": -log_prob.gather(-1, actions[:, None]).squeeze(-1),
            "values": self.denorm_value(value),
            "actions": actions,
            "logits": log_prob,
        }


class Model:
    """What a name in the registry stands for: builds `module` around a network builder's network.

    `module` is the class of the whole, `tag` the name that the network builder is told.
    """

    def __init__(self, network: Any, module: type[ModelNetwork], tag: str = "a2c") -> None:
        self.network_builder = network
        self.module = module
        self.tag = tag

    def build(self, config: dict[str, Any]) -> ModelNetwork:
        """config: actions_num, input_shape, value_size, normalize_input, normalize_value."""
        return self.module(self.network_builder.build(self.tag, **config), config)


def _gaussian_neglogp(x: Tensor, mu: Tensor, sigma: Tensor, log_std: Tensor) -> Tensor:
    """(B,) negative log density of independent Gaussians, summed over actions."""
    return (0.5 * ((x - mu) / sigma) ** 2 + HALF_LOG_2PI + log_std).sum(-1)


register_model(
    "continuous_a2c_logstd", lambda network, **kwargs: Model(network, ContinuousLogStdNetwork)
)
register_model("discrete_a2c", lambda network, **kwargs: Model(network, DiscreteNetwork))
