"""Platforms that ship with the core: the CPU, through the same entry point as anyone's."""
