"""Models: a network with its normalisers and its action distribution.

A model object is `build(config) -> nn.Module`. The module's `forward(inputs)` takes and returns
dictionaries with RL Games' names:

is_train False: {"obs"} -> neglogpacs (B,), values (B, V) in reward units, sampled actions (not
clamped), and mus, sigmas (B, A) or logits (B, n). With "policy_only" the first two may be missing.
is_train True: {"obs", "prev_actions"} -> prev_neglogp (B,), values (B, V) in normalised units,
entropy (B,), and mus, sigmas or logits. As in RL Games, observations update the normaliser before
they are normalised.
In both cases "action_masks" (B, n) bool excludes discrete actions where it is False, and a
recurrent network takes and returns "rnn_states"; see `ActorCritic`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import PhalanxError
from phalanx.rl.nested import nested
from phalanx.rl.network_config import section
from phalanx.rl.normalize import RunningMeanStd, RunningMeanStdObs, as_floats, running_mean_std
from phalanx.rl.registry import register_model

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
RULED_OUT = -1e8


class ModelNetwork(nn.Module):
    """Base of all models: `a2c_network` and the normalisers of observations and values."""

    value_mean_std: RunningMeanStd | None
    running_mean_std: RunningMeanStd | RunningMeanStdObs | None

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        # The order of registration is that of RL Games' state dict.
        value_size = config.get("value_size", 1)
        self.value_mean_std = RunningMeanStd((value_size,)) if config["normalize_value"] else None
        shape = config["input_shape"]
        self.running_mean_std = running_mean_std(shape) if config["normalize_input"] else None
        self.a2c_network: Any = network
        self.actions_num = config.get("actions_num")

    @torch.no_grad()
    def norm_obs(self, obs: Any, moments: tuple[Tensor, Tensor] | None = None) -> Any:
        """Normalised observations, of the same shapes. Raises PhalanxError for bytes. moments: of
        `minibatch_moments`."""
        obs = nested(as_floats, obs)
        if self.running_mean_std is None:
            return obs
        if moments is None:
            return self.running_mean_std(obs)
        return self.running_mean_std(obs, moments=moments)

    @torch.no_grad()
    def denorm_value(self, value: Tensor) -> Tensor:
        """Values in reward units, of the same shape, from the network's values."""
        return value if self.value_mean_std is None else self.value_mean_std(value, denorm=True)

    def run(self, inputs: dict[str, Any]) -> tuple[Any, ...]:
        """The network's outputs for unnormalised observations."""
        obs, moments = inputs["obs"], inputs.get("obs_moments")
        obs = self.norm_obs(obs) if moments is None else self.norm_obs(obs, moments)
        return self.a2c_network({**inputs, "obs": obs})

    def compile_on_cpu(self, threads: int, products: str = "float") -> bool:
        """From now on compute in compiled functions on a CPU what they know; returns whether these
        are all of the network's layers. products: how to multiply, a key of
        `compute.perceptron.PARTS`. Raises PhalanxError if they fail to compile."""
        own = getattr(self.a2c_network, "compile_on_cpu", None)  # not every user's network has it
        whole = own is not None and bool(own(threads, products))
        if whole and isinstance(self.running_mean_std, RunningMeanStd):
            self.running_mean_std.compile_on_cpu(threads)
        return whole

    def is_rnn(self) -> bool:
        """Whether the network keeps a recurrent state."""
        return self.a2c_network.is_rnn()

    def get_values(self, inputs: dict[str, Any]) -> Tensor:
        """Values (B, V) in reward units, without sampling actions."""
        return self.denorm_value(self.run(inputs)[-2].float())


def minibatch_moments(model: Any, obs: Any, size: int) -> list[tuple[Tensor, Tensor]] | None:
    """Mean and variance of each minibatch of `size` observations of a batch (B, ...), over all
    ranks, as `obs_moments` of `model.run`: passes over the same minibatches need not find them
    again, and ranks exchange them at once. None for dictionaries, without a normaliser, and for a
    user's model that does not normalise as `ModelNetwork` does."""
    if not isinstance(model, ModelNetwork) or type(model).norm_obs is not ModelNetwork.norm_obs:
        return None
    normalizer = model.running_mean_std
    if type(normalizer) is not RunningMeanStd:
        return None
    return list(zip(*normalizer.moments(as_floats(obs), size), strict=True))


class ContinuousLogStdNetwork(ModelNetwork):
    """Gaussian with a mean and a log standard deviation per action."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        mu, log_std, value, states = self.run(inputs)
        mu, log_std = mu.float(), self.log_std(log_std.float())
        sigma = log_std.exp()
        result = {"mus": mu, "sigmas": sigma.expand_as(mu), "rnn_states": states}
        if inputs["is_train"]:
            return result | {
                "prev_neglogp": _gaussian_neglogp(inputs["prev_actions"], mu, sigma, log_std),
                "values": value.float(),
                "entropy": (0.5 + HALF_LOG_2PI + log_std).sum(-1).expand(mu.shape[0]),
            }
        actions = mu + sigma * torch.randn_like(mu)
        result["actions"] = actions
        if inputs.get("policy_only"):
            return result
        return result | {
            "neglogpacs": _gaussian_neglogp(actions, mu, sigma, log_std),
            "values": self.denorm_value(value.float()),
        }

    def log_std(self, sigma: Tensor) -> Tensor:
        """Log standard deviation from the network's output, same shape."""
        own = getattr(self.a2c_network, "log_std", None)  # not every user's network has it
        return own(sigma) if own else sigma


class ContinuousNetwork(ContinuousLogStdNetwork):
    """Gaussian whose network outputs the standard deviation itself. It must be positive: use
    `sigma_activation: softplus` or a positive constant."""

    def log_std(self, sigma: Tensor) -> Tensor:
        return sigma.clamp(min=1e-6).log()


class DiscreteNetwork(ModelNetwork):
    """Categorical over one set of actions."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        logits, value, states = self.run(inputs)
        log_prob = _log_prob(logits, inputs.get("action_masks"))
        result = {"logits": log_prob, "rnn_states": states}
        if inputs["is_train"]:
            return result | {
                "prev_neglogp": -_log_prob_of(log_prob, inputs["prev_actions"]),
                "values": value.float(),
                "entropy": _entropy(log_prob),
            }
        actions = _sample(log_prob)
        result["actions"] = actions
        if inputs.get("policy_only"):
            return result
        return result | {
            "neglogpacs": -_log_prob_of(log_prob, actions),
            "values": self.denorm_value(value.float()),
        }


class MultiDiscreteNetwork(ModelNetwork):
    """Independent categoricals, concatenated in "logits" and "action_masks"."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        heads, value, states = self.run(inputs)
        masks = inputs.get("action_masks")
        sizes = [h.shape[-1] for h in heads]
        parts = [None] * len(heads) if masks is None else masks.split(sizes, -1)
        log_probs = [_log_prob(h, m) for h, m in zip(heads, parts, strict=True)]
        result = {"logits": torch.cat(log_probs, -1), "rnn_states": states}
        if inputs["is_train"]:
            return result | {
                "prev_neglogp": -self._sum(log_probs, inputs["prev_actions"]),
                "values": value.float(),
                "entropy": torch.stack([_entropy(p) for p in log_probs]).sum(0),
            }
        actions = torch.stack([_sample(p) for p in log_probs], -1)
        result["actions"] = actions
        if inputs.get("policy_only"):
            return result
        return result | {
            "neglogpacs": -self._sum(log_probs, actions),
            "values": self.denorm_value(value.float()),
        }

    @staticmethod
    def _sum(log_probs: list[Tensor], actions: Tensor) -> Tensor:
        chosen = [_log_prob_of(p, actions[:, k]) for k, p in enumerate(log_probs)]
        return torch.stack(chosen).sum(0)


class CentralValueNetwork(ModelNetwork):
    """A critic without an actor, on privileged observations."""

    def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        value, states = self.run(inputs)
        value = value.float()
        values = value if inputs["is_train"] else self.denorm_value(value)
        return {"values": values, "rnn_states": states}


class Model:
    """A registered model: builds a `module` around the network of a network builder.

    `module` is the model's class, `tag` the name passed to the network builder.
    """

    def __init__(self, network: Any, module: type[ModelNetwork], tag: str = "a2c") -> None:
        self.network_builder = network
        self.module = module
        self.tag = tag

    def build(self, config: dict[str, Any]) -> ModelNetwork:
        """config: actions_num, input_shape, value_size, normalize_input, normalize_value. Raises
        PhalanxError for a critic's network in a policy's model, or the reverse."""
        network = self.network_builder.build(self.tag, **config)
        is_critic = getattr(getattr(network, "config", None), "central_value", None)
        if is_critic is not None and is_critic != issubclass(self.module, CentralValueNetwork):
            one, model = ("a critic", "central_value") if is_critic else ("a policy", "another")
            raise PhalanxError(
                f"{section(is_critic)} belongs to {one}, so its model must be {model};"
                " `central_value: true` is for the network of a critic"
            )
        return self.module(network, config)


def _gaussian_neglogp(x: Tensor, mu: Tensor, sigma: Tensor, log_std: Tensor) -> Tensor:
    """Negative log density (B,) of independent Gaussians, summed over actions; sigma and log_std
    are (B, A) or (A,)."""
    return (0.5 * ((x - mu) / sigma) ** 2 + HALF_LOG_2PI + log_std).sum(-1)


def _log_prob(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Log probabilities (B, n); masked-out actions get probability ~0."""
    logits = logits.float()
    if mask is not None:
        logits = torch.where(mask, logits, RULED_OUT)
    return logits.log_softmax(-1)


def _log_prob_of(log_prob: Tensor, actions: Tensor) -> Tensor:
    """Log probabilities (B,) of the actions (B,)."""
    return log_prob.gather(-1, actions[:, None]).squeeze(-1)


def _entropy(log_prob: Tensor) -> Tensor:
    """Entropy (B,); masked-out actions contribute exactly zero."""
    return -(log_prob.exp() * log_prob).sum(-1)


def _sample(log_prob: Tensor) -> Tensor:
    """Sampled actions (B,), by the Gumbel-max trick; torch.multinomial would sync with the host."""
    return (log_prob - torch.empty_like(log_prob).exponential_().log()).argmax(-1)


register_model(
    "continuous_a2c_logstd", lambda network, **kwargs: Model(network, ContinuousLogStdNetwork)
)
register_model("continuous_a2c", lambda network, **kwargs: Model(network, ContinuousNetwork))
register_model("discrete_a2c", lambda network, **kwargs: Model(network, DiscreteNetwork))
register_model("multi_discrete_a2c", lambda network, **kwargs: Model(network, MultiDiscreteNetwork))
register_model("central_value", lambda network, **kwargs: Model(network, CentralValueNetwork))
