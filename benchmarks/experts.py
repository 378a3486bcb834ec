"""Grouped experts on the CPU beside `transformers`' loop over experts, in one process.

    python benchmarks/experts.py --tokens 64 --threads 2

A layer with 16 experts of which a token meets 4 (hidden 1,024, intermediate 512, bf16), router
included on both sides; the two take turns, medians are compared. Schemes beside bf16 as asked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from inferplane.formats.online import Online
from inferplane.formats.quantize import quantize
from inferplane.plugins.binding import make
from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.resolution import Resolver
from inferplane.plugins.selection import select
from inferplane.spec import UNQUANTIZED, ExpertsRequest, RoutingRequest

EXPERTS, TOP, HIDDEN, INTERMEDIATE = 16, 4, 1024, 512
WANTED = 2.0


class Source:
    """Tensors by their canonical names, as a kernel's `prepare` reads them."""

    path, tied_to, device = "benchmark", "", torch.device("cpu")

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def names(self) -> list[str]:
        return list(self.tensors)

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name].clone()


def theirs() -> Any:
    config = Qwen3MoeConfig(
        hidden_size=HIDDEN,
        moe_intermediate_size=INTERMEDIATE,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP,
        norm_topk_prob=True,
    )
    config._experts_implementation = "eager"  # the loop over experts
    torch.manual_seed(0)
    block = Qwen3MoeSparseMoeBlock(config).to(torch.bfloat16).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return block


def ours(block: Any, scheme_name: str) -> tuple[str, Callable[[torch.Tensor], torch.Tensor]]:
    plugins = discover(None)
    catalog = Catalog(plugins, select(plugins, "cpu", None))
    resolver = Resolver(catalog.candidates)
    scheme = UNQUANTIZED
    if scheme_name != "bf16":
        scheme = Online(scheme_name).scheme("mlp.experts.0", INTERMEDIATE, False)
    tensors = {}
    for name, weight in (
        ("gate_up", block.experts.gate_up_proj),
        ("down", block.experts.down_proj),
    ):
        made = quantize(scheme, weight) if scheme.quantized else {"weight": weight.detach()}
        tensors |= {f"{name}.{key}": tensor for key, tensor in made.items()}
    common = {"device": catalog.props, "experts": EXPERTS, "top_k": TOP, "dtype": "bf16"}
    route = resolver.choose(RoutingRequest(**common))
    experts = resolver.choose(
        ExpertsRequest(**common, hidden=HIDDEN, intermediate=INTERMEDIATE, scheme=scheme)
    )
    routing = make(route.candidate, route.request)
    kernel = make(experts.candidate, experts.request)
    packed, gate = kernel.prepare(Source(tensors)), block.gate.weight

    def run(x: torch.Tensor) -> torch.Tensor:
        weights, chosen = routing(torch.nn.functional.linear(x, gate), None)
        return kernel(x, weights, chosen, packed)

    return experts.candidate.name, run


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--schemes", default="bf16,int8,int4")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    block = theirs()
    sides: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "transformers": lambda x: block(x[None])
    }
    names = {}
    for scheme in args.schemes.split(","):
        names[scheme], sides[scheme] = ours(block, scheme)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(-3, args.repeats):
        x = torch.randn(args.tokens, HIDDEN).bfloat16()
        for name, side in sides.items():
            begin = time.perf_counter()
            side(x)
            if repetition >= 0:
                times[name].append((time.perf_counter() - begin) * 1e3)
    medians = {name: statistics.median(found) for name, found in times.items()}
    report = {
        "what": f"{EXPERTS} experts, top {TOP}, {HIDDEN}x{INTERMEDIATE}, {args.tokens} tokens",
        "date": time.strftime("%Y-%m-%d"),
        "threads": args.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "kernels": names,
        "milliseconds": {name: round(value, 3) for name, value in medians.items()},
        "times_as_fast": {
            name: round(medians["transformers"] / value, 2) for name, value in medians.items()
        },
        "wanted": WANTED,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
