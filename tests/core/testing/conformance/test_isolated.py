"""A kernel that crashes or hangs its process fails its own case only."""

from __future__ import annotations

import pytest
from tests.fakes.installed import install

from inferplane.errors import UserError
from inferplane.testing.conformance.isolated import run
from inferplane.testing.conformance.session import Choice
from inferplane.testing.conformance.worker import Order

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=15)

CODE = """
def load():
    import os, time
    from inferplane.reference.norm import rms_norm

    def factory(request):
        right = rms_norm(request)
        def run(x, weight):
            if request.size == 33:
                os.abort()
            if request.size == 4096:
                time.sleep(60)
            print("kernels may print")
            return right(x, weight)
        return run

    return factory

@hookimpl
def inferplane_ops(props):
    return [Candidate(op="norm.rms", name="broken.norm", supports=floats, load=load)]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = install(tmp_path_factory.mktemp("broken"), CODE)
    choice = Choice(areas=("ops",), candidate="broken.norm", draws=0)
    order = Order("broken", None, False, choice)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("INFERPLANE_PLUGINS", "broken")
        lines = list(run(order, limit_s=5.0))
    found = [line["result"] for line in lines if "result" in line]
    (first,) = [line for line in lines if "cases" in line]
    assert [r["id"] for r in found] == [case[0] for case in first["cases"]]
    return {result["id"].rsplit("/", 1)[1]: result for result in found}


def test_a_crash_is_a_failure_of_its_case(results):
    assert results["odd-size.fp32"]["status"] == "failed"
    ((check, message),) = results["odd-size.fp32"]["failures"]
    assert check == "crashes"
    assert message.startswith("signal 6")


def test_a_case_that_hangs_is_a_failure_too(results):
    ((check, message),) = results["wide.fp32"]["failures"]
    assert check == "crashes"
    assert "not done after 5 s" in message


def test_all_other_cases_are_run(results):
    others = {n: r for n, r in results.items() if n not in ("odd-size.fp32", "wide.fp32")}
    assert {r["status"] for r in others.values()} == {"passed", "refused", "not run"}


def test_what_the_order_skips_is_not_run():
    choice = Choice(areas=("ops",), candidate="cpu.rms_norm", draws=0)
    (first, *_) = run(Order("cpu", None, True, choice))
    ids = [case[0] for case in first["cases"]]
    lines = list(run(Order("cpu", None, True, choice, skip=tuple(ids[1:]))))
    assert [line["result"]["id"] for line in lines if "result" in line] == ids[:1]


def test_what_the_user_can_mend_is_told_as_such():
    with pytest.raises(UserError, match="no platform 'brokn'"):
        list(run(Order("brokn", None, False, Choice())))
