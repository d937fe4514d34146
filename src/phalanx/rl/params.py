"""Reads the top level of RL Games' `params`, and finds keys without effect in all sections."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

import phalanx
from phalanx.compute.devices import resolve_device
from phalanx.config import ranged, read, without_effect
from phalanx.errors import PhalanxError
from phalanx.gate import show
from phalanx.rl import ranks, registry
from phalanx.rl.curiosity import RNDConfig

LARGEST_SEED = 2**63 - 1
OLD_MODELS = {
    "discrete_a2c_lstm": "discrete_a2c",
    "continuous_a2c_lstm": "continuous_a2c",
    "continuous_a2c_lstm_logstd": "continuous_a2c_logstd",
}
"""Models in older RL Games files, which have `network.lstm` instead of `network.rnn`."""


EFFECTLESS_VALUES = {"lr_schedule": "polynom_decay"}
"""Values in `params.config` without effect: RL Games has no such schedule and keeps the learning
rate."""


@dataclass(frozen=True)
class Params:
    """`params`: sections, whose keys are checked where they are used, and a few numbers."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"env", "load_checkpoint", "load_path"})

    algo: dict[str, Any]
    """`name` of a registered algorithm."""
    config: dict[str, Any]
    """See `phalanx.rl.config`."""
    network: dict[str, Any] = field(default_factory=dict)
    """See `phalanx.rl.network_config`."""
    model: dict[str, Any] | str | None = None
    """`name`, or the name itself; None takes the default for the environment's actions."""
    seed: int | None = ranged(None, at_least=-1, at_most=LARGEST_SEED)
    """Random seed; None and -1 derive one from the clock."""
    torch_threads: int | str | None = ranged(None, at_least=-1, at_most=1024)
    """CPU threads of PyTorch's operations; 0 and auto leave the number unchanged."""

    @property
    def algo_name(self) -> str:
        """Name of the algorithm. Raises PhalanxError if there is none."""
        name = self.algo.get("name")
        if name is not None and not isinstance(name, str):
            raise PhalanxError(f"params.algo.name is {show(name)}; it must be a name")
        if not name:
            raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
        return name


def read_params(params: Mapping[str, Any]) -> Params:
    """RL Games' `params`. Raises PhalanxError for an unknown, missing or wrong key."""
    if "algo" not in params:
        raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
    return read(Params, params, "params")


def with_current_names(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the model and recurrent network of `OLD_MODELS` under their current names."""
    model, network = params.get("model"), params.get("network")
    name = model.get("name") if isinstance(model, Mapping) else model
    if not isinstance(name, str) or name not in OLD_MODELS or not isinstance(network, Mapping):
        return dict(params)
    old = network.get("lstm")
    if isinstance(old, Mapping) and "rnn" not in network:
        rnn = {"name": "lstm", **{k: v for k, v in old.items() if k != "concated"}}
        network = {**{k: v for k, v in network.items() if k != "lstm"}, "rnn": rnn}
    return {**params, "model": {"name": OLD_MODELS[name]}, "network": network}


def keys_without_effect(params: Mapping[str, Any], config: type) -> list[str]:
    """All keys of `params` that are accepted but have no effect, for an algorithm whose settings
    are of type `config`. Keys of `params.config` have no prefix, others that of their section."""
    own = params["config"]
    found = without_effect(Params, params) + without_effect(config, own)
    found += _of_network(params.get("network"), "network.")
    found += [k for k, v in EFFECTLESS_VALUES.items() if own.get(k) == v]
    found += ["multi_gpu"] if own.get("multi_gpu") and ranks.size() == 1 else []
    if isinstance(own.get("rnd_config"), Mapping):
        found += without_effect(RNDConfig, own["rnd_config"], "rnd_config.")
    critic = own.get("central_value_config")
    if isinstance(critic, Mapping):
        found += _of_network(critic.get("network"), "central_value_config.network.")
    return sorted(found)


def _of_network(section: Any, prefix: str) -> list[str]:
    if not isinstance(section, Mapping):
        return []
    builder = registry.networks.builders.get(str(section.get("name", "actor_critic")))
    config = getattr(builder(), "Config", None) if builder else None
    return without_effect(config, section, prefix) if config else []


OF_EACH_RANK = ("seed", "config.train_dir", "config.full_experiment_name", "config.features")
"""Keys of `params` that ranks may have different values of."""


def join_ranks(params: Mapping[str, Any]) -> dict[str, Any]:
    """Join the ranks that torchrun has started; returns the keys of `params.config` that are this
    rank's own: its devices. Raises PhalanxError if ranks have different `params`."""
    config = params["config"]
    simulation = config.get("sim_device") or config.get("device", "auto")
    named = {"device": config.get("device", "auto"), "sim_device": simulation}
    kinds = {key: resolve_device(str(name)).type for key, name in named.items()}
    ranks.join("cuda" if "cuda" in kinds.values() else "cpu")
    if ranks.size() == 1:
        return {}
    same = {k: v for k, v in _flat(params) if not k.startswith(OF_EACH_RANK)}
    ranks.check_same(
        {
            "the task": repr(config.get("name")),
            **same,
            "phalanx": phalanx.__version__,
            "torch": torch.__version__,
        }
    )
    gpu = f"cuda:{ranks.local_rank()}"
    return {key: gpu if kind == "cuda" else "cpu" for key, kind in kinds.items()}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The values of nested mappings and dataclasses as text, by dotted key."""
    inside = vars(value) if dataclasses.is_dataclass(value) else value
    if not isinstance(inside, Mapping):
        yield key.removeprefix("."), repr(value)
        return
    for name, inner in inside.items():
        yield from _flat(inner, f"{key}.{name}")
