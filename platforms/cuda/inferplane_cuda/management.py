"""NVML, NVIDIA's management library: read without making a context on any GPU.

Source: NVML API Reference Guide; the module `pynvml` of the package nvidia-ml-py, read in 13.615.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NoNVML(Exception):
    """NVML cannot be used. The text is its own, or the import's."""


@contextmanager
def nvml() -> Iterator[Any]:
    """The module `pynvml`, initialised. Raises NoNVML with the library's reason."""
    try:
        import pynvml
    except ImportError as error:
        raise NoNVML(f"the package nvidia-ml-py cannot be imported: {error}") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNVML(str(error)) from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def memory_of(lib: Any, handle: Any) -> tuple[int, int] | None:
    """(free, total) bytes, or None for a part that shares the host's (NVML: "Not Supported")."""
    try:
        found = lib.nvmlDeviceGetMemoryInfo(handle)
    except lib.NVMLError_NotSupported:
        return None
    return int(found.free), int(found.total)
