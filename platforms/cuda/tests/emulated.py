"""FlashInfer and FlashAttention on a CPU, for tests: the real signatures, numbers by definition.

Signatures: flashinfer-python 0.7.2.post1 (flashinfer/decode.py and prefill.py), flash-attn 2.8.4
(flash_attn/flash_attn_interface.py) and flash_attn_3 3.0.0 (hopper/flash_attn_interface.py), both
of github.com/Dao-AILab/flash-attention at 0251105. `signatures.json` holds them as they were read.
Arguments that are not emulated must have their defaults, so that a call that relies on one fails.
"""

from __future__ import annotations

from typing import Any

import torch


def attend(
    q_NHD: torch.Tensor,
    k_LKD: torch.Tensor,
    v_LKD: torch.Tensor,
    scale: float,
    before: int,
    softcap: float,
) -> torch.Tensor:
    """The last N of L tokens attend to all L, or to the `before` that precede each and itself."""
    new, length = len(q_NHD), len(k_LKD)
    groups = q_NHD.shape[1] // k_LKD.shape[1]
    k = k_LKD.double().repeat_interleave(groups, 1)
    v = v_LKD.double().repeat_interleave(groups, 1)
    scores = torch.einsum("nhd,lhd->hnl", q_NHD.double(), k) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    query = torch.arange(length - new, length)[:, None]
    key = torch.arange(length)[None]
    allowed = key <= query
    if before >= 0:
        allowed &= key >= query - before
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("hnl,lhd->nhd", weights, v).to(q_NHD.dtype)


def defaults(**given: Any) -> None:
    """Raises for an argument that is not emulated and differs from what does nothing."""
    for name, value in given.items():
        if value not in (None, False, 0, 0.0, "NONE"):
            raise NotImplementedError(f"{name}={value!r} is not emulated")


def int32_on(device: str, *tensors: torch.Tensor) -> None:
    for tensor in tensors:
        assert tensor.dtype == torch.int32 and tensor.device.type == device


class _Wrapper:
    """Plans are kept; where a graph would be captured, in the caller's buffers."""

    graph = False

    def keep(self, starts: Any, pages: Any, last: Any, sizes: Any, page: int) -> None:
        int32_on("cpu", starts, pages, last)
        assert len(starts) == len(last) + 1 and int(starts[-1]) == len(pages)
        assert ((last >= 1) & (last <= page)).all() and (pages >= 0).all()
        if self.graph:
            assert len(last) == len(self.last_buffer), "the batch size is fixed in a graph"
            self.starts_buffer.copy_(starts)
            self.pages_buffer[: len(pages)].copy_(pages)
            self.last_buffer.copy_(last)
        else:
            self.starts_buffer, self.pages_buffer, self.last_buffer = starts, pages, last
        self.sizes, self.page = sizes, page

    def rows(self, q: torch.Tensor, cache: Any, queries: Any, before: int, cap: Any, scale: Any):
        keys, values = cache
        heads, kv_heads, dim = self.sizes
        assert q.is_contiguous() and q.shape[1:] == (heads, dim)
        assert keys.shape[1:] == values.shape[1:] == (self.page, kv_heads, dim)
        assert keys.stride() == values.stride() and keys.stride(-1) == 1
        for row in range(len(self.last_buffer)):
            low, high = int(self.starts_buffer[row]), int(self.starts_buffer[row + 1])
            pages = self.pages_buffer[low:high].long()
            # as `get_seq_lens` of flashinfer/page.py
            length = max(high - low - 1, 0) * self.page + int(self.last_buffer[row])
            assert length <= (high - low) * self.page, "it would read pages of another row"
            k, v = (side[pages].flatten(0, 1)[:length] for side in (keys, values))
            first, last = int(queries[row]), int(queries[row + 1])
            yield first, last, attend(q[first:last], k, v, scale, before, cap or 0.0)


class BatchDecodeWithPagedKVCacheWrapper(_Wrapper):
    def __init__(
        self,
        float_workspace_buffer,
        kv_layout="NHD",
        use_cuda_graph=False,
        use_tensor_cores=False,
        paged_kv_indptr_buffer=None,
        paged_kv_indices_buffer=None,
        paged_kv_last_page_len_buffer=None,
        backend="auto",
        jit_args=None,
    ):
        assert float_workspace_buffer.dtype == torch.uint8 and kv_layout == "NHD"
        assert backend in ("auto", "fa2", "fa3")
        defaults(jit_args=jit_args)
        self.graph = use_cuda_graph
        if use_cuda_graph:
            self.starts_buffer = paged_kv_indptr_buffer
            self.pages_buffer = paged_kv_indices_buffer
            self.last_buffer = paged_kv_last_page_len_buffer
            assert len(self.starts_buffer) == len(self.last_buffer) + 1

    def plan(
        self,
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim,
        page_size,
        *deprecated_positional_args,
        **kwargs,
    ):
        assert not deprecated_positional_args, "positional arguments are deprecated"
        self._plan_impl(
            indptr,
            indices,
            last_page_len,
            num_qo_heads,
            num_kv_heads,
            head_dim,
            page_size,
            **kwargs,
        )

    def _plan_impl(
        self,
        indptr,
        indices,
        last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim,
        page_size,
        *,
        pos_encoding_mode="NONE",
        window_left=-1,
        window_right=0,
        logits_soft_cap=None,
        q_data_type="float16",
        kv_data_type=None,
        o_data_type=None,
        data_type=None,
        sm_scale=None,
        rope_scale=None,
        rope_theta=None,
        non_blocking=True,
        block_tables=None,
        seq_lens=None,
        fixed_split_size=None,
        disable_split_kv=False,
        q_len_per_req=1,
        is_causal=None,
    ):
        defaults(
            pos_encoding_mode=pos_encoding_mode,
            window_right=window_right,
            o_data_type=o_data_type,
            data_type=data_type,
            rope_scale=rope_scale,
            rope_theta=rope_theta,
            block_tables=block_tables,
            seq_lens=seq_lens,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
            is_causal=is_causal,
        )
        assert q_len_per_req == 1
        self.keep(indptr, indices, last_page_len, (num_qo_heads, num_kv_heads, head_dim), page_size)
        self.before, self.cap, self.scale = window_left, logits_soft_cap, sm_scale
        self.kinds = q_data_type, kv_data_type

    def run(
        self,
        q,
        paged_kv_cache,
        *args,
        q_scale=None,
        k_scale=None,
        v_scale=None,
        out=None,
        lse=None,
        return_lse=False,
        enable_pdl=None,
        window_left=None,
        sinks=None,
        q_len_per_req=None,
        skip_softmax_threshold_scale_factor=None,
        kv_cache_sf=None,
    ):
        assert not args and (q.dtype, paged_kv_cache[0].dtype) == self.kinds
        defaults(
            q_scale=q_scale,
            k_scale=k_scale,
            v_scale=v_scale,
            lse=lse,
            return_lse=return_lse,
            enable_pdl=enable_pdl,
            window_left=window_left,
            sinks=sinks,
            q_len_per_req=q_len_per_req,
            skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor,
            kv_cache_sf=kv_cache_sf,
        )
        queries = range(len(self.last_buffer) + 1)
        for first, last, found in self.rows(
            q, paged_kv_cache, queries, self.before, self.cap, self.scale
        ):
            out[first:last] = found
        return out


class BatchPrefillWithPagedKVCacheWrapper(_Wrapper):
    def __init__(
        self,
        float_workspace_buffer,
        kv_layout="NHD",
        use_cuda_graph=False,
        qo_indptr_buf=None,
        paged_kv_indptr_buf=None,
        paged_kv_indices_buf=None,
        paged_kv_last_page_len_buf=None,
        custom_mask_buf=None,
        mask_indptr_buf=None,
        backend="auto",
        jit_args=None,
        jit_kwargs=None,
        variant_owns_mask=False,
    ):
        assert float_workspace_buffer.dtype == torch.uint8 and kv_layout == "NHD"
        assert backend in ("auto", "fa2", "fa3")
        defaults(
            use_cuda_graph=use_cuda_graph,
            qo_indptr_buf=qo_indptr_buf,
            paged_kv_indptr_buf=paged_kv_indptr_buf,
            paged_kv_indices_buf=paged_kv_indices_buf,
            paged_kv_last_page_len_buf=paged_kv_last_page_len_buf,
            custom_mask_buf=custom_mask_buf,
            mask_indptr_buf=mask_indptr_buf,
            jit_args=jit_args,
            jit_kwargs=jit_kwargs,
            variant_owns_mask=variant_owns_mask,
        )

    def plan(
        self,
        qo_indptr,
        paged_kv_indptr,
        paged_kv_indices,
        paged_kv_last_page_len,
        num_qo_heads,
        num_kv_heads,
        head_dim_qk,
        page_size,
        head_dim_vo=None,
        custom_mask=None,
        packed_custom_mask=None,
        causal=False,
        pos_encoding_mode="NONE",
        use_fp16_qk_reduction=False,
        sm_scale=None,
        window_left=-1,
        logits_soft_cap=None,
        rope_scale=None,
        rope_theta=None,
        q_data_type="float16",
        kv_data_type=None,
        o_data_type=None,
        non_blocking=True,
        prefix_len_ptr=None,
        token_pos_in_items_ptr=None,
        token_pos_in_items_len=0,
        max_item_len_ptr=None,
        seq_lens=None,
        seq_lens_q=None,
        block_tables=None,
        max_token_per_sequence=None,
        max_sequence_kv=None,
        fixed_split_size=None,
        disable_split_kv=False,
        uniform_q_len=None,
    ):
        defaults(
            head_dim_vo=head_dim_vo,
            custom_mask=custom_mask,
            packed_custom_mask=packed_custom_mask,
            pos_encoding_mode=pos_encoding_mode,
            use_fp16_qk_reduction=use_fp16_qk_reduction,
            rope_scale=rope_scale,
            rope_theta=rope_theta,
            o_data_type=o_data_type,
            prefix_len_ptr=prefix_len_ptr,
            token_pos_in_items_ptr=token_pos_in_items_ptr,
            token_pos_in_items_len=token_pos_in_items_len,
            max_item_len_ptr=max_item_len_ptr,
            seq_lens=seq_lens,
            seq_lens_q=seq_lens_q,
            block_tables=block_tables,
            max_token_per_sequence=max_token_per_sequence,
            max_sequence_kv=max_sequence_kv,
            fixed_split_size=fixed_split_size,
            disable_split_kv=disable_split_kv,
            uniform_q_len=uniform_q_len,
        )
        assert causal, "without it, every token would see the whole context"
        int32_on("cpu", qo_indptr)
        assert int(qo_indptr[0]) == 0 and len(qo_indptr) == len(paged_kv_indptr)
        self.keep(
            paged_kv_indptr,
            paged_kv_indices,
            paged_kv_last_page_len,
            (num_qo_heads, num_kv_heads, head_dim_qk),
            page_size,
        )
        self.queries, self.kinds = qo_indptr, (q_data_type, kv_data_type)
        self.before, self.cap, self.scale = window_left, logits_soft_cap, sm_scale

    def run(
        self,
        q,
        paged_kv_cache,
        *args,
        q_scale=None,
        k_scale=None,
        v_scale=None,
        out=None,
        lse=None,
        return_lse=False,
        lse_base="log2",
        lse_layout="NH",
        enable_pdl=None,
        window_left=None,
        sinks=None,
        kv_cache_sf=None,
        skip_softmax_threshold_scale_factor=None,
        use_fp16_softmax=None,
        uses_spcompress=None,
    ):
        assert not args and (q.dtype, paged_kv_cache[0].dtype) == self.kinds
        defaults(
            q_scale=q_scale,
            k_scale=k_scale,
            v_scale=v_scale,
            lse=lse,
            return_lse=return_lse,
            enable_pdl=enable_pdl,
            window_left=window_left,
            sinks=sinks,
            kv_cache_sf=kv_cache_sf,
            skip_softmax_threshold_scale_factor=skip_softmax_threshold_scale_factor,
            use_fp16_softmax=use_fp16_softmax,
            uses_spcompress=uses_spcompress,
        )
        assert len(q) == int(self.queries[-1])
        for first, last, found in self.rows(
            q, paged_kv_cache, self.queries, self.before, self.cap, self.scale
        ):
            out[first:last] = found
        return out


def paged(q, keys, values, starts, lengths, table, scale, window, softcap) -> torch.Tensor:
    """FlashAttention's window (left, right), aligned to the end of the context."""
    before, after = window
    assert after == (-1 if before < 0 else 0)
    out = torch.empty_like(q)
    page = keys.shape[1]
    for row, length in enumerate(lengths.tolist()):
        first, last = int(starts[row]), int(starts[row + 1])
        pages = table[row, : -(-length // page)].long()
        k, v = (side[pages].flatten(0, 1)[:length] for side in (keys, values))
        out[first:last] = attend(q[first:last], k, v, scale, before, softcap)
    return out


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    deterministic=False,
    return_attn_probs=False,
    block_table=None,
):
    defaults(
        dropout_p=dropout_p,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_attn_probs=return_attn_probs,
    )
    int32_on(q.device.type, cu_seqlens_q, cu_seqlens_k, block_table)
    assert causal and k.shape[1] % 256 == 0 and k.stride(-1) == 1
    lengths = cu_seqlens_k.diff()
    assert int(cu_seqlens_q.diff().max()) <= max_seqlen_q and int(lengths.max()) <= max_seqlen_k
    return paged(q, k, v, cu_seqlens_q, lengths, block_table, softmax_scale, window_size, softcap)


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    k=None,
    v=None,
    qv=None,
    rotary_cos=None,
    rotary_sin=None,
    cache_seqlens=None,
    cache_batch_idx=None,
    cache_leftpad=None,
    page_table=None,
    cu_seqlens_q=None,
    cu_seqlens_k_new=None,
    max_seqlen_q=None,
    rotary_seqlens=None,
    q_descale=None,
    k_descale=None,
    v_descale=None,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    attention_chunk=0,
    softcap=0.0,
    rotary_interleaved=True,
    scheduler_metadata=None,
    num_splits=0,
    pack_gqa=None,
    sm_margin=0,
    return_softmax_lse=False,
):
    defaults(
        k=k,
        v=v,
        qv=qv,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        cache_batch_idx=cache_batch_idx,
        cache_leftpad=cache_leftpad,
        cu_seqlens_k_new=cu_seqlens_k_new,
        rotary_seqlens=rotary_seqlens,
        q_descale=q_descale,
        k_descale=k_descale,
        v_descale=v_descale,
        attention_chunk=attention_chunk,
        scheduler_metadata=scheduler_metadata,
        num_splits=num_splits,
        pack_gqa=pack_gqa,
        sm_margin=sm_margin,
        return_softmax_lse=return_softmax_lse,
    )
    int32_on(q.device.type, cache_seqlens, page_table, cu_seqlens_q)
    assert causal and page_table.stride(-1) == 1 and k_cache.stride(-1) == 1
    assert int(cu_seqlens_q.diff().max()) <= max_seqlen_q
    return paged(
        q,
        k_cache,
        v_cache,
        cu_seqlens_q,
        cache_seqlens,
        page_table,
        softmax_scale,
        window_size,
        softcap,
    )
