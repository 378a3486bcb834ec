"""Compiles recorded launches ahead of time, and reads what they need. Not in the interpreter.

`python plugins/triton/tests/aot/compiling.py --write` writes figures.json again; with --targets or
--call, what was compiled replaces its entries.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parent))

from calls import Launch, calls, recorded
from regressions import FIGURES, committed
from targets import TARGETS, Target

_TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.float8_e4m3fnuz: "fp8e4b8",
    torch.int8: "i8",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
}


def source(launch: Launch) -> ASTSource:
    """As the runtime specialises: None and 1 are constants, multiples of 16 are marked, where the
    kernel does not say that a number changes from step to step."""
    names = launch.kernel.arg_names
    signature: dict[str, str] = dict.fromkeys(names, "constexpr")
    constants: dict[str, Any] = dict(launch.constants)
    marks: dict[tuple[int, ...], list[list[Any]]] = {}
    for at, (name, value) in enumerate(zip(names, launch.arguments, strict=False)):
        changes = launch.kernel.params[at].do_not_specialize
        if isinstance(value, torch.Tensor):
            signature[name], aligned = "*" + _TYPES[value.dtype], True
        elif isinstance(value, float):
            signature[name], aligned = "fp32", False
        elif value is None or (value == 1 and not changes):
            constants[name], aligned = value, False
        else:
            signature[name], aligned = "i32", value % 16 == 0 and not changes
        if aligned:
            marks[(at,)] = [["tt.divisibility", 16]]
    assert set(names) == constants.keys() | {n for n, t in signature.items() if t != "constexpr"}
    return ASTSource(launch.kernel, signature, constants, marks)


def compiled(launch: Launch, target: Target) -> Any:
    gpu = GPUTarget(target.backend, target.arch, target.lanes)
    kernel = triton.compile(source(launch), target=gpu, options=launch.options)
    if launch.constants.get("IN_WEIGHT"):  # weights are decoded through subnormal numbers
        text = kernel.asm["ptx" if target.backend == "cuda" else "amdgcn"]
        flushed = re.search(r"\bmul\.\w*\.?ftz|_denorm_mode_32 [012]\b", text)
        assert flushed is None, f"{target.name}: subnormal numbers become 0: {flushed.group()}"
    return kernel


def figures(kernel: Any, target: Target, warps: int) -> dict[str, int | str]:
    """Registers a lane, what is spilled to memory (NVIDIA: bytes a lane, AMD: registers), scalar
    registers kept in vector ones, shared bytes, warps that a core holds at once, copies under way
    while a loop computes."""
    registers, spills, scalars = (_nvidia if target.backend == "cuda" else _amd)(kernel)
    shared = int(kernel.metadata.shared)
    return {
        "registers": registers,
        "spills": spills,
        "scalar_spills": scalars,
        "shared": shared,
        "warps_a_core": occupancy(target, registers, shared, warps),
        "matrix": matrix_instructions(kernel, target),
        "ahead": copies_ahead(kernel, target),
    }


def _nvidia(kernel: Any) -> tuple[int, int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"]), 0


def _amd(kernel: Any) -> tuple[int, int, int]:
    text = kernel.asm["amdgcn"]
    found = {k: int(v) for k, v in re.findall(r"\.(\w+_count):\s+(\d+)", text)}
    return found["vgpr_count"], found["vgpr_spill_count"], found["sgpr_spill_count"]


def occupancy(target: Target, registers: int, shared: int, warps: int) -> int:
    """Warps that a core holds at once: an estimate from registers, shared memory and the limit."""
    if target.backend == "cuda":
        each = -(-max(registers, 1) * target.lanes // 256) * 256
        by_registers = 65536 // each // warps
    else:  # a core has four SIMDs; registers are given in eights
        by_registers = min(8, target.registers // (-(-max(registers, 1) // 8) * 8)) * 4 // warps
    by_shared = target.core_shared // shared if shared else 1 << 30
    return min(by_registers, by_shared, target.core_warps // warps) * warps


def matrix_instructions(kernel: Any, target: Target) -> str:
    """Which kind of matrix instruction the kernel uses, "" for none."""
    text = kernel.asm["ptx" if target.backend == "cuda" else "amdgcn"]
    return next((word for word in target.matrix if word in text), "")


def copies_ahead(kernel: Any, target: Target) -> int:
    """NVIDIA: the most asynchronous copies that a wait leaves under way; 0: loops copy, wait and
    compute in turn. AMD: tiles of one operand that are held beside the one in registers."""
    if target.backend == "cuda":
        found = re.findall(r"cp\.async\.wait_group\s+(\d+)", kernel.asm["ptx"])
    else:
        found = re.findall(r"local_alloc : \(\) -> !ttg\.memdesc<(\d+)x", kernel.asm["ttgir"])
    return max(map(int, found), default=0)


def measured(
    names: Sequence[str], wanted: Sequence[str] = ()
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(target, kernel of a call, its figures). wanted: names of calls, empty for all. step: inputs
    that a product takes in one turn of its loop."""
    for name in names:
        target = TARGETS[name]
        for call_name, call in calls(target.props):
            if wanted and call_name not in wanted:
                continue
            seen: list[str] = []
            for launch in recorded(call):
                seen.append(launch.kernel.__name__)
                again = seen.count(seen[-1])  # gate and up, then down
                key = f"{call_name}: {seen[-1]}{f' {again}' if again > 1 else ''}"
                kernel = compiled(launch, target)
                found = figures(kernel, target, launch.options["num_warps"])
                if "BLOCK_K" in launch.constants:
                    found["step"] = launch.constants["BLOCK_K"]
                yield name, key, found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--call", action="append", default=[], help="only this call, by its name")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for target, key, values in measured(given.targets.split(","), given.call):
        found.setdefault(target, {})[key] = values
        print(target, key, values, file=sys.stderr)
    document = {"triton": triton.__version__, "figures": found}
    if given.write:
        if given.call or given.targets != ",".join(TARGETS):
            kept = committed()["figures"]
            document["figures"] = {name: kept[name] | found.get(name, {}) for name in kept}
        lines = json.dumps(document, indent=1, sort_keys=True)
        FIGURES.write_text(lines + "\n", encoding="utf-8")
    else:
        print(json.dumps(document))


if __name__ == "__main__":
    main()
