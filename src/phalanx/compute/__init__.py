"""Execution on a device: CUDA graphs, fused functions, CPU threads. Imports only torch."""
