"""Certificates: what was verified of a plugin's kernels, as the plugin ships it.

A plugin keeps them beside its module, in `certificates/*.json`, as `inferplane conformance` wrote
them. Nothing here imports torch or touches a device. A file that cannot be read is told as a
warning, and verifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inferplane.spec import SPEC_VERSION, Candidate

from .catalog import Catalog
from .discovery import Plugin

FOLDER = "certificates"
NOT_RUN = "not run"
Level = Literal["failed", "not run", "V0", "V1", "V2i", "V2e", "V3"]
_ORDER = ("not run", "failed", "V0", "V1", "V2i", "V2e", "V3")


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Data):
    """A candidate of an op; or the platform itself, for areas such as "memory"."""

    op: str
    candidate: str
    kind: str
    plugin: str
    version: str
    level: Level
    passed: int
    refused: int
    failed: int
    not_run: int
    largest_error: dict[str, float | Literal["inf"]]
    notes: tuple[str, ...] = ()


class Versions(_Data):
    inferplane: str
    contract: str
    python: str
    torch: str


class Certificate(_Data):
    """One run of the conformance kit. execution: how the device runs, see `DeviceProps`.

    complete: no area, op or case was left out.
    """

    schema_version: Literal[1] = Field(alias="schema")
    platform: str
    device: str
    profile: str
    execution: Literal["device", "interpreted", "emulated"]
    host: str
    date: date
    draws: int
    complete: bool
    versions: Versions
    results: tuple[Row, ...]


def read(path: Path) -> Certificate:
    """Raises ValueError that names the file and the first thing that is wrong with it."""
    try:
        found = Certificate.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path.name}: {where}: {first['msg']}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not found.complete:
        raise ValueError(f"{path.name}: it is of a part of the kit, so it verifies nothing")
    if found.execution != "device" and any(row.level == "V3" for row in found.results):
        raise ValueError(f"{path.name}: {found.device} is {found.execution}, V3 is not possible")
    return found


def files(plugin: Plugin) -> list[Path]:
    """The plugin's certificate files."""
    home = getattr(plugin.module, "__file__", None)
    return sorted((Path(home).parent / FOLDER).glob("*.json")) if home else []


@dataclass
class Certificates:
    """All certificates of a catalog's plugins. warnings: files that could not be read."""

    catalog: Catalog
    found: list[Certificate] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, catalog: Catalog) -> Certificates:
        made = cls(catalog)
        for plugin in catalog.plugins:
            for path in files(plugin):
                try:
                    made.found.append(read(path))
                except ValueError as error:
                    made.warnings.append(f"{plugin.label}: certificate {error}")
        return made

    def verified(self, candidate: Candidate) -> str:
        """The highest level that this kernel has reached on this platform, for a table.

        "V3"; "V3 (on PROFILE)" for another device than this one; "V3 (older version)" where the
        plugin or the contract has changed since; or "not run".
        """
        owner = self.catalog.owners.get((candidate.op, candidate.name))
        ranked = [
            (self._fits(certificate, row, owner), _ORDER.index(row.level), certificate, row)
            for certificate, row in self._rows(candidate)
        ]
        if owner is None or not ranked:
            return NOT_RUN
        fits, _, certificate, row = max(ranked, key=lambda item: item[:2])
        if fits == 2:
            return row.level
        return f"{row.level} (on {certificate.profile})" if fits else f"{row.level} (older version)"

    def _rows(self, candidate: Candidate) -> Iterator[tuple[Certificate, Row]]:
        for certificate in self.found:
            if certificate.platform != self.catalog.selection.platform.name:
                continue
            for row in certificate.results:
                if (row.op, row.candidate) == (candidate.op, candidate.name):
                    yield certificate, row

    def _fits(self, certificate: Certificate, row: Row, owner: Plugin | None) -> int:
        """2: this version on this device. 1: on another device. 0: an older version."""
        contract = ".".join(map(str, SPEC_VERSION))
        same = owner is not None and (row.plugin, row.version) == (
            owner.distribution,
            owner.version,
        )
        if not same or certificate.versions.contract != contract:
            return 0
        return 2 if certificate.profile == self.catalog.props.profile else 1

    def verified_all(self, candidates: Iterable[Candidate]) -> str:
        """Of a choice: each candidate's level, once."""
        return ", ".join(dict.fromkeys(self.verified(candidate) for candidate in candidates))
