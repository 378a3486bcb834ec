"""Accuracy of the bundled models under every scheme, as the table in docs/quantization.md.

    python tools/accuracy.py --questions 2000 --write

Weights are rounded to nearest while loading (`inferplane.formats.quantize`); greedy answers to the
held-out sums of `inferplane eval arithmetic`, on the CPU in bf16. The schemes are those that a
format can bring. Writes the table between the page's markers.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from inferplane import LLM, SamplingParams
from inferplane.formats import registry
from inferplane.formats.base import Format, Read, Shape
from inferplane.formats.locate import locate
from inferplane.formats.online import FP8, INT8, MXFP8, Online
from inferplane.formats.quantize import quantize
from inferplane.spec import UNQUANTIZED, FormatSpec, QuantScheme
from inferplane.testing.arithmetic import evaluation_set, is_right

PAGE = Path(__file__).resolve().parent.parent / "docs" / "quantization.md"
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
MODELS = ("tiny-arithmetic", "tiny-arithmetic-moe")
NOTE = """\
Weights are rounded to nearest, without calibration; the last projection, the embedding and routers
stay as they are. Inputs in int4 need what makes them small first (rotations, smoothing), which
nothing here does: w4a4 is read and computed as the file says, and is not worth using this way."""
METHOD = "rounded-for-accuracy"
BY_TOKEN = {"activation_granularity": "token"}
GROUP_128 = {"activation_granularity": "group", "activation_group": 128}

INT4 = Online("int4").scheme("", 128, False)
SCHEMES: dict[str, tuple[str, int, QuantScheme]] = {
    "bf16": ("–", 16, UNQUANTIZED),
    "fp8": ("channel, inputs by token", 8, FP8),
    "fp8 tensor": (
        "tensor, inputs by tensor",
        8,
        QuantScheme.named(
            weight="fp8_e4m3",
            granularity="tensor",
            activation="fp8_e4m3",
            activation_granularity="tensor",
        ),
    ),
    "fp8 blocks": (
        "128x128, inputs by 128",
        8,
        QuantScheme.named(
            weight="fp8_e4m3",
            granularity="block",
            block=(128, 128),
            activation="fp8_e4m3",
            **GROUP_128,
        ),
    ),
    "mxfp8": ("32, inputs by 32", 8, MXFP8),
    "int8": ("channel, inputs by token", 8, INT8),
    "int8 weights": ("channel", 8, QuantScheme.named(weight="int8")),
    "int8 group": (
        "32 (GGUF Q8_0)",
        8,
        QuantScheme.named(weight="int8", granularity="group", group=32, scale="fp16"),
    ),
    "int4": ("128", 4, INT4),
    "int4 zero": (
        "128 with zero points (AWQ, GPTQ)",
        4,
        QuantScheme.named(
            weight="uint4", granularity="group", group=128, zero_point=True, scale="fp16"
        ),
    ),
    "int4 group 32": (
        "32 (GGUF Q4_0)",
        4,
        QuantScheme.named(weight="int4", granularity="group", group=32, scale="fp16"),
    ),
    "w4a8": (
        "128, int8 inputs by token",
        4,
        QuantScheme.named(
            weight="int4", granularity="group", group=128, activation="int8", **BY_TOKEN
        ),
    ),
    "w4a8 fp8": (
        "128, fp8 inputs by token",
        4,
        QuantScheme.named(
            weight="int4", granularity="group", group=128, activation="fp8_e4m3", **BY_TOKEN
        ),
    ),
    "mxfp4": (
        "32",
        4,
        QuantScheme.named(weight="fp4_e2m1", granularity="group", group=32, scale="ue8m0"),
    ),
    "nvfp4": (
        "16, two levels of scales",
        4,
        QuantScheme.named(
            weight="fp4_e2m1", granularity="group", group=16, scale="fp8_e4m3", global_scale=True
        ),
    ),
    "nf4": ("64", 4, QuantScheme.named(weight="nf4", granularity="group", group=64)),
    "w4a4": (
        "channel, int4 inputs by token",
        4,
        QuantScheme.named(weight="int4", activation="int4", **BY_TOKEN),
    ),
}
"""Name -> (what shares a scale, bits of a weight, scheme)."""


class Rounded(Format):
    """A dense checkpoint, rounded to one scheme when it is read: projections alone."""

    name = METHOD

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.wanted = SCHEMES[config["quantization_config"]["scheme"]][2]

    def scheme(self, module: str) -> QuantScheme:
        return self.wanted if module.endswith("_proj") else UNQUANTIZED

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        return {f"{module}.weight": shape}

    def load(self, module: str, read: Read) -> dict[str, Any]:
        return quantize(self.wanted, read(f"{module}.weight"))


def detect(config: Mapping[str, Any]) -> bool:
    return (config.get("quantization_config") or {}).get("quant_method") == METHOD


def accuracy(model: str, scheme: str, questions: int) -> float:
    """The share of right answers."""
    source = locate(model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path in source.iterdir():
            (folder / path.name).symlink_to(path)
        raw = json.loads((source / "config.json").read_text())
        if scheme != "bf16":
            raw["quantization_config"] = {"quant_method": METHOD, "scheme": scheme}
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps(raw))
        asked = evaluation_set(questions)
        with LLM(str(folder), device="cpu", dtype="bfloat16") as llm:
            params = SamplingParams(temperature=0.0, max_tokens=8, stop=("\n",))
            outputs = llm.generate([prompt for prompt, _ in asked], params)
    right = sum(is_right(o.outputs[0].text, a) for (_, a), o in zip(asked, outputs, strict=True))
    return right / len(asked)


def table(found: Mapping[tuple[str, str], float], models: list[str], questions: int) -> str:
    head = ["scheme", "a scale for", "bits", *models]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, (shared, bits, _) in SCHEMES.items():
        if (models[0], name) not in found:
            continue
        cells = []
        for model in models:
            share, lost = found[model, name], found[model, "bf16"] - found[model, name]
            change = "" if name == "bf16" else f" ({-100 * lost:+.2f})"
            cells.append(f"{share:.2%}{change}")
        lines.append(f"| {name} | {shared} | {bits} | {' | '.join(cells)} |")
    note = f"{questions:,} held-out sums; in brackets the change in points against bf16."
    return "\n".join([note, "", *lines, "", NOTE])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--schemes", default=",".join(SCHEMES))
    parser.add_argument("--write", action="store_true", help="into docs/quantization.md")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    registry.BUILT_IN = (
        *registry.BUILT_IN,
        FormatSpec(name=METHOD, detect=detect, load=f"{__name__}:Rounded"),
    )
    models, schemes = args.models.split(","), args.schemes.split(",")
    runs = [(model, scheme) for scheme in schemes for model in models]
    found = {}
    for model, scheme in track(runs, "accuracy", console=Console(stderr=True)):
        found[model, scheme] = accuracy(model, scheme, args.questions)
    text = table(found, models, args.questions)
    print(text)
    if args.json:
        rows = [{"model": m, "scheme": s, "accuracy": a} for (m, s), a in found.items()]
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    if args.write:
        page = PAGE.read_text(encoding="utf-8")
        made = f"{BEGIN}\n{text}\n{END}"
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: made, page, flags=re.DOTALL))


if __name__ == "__main__":
    main()
