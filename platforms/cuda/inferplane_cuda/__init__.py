"""NVIDIA GPUs for Inferplane."""
