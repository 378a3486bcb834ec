"""What the kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    AttentionRequest,
    EmbeddingRequest,
    ExpertsRequest,
    GroupKind,
    HeadsLinearRequest,
    KVWriteRequest,
    LinearRequest,
    NormRequest,
    RotaryRequest,
    RoutingRequest,
    SampleRequest,
    Support,
)

from . import defaults, schemes

FLOATS = ("fp32", "fp16", "bf16")
ACTIVATIONS = frozenset({"silu", "gelu", "gelu_tanh", "swigluoai"})
SAMPLING = frozenset(
    {
        "random",
        "top_k",
        "top_p",
        "min_p",
        "penalties",
        "bias",
        "mask",
        "processors",
        "logprobs",
    }
)
WIDEST = 32_768  # elements of a row that one program holds
MOST_GROUPS = 64  # query heads a kv head
LARGEST_PAGE = 128
MOST_EXPERTS = 1024
LARGEST_VALUE, LARGEST_REST = 512, 128
MOST_LATENT_HEADS = 256
LARGEST_VOCABULARY = 1 << 24  # counts in fp32 are exact up to it


def floats(request: Any) -> Support:
    """Triton, and a float type that both the device and the kernels have."""
    device = request.device
    if "triton" not in device.capabilities:
        return Support.no(
            f"{device.name} has no capability 'triton': its platform has no Triton for it, or "
            "Triton is not installed"
        )
    if request.dtype not in FLOATS or request.dtype not in device.dtypes:
        has = ", ".join(name for name in FLOATS if name in device.dtypes)
        return Support.no(f"dtype is {request.dtype}, there are {has or 'none'} on {device.name}")
    return Support.yes()


def norm(request: NormRequest) -> Support:
    if not 1 <= request.size <= WIDEST:
        return Support.no(f"size is {request.size:,}, it has 1 to {WIDEST:,}")
    return floats(request)


def rotary(request: RotaryRequest) -> Support:
    if request.axes != 1:
        return Support.no(f"positions have {request.axes} axes, it has one")
    if request.style not in ("neox", "interleaved"):
        return Support.no(f"style is {request.style}, it has neox and interleaved")
    size, dim = request.head_dim, request.rotary_dim
    if dim % 2 or not 2 <= dim <= size <= 1024:
        return Support.no(f"it turns {dim} of {size} elements, it has even numbers up to 1,024")
    return floats(request)


def activation(request: ActivationRequest) -> Support:
    if request.kind not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        return Support.no(f"activation is {request.kind}, there are {known}")
    return floats(request)


def embedding(request: EmbeddingRequest) -> Support:
    return floats(request)


def kv_dtype(request: Any) -> Support:
    """The cache's type: a float type of the device, or fp8."""
    kv = request.kv_dtype
    if kv in FLOATS and kv in request.device.dtypes:
        return Support.yes()
    if kv != "fp8_e4m3":
        known = ", ".join(name for name in FLOATS if name in request.device.dtypes)
        return Support.no(f"KV dtype is {kv}, there are {known} and fp8_e4m3")
    if "fp8_e4m3_convert" not in request.device.capabilities:
        return Support.no(
            f"KV dtype is fp8_e4m3, {request.device.name} has no capability 'fp8_e4m3_convert'"
        )
    return Support.yes()


def kv_write(request: KVWriteRequest) -> Support:
    if request.layout not in ("standard", "latent"):
        return Support.no(f"layout is {request.layout!r}, it writes the standard and latent ones")
    if request.layout == "latent" and request.kv_heads != 1:
        return Support.no(f"{request.kv_heads} kv heads, the latent layout has one vector a token")
    return floats(request) and kv_dtype(request)


def sharded(request: LinearRequest) -> tuple[int, int]:
    """(inputs, outputs) of one rank."""
    by_row = request.sharding == "row"
    inputs = request.in_features // (request.shards if by_row else 1)
    return inputs, request.out_features // (1 if by_row else request.shards)


def linear(request: LinearRequest) -> Support:
    if not request.scheme.quantized:
        return Support.no("weights are not quantized, it has those that are")
    if request.adapters:
        return Support.no("adapters are asked for, it has none")
    inputs, _ = sharded(request)
    return floats(request) and schemes.answer(request.scheme, inputs, request.device)


def heads(request: HeadsLinearRequest) -> Support:
    return floats(request)


def linear_extra(request: LinearRequest) -> int:
    inputs, rows = sharded(request)
    return schemes.extra_bytes(request.scheme, rows, inputs, request.dtype, request.device)


def experts_extra(request: ExpertsRequest) -> int:
    r = request
    both = ((2 * r.intermediate, r.hidden), (r.hidden, r.intermediate))
    each = (schemes.extra_bytes(r.scheme, *sizes, r.dtype, r.device) for sizes in both)
    return r.experts * sum(each)


def route(request: RoutingRequest) -> Support:
    if not 1 <= request.experts <= MOST_EXPERTS:
        return Support.no(f"{request.experts:,} experts, it has 1 to {MOST_EXPERTS:,}")
    if request.scoring not in ("softmax", "sigmoid"):
        return Support.no(f"scoring is {request.scoring}, it has softmax and sigmoid")
    if request.groups and request.experts % request.groups:
        return Support.no(f"{request.experts} experts are not in {request.groups} even groups")
    reach = request.experts
    if request.groups:
        reach = request.experts // request.groups * request.top_groups
    if not 1 <= request.top_k <= reach:
        return Support.no(f"{request.top_k} experts a token, of {reach} that can be chosen")
    return floats(request)


def experts(request: ExpertsRequest) -> Support:
    scheme = request.scheme
    if request.activation not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        return Support.no(f"activation is {request.activation}, there are {known}")
    if not 1 <= request.experts <= MOST_EXPERTS:
        return Support.no(f"{request.experts:,} experts, it has 1 to {MOST_EXPERTS:,}")
    if not scheme.quantized:
        return floats(request)
    if scheme.reordered:
        return Support.no("inputs of experts are permuted, it reads them in order")
    if scheme.activation and scheme.dynamic and scheme.activation_granularity == "tensor":
        return Support.no("an expert's inputs share a scale that is found, it finds one a token")
    for inputs in (request.hidden, request.intermediate):
        support = schemes.answer(scheme, inputs, request.device)
        if not support:
            return support
    return floats(request)


def attention_input(request: AttentionInputRequest) -> Support:
    sizes = request.rotary.head_dim, request.write.head_dim
    if request.write.layout != "standard":
        return Support.no(f"layout is {request.write.layout!r}, it writes the standard one")
    if sizes[0] != sizes[1]:
        return Support.no(f"head sizes of rotary and KV write differ: {sizes[0]} and {sizes[1]}")
    if request.qk_norm is not None and request.qk_norm.size != sizes[0]:
        return Support.no(f"the norm's size is {request.qk_norm.size}, heads have {sizes[0]}")
    return rotary(request.rotary) and kv_write(request.write)


def attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(f"KV group kind is {request.kind.value}, it has full and window")
    size, page = request.head_dim, request.page_size
    if size % 8 or not 16 <= size <= 256:
        return Support.no(f"head size is {size}, it has multiples of 8 from 16 to 256")
    if not 1 <= page <= LARGEST_PAGE:
        return Support.no(f"page size is {page}, it has 1 to {LARGEST_PAGE}")
    if request.heads % request.kv_heads:
        return Support.no(f"{request.heads} heads do not share {request.kv_heads} kv heads evenly")
    groups = request.heads // request.kv_heads
    if groups > MOST_GROUPS:
        return Support.no(f"{groups} query heads a kv head, it has 1 to {MOST_GROUPS}")
    if request.scale <= 0.0:
        return Support.no(f"logits are scaled by {request.scale}, it has scales above 0")
    return floats(request) and kv_dtype(request)


def latent(request: AttentionRequest) -> Support:
    if request.kind is not GroupKind.LATENT:
        return Support.no(f"KV group kind is {request.kind.value}, it has latent")
    size, value, page = request.head_dim, request.out_dim, request.page_size
    if not 8 <= value <= size or value > LARGEST_VALUE or size - value > LARGEST_REST:
        return Support.no(
            f"vectors have {size} elements, {value} of them values; it has up to "
            f"{LARGEST_VALUE} values, and {LARGEST_REST} others"
        )
    if request.kv_heads != 1 or not 1 <= request.heads <= MOST_LATENT_HEADS:
        return Support.no(
            f"{request.heads} heads over {request.kv_heads}, it has 1 to {MOST_LATENT_HEADS} over 1"
        )
    if not 1 <= page <= LARGEST_PAGE:
        return Support.no(f"page size is {page}, it has 1 to {LARGEST_PAGE}")
    found = defaults.latent(request, "latent decode")
    padded = defaults.latent_bytes(request) * (found["rows"] + found["keys"])
    if padded > defaults.shared_memory(request.device):
        return Support.no(
            f"a tile needs {padded:,} bytes that a program shares, {request.device.name} has "
            f"{defaults.shared_memory(request.device):,}"
        )
    return floats(request) and kv_dtype(request)


def sample(request: SampleRequest) -> Support:
    if request.shards > 1:
        return Support.no(f"logits are in {request.shards} shards, it takes whole rows")
    if request.dtype != "fp32":
        return Support.no(f"logits are {request.dtype}, it takes fp32")
    if request.vocab > LARGEST_VOCABULARY:
        return Support.no(f"vocabulary is {request.vocab:,}, it has {LARGEST_VOCABULARY:,} at most")
    return floats(request)
