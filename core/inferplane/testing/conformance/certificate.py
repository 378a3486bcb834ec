"""What was verified, as data that a plugin publishes. See `inferplane.plugins.certificates`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

SCHEMA = 1
Row = dict[str, Any]


def rows(about: dict[str, Any], results: Iterable[dict[str, Any]]) -> list[Row]:
    """One row a candidate of an op (areas that are no kernel have rows of their own)."""
    found: dict[tuple[str, str], Row] = {}
    for result in results:
        key = (result["op"], result["candidate"])
        if key not in found:
            found[key] = _empty(about, *key)
        _count(found[key], result)
    for row in found.values():
        row["level"] = _level(about, row)
    return list(found.values())


def _empty(about: dict[str, Any], op: str, candidate: str) -> Row:
    owner = about["candidates"].get(f"{op}/{candidate}", {})
    return {
        "op": op,
        "candidate": candidate,
        "kind": owner.get("kind", ""),
        "plugin": owner.get("plugin", ""),
        "version": owner.get("version", ""),
        "level": "",
        "passed": 0,
        "refused": 0,
        "failed": 0,
        "not_run": 0,
        "largest_error": {},
        "notes": [],
        "accepted": False,
    }


def _count(row: Row, result: dict[str, Any]) -> None:
    row["not_run" if result["status"] == "not run" else result["status"]] += 1
    if result["area"] != "contract" and result["status"] in ("passed", "failed"):
        row["ran"] = row.get("ran", 0) + 1
    if result["area"] != "contract" and result["status"] != "refused":
        row["accepted"] = True
    if result["error"] is not None and result["dtype"]:
        error, known = float(result["error"]), row["largest_error"]
        known[result["dtype"]] = max(known.get(result["dtype"], 0.0), error)
    if result["note"] and result["status"] != "refused" and result["note"] not in row["notes"]:
        row["notes"].append(result["note"])


def _level(about: dict[str, Any], row: Row) -> str:
    """ "failed"; V0 where only answers were checked; else what a run on this device can prove."""
    ran = row.pop("ran", 0)
    if row["failed"]:
        return "failed"
    if not ran:
        return "V0" if row["passed"] else "not run"
    owner = about["candidates"].get(f"{row['op']}/{row['candidate']}")
    return str(owner["level"] if owner else about["level"])


def certificate(
    about: dict[str, Any], found: list[Row], draws: int, complete: bool
) -> dict[str, Any]:
    """complete: nothing was left out by --area, --op, --candidate or --case."""
    head = {key: about[key] for key in ("platform", "device", "profile", "execution", "host")}
    return {
        "schema": SCHEMA,
        **head,
        "date": datetime.now(UTC).date().isoformat(),
        "draws": draws,
        "complete": complete,
        "versions": about["versions"],
        "results": [_published(row) for row in sorted(found, key=_by_name) if _worth(row)],
    }


def _by_name(row: Row) -> tuple[str, str]:
    return row["op"], row["candidate"]


def _worth(row: Row) -> bool:
    """Kernels of other plugins that refuse all that this device asks are not told."""
    return bool(row["accepted"] or row["failed"] or not row["refused"])


def _published(row: Row) -> Row:
    """With errors to three digits, in a form that JSON has."""
    errors = {
        dtype: "inf" if error == float("inf") else float(f"{error:.3g}")
        for dtype, error in sorted(row["largest_error"].items())
    }
    return {k: v for k, v in row.items() if k != "accepted"} | {"largest_error": errors}
