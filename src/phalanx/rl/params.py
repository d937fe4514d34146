"""The keys of RL Games' `params` itself, and which keys of a whole configuration have no effect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from phalanx.config import ranged, read, without_effect
from phalanx.errors import PhalanxError
from phalanx.rl import registry

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Params:
    """`params`: sections, whose own keys are checked where they are used, and a few numbers."""

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"env", "load_checkpoint", "load_path"})

    algo: dict[str, Any]
    """`name`, of an algorithm that the Runner knows."""
    config: dict[str, Any]
    """See `phalanx.rl.config`."""
    network: dict[str, Any] = field(default_factory=dict)
    """See `phalanx.rl.network_config`."""
    model: dict[str, Any] | str | None = None
    """`name`, or the name alone; None takes the one for the environment's actions."""
    seed: int | None = ranged(None, at_least=-1, at_most=LARGEST_SEED)
    """None and -1 take one from the clock."""
    torch_threads: int | str | None = None
    """CPU threads of PyTorch's operations; 0 and auto leave them alone."""

    @property
    def algo_name(self) -> str:
        """The algorithm. Raises PhalanxError if none is named."""
        name = self.algo.get("name")
        if not isinstance(name, str):
            raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
        return name


def read_params(params: Mapping[str, Any]) -> Params:
    """RL Games' `params`. Raises PhalanxError for an unknown, missing or wrong key."""
    if "algo" not in params:
        raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
    return read(Params, params, "params")


def keys_without_effect(params: Mapping[str, Any], config: type) -> list[str]:
    """Every key of `params` that is accepted and changes nothing, for an algorithm whose settings
    are of type `config`: those of `params.config` by their own name, others with their section."""
    own = params["config"]
    found = without_effect(Params, params) + without_effect(config, own)
    found += _of_network(params.get("network"), "network.")
    critic = own.get("central_value_config")
    if isinstance(critic, Mapping):
        found += _of_network(critic.get("network"), "central_value_config.network.")
    return sorted(found)


def _of_network(section: Any, prefix: str) -> list[str]:
    if not isinstance(section, Mapping):
        return []
    builder = registry.networks.builders.get(section.get("name", "actor_critic"))
    config = getattr(builder(), "Config", None) if builder else None
    return without_effect(config, section, prefix) if config else []
