"""GGUF files by the specification, version 3, and what their blocks are worth. Shares nothing with
the code that is tested."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q6_K": 14, "BF16": 30}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def key(name: str, value: Any) -> bytes:
    """int -> u32, float -> f32, str, list of str."""
    if isinstance(value, list):
        kind, raw = 9, struct.pack("<IQ", 8, len(value)) + b"".join(map(text, value))
    elif isinstance(value, str):
        kind, raw = 8, text(value)
    elif isinstance(value, float):
        kind, raw = 6, struct.pack("<f", value)
    else:
        kind, raw = 4, struct.pack("<I", value)
    return text(name) + struct.pack("<I", kind) + raw


def blocks(kind: str, rows: np.ndarray) -> tuple[bytes, np.ndarray]:
    """fp32 [N, K] -> (the blocks, the numbers that they are worth)."""
    if kind == "F32":
        return rows.astype("<f4").tobytes(), rows
    if kind == "F16":
        half = rows.astype("<f2")
        return half.tobytes(), half.astype(np.float32)
    found, worth = bytearray(), np.empty_like(rows)
    for row in range(rows.shape[0]):
        for first in range(0, rows.shape[1], 32):
            part = rows[row, first : first + 32]
            scale = np.float16(np.abs(part).max() / (127 if kind == "Q8_0" else 7))
            step = np.float32(scale) or np.float32(1)
            if kind == "Q8_0":
                codes = np.clip(np.rint(part / step), -127, 127).astype(np.int8)
                found += scale.tobytes() + codes.tobytes()
                worth[row, first : first + 32] = codes * step
            else:
                codes = np.clip(np.rint(part / step) + 8, 0, 15).astype(np.uint8)
                found += scale.tobytes() + (codes[:16] | codes[16:] << 4).tobytes()
                worth[row, first : first + 32] = (codes.astype(np.float32) - 8) * step
    return bytes(found), worth


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """The rows of Llama's q or k as the file has them."""
    size = rows.shape[0] // heads
    order = [h * size + half * size // 2 + at for h in range(heads) for at in range(size // 2)
             for half in (0, 1)]  # fmt: skip
    return rows[order]


def write(path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[str, Any, bytes]]) -> None:
    """tensors: name -> (type, shape, data)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(key(name, value) for name, value in metadata.items())
    data = bytearray()
    for name, (kind, shape, raw) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", size) for size in reversed(shape))
        head += struct.pack("<IQ", NUMBERS[kind], len(data))
        data += raw + bytes(-len(raw) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def file_name(name: str) -> str:
    module, _, last = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{last}"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{last}"
