"""Writes docs/support.md from the certificates in this repository.

    python tools/support.py          write it
    python tools/support.py --check  end with 1 if it is not up to date

Plugins are read from their folders, installed or not, so the page is the same on every machine.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from importlib_metadata import EntryPoint

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.certificates import Certificate, Row, files, read
from inferplane.plugins.discovery import Plugin, discover
from inferplane.plugins.selection import Selection
from inferplane.spec import ENTRY_POINT_GROUP

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "support.md"
HEAD = """# What is verified

Generated from the certificates in this repository by `python tools/support.py`; do not edit.
A certificate is written by `inferplane conformance` and says what really ran, where, and when. See
[conformance](conformance.md) for the levels: V0 answers only, V1 compiled ahead of time, V2i
interpreted on a CPU, V2e run on an emulation of the device, V3 run on the device. "not run" means
that: nobody has published a certificate for this kernel at this version.
"""


def plugins() -> Iterator[Plugin]:
    """Every plugin of the repository, by its folder's pyproject.toml."""
    folders = [ROOT, *sorted((ROOT / "platforms").glob("*")), *sorted((ROOT / "plugins").glob("*"))]
    for folder in folders:
        file = folder / "pyproject.toml"
        if not file.exists():
            continue
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        entries = project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {})
        for name, value in sorted(entries.items()):
            home = folder / "core" if folder == ROOT else folder
            if not home.joinpath(*value.split(".")).with_suffix(".py").exists():
                continue  # a package that is only begun
            if folder != ROOT:
                sys.path.insert(0, str(folder))
            point = EntryPoint(name, value, ENTRY_POINT_GROUP)
            version = str(project.get("version", "0"))
            yield from discover(found=[(point, ENTRY_POINT_GROUP, project["name"], version)])


def page() -> str:
    parts = [HEAD]
    for plugin in plugins():
        if plugin.error:
            raise plugin.error
        if plugin.platform is not None:
            parts.append(section(plugin))
    return "\n".join(parts)


def section(plugin: Plugin) -> str:
    assert plugin.platform is not None
    platform = plugin.platform
    certificates = [read(path) for path in files(plugin)]
    lines = [
        f"## {platform.name}\n",
        f"{platform.vendor}; package `{plugin.distribution}` {plugin.version}.",
    ]
    for certificate in certificates:
        versions = certificate.versions
        lines.append(
            f"\n{certificate.device} ({certificate.execution}), {certificate.host}, "
            f"{certificate.date}: contract {versions.contract}, torch {versions.torch}, "
            f"Python {versions.python}, {certificate.draws} drawn cases a kernel."
        )
    lines += ["\n| op | kernel | level | passed | refused | largest error |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    lines += [line(op, name, certificates, plugin) for op, name in offered(plugin)]
    for certificate in certificates:
        for row in certificate.results:
            if not row.kind and row.level != "not run":  # no kernel: memory, the whole model
                lines.append(line(row.op, row.candidate, certificates, plugin))
    return "\n".join(lines) + "\n"


def offered(plugin: Plugin) -> list[tuple[str, str]]:
    """(op, name) of the platform's own kernels, over all of its profiles."""
    assert plugin.platform is not None
    found: dict[tuple[str, str], None] = {}
    for profile in plugin.platform.profiles:
        catalog = Catalog([plugin], Selection(plugin, (profile,), "support", planning=True))
        found |= dict.fromkeys((c.op, c.name) for c in catalog.candidates)
    return sorted(found)


def line(op: str, name: str, certificates: list[Certificate], plugin: Plugin) -> str:
    rows = [r for c in certificates for r in c.results if (r.op, r.candidate) == (op, name)]
    if not rows:
        return f"| {op} | {name} | not run | | | |"
    row = rows[-1]
    level = row.level if _current(row, plugin) else f"{row.level} (older version)"
    errors = ", ".join(f"{k} {float(v):.1e}" for k, v in sorted(row.largest_error.items()))
    return f"| {op} | {name} | {level} | {row.passed} | {row.refused} | {errors} |"


def _current(row: Row, plugin: Plugin) -> bool:
    return not row.plugin or (row.plugin, row.version) == (plugin.distribution, plugin.version)


def main(arguments: list[str]) -> int:
    text = page()
    if arguments == ["--check"]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        if not same:
            print("docs/support.md is not up to date: run python tools/support.py")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
