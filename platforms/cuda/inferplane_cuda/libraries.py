"""Optional kernel libraries: which versions are installed, without importing any of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

_HOPPER = "it is built from source: hopper/ of github.com/Dao-AILab/flash-attention"
# detail -> (distribution, first version that was read, first that was not, how to get it)
LIBRARIES = {
    "flashinfer": (
        "flashinfer-python",
        (0, 7),
        (0, 8),
        "pip install 'inferplane-cuda[flashinfer]'",
    ),
    "flash_attn": ("flash-attn", (2, 8), (2, 9), "pip install 'inferplane-cuda[flash-attn]'"),
    "flash_attn_3": ("flash_attn_3", (3, 0), (4, 0), _HOPPER),
}


def library_details() -> dict[str, str]:
    """Detail -> version, of the libraries that are installed."""
    found = {}
    for detail, (distribution, *_) in LIBRARIES.items():
        try:
            found[detail] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def unsuitable(detail: str, installed: str) -> str:
    """Why a library of this version cannot be used; "" if it can. installed: "" for none."""
    distribution, first, end, how = LIBRARIES[detail]
    if not installed:
        return f"{distribution} is not installed: {how}"
    numbers = tuple(int(n) for n in installed.split("+")[0].split(".")[:2] if n.isdigit())
    if not first <= numbers < end:
        wanted = f"{'.'.join(map(str, first))} up to, not including, {'.'.join(map(str, end))}"
        return f"{distribution} is {installed}; calls were written for {wanted}"
    return ""
