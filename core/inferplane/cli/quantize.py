"""`inferplane quantize`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inferplane.errors import UserError, nearest

if TYPE_CHECKING:
    from inferplane.formats.convert import Converted

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def quantize(
    model: str = typer.Argument(
        ..., metavar="MODEL", help="Folder, bundled name or hub name; not quantized yet."
    ),
    scheme: str = typer.Option(
        ..., "--scheme", help="int8, int4, w4a8, fp8, fp8-block, mxfp8 or mxfp4."
    ),
    out: str = typer.Option(..., "--out", help="New folder for the quantized checkpoint."),
    revision: str | None = typer.Option(None, "--revision", help="Of a model on the hub."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write a checkpoint with quantized weights, in the format compressed-tensors.

    Weights are rounded to nearest. The last projection, embeddings and routers stay as they are.
    """
    from inferplane.formats.compressed_writing import NAMES
    from inferplane.formats.convert import convert
    from inferplane.formats.locate import locate, read_config
    from inferplane.planning.modules import quantizable

    from .show import loading

    if scheme not in NAMES:
        raise UserError(
            f"--scheme {scheme!r} is not known{nearest(scheme, NAMES)}; known: {', '.join(NAMES)}"
        )
    folder = locate(model, revision)
    raw = read_config(folder)
    if raw.get("quantization_config"):
        method = raw["quantization_config"]
        method = method.get("quant_method") if isinstance(method, dict) else method
        raise UserError(f"{model} is quantized with {method!r} already; take an unquantized one")
    with loading("quantizing weights") as progress:
        done = convert(folder, Path(out).expanduser(), scheme, quantizable(raw), progress)
    if as_json:
        print(json.dumps(_report(done), indent=2))
    else:
        _print(done)


def _report(done: Converted) -> dict[str, Any]:
    return {
        "out": str(done.out),
        "schemes": dict(Counter(scheme.name for scheme in done.modules.values())),
        "modules": len(done.modules),
        "left_alone": done.left_alone,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
    }


def _print(done: Converted) -> None:
    from .show import console, size, table

    out, found = console(), _report(done)
    shown = table("scheme", "modules")
    for name, count in found["schemes"].items():
        shown.add_row(name, str(count))
    out.print(shown)
    if done.left_alone:
        out.print(f"left alone: {', '.join(done.left_alone)}", markup=False)
    before, after = size(done.bytes_before), size(done.bytes_after)
    out.print(f"wrote {done.out}: {after}, before {before}", markup=False)
