"""Where a model's files are: a folder, a bundled model, or a hub name."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from inferplane.errors import UserError

from .described import describe
from .gguf import config_of, file_in

BUNDLED = {
    "tiny-arithmetic": "testing/models/arithmetic",
    "tiny-arithmetic-moe": "testing/models/arithmetic_moe",
}
_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]


def locate(model: str, revision: str | None = None, download: bool = True) -> Path:
    """The folder with the model's files; downloads from the hub if the name is not a folder."""
    if model in BUNDLED:
        return Path(str(files("inferplane"))) / BUNDLED[model]
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists() and path.suffix == ".gguf" and file_in(path.parent) == path:
        return path.parent
    if path.exists():
        raise UserError(f"model {model!r} is a file; give the folder that holds config.json")
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise UserError(
            f"no model folder {model!r}; give a folder, a hub name (owner/name), or one of the "
            f"bundled models: {', '.join(BUNDLED)}"
        )
    return _from_hub(model, revision, download)


def _from_hub(model: str, revision: str | None, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = _PATTERNS if download else ["*.json"]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise UserError(
            f"model {model!r} is no local folder and could not be fetched from the hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError that names the file and the place."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__}, it must hold a JSON object")
    return value


_OLDER = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files that say how a checkpoint is quantized where config.json does not, with their format."""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, with the end-of-sequence ids of generation_config.json, which come first, and
    with `quantization_config` out of a file of its own, as older tools wrote it, and all else that
    the folder says of it (`described.describe`)."""
    packed = None if (folder / "config.json").exists() else file_in(folder)
    if packed is not None:
        return config_of(packed)
    raw = read_json(folder / "config.json")
    for name, method in _OLDER.items():
        if "quantization_config" not in raw and (folder / name).exists():
            raw["quantization_config"] = {"quant_method": method} | read_json(folder / name)
    raw = describe(folder, raw)
    generation = folder / "generation_config.json"
    if generation.exists():
        ids = read_json(generation).get("eos_token_id")
        if ids is not None:
            raw["eos_token_id"] = ids
    return raw
