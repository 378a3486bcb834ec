"""A plan as plain data, for `explain`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from inferplane.plugins.certificates import Certificates
from inferplane.plugins.resolution import Choice, is_reference

from .plan import Plan

_HIDDEN = ("api_key",)


def report(plan: Plan) -> dict[str, Any]:
    """JSON-ready. Rows of equal requests are joined, with the number of their sites."""
    platform, effective = plan.selection.platform, plan.effective
    certificates = Certificates.of(plan.catalog)
    return {
        "model": plan.model_name,
        "architecture": plan.config.architecture,
        "platform": {
            "name": platform.name,
            "version": plan.selection.plugin.version,
            "contract": ".".join(map(str, platform.api)),
            "device": plan.catalog.props.name,
            "planning": plan.selection.planning,
            "reason": plan.selection.reason,
        },
        "memory": {
            "weight_bytes": plan.weight_bytes,
            "packed_copies_bytes": plan.extra_bytes,
            "kv_bytes_per_token": plan.budget.token_bytes,
            "kv_tokens": plan.budget.tokens,
            "kv_pages": list(plan.budget.pages),
            "workspace_bytes": plan.budget.workspace,
            "source": plan.budget.source,
            "device_total_bytes": plan.memory.total_bytes,
            "device_free_bytes": plan.memory.free_bytes,
            "device_source": plan.memory.source,
        },
        "quantization": _quantization(plan),
        "groups": [
            {
                "name": group.name,
                "layers": len(group.layers),
                "window": group.window,
                "pages": pages,
                "page_size": group.page_size,
                "layout": group.layout.name,
                "page_bytes": group.page_bytes,
            }
            for group, pages in zip(plan.groups, plan.budget.pages, strict=True)
        ],
        "ops": _rows(plan, certificates),
        "settings": {
            name: {"value": item.value, "source": item.source}
            for name, item in effective.values.items()
            if name not in _HIDDEN
        },
        "warnings": plan.warnings + certificates.warnings + _fallbacks(plan),
    }


def _quantization(plan: Plan) -> dict[str, Any] | None:
    """The format in words, and how many modules have each scheme."""
    found = plan.quantization.format or plan.quantization.online
    if found is None:
        return None
    schemes: Counter[str] = Counter()
    for site in plan.root.walk():
        scheme = getattr(site.request, "scheme", None)
        if scheme is not None and scheme.quantized:
            weights = [need for need in site.weights if need.name.endswith("weight")]
            schemes[scheme.name] += sum(need.count for need in weights)
    return {"format": found.describe(), "schemes": dict(schemes)}


def _rows(plan: Plan, certificates: Certificates) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for choice in plan.resolution.choices.values():
        key = (choice.request.op, choice.request.describe(), choice.names)
        if key not in rows:
            rows[key] = _row(choice, certificates)
        rows[key]["sites"] += 1
    return list(rows.values())


def _row(choice: Choice, certificates: Certificates) -> dict[str, Any]:
    return {
        "op": choice.request.op,
        "request": choice.request.describe(),
        "sites": 0,
        "kernel": choice.names,
        "level": choice.candidate.level,
        "verified": certificates.verified_all(c for _, c in choice.ranges),
        "fallback": choice.falls_back,
        "rejected": [
            {
                "kernel": r.candidate.name,
                "reason": r.reason,
                **({"instead": r.instead} if r.instead else {}),
            }
            for r in choice.rejected
        ],
    }


def _fallbacks(plan: Plan) -> list[str]:
    ops = sorted(
        {
            c.request.op
            for c in plan.resolution.choices.values()
            for _, candidate in c.ranges
            if is_reference(candidate)
        }
    )
    if not ops:
        return []
    count = len(plan.resolution.fallbacks)
    return [
        f"{count} site{'s' * (count > 1)} run on reference kernels ({', '.join(ops)}): "
        "--strict would refuse"
    ]
