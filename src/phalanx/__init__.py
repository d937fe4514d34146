"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

__version__ = "0.1.0"
