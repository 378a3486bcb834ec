"""Which platforms are known, and what is derived for each."""

from __future__ import annotations

import sys

import pytest
from tests.fakes.ci import Entry, installed

from inferplane.ci.config import CiConfig, PlatformTable
from inferplane.ci.platforms import known_platforms, offers_only_kernels

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_installed_and_declared_platforms_are_known():
    config = CiConfig(platforms={"abacus": PlatformTable()})
    assert list(known_platforms(config, installed("acme"))) == ["abacus", "acme", "cpu"]


def test_a_platform_of_another_distribution_needs_a_runner_with_its_name():
    acme = known_platforms(CiConfig(), installed("acme"))["acme"]
    assert acme.hardware
    assert acme.runs_on == ("self-hosted", "acme")
    assert acme.distribution == "inferplane-acme"


def test_the_cores_platform_runs_anywhere():
    cpu = known_platforms(CiConfig(python=("3.11",)), installed())["cpu"]
    assert not cpu.hardware
    assert (cpu.runs_on, cpu.python) == (("ubuntu-latest",), ("3.11",))


def test_what_is_declared_wins():
    table = PlatformTable(hardware=False, runs_on=("box",), python=("3.13",), install=("acme",))
    acme = known_platforms(CiConfig(platforms={"acme": table}), installed("acme"))["acme"]
    assert (acme.hardware, acme.runs_on) == (False, ("box",))
    assert (acme.python, acme.install) == (("3.13",), ("acme",))


def test_a_declared_platform_is_offered_by_nothing_here():
    config = CiConfig(platforms={"abacus": PlatformTable()})
    assert known_platforms(config, installed())["abacus"].distribution == ""


def test_plugins_for_another_contract_are_no_platforms():
    assert list(known_platforms(CiConfig(), installed("old", group="inferplane.v99"))) == ["cpu"]


def test_a_plugin_that_offers_only_kernels_is_no_platform():
    entry = Entry("reference", "inferplane.reference.plugin")
    found = [*installed(), (entry, "inferplane.v0", "inferplane", "0.1")]
    assert list(known_platforms(CiConfig(), found)) == ["cpu"]


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("def inferplane_feature(): ...", True),
        ("from .hooks import inferplane_feature", True),
        ("def inferplane_platform(): ...", False),
        ("def inferplane_platform(): ...\ndef inferplane_feature(): ...", False),
        ("def (", False),
    ],
)
def test_kinds_of_plugins_are_read_without_import(tmp_path, monkeypatch, text, only):
    package = tmp_path / "kind_of_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert offers_only_kernels("kind_of_plugin.plugin") == only
    assert "kind_of_plugin" not in sys.modules
