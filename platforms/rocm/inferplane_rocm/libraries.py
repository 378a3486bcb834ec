"""AITER, AMD's kernel library: which version is installed, without importing it.

Its distribution is `amd-aiter`, its module `aiter`. The index's own `aiter` is an unrelated library
of asynchronous iterators with the same module name.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

FIRST, END = (0, 1, 20), (0, 2)  # calls were written for 46 commits after v0.1.20
_HOW = "build it from source: github.com/ROCm/aiter"


def library_details() -> dict[str, str]:
    """ "aiter" with its version, or "aiter_reason" with why there is none."""
    found, impostor = _version("amd-aiter"), _version("aiter")
    if impostor:
        both = f", and hides amd-aiter {found}" if found else ""
        return {
            "aiter_reason": f"the installed package 'aiter' {impostor} is an unrelated library "
            f"with the same module name{both}: pip uninstall aiter, and {_HOW}"
        }
    if not found:
        return {"aiter_reason": f"amd-aiter is not installed: {_HOW}"}
    return {"aiter": found}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def unsuitable(detail: str) -> str:
    """Why AITER of this version cannot be used; "" if it can."""
    release = detail.split("+")[0].split(".dev")[0]
    numbers = tuple(int(n) for n in release.split(".")[:3] if n.isdigit())
    if FIRST <= numbers < END:
        return ""
    wanted = f"{'.'.join(map(str, FIRST))} up to, not including, {'.'.join(map(str, END))}"
    return f"amd-aiter is {detail}; calls were written for {wanted}"


def load_aiter() -> Any:
    """The module. Raises ImportError for the unrelated one."""
    import aiter

    if not hasattr(aiter, "ops"):
        raise ImportError(
            f"the module 'aiter' of {getattr(aiter, '__file__', '?')} is not AMD's: "
            f"pip uninstall aiter, and {_HOW}"
        )
    return aiter
