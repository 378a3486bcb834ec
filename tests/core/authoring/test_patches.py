"""Writes into modules are seen, and nothing else is."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from inferplane.authoring.patches import snapshot, torch_snapshot, written

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


class Kind:
    def method(self) -> int:
        return 1


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("target")
    made.function, made.Kind, made.number = len, Kind, 1
    monkeypatch.setattr(Kind, "__module__", "target")
    monkeypatch.setitem(sys.modules, "target", made)
    return made


def writes(change) -> list[str]:
    before = snapshot("target")
    change()
    return written(before, snapshot("target"))


def test_nothing_is_written_by_doing_nothing(module):
    assert writes(lambda: None) == []


def test_a_replaced_function_is_seen(module):
    assert writes(lambda: setattr(module, "function", max)) == ["target.function"]


def test_a_replaced_method_is_seen(module, monkeypatch):
    change = lambda: monkeypatch.setattr(Kind, "method", lambda self: 2)  # noqa: E731
    assert writes(change) == ["target.Kind.method"]


def test_a_new_name_is_seen(module):
    assert writes(lambda: setattr(module, "extra", 1)) == ["target.extra"]


def test_a_removed_name_is_seen(module):
    assert writes(lambda: delattr(module, "number")) == ["target.number"]


def test_a_submodule_that_is_imported_late_is_no_write(module):
    assert writes(lambda: setattr(module, "inner", ModuleType("target.inner"))) == []


def test_a_module_that_is_new_is_no_write(monkeypatch):
    before = snapshot("target")
    monkeypatch.setitem(sys.modules, "target", ModuleType("target"))
    assert written(before, snapshot("target")) == []


def test_a_name_that_torch_did_not_have_is_no_replacement(monkeypatch):
    import torch

    before = torch_snapshot()
    monkeypatch.setattr(torch, "acme", 1, raising=False)
    assert written(before, torch_snapshot(), additions=False) == []
    monkeypatch.setattr(torch, "add", None)
    assert written(before, torch_snapshot(), additions=False) == ["torch.add"]
