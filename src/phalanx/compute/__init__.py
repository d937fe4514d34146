"""How work runs on a device: CUDA graphs, fused functions, CPU threads. Imports only torch."""
