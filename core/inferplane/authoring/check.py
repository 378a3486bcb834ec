"""`plugin check`: runs both halves in processes of their own, and joins what they found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inferplane.errors import UserError, nearest
from inferplane.plugins.discovery import Plugin, discover

from .answers import differs
from .findings import Finding, ordered
from .offers import of_error

_TIMEOUT_S = 300


@dataclass
class Report:
    """What was found. asked: answers of `supports` that were compared."""

    plugin: Plugin
    findings: list[Finding] = field(default_factory=list)
    asked: int = 0

    @property
    def errors(self) -> int:
        return sum(f.severity == "error" for f in self.findings)


def named(plugins: Sequence[Plugin], name: str) -> list[Plugin]:
    """All plugins of that name. Raises UserError with the names there are."""
    found = [p for p in plugins if name in (p.name, p.spec.name if p.spec else "")]
    if not found:
        known = sorted({p.name for p in plugins})
        raise UserError(
            f"no plugin {name!r} is installed{nearest(name, known)}; installed: {', '.join(known)}"
        )
    return found


def check(name: str) -> list[Report]:
    """A report for each distribution that offers a plugin of this name."""
    plugins = discover()
    return [_check(plugin) for plugin in named(plugins, name)]


def _check(plugin: Plugin) -> Report:
    report = Report(plugin)
    if plugin.error is not None:
        report.findings = of_error(plugin)
    first = _run(report, "pure", PYTHONHASHSEED="1")
    again = _run(report, "pure", PYTHONHASHSEED="2")
    _run(report, "loaded")
    one, two = first.get("answers", {}), again.get("answers", {})
    report.asked = sum(map(len, one.values()))
    for key in sorted(one.keys() & two.keys()):
        for before, after in zip(one[key], two[key], strict=False):
            if before != after:
                request, _, answer = before.partition(": ")
                other = after.partition(": ")[2]
                report.findings.append(differs(key.split()[1], request, answer, other))
                break
    report.findings = ordered(_without_echo(report.findings))
    return report


def _without_echo(findings: list[Finding]) -> list[Finding]:
    """The same fault of a candidate, seen for several requests, once."""
    kept: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        repeats = finding.code in ("IP301", "IP302", "IP303", "IP304")
        kept.setdefault(
            (finding.code, finding.subject, "" if repeats else finding.message), finding
        )
    return list(kept.values())


def _run(report: Report, half: str, **variables: str) -> dict[str, Any]:
    plugin = report.plugin
    command = [sys.executable, "-m", f"inferplane.authoring.{half}"]
    try:
        done = subprocess.run(
            [*command, plugin.name, plugin.distribution],
            capture_output=True,
            text=True,
            env={**os.environ, **variables},
            timeout=_TIMEOUT_S,
        )
        result: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        text = f"the {half} half did not end within {_TIMEOUT_S} s"
        report.findings.append(Finding("IP901", "", text))
        return {}
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        text = f"the {half} half ended with exit code {done.returncode}: {last}"
        report.findings.append(Finding("IP901", "", text))
        return {}
    for row in result["findings"]:
        report.findings.append(Finding(row["code"], row["subject"], row["message"]))
    return result
