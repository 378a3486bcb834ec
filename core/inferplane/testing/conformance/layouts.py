"""Page sizes and KV layouts that a platform's attention offers. No torch."""

from __future__ import annotations

from inferplane.spec import AttentionRequest, Candidate

from .target import Target


def page_sizes(target: Target, candidate: Candidate | None = None) -> tuple[int, ...]:
    """Page sizes that the device and the candidate offer, best first."""
    own = target.props.page_sizes
    offered = candidate.page_sizes if candidate and candidate.page_sizes else ()
    if not offered:
        offered = tuple(p for c in target.offers("attention") for p in c.page_sizes)
    both = tuple(dict.fromkeys(p for p in offered if not own or p in own))
    return both or own or (16,)


def layout_names(target: Target) -> tuple[str, ...]:
    """ "standard", and the layouts that the platform's attention publishes."""
    names = ["standard"]
    for candidate in target.offers("attention"):
        if candidate.layout is None:
            continue
        page = page_sizes(target, candidate)[0]
        request = AttentionRequest(
            device=target.props,
            heads=2,
            kv_heads=2,
            head_dim=64,
            dtype=target.floats[-1],
            kv_dtype=target.floats[-1],
            page_size=page,
            scale=0.125,
        )
        names.append(candidate.layout(request).name)
    return tuple(dict.fromkeys(names))


def kv_dtype(target: Target, dtype: str, asked: str) -> str:
    """Of a cache: "other" is another type of 16 or 32 bits, "fp8" the 8-bit float of the device."""
    if asked == "other":
        return "bf16" if dtype != "bf16" else "fp32"
    if asked == "fp8":
        known = [d for d in ("fp8_e4m3", "fp8_e4m3fnuz") if d in target.props.dtypes]
        return known[0] if known else "fp8_e4m3"
    return asked
