"""Environments by the name that `params.config.env_name` gives.

The registry is a module of its own because two layers meet here: the learner asks for a name and
knows no physics, and whatever offers environments registers them and knows no learner. What Phalanx
itself offers is registered in `phalanx/__init__.py`, the one place that knows every layer. Register
your own before the run starts:

    vecenv.register("my_env", lambda num_envs, device, **env_config: MyEnv(num_envs))
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean

Creator = Callable[..., Any]

_creators: dict[str, Creator | str] = {}


def register(name: str, creator: Creator | str) -> None:
    """Make `name` stand for `creator(name=config.name, num_envs=, device=, **env_config)`, or for
    "module:function", which is imported on first use. An earlier creator of that name is replaced.
    """
    _creators[name] = creator


def is_registered(name: str) -> bool:
    """Whether `name` is in the registry."""
    return name in _creators


def find(name: str) -> Creator:
    """The creator registered under `name`. Raises PhalanxError for an unknown name."""
    if name not in _creators:
        raise PhalanxError(
            f"unknown environment {name!r} in params.config.env_name"
            f"{did_you_mean(str(name), _creators)}; registered: {', '.join(sorted(_creators))};"
            " register your own with phalanx.rl.vecenv.register(name, creator)"
        )
    creator = _creators[name]
    if isinstance(creator, str):
        module, function = creator.split(":")
        creator = _creators[name] = getattr(importlib.import_module(module), function)
    return creator


def takes(creator: Creator, argument: str) -> bool:
    """Whether `creator` names `argument` among its parameters; `**kwargs` does not count."""
    try:
        return argument in inspect.signature(creator).parameters
    except ValueError:  # a function written in C may not tell
        return False
