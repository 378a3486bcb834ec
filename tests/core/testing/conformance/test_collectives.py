"""Collectives with one mistake each are caught, over two real processes."""

from __future__ import annotations

import pytest
from tests.fakes.installed import install

from inferplane.testing.conformance.session import Choice, Session
from inferplane.testing.conformance.target import Target

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=15)

CODE = """
WRONG = {
    "gathers_backwards": ("all_gather", "GathersBackwards"),
    "reduces_others_only": ("all_reduce", "ReducesOthersOnly"),
    "reduces_a_copy": ("all_reduce", "ReducesACopy"),
    "scatters_its_input": ("reduce_scatter", "ScattersItsInput"),
    "even_splits": ("all_to_all", "EvenSplits"),
    "broadcasts_first": ("broadcast", "BroadcastsFirst"),
}
RIGHT = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")

def needs_torch(request):
    import torch
    return floats(request)

@hookimpl
def inferplane_communicator(props):
    right = "inferplane.platforms.cpu.communicator:GlooCommunicator"
    return [
        *(
            Candidate(op=op, name=f"broken.{name}", supports=floats,
                      load=f"tests.fakes.communicators:{kind}")
            for name, (op, kind) in WRONG.items()
        ),
        *(Candidate(op=op, name="broken.right", supports=floats, load=right) for op in RIGHT),
    ]

@hookimpl
def inferplane_ops(props):
    return [Candidate(op="norm.rms", name="broken.norm", supports=needs_torch,
                      load="inferplane.reference.norm:rms_norm")]
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = install(tmp_path_factory.mktemp("broken"), CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("INFERPLANE_PLUGINS", "broken")
        yield Session(Target.open("broken"), Choice(draws=0))


@pytest.fixture(scope="module")
def failures(session):
    """Candidate -> checks that failed, of all collectives."""
    found: dict[str, set[str]] = {}
    for case in session.cases:
        if case.area == "collectives":
            result = session.run(case)
            assert result.status in ("passed", "failed"), result
            found.setdefault(case.candidate, set()).update(f.check for f in result.failures)
    return found


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("gathers_backwards", "collective"),
        ("reduces_others_only", "collective"),
        ("reduces_a_copy", "in-place"),
        ("scatters_its_input", "in-place"),
        ("even_splits", "collective"),
        ("broadcasts_first", "collective"),
    ],
)
def test_a_mutant_is_caught(failures, name, check):
    caught = failures[f"broken.{name}"]
    assert check in caught or (name == "even_splits" and "raises" in caught)


def test_right_ones_pass(failures):
    assert failures["broken.right"] == set()


def test_an_answer_that_needs_torch_is_caught(session):
    (case,) = [c for c in session.cases if c.name == "torch-free"]
    (failure,) = session.run(case).failures
    assert failure.check == "torch-free"
    assert "norm.rms/broken.norm" in failure.message
