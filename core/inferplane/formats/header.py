"""The header of a safetensors file, read without torch, and checked against the file's size."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from inferplane.errors import UserError

_MOST_HEADER_BYTES = 100_000_000


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensor name -> {"dtype", "shape", "data_offsets"}. Raises UserError for a damaged file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MOST_HEADER_BYTES, max(size - 8, 0)):
            raise UserError(f"{path} is not a safetensors file, or is cut off ({size:,} bytes)")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        for entry in header.values():
            if not all(isinstance(n, int) and n >= 0 for n in entry["shape"]):
                raise ValueError("a shape is not a list of sizes")
            begin, stop = entry["data_offsets"]
            if not (isinstance(begin, int) and isinstance(stop, int) and 0 <= begin <= stop):
                raise ValueError("data offsets are not two places in order")
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} has a damaged header: {error}") from None
    if 8 + length + end > size:
        raise UserError(
            f"{path} is cut off: its header promises {8 + length + end:,} bytes, it has {size:,}; "
            "fetch it again"
        )
    return header
