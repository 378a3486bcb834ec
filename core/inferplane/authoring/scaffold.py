"""`plugin new`: copies the template, a working plugin called "acme", under another name."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferplane import __version__
from inferplane.errors import UserError
from inferplane.plugins.discovery import Plugin
from inferplane.spec import ENTRY_POINT_GROUP, SPEC_VERSION

TEMPLATE = Path(__file__).with_name("template")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_MOST = 30
# Words that `--device`, pins or the core's own packages use for something else.
_RESERVED = frozenset({"auto", "all", "none", "inferplane", "reference", "core", "spec"})
_HIDDEN = {"gitignore": ".gitignore", "github": ".github"}


@dataclass(frozen=True)
class Made:
    """name: of the platform. files: all that were written, in order."""

    name: str
    folder: Path
    files: tuple[Path, ...]

    def next_steps(self) -> list[str]:
        return [
            f"pip install -e {self.folder}",
            f"inferplane plugin check {self.name}",
            f"inferplane serve tiny-arithmetic --device {self.name}",
            f"then {self.folder / 'README.md'} says what to change first",
        ]


def create(name: str, parent: Path, plugins: Sequence[Plugin] = ()) -> Made:
    """Writes inferplane-NAME below `parent`. Raises UserError; never overwrites anything.

    plugins: those installed, whose names are taken.
    """
    check_name(name, plugins)
    folder = parent / f"inferplane-{name}"
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another --folder, or move it away")
    if not parent.is_dir():
        raise UserError(f"no folder {parent}: make it first, or choose another --folder")
    files = []
    for source in template_files():
        target = folder / rename(source.relative_to(TEMPLATE).as_posix(), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(render(source.read_text(encoding="utf-8"), name))
        files.append(target)
    return Made(name, folder, tuple(files))


def check_name(name: str, plugins: Sequence[Plugin] = ()) -> None:
    """Raises UserError that says which names are possible."""
    if not _NAME.fullmatch(name) or len(name) > _MOST:
        raise UserError(
            f"{name!r} cannot be a plugin's name: lower case letters and digits, words joined by "
            f"- or _, a letter first, at most {_MOST}; for example acme or acme-a1"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _RESERVED:
        raise UserError(f"{name!r} is a reserved word: choose another name")
    for plugin in plugins:
        if name in (plugin.name, plugin.spec.name if plugin.spec else ""):
            raise UserError(
                f"the name {name!r} is taken by {plugin.distribution} {plugin.version}, which is "
                "installed: choose another one, or uninstall it first"
            )


def template_files() -> Iterator[Path]:
    """Files of the template, in order. Compiled ones and caches are none."""
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def rename(path: str, name: str) -> str:
    """Where a file of the template goes. Hidden files are not hidden in the template."""
    parts = [_HIDDEN.get(part, part) for part in path.split("/")]
    return "/".join(parts).replace("inferplane_acme", module_of(name))


def render(text: str, name: str) -> str:
    """A file of the template for a plugin of this name, built for this core."""
    title = "".join(word.capitalize() for word in re.split("[-_]", name))
    values = {
        "inferplane_acme": module_of(name),
        "Acme": title,
        "acme": name,
        "inferplane.v0": ENTRY_POINT_GROUP,
        "inferplane>=0.0.0": f"inferplane>={__version__}",
        "(0, 0)": str(SPEC_VERSION),
    }
    placeholders = re.compile("|".join(map(re.escape, values)))
    return placeholders.sub(lambda found: values[found[0]], text)


def module_of(name: str) -> str:
    """The import name of the package."""
    return "inferplane_" + name.replace("-", "_")
