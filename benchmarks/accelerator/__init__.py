"""Figures of an accelerator: kernels, one model, many requests. `run.py` runs all of them."""
