"""Asks candidates in a process where torch cannot be imported: answers are data.

Run as a program: the questions' file, then the file for the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from inferplane.plugins.resolution import ask
from inferplane.spec import Request

from .processes import describe, environment, importable, load, reopen, save
from .target import Target

Questions = list[tuple[str, str, list[Request]]]
_LIMIT_S = 120


def ask_without_torch(target: Target, asked: Questions) -> dict[str, Any] | str:
    """{"answers": {"op/name": [[ok, reason], ...]}} or {"error": ...}; a text where it cannot be
    tried."""
    why_not = importable(target.plugins)
    if why_not:
        return why_not
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = Path(folder, "questions"), Path(folder, "answers")
        devices = target.selection.devices
        save(questions, (describe(target.plugins), target.name, devices, asked))
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(questions), str(answers)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            env=environment(),
        )
        if done.returncode != 0:
            return {"error": f"the plugin cannot be asked without torch: {done.stderr[-600:]}"}
        found: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
        return found


class _NoTorch(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "torch" or fullname.startswith("torch."):
            raise ImportError("torch was asked for, but answers must be found without it")


def main(questions: str, answers: str) -> None:
    sys.meta_path.insert(0, _NoTorch())
    described, platform, devices, asked = load(questions)
    catalog = reopen(described, platform, devices)
    offers = {(c.op, c.name): c for c in catalog.candidates}
    found = {}
    for op, name, requests in asked:
        if (op, name) in offers:
            supports = [ask(offers[op, name], request) for request in requests]
            found[f"{op}/{name}"] = [[s.ok, s.reason] for s in supports]
    Path(answers).write_text(json.dumps({"answers": found}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
