"""Batched simulation: a `Scene` describes one environment, a `Sim` is N copies of it."""

from phalanx.sim.scene import Scene
from phalanx.sim.sim import Actor, Sim, check_count, resolve_device

__all__ = ["Actor", "Scene", "Sim", "check_count", "resolve_device"]
