"""AITER on a CPU, for tests: the real signatures, numbers by definition.

Signatures: github.com/ROCm/aiter at e404860 (46 commits after v0.1.20); `signatures.json` has them
as they were read, by file. Arguments that are not emulated must have their defaults. What the
compiled code checks, or gets wrong, is an assertion with the file that says so.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import torch

dtypes = SimpleNamespace(bf16=torch.bfloat16, i8=torch.int8)


def defaults(**given: Any) -> None:
    """Raises for an argument that is not emulated and differs from what does nothing."""
    for name, value in given.items():
        if value not in (None, False, 0, 0.0):
            raise NotImplementedError(f"{name}={value!r} is not emulated")


def attend(q_NHD, k_LKD, v_LKD, scale, before, softcap, sinks_H) -> torch.Tensor:
    """The last N of L tokens attend to all L, or to the `before` that precede each and itself; a
    sink takes its part of the probability."""
    new, length, groups = len(q_NHD), len(k_LKD), q_NHD.shape[1] // k_LKD.shape[1]
    k = k_LKD.double().repeat_interleave(groups, 1)
    v = v_LKD.double().repeat_interleave(groups, 1)
    scores = torch.einsum("nhd,lhd->hnl", q_NHD.double(), k) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    ages = torch.arange(length - new, length)[:, None] - torch.arange(length)[None]
    scores[:, (ages < 0) | ((ages > before) if before >= 0 else torch.zeros(())).bool()] = -1e300
    if sinks_H is not None:
        column = sinks_H.double()[:, None, None].expand(-1, new, 1)
        scores = torch.cat([scores, column], -1)
    weights = scores.softmax(-1)[..., :length]
    return torch.einsum("hnl,lhd->nhd", weights, v).to(q_NHD.dtype)


def unified_attention(
    q,
    k,
    v,
    out,
    cu_seqlens_q,
    max_seqlen_q,
    seqused_k,
    max_seqlen_k,
    softmax_scale,
    causal,
    window_size,
    block_table,
    softcap,
    q_descale,
    k_descale,
    v_descale,
    q_scales=None,
    alibi_slopes=None,
    output_scale=None,
    qq_bias=None,
    sinks=None,
    shuffled_kv_cache=False,
    skip_reduce=False,
):
    """Only the first value of window_size is read, as there: 1 + it tokens, 0 for all."""
    defaults(
        q_descale=q_descale,
        k_descale=k_descale,
        v_descale=v_descale,
        q_scales=q_scales,
        alibi_slopes=alibi_slopes,
        output_scale=output_scale,
        qq_bias=qq_bias,
        shuffled_kv_cache=shuffled_kv_cache,
        skip_reduce=skip_reduce,
    )
    assert causal, "Only causal attention is supported"
    assert {t.dtype for t in (cu_seqlens_q, seqused_k, block_table)} == {torch.int32}
    assert len(cu_seqlens_q) == len(seqused_k) + 1
    assert int(seqused_k.max()) <= max_seqlen_k
    assert int(cu_seqlens_q.diff().max()) <= max_seqlen_q
    for row, length in enumerate(seqused_k.tolist()):
        first, last = cu_seqlens_q[row : row + 2].tolist()
        pages = block_table[row, : -(-length // k.shape[1])].long()
        keys, values = (side[pages].flatten(0, 1)[:length] for side in (k, v))
        out[first:last] = attend(
            q[first:last], keys, values, softmax_scale, window_size[0], softcap, sinks
        )
    return out


def mha_batch_prefill_func(
    q,
    k,
    v,
    cu_seqlens_q,
    kv_indptr,
    kv_page_indices,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    logits_soft_cap=0.0,
    causal=False,
    window_size=(-1, -1),
    alibi_slopes=None,
    deterministic=False,
    return_lse=False,
    return_attn_probs=False,
    out=None,
    kv_last_page_lens=None,
    block_table=None,
    seqlen_k=None,
    q_descale=None,
    k_descale=None,
    v_descale=None,
    kv_block_descale=None,
    sink_ptr=None,
    sink_size=0,
):
    defaults(
        dropout_p=dropout_p,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_lse=return_lse,
        return_attn_probs=return_attn_probs,
        block_table=block_table,
        seqlen_k=seqlen_k,
        q_descale=q_descale,
        k_descale=k_descale,
        v_descale=v_descale,
        kv_block_descale=kv_block_descale,
        sink_size=sink_size,
    )
    assert causal and k.dim() == 4 and k.stride(-1) == v.stride(-1) == 1
    assert k.shape[1] == 1 or kv_last_page_lens is not None, "must pass kv_last_page_lens"
    assert window_size[1] == (-1 if window_size[0] < 0 else 0)
    indices = (cu_seqlens_q, kv_indptr, kv_page_indices, kv_last_page_lens)
    assert {t.dtype for t in indices} == {torch.int32}
    assert int(cu_seqlens_q[0]) == int(kv_indptr[0]) == 0 and int(cu_seqlens_q[-1]) == len(q)
    # op_tests/test_batch_prefill.py: "may speculatively read up to 256 entries past the last valid
    # page index", and a page that is not there ends the process
    assert len(kv_page_indices) >= int(kv_indptr[-1]) + 256, "it reads past the page indices"
    assert int(kv_page_indices.min()) >= 0 and int(kv_page_indices.max()) < len(k)
    for row in range(len(kv_indptr) - 1):
        first, last = cu_seqlens_q[row : row + 2].tolist()
        low, high = kv_indptr[row : row + 2].tolist()
        length = (high - low - 1) * k.shape[1] + int(kv_last_page_lens[row])
        assert last - first <= max_seqlen_q and length <= max_seqlen_k
        pages = kv_page_indices[low:high].long()
        keys, values = (side[pages].flatten(0, 1)[:length] for side in (k, v))
        out[first:last] = attend(
            q[first:last],
            keys,
            values,
            softmax_scale,
            window_size[0],
            logits_soft_cap,
            sink_ptr,
        )
    return out


def _normed(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    wide = x.double()
    return (wide * (wide.pow(2).mean(-1, keepdim=True) + epsilon).rsqrt() * weight).to(x.dtype)


def rmsnorm2d_fwd(input, weight, epsilon, use_model_sensitive_rmsnorm=0):
    defaults(use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm)
    assert input.dim() == 2
    return _normed(input, weight, epsilon)


def rmsnorm2d_fwd_with_add(
    out,
    input,
    residual_in,
    residual_out,
    weight,
    epsilon,
    gemma_norm=False,
    use_model_sensitive_rmsnorm=0,
):
    defaults(gemma_norm=gemma_norm, use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm)
    assert input.dim() == 2
    residual_out.copy_(input + residual_in)
    out.copy_(_normed(residual_out, weight, epsilon))


def per_token_quant_hip(x, scale=None, quant_dtype=dtypes.i8, num_rows=None, num_rows_factor=1):
    if scale is not None:
        raise ValueError("unsupported: static per token quant")
    defaults(num_rows=num_rows)
    assert x.is_contiguous()  # csrc/kernels/quant_kernels.cu
    most = 127.0 if quant_dtype == torch.int8 else torch.finfo(quant_dtype).max
    scale = x.float().abs().amax(-1, keepdim=True) / most
    y = x.float() / scale
    return (y.round() if quant_dtype == torch.int8 else y).to(quant_dtype), scale


def shuffle_weight(
    x, layout=(16, 16), use_int4=False, is_guinterleave=False, gate_up=False, pad_k_to=0
):
    """The order that aiter/ops/shuffle.py describes: tiles of 16 rows and 32 columns; in a tile,
    groups of columns that fill 16 bytes, then rows, then the columns of a group."""
    defaults(use_int4=use_int4, is_guinterleave=is_guinterleave, gate_up=gate_up, pad_k_to=pad_k_to)
    assert layout == (16, 16)
    rows, columns = x.shape[-2:]
    assert rows % 16 == 0 and columns % 32 == 0
    each = 16 // x.element_size()
    tiles = x.view(-1, rows // 16, 16, columns // 32, 32 // each, each).permute(0, 1, 3, 4, 2, 5)
    shuffled = tiles.contiguous().view(x.shape)
    shuffled.is_shuffled = True
    return shuffled


def unshuffled(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `shuffle_weight`."""
    rows, columns = x.shape[-2:]
    each = 16 // x.element_size()
    tiles = x.view(-1, rows // 16, columns // 32, 32 // each, 16, each).permute(0, 1, 4, 2, 3, 5)
    return tiles.contiguous().view(x.shape)


def _product(XQ, WQ, x_scale, w_scale, dtype) -> torch.Tensor:
    assert XQ.dtype == WQ.dtype and x_scale.dtype == w_scale.dtype == torch.float32
    assert x_scale.shape == (len(XQ), 1) and w_scale.shape == (len(WQ), 1)
    return (XQ.double() @ WQ.double().t() * x_scale * w_scale.t()).to(dtype)


def gemm_a8w8(XQ, WQ, x_scale, w_scale, bias=None, dtype=dtypes.bf16, splitK=None):
    defaults(bias=bias, splitK=splitK)
    return _product(XQ, WQ, x_scale, w_scale, dtype)


def gemm_a8w8_bpreshuffle(XQ, WQ, x_scale, w_scale, bias=None, dtype=dtypes.bf16, check=False):
    assert bias is None, "gemm_a8w8_bpreshuffle does not support bias now"
    assert WQ.dtype in (torch.float8_e4m3fn, torch.float8_e4m3fnuz), "only support fp8 now"
    assert dtype in (torch.bfloat16, torch.float16)
    defaults(check=check)
    # csrc/ck_gemm_a8w8_bpreshuffle/gemm_a8w8_bpreshuffle.cu, `rowwise_heuristic_dispatch`
    inputs = XQ.shape[1]
    assert inputs >= 512 or (inputs >= 192 and inputs % 64 == 0), "Unsupported K"
    return _product(XQ, unshuffled(WQ), x_scale, w_scale, dtype)


class ActivationType(IntEnum):
    No = -1
    Silu = 0
    Gelu = 1
    Swiglu = 2


class QuantType(IntEnum):
    No = 0
    per_Tensor = 1
    per_Token = 2
    per_1x32 = 3
    per_1x128 = 4
    per_128x128 = 5


class GateMode(Enum):
    SEPARATED = "separated"
    INTERLEAVE = "interleave"


def topk_softmax(
    topk_weights,
    topk_indices,
    token_expert_indices,
    gating_output,
    need_renorm,
    num_shared_experts=0,
    shared_expert_scoring_func="",
):
    """csrc/kernels/topk_softmax_kernels.cu: float weights, int indices, logits of any float."""
    defaults(num_shared_experts=num_shared_experts)
    assert not shared_expert_scoring_func
    assert topk_weights.dtype == torch.float32
    assert topk_indices.dtype == token_expert_indices.dtype == torch.int32
    scores = gating_output.double().softmax(-1)
    best = scores.argsort(dim=-1, descending=True, stable=True)[:, : topk_indices.shape[1]]
    weights = scores.gather(1, best)
    topk_indices.copy_(best)
    topk_weights.copy_(weights / weights.sum(-1, keepdim=True) if need_renorm else weights)


def biased_grouped_topk_hip(
    gating_output,
    correction_bias,
    topk_weights,
    topk_ids,
    num_expert_group,
    topk_grp,
    need_renorm,
    routed_scaling_factor=1.0,
):
    """csrc/kernels/topk_softmax_kernels_group.cu: the bias is read as numbers of the logits' type;
    groups that are not chosen are -inf.

    With 2 and 4 groups its `lane_steps` is 0, so that a group's score is that of one lane's
    experts; 8 groups are cut in vectors of 4 experts; a lane keeps each chosen expert.
    """
    experts = gating_output.shape[1]
    assert num_expert_group in (1, 8), "other numbers are refused, or wrong"
    assert num_expert_group == 1 or experts // num_expert_group % 4 == 0
    assert 1 <= topk_grp <= num_expert_group and topk_ids.shape[1] <= 64
    assert gating_output.stride(1) == 1
    assert gating_output.dtype == correction_bias.dtype
    assert topk_weights.dtype == torch.float32 and topk_ids.dtype == torch.int32
    scores = gating_output.double().sigmoid()
    choice = scores + correction_bias
    if num_expert_group > 1:
        grouped = choice.unflatten(-1, (num_expert_group, -1))
        groups = grouped.topk(2).values.sum(-1).topk(topk_grp).indices
        kept = torch.zeros(grouped.shape[:2], dtype=torch.bool).scatter_(1, groups, True)
        choice = grouped.masked_fill(~kept[..., None], float("-inf")).flatten(1)
    best = choice.topk(topk_ids.shape[1]).indices
    weights = scores.gather(1, best)
    weights = weights / weights.sum(-1, keepdim=True) if need_renorm else weights
    topk_ids.copy_(best)
    topk_weights.copy_(weights * routed_scaling_factor)


def fused_moe(
    hidden_states,
    w1,
    w2,
    topk_weight,
    topk_ids,
    expert_mask=None,
    activation=ActivationType.Silu,
    quant_type=QuantType.No,
    doweight_stage1=False,
    w1_scale=None,
    w2_scale=None,
    a1_scale=None,
    a2_scale=None,
    block_size_M=None,
    num_local_tokens=None,
    moe_sorting_dispatch_policy=0,
    dtype=None,
    hidden_pad=0,
    intermediate_pad=0,
    bias1=None,
    bias2=None,
    splitk=0,
    swiglu_limit=None,
    beta=None,
    linear_beta=None,
    gate_mode=GateMode.SEPARATED.value,
    shared_w1=None,
    shared_w2=None,
    shared_w1_scale=None,
    shared_w2_scale=None,
    shared_expert_id=-1,
    stage2_scatter=None,
):
    """Inputs are not rounded: what that would change is less than what is compared."""
    defaults(
        doweight_stage1=doweight_stage1,
        a1_scale=a1_scale,
        a2_scale=a2_scale,
        block_size_M=block_size_M,
        num_local_tokens=num_local_tokens,
        moe_sorting_dispatch_policy=moe_sorting_dispatch_policy,
        dtype=dtype,
        hidden_pad=hidden_pad,
        intermediate_pad=intermediate_pad,
        bias1=bias1,
        bias2=bias2,
        splitk=splitk,
        swiglu_limit=swiglu_limit,
        beta=beta,
        linear_beta=linear_beta,
        shared_w1=shared_w1,
        shared_w2=shared_w2,
        shared_w1_scale=shared_w1_scale,
        shared_w2_scale=shared_w2_scale,
        stage2_scatter=stage2_scatter,
    )
    assert gate_mode == "separated" and shared_expert_id == -1
    assert hidden_states.is_contiguous()
    # `get_2stage_cfgs`: "callers append one always-masked fake-expert slot to topk_ids"; it looks
    # tuned kernels up, and divides by tiles, with one slot less
    assert not expert_mask[topk_ids[:, -1]].any() and topk_ids.shape[1] > 1
    assert len(w1) == len(w2) == int(expert_mask.sum())
    assert w1.is_shuffled and w2.is_shuffled and activation is ActivationType.Silu
    assert topk_weight.dtype == torch.float32
    assert topk_ids.dtype == expert_mask.dtype == torch.int32
    local = expert_mask.cumsum(0) - 1
    y = torch.zeros(hidden_states.shape, dtype=torch.float64)
    for token, place in torch.cartesian_prod(*(torch.arange(n) for n in topk_ids.shape)).tolist():
        expert = int(topk_ids[token, place])
        assert 0 <= expert < len(expert_mask)
        if not expert_mask[expert]:
            continue
        one, two = (
            _weight(w[local[expert]], scale, local[expert], quant_type)
            for w, scale in ((w1, w1_scale), (w2, w2_scale))
        )
        gate, up = (one @ hidden_states[token].double()).chunk(2)
        out = two @ (torch.nn.functional.silu(gate) * up)
        y[token] += out * topk_weight[token, place].double()
    return y.to(hidden_states.dtype)


def _weight(w, scale, expert, quant_type) -> torch.Tensor:
    wide = unshuffled(w).double()
    if quant_type is QuantType.No:
        assert scale is None
        return wide
    scale = scale[expert].double()
    if quant_type is QuantType.per_Token:
        assert scale.shape == (len(wide), 1)
        return wide * scale
    assert quant_type is QuantType.per_128x128
    return wide * scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
