"""Fields of mixtures of experts in config.json, and what does not fit together in them."""

from __future__ import annotations

from typing import Any

from inferplane.errors import UserError
from inferplane.layers.experts import ExpertsConfig
from inferplane.layers.moe import MoEConfig

from .config import ConfigReader


def read_experts(reader: ConfigReader, *names: str, **changes: Any) -> ExpertsConfig:
    """names: of the field with the number of experts, the first one that is there."""
    name = next((n for n in names if reader.raw.get(n) is not None), names[0])
    fields: dict[str, Any] = {
        "experts": reader.number(name),
        "top_k": reader.number("num_experts_per_tok"),
        "hidden": reader.number("hidden_size"),
    }
    if "intermediate" not in changes:
        fields["intermediate"] = reader.number("moe_intermediate_size")
    found = ExpertsConfig(**(fields | changes))
    if found.top_k > found.experts:
        raise UserError(
            f"{reader.where}: num_experts_per_tok is {found.top_k}; there are {found.experts} "
            f"experts ({name})"
        )
    return found


def deepseek_moe(reader: ConfigReader, groups: bool = True, **changes: Any) -> MoEConfig:
    """The fields that DeepSeek's models and their relatives share. groups: experts are chosen
    within groups, where there is more than one."""
    experts = read_experts(reader, "n_routed_experts", "num_local_experts", "num_experts")
    shared = reader.count("n_shared_experts")
    count = reader.number("n_group", 1) if groups else 1
    best = reader.number("topk_group", 1) if groups else 1
    fields: dict[str, Any] = {
        "experts": experts,
        "precise": True,
        "scaling": reader.real("routed_scaling_factor", 1.0),
        "shared": shared * experts.intermediate,
        "shared_experts": shared,
        "groups": count if count > 1 else 0,
        "top_groups": best if count > 1 else 0,
    }
    found = MoEConfig(**(fields | changes))
    if found.groups:
        _check_groups(reader.where, found)
    return found


def _check_groups(where: str, config: MoEConfig) -> None:
    experts, groups = config.experts, config.groups
    text = f"{where}: {experts.experts} experts in {groups} groups (n_group)"
    if experts.experts % groups:
        raise UserError(f"{text} are not groups of one size")
    size = experts.experts // groups
    if config.group_score == "top2" and size < 2:
        raise UserError(f"{text} are single experts; a group is judged by its two best")
    if config.top_groups > groups or experts.top_k > config.top_groups * size:
        raise UserError(
            f"{text}: {experts.top_k} (num_experts_per_tok) cannot be chosen in "
            f"{config.top_groups} of them (topk_group)"
        )


def sparse_layers(reader: ConfigReader) -> tuple[int, ...]:
    """Layers with experts: all but the first ones, or every so many of those."""
    first = reader.count("first_k_dense_replace")
    every = reader.number("moe_layer_freq", 1)
    layers = reader.number("num_hidden_layers")
    return tuple(index for index in range(first, layers) if index % every == 0)


def predicting_layers(reader: ConfigReader) -> tuple[str, ...]:
    """Beginnings of the names of layers that predict further tokens, behind the decoder's own."""
    count = reader.count("num_nextn_predict_layers", 1)
    first = reader.number("num_hidden_layers")
    return tuple(f"model.layers.{index}." for index in range(first, first + count))
