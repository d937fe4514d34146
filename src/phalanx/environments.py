"""The registry of environments by name, as in `params.config.env_name`.

It is a separate module because it connects two layers: the learner looks up a name and does not
know the physics, and packages with environments register them and do not know the learner.
Phalanx's own environments are registered in `phalanx/__init__.py`, the one module that knows every
layer. Register your own before the run starts:

    vecenv.register("my_env", lambda num_envs, device, **env_config: MyEnv(num_envs))
"""

import importlib
from collections.abc import Callable
from typing import Any

from phalanx.errors import PhalanxError, did_you_mean

Creator = Callable[..., Any]

_creators: dict[str, Creator | str] = {}


def register(name: str, creator: Creator | str) -> None:
    """Register `creator(name=config.name, num_envs=, device=, **env_config)` as `name`. A string
    "module:function" is imported on first use. An earlier creator of that name is replaced."""
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
    """Whether `creator` has a parameter `argument`; `**kwargs` does not count."""
    import inspect  # `phalanx` starts without it

    try:
        return argument in inspect.signature(creator).parameters
    except ValueError:  # functions written in C may have no signature
        return False
