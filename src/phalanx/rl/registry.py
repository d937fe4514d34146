"""Factories by name: algorithms, players, models, networks.

RL Games' way to extend it: register a callable under a name, and use that name in the YAML.
"""

from collections.abc import Callable
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.gate import show


class ObjectFactory:
    """Builders by name. `kind` is their name in messages, as in "model"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.builders: dict[str, Callable[..., Any]] = {}

    def register_builder(self, name: str, builder: Callable[..., Any]) -> None:
        """Register `builder` as `name`, replacing an earlier builder of that name."""
        self.builders[name] = builder

    def create(self, name: str, **kwargs: Any) -> Any:
        """Call the builder `name` with `kwargs`. Raises PhalanxError for an unknown name."""
        if not isinstance(name, str) or name not in self.builders:
            raise PhalanxError(
                f"unknown {self.kind} {show(name)}{did_you_mean(name, self.builders)};"
                f" registered: {', '.join(sorted(self.builders))}"
            )
        return self.builders[name](**kwargs)


models = ObjectFactory("model")
networks = ObjectFactory("network")


def register_model(name: str, builder: Callable[..., Any]) -> None:
    """`builder(network)` returns an object with `build(config) -> torch.nn.Module`."""
    models.register_builder(name, builder)


def register_network(name: str, builder: Callable[..., Any]) -> None:
    """`builder()` returns an object with `load(params)` and `build(name, **kwargs)`."""
    networks.register_builder(name, builder)
