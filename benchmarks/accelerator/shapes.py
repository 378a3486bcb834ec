"""What is measured, in full and as a trial that takes seconds on any device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
TRIAL_MODEL = QWEN3_8B | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}


@dataclass(frozen=True)
class Shapes:
    """Sizes of every part. Bytes, tokens, rows.

    rotate_bytes: keys and values that repeated calls go through, so that no cache holds them.
    seconds: of repeated calls, for each figure. questions: for the arithmetic model. most_rows:
    requests that run at once. tune_seconds: for each kernel's case.
    """

    model: dict[str, Any]
    copy_bytes: int
    matmul: int
    decode: tuple[tuple[int, int], ...]
    prefill: tuple[int, ...]
    rotate_bytes: int
    seconds: float
    questions: int
    prompts: int
    most_rows: int
    single: tuple[int, int]
    many: tuple[int, int, int]
    repeats: int
    tune_seconds: float


FULL = Shapes(
    model=QWEN3_8B,
    copy_bytes=4 << 30,
    matmul=8192,
    decode=((64, 4096), (1, 4096), (16, 4096), (256, 4096)),
    prefill=(8192, 2048),
    rotate_bytes=1 << 30,
    seconds=1.0,
    questions=1000,
    prompts=50,
    most_rows=256,
    single=(128, 256),
    many=(256, 512, 256),
    repeats=3,
    tune_seconds=60.0,
)
TRIAL = Shapes(
    model=TRIAL_MODEL,
    copy_bytes=1 << 20,
    matmul=64,
    decode=((4, 64), (1, 48)),
    prefill=(64, 33),
    rotate_bytes=1 << 16,
    seconds=0.02,
    questions=16,
    prompts=4,
    most_rows=4,
    single=(8, 8),
    many=(4, 16, 8),
    repeats=1,
    tune_seconds=5.0,
)


def write_model(folder: Path, model: dict[str, Any]) -> Path:
    """A folder that `--load-format dummy` can serve: a config, no weights and no tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    return folder
