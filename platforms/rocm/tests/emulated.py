"""AITER on a CPU, for tests: the real signatures, numbers by definition.

Signatures: github.com/ROCm/aiter at e404860 (46 commits after v0.1.20); `signatures.json` has them
as they were read. Arguments that are not emulated must have their defaults.
"""

from __future__ import annotations

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
    most = 127.0 if quant_dtype == torch.int8 else torch.finfo(quant_dtype).max
    scale = x.float().abs().amax(-1, keepdim=True) / most
    y = x.float() / scale
    return (y.round() if quant_dtype == torch.int8 else y).to(quant_dtype), scale


def shuffle_weight(
    x, layout=(16, 16), use_int4=False, is_guinterleave=False, gate_up=False, pad_k_to=0
):
    """The order that aiter/ops/shuffle.py describes: tiles of 16 rows and 32 columns (one byte an
    element); in a tile, groups of 16 columns, then rows, then the columns of a group."""
    defaults(use_int4=use_int4, is_guinterleave=is_guinterleave, gate_up=gate_up, pad_k_to=pad_k_to)
    assert layout == (16, 16) and x.element_size() == 1
    rows, columns = x.shape
    assert rows % 16 == 0 and columns % 32 == 0
    tiles = x.view(torch.uint8).view(rows // 16, 16, columns // 32, 2, 16).permute(0, 2, 3, 1, 4)
    return tiles.contiguous().view(rows, columns).view(x.dtype)


def unshuffled(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `shuffle_weight`."""
    rows, columns = x.shape
    tiles = x.view(torch.uint8).view(rows // 16, columns // 32, 2, 16, 16).permute(0, 3, 1, 2, 4)
    return tiles.contiguous().view(rows, columns).view(x.dtype)


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
    return _product(XQ, unshuffled(WQ), x_scale, w_scale, dtype)
