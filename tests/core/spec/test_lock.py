"""No signature of the contract changes without a new version."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

import inferplane.spec as spec
from inferplane.spec import lock

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

COMMAND = "python -m inferplane.spec.lock --write"


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs, by place."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [
            line
            for n in names
            for line in changes(old.get(n), new.get(n), f"{path}.{n}".strip("."))
        ]
    return [] if old == new else [f"{path}: {old} -> {new}"]


def test_the_contract_is_what_the_lock_says():
    now = json.loads(lock.as_text())
    found = changes(json.loads(lock.LOCK.read_text(encoding="utf-8")), now)
    if found:
        shown = "\n  ".join(found)
        pytest.fail(
            f"the contract differs from {lock.LOCK.name}:\n  {shown}\n"
            f"raise SPEC_VERSION in inferplane/spec/version.py, then run: {COMMAND}",
            pytrace=False,
        )


def test_every_public_name_is_locked():
    locked = lock.describe()["names"].keys() | {"OPS", "SPEC_VERSION"}
    assert locked == set(spec.__all__)


def test_every_hook_is_locked():
    hooks = {name for name in vars(spec.InferplaneSpecs) if name.startswith(spec.HOOK_PREFIX)}
    assert lock.describe()["names"]["InferplaneSpecs"]["methods"].keys() == hooks


def test_every_op_is_locked():
    assert lock.describe()["ops"].keys() == spec.OPS.keys()


def test_the_text_is_the_same_every_time():
    assert lock.as_text() == lock.as_text()


class TestWhatIsSeen:
    """Changes to a name of the contract that must change the lock."""

    def described(self, monkeypatch, value) -> Any:
        monkeypatch.setattr(spec, "Support", value)
        monkeypatch.setattr(value, "__module__", "inferplane.spec.support")
        return lock.describe()["names"]["Support"]

    def test_fields_with_types_defaults_and_order(self, monkeypatch):
        @dataclass(frozen=True)
        class Fields:
            b: int
            a: str = "x"
            c: list[int] = field(default_factory=list, kw_only=True)

        found = self.described(monkeypatch, Fields)
        assert found["fields"] == ["b: int", "a: str = 'x'", "*", "c: list[int] = list()"]
        assert found["frozen"] is True

    def test_methods_with_types_and_defaults(self, monkeypatch):
        class Methods(Protocol):
            @property
            def size(self) -> int: ...

            @classmethod
            def make(cls, *, at: int = 0) -> Any: ...

            def __call__(self, x: int, *more: str) -> None: ...

            def _hidden(self) -> None: ...

        assert self.described(monkeypatch, Methods)["methods"] == {
            "__call__": "(self, x: int, *more: str) -> None",
            "make": "classmethod (cls, *, at: int = 0) -> Any",
            "size": "property (self) -> int",
        }
