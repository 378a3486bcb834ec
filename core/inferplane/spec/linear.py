"""Linear kernels that any device with torch's own matrix products can use.

Legend: T tokens, C input features, N output features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .weights import Packed, WeightSource

if TYPE_CHECKING:
    import torch

    from .requests import HeadsLinearRequest, LinearRequest


class TorchLinear:
    """(optional) Unquantized, through torch's `linear`. Keeps the weight as it is; a tied one is
    shared."""

    def __init__(self, request: LinearRequest) -> None:
        self.bias = request.bias

    def prepare(self, source: WeightSource) -> Packed:
        tensors = {name: source.read(name) for name in ("weight", *["bias"] * self.bias)}
        owned = [t for name, t in tensors.items() if name != "weight" or not source.tied_to]
        return Packed(
            data=tuple(tensors.values()), final_bytes=sum(t.nbytes for t in owned), tensors=tensors
        )

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        from torch.nn.functional import linear

        return linear(x_TC, *packed.data)


class TorchScaledLinear:
    """(optional) 8-bit floating-point weights and inputs, through `torch._scaled_mm`.

    Reads "weight" [N, C] in the scheme's type, and "scale" fp32: one number, one a part (q, k, v;
    gate, up), or one a row [N] or [N, 1]; a weight is its stored number times its scale. Inputs are
    scaled at run time, whole or by token, as the scheme says.

    Signature: `_scaled_mm(x, w, scale_a, scale_b, bias=None, scale_result=None, out_dtype=None,
    use_fast_accum=False)` of torch 2.13, x row-major and w column-major; scales are both one
    number, or [T, 1] and [1, N], and the latter give bf16 only.
    """

    input_type = "fp8_e4m3"
    """The type that inputs are scaled to; a device with another encoding names its own."""

    def __init__(self, request: LinearRequest) -> None:
        from .torch_types import torch_dtype

        self.bias = request.bias
        self.by_token = request.scheme.activation_granularity == "token"
        self.dtype = torch_dtype(request.dtype)
        self.kind = torch_dtype(self.input_type)

    def convert(
        self, weight_NC: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(optional) From the checkpoint's encoding to the device's."""
        return weight_NC, scale

    def prepare(self, source: WeightSource) -> Packed:
        import torch

        weight = source.read("weight")
        scale = source.read("scale").float().reshape(-1)
        rows = len(weight)
        if scale.numel() not in (1, rows):
            sizes = [part.shape[0] for part in source.parts("weight")]
            if scale.numel() != len(sizes):
                raise ValueError(
                    f"{source.path}: {scale.numel()} scales for {rows} rows in {len(sizes)} parts; "
                    "there must be one, one a part, or one a row"
                )
            scale = scale.repeat_interleave(torch.tensor(sizes, device=scale.device))
        weight, scale = self.convert(weight, scale)
        if self.by_token or scale.numel() > 1:
            scale = scale.expand(rows)[None].contiguous()
        bias = source.read("bias") if self.bias else None
        held = [t for t in (weight, scale, bias) if t is not None]
        return Packed(data=(weight.t(), scale, bias), final_bytes=sum(t.nbytes for t in held))

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        import torch

        weight_CN, scale, bias = packed.data
        high = torch.finfo(self.kind).max
        by_row = scale.dim() == 2
        peak = x_TC.abs().amax(-1, keepdim=True) if self.by_token else x_TC.abs().amax()
        x_scale = peak.float().clamp(min=1e-12) / high
        x = (x_TC.float() / x_scale).clamp(-high, high).to(self.kind)
        if by_row and not self.by_token:
            x_scale = x_scale.expand(len(x))[:, None].contiguous()
        out_type = torch.bfloat16 if by_row else self.dtype
        y_TN = torch._scaled_mm(x, weight_CN, x_scale, scale, out_dtype=out_type)
        y_TN = y_TN.to(self.dtype)
        return y_TN if bias is None else y_TN.add_(bias)


class TorchHeadsLinear:
    """(optional) op "linear.heads" through torch's batched product."""

    def __init__(self, request: HeadsLinearRequest) -> None:
        self.request = request

    def prepare(self, source: WeightSource) -> Packed:
        weight_HCN = source.read("weight").transpose(1, 2).contiguous()
        return Packed(
            data=weight_HCN,
            final_bytes=weight_HCN.nbytes,
            peak_bytes=weight_HCN.nbytes,
            tensors={"weight": weight_HCN},
        )

    def __call__(self, x_THC: torch.Tensor, packed: Packed) -> torch.Tensor:
        import torch

        return torch.bmm(x_THC.transpose(0, 1), packed.data).transpose(0, 1)
