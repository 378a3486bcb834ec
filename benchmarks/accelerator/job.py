"""One part's run: its settings, and the file that its figures are written to as they are found."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .shapes import FULL, TRIAL, Shapes, write_model

PACKAGES = ("torch", "triton", "transformers", "flashinfer-python", "numpy")


class NotRun(Exception):
    """A part cannot be measured here. The text says why."""


@dataclass
class Job:
    """device: as `--device` takes it. kernels: "OP=NAME", as `--kernel` takes them. seconds: until
    the part is stopped. draws: drawn cases of each kernel, for the conformance kit.

    figures: name -> what was measured. checks: what was wanted, and what was found.
    """

    part: str
    device: str
    out: Path
    small: bool = False
    kernels: tuple[str, ...] = ()
    seconds: float = 3600.0
    draws: int = 24
    command: str = ""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begin = time.monotonic()

    @property
    def shapes(self) -> Shapes:
        return TRIAL if self.small else FULL

    @property
    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.seconds - (time.monotonic() - self.begin)

    @property
    def model(self) -> Path:
        return write_model(self.out / "model", self.shapes.model)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Keyword arguments of `LLM` for the model with random weights."""
        given = {
            "device": self.device,
            "dtype": "bfloat16",
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "kernel": self.kernels,
            "max_model_len": min(8192, self.shapes.model["max_position_embeddings"]),
        }
        return given | more

    def plan(self, **more: Any) -> Any:
        """The plan of the model: which kernels the product takes for it on this device."""
        from inferplane.planning.plan import make_plan
        from inferplane.settings import load_settings

        plan = make_plan(*load_settings({"model": str(self.model), **self.settings(**more)}))
        self.of_device(plan)
        return plan

    def open(self, **more: Any) -> Any:
        """The engine with the model."""
        from inferplane import LLM

        llm = LLM(str(self.model), **self.settings(**more))
        self.of_device(llm.plan)
        return llm

    def of_device(self, plan: Any) -> None:
        props = plan.catalog.props
        self.about["device"] = {
            "name": props.name,
            "profile": props.profile,
            "execution": props.execution,
            "memory_bytes": props.memory_bytes,
            "cores": props.cores,
            **dict(props.details),
        }
        self.about["tuning"] = plan.resolver.tuning.source

    def figure(self, name: str, **values: Any) -> None:
        """Keeps a figure, and writes all of them: a part that is stopped loses nothing."""
        self.figures[name] = values
        self.write("running")
        print(f"# {self.part} {name}: {json.dumps(values)}", flush=True)

    def check(self, what: str, wanted: str, found: str, met: bool) -> None:
        self.checks.append({"what": what, "wanted": wanted, "found": found, "met": met})
        self.write("running")

    def write(self, status: str, reason: str = "") -> None:
        document = {
            "part": self.part,
            "status": status,
            "reason": reason,
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            "seconds": round(time.monotonic() - self.begin, 1),
            "command": self.command,
            "trial": self.small,
            "versions": versions(),
            **self.about,
            "figures": self.figures,
            "checks": self.checks,
        }
        save(self.out / f"{self.part}.json", document)


def versions() -> dict[str, str]:
    from inferplane import __version__

    found = {"inferplane": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all, also where the process is ended meanwhile."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, and how far values lie apart."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.1, 0.9)]
    return {
        "median": statistics.median(ordered),
        "least": ordered[0],
        "p10": at[0],
        "p90": at[1],
        "runs": len(ordered),
    }
