"""The Gym object and the handles it gives out."""

import functools


class Sim:
    """One simulation."""


class Env:
    """One environment of a simulation."""


class Asset:
    """A loaded robot or object, from which actors are made."""


class Viewer:
    """A window onto a simulation."""


class Gym:
    """Isaac Gym's calls."""


@functools.cache
def acquire_gym() -> Gym:
    """The one `Gym` of this process."""
    return Gym()
