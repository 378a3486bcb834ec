"""Choosing cases, and running them."""

from __future__ import annotations

import pytest
from tests.fakes.kit import PROPS, candidate, results, target_of

from inferplane.errors import UserError
from inferplane.plugins.discovery import discover
from inferplane.reference.norm import rms_norm
from inferplane.testing.conformance.case import AREAS
from inferplane.testing.conformance.session import Choice, Session
from inferplane.testing.conformance.target import Target

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=12)


def session(**choice) -> Session:
    return Session(target_of(candidate("norm.rms", rms_norm)), Choice(**choice))


def test_an_unknown_area_names_the_nearest():
    with pytest.raises(UserError, match=r"no area 'atention' \(did you mean 'attention'"):
        Choice(areas=("atention",))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"case": "norm.rms/mutant.kernel/od-size.fp32"}, "did you mean .*odd-size"),
        ({"op": "norm.rns"}, "no cases of op 'norm.rns'.*did you mean 'norm.rms'"),
        ({"candidate": "mutant.kernl"}, "did you mean 'mutant.kernel'"),
        ({"op": "norm.rms", "areas": ("model",)}, "no case is in this area"),
    ],
)
def test_a_choice_that_leaves_nothing_says_why(choice, message):
    with pytest.raises(UserError, match=message):
        _ = session(**choice).cases


def test_a_kernel_that_raises_fails_its_case_only():
    def factory(request):
        right = rms_norm(request)

        def run(x, weight):
            if x.shape[0] == 257:
                raise ValueError("not so many")
            return right(x, weight)

        return run

    target = target_of(candidate("norm.rms", factory))
    failed = [r for r in results(target, op="norm.rms", areas=("ops",)) if r.status == "failed"]
    assert [r.case.name for r in failed] == ["many-tokens.fp32"]
    assert "ValueError: not so many" in failed[0].failures[0].message


def test_a_kernel_that_cannot_be_loaded_fails():
    offer = candidate("norm.rms", rms_norm, load="no.such.module:kernel")
    found = list(results(target_of(offer), op="norm.rms", areas=("ops",)))
    assert {r.status for r in found if not r.note} == {"failed"}
    assert "cannot be loaded" in found[0].failures[0].message


def test_the_cpu_passes():
    """Every kernel, with few drawn cases; `test_the_cpu_passes_completely` runs all."""
    areas = tuple(area for area in AREAS if area not in ("model", "collectives"))
    target = Target.open("cpu", plugins=discover([]))
    found = Session(target, Choice(areas=areas, draws=1)).results()
    assert {r.case.id: r.failures for r in found if r.status == "failed"} == {}


def test_without_a_device_only_answers_are_checked():
    target = Target.open("cpu", data_only=True, plugins=discover([]))
    found = list(Session(target, Choice(draws=1)).results())
    assert {r.case.area for r in found if r.status == "passed"} == {"contract"}
    assert [r.failures for r in found if r.status == "failed"] == []
    assert target.level() == "V0"


@pytest.mark.parametrize(
    ("device", "kernel", "level"),
    [
        ("device", "device", "V3"),
        ("emulated", "device", "V2e"),
        ("interpreted", "device", "V2i"),
        ("device", "interpreted", "V2i"),
        ("emulated", "interpreted", "V2i"),
    ],
)
def test_what_did_not_run_on_the_device_never_reaches_its_level(device, kernel, level):
    from dataclasses import replace

    offer = candidate("norm.rms", rms_norm, execution=kernel)
    target = target_of(offer, props=replace(PROPS, execution=device))
    assert target.level(offer) == level
