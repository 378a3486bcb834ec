"""What pure code may import. What it reads is in test_pure.py, in a process of its own."""

from __future__ import annotations

import pytest

from inferplane.authoring.isolation import Blocked, Blocker, allowed, own_packages

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)


@pytest.mark.parametrize("name", ["json", "inferplane.spec", "pluggy", "own", "own.ops"])
def test_what_may_be_imported(name):
    assert allowed(name, frozenset({"own"}))


@pytest.mark.parametrize("name", ["torch", "torch.nn", "numpy", "another"])
def test_what_may_not(name):
    assert not allowed(name, frozenset({"own"}))


def test_a_refused_import_is_noted():
    blocker = Blocker(frozenset({__name__.split(".")[0]}))
    with pytest.raises(Blocked, match="torch"):
        blocker.find_spec("torch.nn")
    assert blocker.refused == ["torch.nn"]


def test_the_modules_of_a_distribution_are_its_own():
    assert "inferplane" in own_packages("inferplane.x:y", "inferplane")


def test_an_unknown_distribution_has_its_entry_point():
    assert own_packages("a.plugin", "never-heard-of") == {"a"}
