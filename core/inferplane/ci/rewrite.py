"""Writes new estimates into sources, at the places where the syntax tree has the old ones."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from pathlib import Path

from .durations import Proposal
from .marks import read


def rewritten(source: bytes, proposals: Sequence[Proposal]) -> bytes:
    """The source with new numbers. Nothing else changes, line endings included."""
    lines = source.splitlines(keepends=True)
    for proposal in sorted(proposals, key=lambda p: p.place.start, reverse=True):
        place = proposal.place
        line = lines[place.line - 1]
        lines[place.line - 1] = line[: place.start] + str(proposal.new).encode() + line[place.end :]
    return b"".join(lines)


def by_file(proposals: Sequence[Proposal]) -> dict[str, list[Proposal]]:
    files: dict[str, list[Proposal]] = {}
    for proposal in proposals:
        files.setdefault(proposal.path, []).append(proposal)
    return files


def diff(root: Path, proposals: Sequence[Proposal]) -> str:
    """What `write` would change, as a unified diff that `git apply` takes."""
    pieces: list[str] = []
    for name, wanted in by_file(proposals).items():
        old = (root / name).read_bytes()
        new = rewritten(old, wanted)
        pieces += difflib.unified_diff(
            list(io.StringIO(old.decode(), newline="")),
            list(io.StringIO(new.decode(), newline="")),
            f"a/{name}",
            f"b/{name}",
        )
    return "".join(pieces)


def write(root: Path, proposals: Sequence[Proposal]) -> list[str]:
    """Edits the files in place, and gives their names."""
    files = by_file(proposals)
    for name, wanted in files.items():
        path = root / name
        new = rewritten(path.read_bytes(), wanted)
        _check(new, name, wanted)
        path.write_bytes(new)
    return list(files)


def _check(source: bytes, name: str, proposals: Sequence[Proposal]) -> None:
    """The new source says what was proposed, or it is not written."""
    said = {entry.scope: entry.mark.est_seconds for entry in read(source, name).entries}
    for proposal in proposals:
        assert said.get(proposal.scope) == proposal.new, (name, proposal, said)
