"""The table `[tool.inferplane-ci]` of a `pyproject.toml`. Keys are written with hyphens."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from inferplane.errors import UserError, nearest

TABLE = "inferplane-ci"
EXAMPLE = f"""[tool.{TABLE}]
roots = ["tests"]
[tool.{TABLE}.suites.unit]
platforms = ["cpu"]"""


def _words(value: Any) -> Any:
    """One word may be given without a list."""
    return [value] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )

    @classmethod
    def keys(cls) -> list[str]:
        return [name.replace("_", "-") for name in cls.model_fields]


class Suite(_Table):
    """Tests that run together. All limits are wall-clock seconds."""

    about: str = ""
    platforms: tuple[str, ...] = ()
    """Where its tests run when their marks do not say."""
    file_seconds: float = Field(600, gt=0)
    """A file that takes longer is killed."""
    total_seconds: float = Field(3600, gt=0)
    """A part that takes longer is ended."""
    part_seconds: float = Field(600, gt=0)
    """The matrix splits the suite into parts of about this many estimated seconds."""


class PlatformTable(_Table):
    """What is said of a platform. None: derived, see `platforms.known_platforms`."""

    hardware: bool | None = None
    """Whether it needs a machine with the device; False for what runs anywhere."""
    runs_on: Annotated[tuple[str, ...] | None, BeforeValidator(_words)] = None
    """Labels of the runner; an empty list says that there is none."""
    python: Annotated[tuple[str, ...] | None, BeforeValidator(_words)] = None
    install: tuple[str, ...] = ()
    """Arguments of `pip install` that its jobs need beyond the workflow's own."""


class CiConfig(_Table):
    """The whole table."""

    roots: tuple[str, ...] = ("tests",)
    """Folders of tests, as globs from the project's folder."""
    files: tuple[str, ...] = ("test_*.py", "*_test.py")
    exclude: tuple[str, ...] = ()
    """Globs of files that are no tests of ours."""
    python: Words = ("3.12",)
    durations: str | None = None
    """A durations file that the project keeps; `validate` warns of stale entries."""
    suites: dict[str, Suite] = Field(default_factory=dict)
    platforms: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], PlatformTable] = Field(
        default_factory=dict
    )


def find_root(start: Path) -> Path:
    """The folder, from `start` upwards, whose pyproject.toml has the table."""
    for folder in (start.resolve(), *start.resolve().parents):
        path = folder / "pyproject.toml"
        if path.is_file() and TABLE in _read(path).get("tool", {}):
            return folder
    raise UserError(
        f"no pyproject.toml with a [tool.{TABLE}] table in {start.resolve()} or above it; "
        f"add one, for example:\n{EXAMPLE}"
    )


def load_config(root: Path) -> CiConfig:
    """The validated table. Raises UserError that names every wrong key, and the nearest one."""
    path = root / "pyproject.toml"
    table = _read(path).get("tool", {}).get(TABLE, {}) if path.is_file() else {}
    try:
        return CiConfig.model_validate(table)
    except ValidationError as error:
        lines = [_explain(tuple(item["loc"]), item) for item in error.errors()]
        raise UserError(f"{path}:\n  " + "\n  ".join(lines)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid TOML: {error}") from None


def _explain(where: tuple[Any, ...], error: Any) -> str:
    place = ".".join([f"tool.{TABLE}", *map(str, where)])
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg']}"
    models: dict[Any, type[_Table]] = {"suites": Suite, "platforms": PlatformTable}
    model = models.get(where[0], CiConfig) if len(where) > 1 else CiConfig
    known = model.keys()
    return f"{place}: no such key{nearest(str(where[-1]), known)}; keys: {', '.join(known)}"
