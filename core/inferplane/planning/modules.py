"""Which modules of a model may be quantized, out of its config alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferplane.layers.context import BuildContext
from inferplane.models.registry import find_model
from inferplane.spec import UNQUANTIZED, DeviceProps, ModelSpec, QuantScheme, standard_layout

from .plan import record


def quantizable(raw: Mapping[str, Any], added: Iterable[ModelSpec] = ()) -> dict[str, int]:
    """Path -> inputs, without routers and the projection to the vocabulary. raw: config.json.
    Raises UserError for a model that is not known."""
    found: dict[str, int] = {}

    def scheme_of(module: str, inputs: int, plain: bool) -> QuantScheme:
        if not plain and module.rpartition(".")[2] not in ("lm_head", "embed_tokens"):
            found[module] = inputs
        return UNQUANTIZED

    model_class = find_model(raw, added)
    config = model_class.read(raw)
    context = BuildContext(
        props=DeviceProps(name="none", profile="", memory_bytes=0, dtypes=frozenset()),
        dtype=config.dtype,
        kv_dtype=config.dtype,
        page_size=16,
        layout_of=standard_layout,
        scheme_of=scheme_of,
    )
    root, _ = record(model_class, config, context)
    for need in root.needs():
        _ = need.parts  # of all experts: the scheme of each is asked for then
    return found
