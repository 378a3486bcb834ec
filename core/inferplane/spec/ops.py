"""Every op of the contract in one table: request, call, arguments that it writes, result."""

from __future__ import annotations

from dataclasses import dataclass

from . import moe
from . import requests as r


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSchema:
    """How an op is called.

    call: the kernel's arguments and result, with the axes of `spec.kernels` in the names.
    mutates: arguments that the call writes. result: shape of the result, "" for none.
    provisional: no in-tree implementer yet, so the call may still change within this major.
    """

    request: type[r.Request]
    call: str
    mutates: tuple[str, ...] = ()
    result: str = ""
    provisional: bool = False


OPS: dict[str, OpSchema] = {
    "linear": OpSchema(request=r.LinearRequest, call="(x_TC, packed) -> y_TN", result="T,N"),
    "linear.heads": OpSchema(
        request=r.HeadsLinearRequest, call="(x_THC, packed) -> y_THN", result="T,H,N"
    ),
    "embedding": OpSchema(request=r.EmbeddingRequest, call="(ids_T, packed) -> x_TC", result="T,C"),
    "norm.rms": OpSchema(request=r.NormRequest, call="(x, weight_C) -> y", result="as x"),
    "norm.add_rms": OpSchema(
        request=r.NormRequest,
        call="(x_TC, residual_TC, weight_C) -> (y_TC, residual_TC)",
        result="as x, twice",
        mutates=("x_TC", "residual_TC"),
    ),
    "rotary": OpSchema(
        request=r.RotaryRequest, call="(q_THD, k_TKD, state)", mutates=("q_THD", "k_TKD")
    ),
    "activation.gated": OpSchema(
        request=r.ActivationRequest, call="(gate_up_T2N) -> y_TN", result="T,N"
    ),
    "kv.write": OpSchema(
        request=r.KVWriteRequest, call="(k_TKD, v_TKD, cache, slots_T)", mutates=("cache",)
    ),
    "attention": OpSchema(
        request=r.AttentionRequest,
        call="AttentionKernel.run(q_THD, k_TKD, v_TKD, cache, plan, out_THD, sinks_H)",
        mutates=("out_THD",),
    ),
    "attention.input": OpSchema(
        request=r.AttentionInputRequest,
        call="(qkv_TX, cache, slots_T, state, packed) -> (q_THD, k_TKD, v_TKD)",
        mutates=("qkv_TX", "cache"),
        result="views or new tensors",
    ),
    "attention.block": OpSchema(
        request=r.AttentionBlockRequest,
        call="(x_TC, step, slot, packed) -> y_TC",
        mutates=("cache",),
        result="T,C",
        provisional=True,
    ),
    "attention.latent_block": OpSchema(
        request=r.LatentBlockRequest,
        call="(x_TC, step, slot, packed) -> y_TC",
        mutates=("cache",),
        result="T,C",
        provisional=True,
    ),
    "mlp.block": OpSchema(request=r.GatedMLPRequest, call="(x_TC, packed) -> y_TC", result="T,C"),
    "moe.route": OpSchema(
        request=moe.RoutingRequest,
        call="(logits_TX, bias_X) -> (weights_TE, experts_TE)",
        result="T,E twice",
    ),
    "moe.experts": OpSchema(
        request=moe.ExpertsRequest,
        call="(x_TC, weights_TE, experts_TE, packed) -> y_TC",
        result="T,C",
    ),
    "moe.dispatch": OpSchema(
        request=moe.DispatchRequest, call="dispatch / combine", provisional=True
    ),
    "moe.block": OpSchema(
        request=moe.MoEBlockRequest, call="(x_TC, packed) -> y_TC", result="T,C", provisional=True
    ),
    "layer": OpSchema(
        request=r.LayerRequest,
        call="(x_TC, residual_TC, step, slot, packed) -> (x_TC, residual_TC)",
        mutates=("x_TC", "residual_TC", "cache"),
        result="T,C twice",
    ),
    "model": OpSchema(
        request=r.ModelRequest,
        call="(step, slots, packed) -> hidden_TC",
        result="T,C",
        provisional=True,
    ),
    "sample": OpSchema(
        request=r.SampleRequest, call="(logits_BV, inputs) -> SampleOutput", mutates=("logits_BV",)
    ),
    "all_reduce": OpSchema(
        request=r.CollectiveRequest, call="Communicator.all_reduce(x, group) -> x", mutates=("x",)
    ),
    "all_gather": OpSchema(
        request=r.CollectiveRequest, call="Communicator.all_gather(x, group, axis) -> y"
    ),
    "reduce_scatter": OpSchema(
        request=r.CollectiveRequest, call="Communicator.reduce_scatter(x, group, axis) -> y"
    ),
    "all_to_all": OpSchema(
        request=r.CollectiveRequest, call="Communicator.all_to_all(x, splits, received, group) -> y"
    ),
    "broadcast": OpSchema(
        request=r.CollectiveRequest, call="Communicator.broadcast(x, source, group)", mutates=("x",)
    ),
    "graph": OpSchema(
        request=r.GraphRequest, call="GraphBackend.capture(run) -> GraphHandle", provisional=True
    ),
    "kv.transfer": OpSchema(
        request=r.TransferRequest, call="KVTransfer.send / receive", provisional=True
    ),
}
"""Key: the op's name. Names with a dot group by what the op acts on."""
