"""A simulated accelerator: it computes on the CPU, and behaves like a device of its own.

Importing this package, or `inferplane_sim.plugin`, registers nothing. `backend.install` does, when
the platform is used.
"""
