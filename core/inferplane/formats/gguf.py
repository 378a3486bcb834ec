"""GGUF: one file with the config, the tensors and a vocabulary. Llama, Qwen2 and Qwen3.

Weights of Q8_0 and Q4_0 keep their codes: blocks of 32 inputs, a scale in fp16 each. All else is
read as numbers. Sources: the GGUF specification; ggml's block_q8_0 and block_q4_0 (in Q4_0 the low
halves of 16 bytes are the first 16 inputs, the high halves the others); llama.cpp's conversion,
which turns the rows of Llama's q and k from halves to neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme

from .base import Format, Read, Shape
from .gguf_file import Header, read_header
from .names import last_word
from .schema import Schema, read_schema

if TYPE_CHECKING:
    import torch

METHOD = "gguf"
BLOCKS = ".blocks"
"""After the name of a tensor: its blocks as they are in the file, uint8 [N, bytes of a row]."""

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_IN_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
SCHEMES = {
    "Q8_0": QuantScheme.named(weight="int8", granularity="group", group=32, scale="fp16"),
    "Q4_0": QuantScheme.named(weight="int4", granularity="group", group=32, scale="fp16"),
}


def file_in(folder: Path) -> Path | None:
    """The folder's GGUF file, where it has no safetensors. Raises UserError for several."""
    found = sorted(folder.glob("*.gguf"))
    if not found or next(folder.glob("*.safetensors"), None) is not None:
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"{folder} has several GGUF files ({names}); put one into a folder")
    return found[0]


def model_name(name: str) -> str:
    """The name that the checkpoint of the same model has. Raises UserError for one not known."""
    module, _, last = name.rpartition(".")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{last}"
    match = _IN_LAYER.fullmatch(name)
    if match is None or match[2] not in _LAYER:
        raise UserError(f"the GGUF file has a tensor {name}, which is not known")
    return f"model.layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}"


class _Metadata(Schema):
    """Of one architecture, without its prefix. All sizes are as in config.json."""

    block_count: int
    context_length: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: int
    layer_norm_rms_epsilon: float
    key_length: int | None = None
    freq_base: float = 10000.0
    scaling: str = "none"


def config_of(path: Path) -> dict[str, Any]:
    """As a config.json would say it. Raises UserError."""
    header = read_header(path)
    kind = header.metadata.get("general.architecture")
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise UserError(f"{path}: general.architecture is {kind!r}; known: {known}")
    found = read_schema(_Metadata, _metadata(header, kind), str(path))
    if found.scaling != "none" or "rope_freqs.weight" in header.tensors:
        raise UserError(f"{path} has a scaled rotary embedding, which is not read from GGUF")
    tensors = {model_name(name): entry for name, entry in header.tensors.items()}
    if "model.embed_tokens.weight" not in tensors:
        raise UserError(f"{path} has no tensor token_embd.weight")
    return {
        "architectures": [_ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "hidden_size": found.embedding_length,
        "intermediate_size": found.feed_forward_length,
        "num_hidden_layers": found.block_count,
        "num_attention_heads": found.head_count,
        "num_key_value_heads": found.head_count_kv,
        "head_dim": found.key_length or found.embedding_length // max(found.head_count, 1),
        "rms_norm_eps": found.layer_norm_rms_epsilon,
        "max_position_embeddings": found.context_length,
        "rope_theta": found.freq_base,
        "hidden_act": "silu",
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "torch_dtype": "bfloat16",
        "eos_token_id": header.metadata.get("tokenizer.ggml.eos_token_id"),
        "bos_token_id": header.metadata.get("tokenizer.ggml.bos_token_id"),
        "quantization_config": {
            "quant_method": METHOD,
            "tensors": {name: entry.type for name, entry in tensors.items()},
        },
    }


def _metadata(header: Header, kind: str) -> dict[str, Any]:
    prefixes = [f"{kind}.{word}" for word in ("attention.", "rope.", "")]
    found: dict[str, Any] = {}
    for key, value in header.metadata.items():
        for prefix in prefixes:
            if key.startswith(prefix):
                found.setdefault(key.removeprefix(prefix), value)
                break
    found["scaling"] = found.pop("scaling.type", "none")
    found.setdefault("head_count_kv", found.get("head_count"))
    return found


class _Config(Schema):
    tensors: dict[str, str]


class GGUF(Format):
    name: ClassVar[str] = METHOD

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.types = read_schema(_Config, config.get("quantization_config")).tensors

    def scheme(self, module: str) -> QuantScheme:
        """The embedding is read as numbers, a projection that is tied to it as well."""
        if last_word(module) == "embed_tokens":
            return UNQUANTIZED
        return SCHEMES.get(self.types.get(f"{module}.weight", ""), UNQUANTIZED)

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        return {f"{module}.weight": shape}

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        kind = self.types[f"{module}.weight"]
        return canonical(kind, read(f"{module}.weight{BLOCKS}"))

    def describe(self) -> str:
        kinds = sorted(set(self.types.values()))
        return f"gguf, tensors of {', '.join(kinds)}"


def canonical(kind: str, blocks: torch.Tensor) -> dict[str, torch.Tensor]:
    """Blocks of Q8_0 or Q4_0, uint8 [N, bytes] -> weight and scale."""
    import torch

    from inferplane.spec.quantized import pack

    each = 34 if kind == "Q8_0" else 18
    split = blocks.unflatten(-1, (-1, each))
    scale = split[..., :2].contiguous().view(torch.float16)[..., 0]
    codes = split[..., 2:]
    if kind == "Q8_0":
        weight = codes.flatten(-2).view(torch.int8)
    else:
        weight = pack(torch.cat([codes & 15, codes >> 4], dim=-1).flatten(-2))
    return {"weight": weight, "scale": scale}
