"""Factories by name: algorithms, players, models, networks.

RL Games' manner of extension: register a callable under a name, name it in the YAML.
"""

from collections.abc import Callable
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean


class ObjectFactory:
    """Builders by name. `kind` is what messages call them, as in "model"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.builders: dict[str, Callable[..., Any]] = {}

    def register_builder(self, name: str, builder: Callable[..., Any]) -> None:
        """Make `name` known; an earlier builder of that name is replaced."""
        self.builders[name] = builder

    def create(self, name: str, **kwargs: Any) -> Any:
        """`builder(**kwargs)` of that name. Raises PhalanxError for an unknown one."""
        if name not in self.builders:
            raise PhalanxError(
                f"unknown {self.kind} {name!r}{did_you_mean(str(name), self.builders)};"
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
