"""Plugins that are installed as far as Python can tell: a folder on the path, with metadata."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from inferplane.spec import ENTRY_POINT_GROUP

FIXTURES = Path(__file__).parent.parent / "fixtures" / "plugins"


def install(
    folder: Path,
    distribution: str,
    modules: Sequence[Path] | dict[str, Path],
    entry_points: dict[str, str],
    group: str = ENTRY_POINT_GROUP,
    version: str = "1.0",
) -> Path:
    """Links modules or packages into `folder`, under their own names or the keys given."""
    if not isinstance(modules, dict):
        modules = {path.name: path for path in modules}
    for name, path in modules.items():
        link = folder / name
        if not link.exists():
            link.symlink_to(path.resolve())
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    (metadata / "RECORD").write_text("".join(f"{name},,\n" for name in modules))
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entry_points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def install_source(folder: Path, name: str, source: str) -> Path:
    """A plugin of one module, from its text, as the distribution inferplane-NAME."""
    module = f"inferplane_{name}"
    folder.mkdir(parents=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    return install(folder, f"inferplane-{name}", {}, {name: module})


def install_broken(folder: Path, case: str) -> Path:
    """One of the broken plugins, as the distribution inferplane-broken."""
    sound = sorted((FIXTURES / "sound").glob("*.py"))
    modules = {path.name: path for path in sound}
    modules["inferplane_broken.py"] = FIXTURES / "broken" / f"{case}.py"
    group = "inferplane.v99" if case == "other_major" else ENTRY_POINT_GROUP
    name = "cpu" if case == "core_name" else "broken"
    install(folder, "inferplane-broken", modules, {name: "inferplane_broken"}, group)
    if case == "duplicate_name":
        install(folder, "inferplane-broken-too", {}, {name: "inferplane_broken"}, group)
    return folder
