"""KV write into the standard layout, where one page is [P, 2, K, D], and into the latent one,
where it is [P, D]."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.spec import KVWriteRequest


def write(request: KVWriteRequest) -> Callable[..., None]:
    latent = request.layout == "latent"

    def run(
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        flat = cache.view(-1, *cache.shape[2:])
        valid = slots_T >= 0
        if not bool(valid.all()):
            k_TKD, v_TKD, slots_T = k_TKD[valid], v_TKD[valid], slots_T[valid]
        if kv_scales is not None:
            k_TKD, v_TKD = k_TKD.float() / kv_scales[0], v_TKD.float() / kv_scales[1]
        if latent:
            flat[slots_T] = k_TKD[:, 0].to(flat.dtype)
            return
        flat[slots_T, 0] = k_TKD.to(flat.dtype)
        flat[slots_T, 1] = v_TKD.to(flat.dtype)

    return run
