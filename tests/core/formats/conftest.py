"""Checkpoints of quantized formats beside dense ones with the same weights."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.quantized_files import WRITERS

from inferplane.formats.base import Format
from inferplane.params import SamplingParams
from inferplane.spec.quantized import dequantize

PROMPTS = [list(range(3, 3 + n)) for n in (1, 7, 30)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture
def loaded() -> Callable[..., tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """(format, stored tensors by their last names) -> (canonical tensors, the weight in fp32)."""

    def load(form: Format, tensors: dict[str, torch.Tensor], module: str = "model.layers.0.x"):
        found = form.load(module, {f"{module}.{k}": v for k, v in tensors.items()}.__getitem__)
        return found, dequantize(form.scheme(module), found)

    return load


@pytest.fixture
def written(checkpoint, tmp_path) -> Callable[..., tuple[Path, Path]]:
    """(checkpoint, writer, quantization_config, fields of the writer, by module or for all) ->
    (folder in the format, folder with the same weights dense)."""

    def write(
        name: str,
        writer: str,
        config: dict[str, Any],
        fields: Callable[[str], dict[str, Any] | None],
        config_file: str = "",
    ) -> tuple[Path, Path]:
        source = checkpoint(name)
        quantized, dense = tmp_path / "quantized", tmp_path / "dense"
        tensors = load_file(source / "model.safetensors")
        kept, plain = dict(tensors), dict(tensors)
        for key, tensor in tensors.items():
            module = key.removesuffix(".weight")
            given = fields(module) if tensor.dim() == 2 and "embed" not in module else None
            if given is None:
                continue
            stored, worth = WRITERS[writer](zlib.crc32(key.encode()), *tensor.shape, **given)
            del kept[key]
            kept |= {f"{module}.{last}": value for last, value in stored.items()}
            plain[key] = worth
        raw = json.loads((source / "config.json").read_text())
        for folder, held in ((quantized, kept), (dense, plain)):
            folder.mkdir()
            save_file(held, folder / "model.safetensors")
            (folder / "config.json").write_text(json.dumps(raw))
        if config_file:
            (quantized / config_file).write_text(json.dumps(config))
        else:
            full = json.dumps(raw | {"quantization_config": config})
            (quantized / "config.json").write_text(full)
        return quantized, dense

    return write


@pytest.fixture
def same_tokens(make_llm) -> Callable[[Path, Path], bool]:
    """Whether two checkpoints continue the prompts alike, greedily in fp32."""

    def same(one: Path, other: Path) -> bool:
        found = [
            [out.outputs[0].token_ids for out in make_llm(folder).generate(PROMPTS, GREEDY)]
            for folder in (one, other)
        ]
        return found[0] == found[1]

    return same


@pytest.fixture
def golden() -> Callable[[str], tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, Any]]]:
    """(file) -> (a module as a public tool wrote it, the weight as the tool's reader gives it, the
    config). The file's metadata name the tool and its version."""
    from safetensors import safe_open

    folder = Path(__file__).parents[2] / "fixtures" / "formats"

    def read(name: str):
        tensors = load_file(folder / f"{name}.safetensors")
        with safe_open(folder / f"{name}.safetensors", framework="pt") as file:
            config = json.loads(file.metadata()["config"])
        return tensors, tensors.pop("dequantized"), {"quantization_config": config}

    return read
