"""A dense checkpoint -> a quantized one, a file at a time: its results are held, and one tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme

from .checkpoint import Checkpoint
from .compressed_writing import format_of, group_of, scheme_for, stored_tensors
from .locate import read_json
from .matching import class_of

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_EXPERTS = "experts."
_INDEX = "model.safetensors.index.json"


@dataclass
class Converted:
    """bytes: of tensors, before and after. left_alone: matrices that were not quantized."""

    out: Path
    modules: dict[str, QuantScheme] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)
    bytes_before: int = 0
    bytes_after: int = 0


def convert(
    folder: Path, out: Path, name: str, inputs: Mapping[str, int], progress: Progress | None = None
) -> Converted:
    """inputs: of each module that may be quantized, by its path. name: a key of
    `compressed_writing.NAMES`. Raises UserError where nothing fits, or `out` holds something."""
    raw = read_json(folder / "config.json")
    checkpoint = Checkpoint(folder)
    done = Converted(out, bytes_before=checkpoint.bytes)
    # experts of one layer must have one scheme, so one group size for both their projections
    experts = gcd(*(size for module, size in inputs.items() if _EXPERTS in module))
    for key, shape in sorted(checkpoint.shapes.items()):
        module, _, last = key.rpartition(".")
        if last != "weight" or len(shape) != 2 or class_of(module) == "Embedding":
            continue
        size = experts if _EXPERTS in module else shape[1]
        scheme = scheme_for(name, size) if module in inputs else UNQUANTIZED
        if scheme.quantized:
            done.modules[module] = scheme
        else:
            done.left_alone.append(module)
    if not done.modules:
        raise UserError(f"{folder} has no weight that {name} fits; its matrices are left alone")
    _make_empty(out)
    _write_files(checkpoint, done, progress)
    _copy_others(folder, out)
    raw["quantization_config"] = quantization_config(done)
    (out / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    return done


def _make_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already and is not empty; name a new folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from None


def _write_files(checkpoint: Checkpoint, done: Converted, progress: Progress | None) -> None:
    from safetensors.torch import save_file

    files: dict[Path, list[str]] = {}
    for key, path in checkpoint.files.items():
        files.setdefault(path, []).append(key)
    where: dict[str, str] = {}
    read = 0
    for path, keys in files.items():
        tensors: dict[str, torch.Tensor] = {}
        for key in keys:
            tensor = checkpoint.tensor(key)
            tensors |= _converted(key, tensor, done.modules)
            read += tensor.nbytes
            if progress is not None:
                progress(min(read, done.bytes_before - 1), done.bytes_before)
        save_file(tensors, done.out / path.name, metadata={"format": "pt"})
        done.bytes_after += sum(tensor.nbytes for tensor in tensors.values())
        where |= dict.fromkeys(tensors, path.name)
        checkpoint.close()
    if progress is not None:
        progress(done.bytes_before, done.bytes_before)
    if len(files) > 1:
        index = {"metadata": {"total_size": done.bytes_after}, "weight_map": where}
        (done.out / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _converted(
    key: str, tensor: torch.Tensor, modules: Mapping[str, QuantScheme]
) -> dict[str, torch.Tensor]:
    from .quantize import quantize

    module, _, last = key.rpartition(".")
    if last != "weight" or module not in modules:
        return {key: tensor.contiguous()}
    scheme = modules[module]
    stored = stored_tensors(scheme, quantize(scheme, tensor))
    return {f"{module}.{name}": found.contiguous() for name, found in stored.items()}


def _copy_others(folder: Path, out: Path) -> None:
    """Tokenizer, templates, licences and the like."""
    for path in sorted(folder.iterdir()):
        weights = path.name.endswith(_WEIGHTS) or path.name.endswith(".index.json")
        if path.is_file() and not weights and path.name != "config.json":
            shutil.copyfile(path, out / path.name)


def quantization_config(done: Converted) -> dict[str, Any]:
    """For config.json. The scheme of most modules is that of "Linear", others are named."""
    schemes: dict[QuantScheme, list[str]] = {}
    for module, scheme in done.modules.items():
        schemes.setdefault(scheme, []).append(module)
    groups = sorted(schemes.items(), key=lambda item: -len(item[1]))
    formats = {format_of(scheme) for scheme in schemes}
    return {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{at}": group_of(scheme, modules if at else ["Linear"])
            for at, (scheme, modules) in enumerate(groups)
        },
        "ignore": list(dict.fromkeys((*done.left_alone, "lm_head"))),  # also where it is tied
        "kv_cache_scheme": None,
    }
