"""From a checkpoint's architecture to the class that builds it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from inferplane.errors import UserError, nearest
from inferplane.spec import ModelSpec

BUILT_IN = (
    ModelSpec(name="DeepseekV2ForCausalLM", load="inferplane.models.deepseek:DeepseekV2"),
    ModelSpec(name="DeepseekV3ForCausalLM", load="inferplane.models.deepseek:DeepseekV3"),
    ModelSpec(name="Glm4MoeForCausalLM", load="inferplane.models.glm4_moe:Glm4Moe"),
    ModelSpec(name="GptOssForCausalLM", load="inferplane.models.gpt_oss:GptOss"),
    ModelSpec(name="LlamaForCausalLM", load="inferplane.models.llama:Llama"),
    ModelSpec(name="MistralForCausalLM", load="inferplane.models.mistral:Mistral"),
    ModelSpec(name="MixtralForCausalLM", load="inferplane.models.mixtral:Mixtral"),
    ModelSpec(name="Qwen2ForCausalLM", load="inferplane.models.qwen2:Qwen2"),
    ModelSpec(name="Qwen3ForCausalLM", load="inferplane.models.qwen3:Qwen3"),
    ModelSpec(name="Qwen3MoeForCausalLM", load="inferplane.models.qwen3_moe:Qwen3Moe"),
)


def find_model(raw: Mapping[str, Any], added: Iterable[ModelSpec] = ()) -> type[Any]:
    """The model class of a config. Plugins' architectures come first."""
    known = {spec.name: spec for spec in (*BUILT_IN, *added)}
    names = raw.get("architectures")
    if not isinstance(names, list) or not names:
        raise UserError("config.json has no 'architectures' list, so the model is unknown")
    for name in names:
        if name in known:
            module, _, attribute = known[name].load.partition(":")
            found: type[Any] = getattr(importlib.import_module(module), attribute)
            return found
    raise UserError(
        f"no model for architecture {names[0]!r}{nearest(str(names[0]), known, 0.9)}; "
        f"known: {', '.join(sorted(known))}"
    )
