"""A decoder's sizes, read from a checkpoint's config.json. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferplane.errors import UserError
from inferplane.layers.latent import LatentConfig
from inferplane.layers.moe import MoEConfig
from inferplane.layers.rotary import Rope

_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """windows: tokens that each layer reads, 0 for all. qk_norm: RMS norm of q and k, a head each.

    sinks: attention has a learned logit a head. latent: attention by latent vectors, in place of
    heads of its own for keys. moe: experts in place of the MLP in `moe_layers`, at `moe_path` in
    the layer. ignored: beginnings of the names of tensors that are no part of the decoder.
    eos: token ids that end a text. dtype: of the checkpoint, by name.
    """

    architecture: str
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    rope: Rope
    max_positions: int
    activation: str = "silu"
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    windows: tuple[int, ...] = ()
    sinks: bool = False
    latent: LatentConfig | None = None
    moe: MoEConfig | None = None
    moe_layers: tuple[int, ...] = ()
    moe_path: str = "mlp"
    ignored: tuple[str, ...] = ()
    eos: tuple[int, ...] = ()
    dtype: str = "bf16"

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0

    @property
    def widest(self) -> int:
        """Elements a token of the largest step of a layer, about."""
        mlp = 2 * self.intermediate
        if self.moe is not None:
            experts = self.moe.experts
            mlp = max(mlp, experts.top_k * (2 * experts.intermediate + self.hidden))
        size = self.head_dim
        if self.latent is not None:
            size = self.latent.kv_rank + self.latent.rope_dim
        return mlp + 4 * self.hidden + 4 * self.heads * size


@dataclass
class ConfigReader:
    """Reads fields with clear errors: the field, what was found, what it must be."""

    raw: Mapping[str, Any]
    where: str = "config.json"

    def number(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self.raw.get(name)
        value = default if value is None else value
        if value is None:
            raise UserError(f"{self.where} has no {name!r}, which this architecture needs")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{self.where}: {name} is {value!r}; it must be a positive integer")
        return value

    def count(self, name: str, default: int = 0) -> int:
        """A whole number that may be 0; `default` where it is left out."""
        value = self.raw.get(name)
        if value is None:
            return default
        return 0 if value == 0 and not isinstance(value, bool) else self.number(name)

    def real(self, name: str, default: float) -> float:
        value = self.raw.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where}: {name} is {value!r}; it must be a number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.raw.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {name} is {value!r}; it must be true or false")
        return value

    def ids(self, name: str) -> tuple[int, ...]:
        """A token id, a list of them, or nothing."""
        value = self.raw.get(name)
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise UserError(f"{self.where}: {name} is {value!r}; it must be token ids")
        return tuple(values)

    def choice(self, name: str, known: Mapping[str, str], default: str) -> str:
        value = self.raw.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise UserError(f"{self.where}: {name} is {value!r}; known: {', '.join(known)}")
        return known[value]

    def only(self, name: str, *known: Any) -> None:
        """Raises UserError where a field is given and has a value that is not built."""
        value = self.raw.get(name)
        if value is not None and value not in known:
            raise UserError(
                f"{self.where}: {name} is {value!r}; this architecture is built for "
                f"{' and '.join(map(repr, known))} only"
            )


def read_decoder(raw: Mapping[str, Any], architecture: str, **changes: Any) -> DecoderConfig:
    """The fields that all families share; `changes` are a family's own."""
    reader = ConfigReader(raw)
    hidden, heads = reader.number("hidden_size"), reader.number("num_attention_heads")
    head_dim = reader.number("head_dim", hidden // heads)
    kv_heads = reader.number("num_key_value_heads", heads)
    if heads % kv_heads:
        raise UserError(
            f"config.json: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}"
        )
    dtype_field = "dtype" if raw.get("dtype") else "torch_dtype"
    fields: dict[str, Any] = {
        "architecture": architecture,
        "vocab": reader.number("vocab_size"),
        "hidden": hidden,
        "intermediate": reader.number("intermediate_size"),
        "layers": reader.number("num_hidden_layers"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "norm_eps": reader.real("rms_norm_eps", 1e-6),
        "rope": Rope.read(raw, head_dim),
        "max_positions": reader.number("max_position_embeddings", 2048),
        "activation": reader.choice("hidden_act", _ACTIVATIONS, "silu"),
        "tied": reader.flag("tie_word_embeddings"),
        "eos": reader.ids("eos_token_id"),
        "dtype": reader.choice(dtype_field, _DTYPES, "float32"),
    }
    return DecoderConfig(**(fields | changes))


def layer_kinds(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """`layer_types`: "full_attention" or "sliding_attention" a layer; () for no such field."""
    kinds, layers = raw.get("layer_types"), ConfigReader(raw).number("num_hidden_layers")
    if not kinds:
        return ()
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise UserError(f"config.json: layer_types is {kinds!r}; it must name {layers} layers")
    return tuple(kinds)


def layer_windows(raw: Mapping[str, Any]) -> tuple[int, ...]:
    """Windows of models that mix layers: `layer_types`, or `max_window_layers` in older files."""
    reader = ConfigReader(raw)
    layers = reader.number("num_hidden_layers")
    if not reader.flag("use_sliding_window") or not raw.get("sliding_window"):
        return ()
    window = reader.number("sliding_window")
    kinds = layer_kinds(raw)
    if kinds:
        return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    first = raw.get("max_window_layers")
    first = layers if first is None else first
    if isinstance(first, bool) or not isinstance(first, int):
        raise UserError(f"config.json: max_window_layers is {first!r}; it must be a whole number")
    return tuple(window if index >= first else 0 for index in range(layers))
