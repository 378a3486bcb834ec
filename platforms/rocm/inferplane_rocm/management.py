"""amdsmi, AMD's management library.

Sources: AMD SMI documentation, Python API reference; the package amdsmi 7.0.2, which fails at its
import where it does not find its library.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


class NoSMI(Exception):
    """amdsmi cannot be used. The text is its own, or the import's."""


@contextmanager
def smi() -> Iterator[Any]:
    """The module `amdsmi`, initialised. Raises NoSMI with the reason."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):  # it prints what it did not find, which may be in our JSON
            import amdsmi
    except Exception as error:  # KeyError of the library's name, OSError, ImportError
        why = " ".join(f"{error} {said.getvalue()}".split())
        raise NoSMI(f"amdsmi cannot be imported: {type(error).__name__}: {why}") from error
    try:
        amdsmi.amdsmi_init()
    except amdsmi.AmdSmiException as error:
        raise NoSMI(f"amdsmi: {' '.join(str(error).split())}") from error
    try:
        yield amdsmi
    finally:
        amdsmi.amdsmi_shut_down()


def by_address(lib: Any) -> dict[str, Any]:
    """Handles of all GPUs by PCI address, such as "0000:c1:00.0"."""
    return {
        lib.amdsmi_get_gpu_device_bdf(handle).lower(): handle
        for handle in lib.amdsmi_get_processor_handles()
    }
