"""Promises of the contract as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import select
from inferplane.spec import OPS, PROVISIONAL_HOOKS, InferplaneSpecs

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

# Offered as compositions of other ops, so that no kernel is needed.
COMPOSED = {"attention.input", "mlp.block", "layer"}


def test_importing_it_imports_no_torch_and_nothing_else_of_ours():
    code = (
        "import sys, inferplane.spec;"
        "print([m for m in sys.modules if m == 'torch' or m.startswith('inferplane.')"
        " and not m.startswith('inferplane.spec')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture(scope="module")
def offered() -> dict[str, set[str]]:
    """Op -> names of the candidates that the core offers."""
    plugins = discover([])
    found: dict[str, set[str]] = {}
    for candidate in Catalog(plugins, select(plugins, "cpu")).candidates:
        found.setdefault(candidate.op, set()).add(candidate.name)
    return found


@pytest.mark.parametrize("op", [op for op, row in OPS.items() if not row.provisional])
def test_every_settled_op_has_a_reference_or_is_a_collective(offered, op):
    names = offered.get(op, set())
    collective = "Communicator" in OPS[op].call and "cpu.gloo" in names
    assert op in COMPOSED or collective or f"reference.{op}" in names


@pytest.mark.parametrize("op", [op for op, row in OPS.items() if row.provisional])
def test_an_op_that_has_a_candidate_is_no_longer_provisional(offered, op):
    assert op not in offered


@pytest.mark.parametrize("op", OPS)
def test_the_request_of_an_op_belongs_to_it(op):
    default = OPS[op].request.__dataclass_fields__["op"].default
    family = {o for o, row in OPS.items() if row.request is OPS[op].request}
    assert default in family


def test_provisional_hooks_exist():
    assert set(vars(InferplaneSpecs)) >= PROVISIONAL_HOOKS


@pytest.mark.parametrize("hook", [n for n in vars(InferplaneSpecs) if n.startswith("inferplane_")])
def test_every_hook_is_documented(hook):
    assert getattr(InferplaneSpecs, hook).__doc__
