"""What else a folder says about its quantization: description files, and the tensors' own types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .header import read_header

MODELSLIM = "quant_model_description.json"
MODELOPT = "hf_quant_config.json"
_MOST_FILES = 4


def describe(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """config.json with all of it under `quantization_config`.

    `stored` in there holds, for the first quantized module found, {"dtype", "shape"} of each of its
    tensors, as safetensors names types. It is missing where no weights are at hand. Raises
    UserError for files that are damaged.
    """
    from .locate import read_json

    found = raw.get("quantization_config")
    if (folder / MODELSLIM).is_file():
        found = {"quant_method": "modelslim", "description": read_json(folder / MODELSLIM)}
    elif not found and (folder / MODELOPT).is_file():
        found = {"quant_method": "modelopt", **_quantization(read_json(folder / MODELOPT))}
    if isinstance(found, dict) and found:
        found = {key: value for key, value in found.items() if key != "stored"}
        seen = _seen(folder)
        raw["quantization_config"] = found | ({"stored": seen} if seen else {})
    return raw


def _quantization(file: dict[str, Any]) -> dict[str, Any]:
    inner = file.get("quantization")
    return inner if isinstance(inner, dict) else file


def _seen(folder: Path) -> dict[str, dict[str, Any]]:
    for path in sorted(folder.glob("*.safetensors"))[:_MOST_FILES]:
        header = read_header(path)
        for name in header:
            module, _, last = name.rpartition(".")
            if last.startswith("weight_scale"):
                prefix = f"{module}."
                return {
                    other.removeprefix(prefix): {k: entry[k] for k in ("dtype", "shape")}
                    for other, entry in header.items()
                    if other.startswith(prefix) and "." not in other.removeprefix(prefix)
                }
    return {}
