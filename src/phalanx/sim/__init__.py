"""Batched simulation: a `Scene` describes one environment, a `Sim` is N copies of it."""
