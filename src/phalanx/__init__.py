"""Phalanx: thousands of robots learning in parallel, on MuJoCo and PyTorch."""

