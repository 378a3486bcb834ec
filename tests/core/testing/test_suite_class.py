"""`class TestAcme(Conformance)` is a vendor's whole test-suite."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.fakes.installed import install

from inferplane.testing.conformance.processes import environment

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=25)

CODE = """
def load():
    from inferplane.reference.norm import rms_norm

    def factory(request):
        right = rms_norm(request)
        return lambda x, weight: right(x, weight) * (1.01 if request.size == 33 else 1)

    return factory

@hookimpl
def inferplane_ops(props):
    return [Candidate(op="norm.rms", name="broken.norm", supports=floats, load=load)]
"""


FILE = """
from inferplane.testing import Conformance

class TestIt(Conformance):
    device = "broken"
    areas = ("ops",)
    draws = 1

class TestGone(Conformance):
    device = "brokn"

class TestAnswers(Conformance):
    device = "broken"
    areas = ("contract",)
    level = "V0"
"""


def run(folder, *options: str) -> str:
    """What pytest prints."""
    (folder / "test_it.py").write_text(FILE)
    plugin = ["-p", "inferplane.testing.pytest_plugin"] if not _installed() else []
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *plugin, *options]
    done = subprocess.run(
        [*command, "test_it.py"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.name == "inferplane" for point in entry_points(group="pytest11"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = install(tmp_path_factory.mktemp("vendor"), CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(made))
        patch.setenv("INFERPLANE_PLUGINS", "broken")
        yield made


@pytest.fixture(scope="module")
def printed(folder) -> str:
    return run(folder)


def test_three_lines_run_every_case(printed):
    assert "PASSED test_it.py::TestIt::test_case[norm.rms/broken.norm/wide.fp32]" in printed


def test_a_failure_names_its_check_and_its_command(printed):
    again = "inferplane conformance --device broken --case norm.rms/broken.norm/odd-size.fp32"
    assert "norm.rms/broken.norm/odd-size.fp32 [parity]" in printed
    assert again in printed


def test_a_device_that_is_not_there_fails(printed):
    assert "FAILED test_it.py::TestGone::test_case[device]" in printed
    assert "no platform 'brokn' (did you mean 'broken'?)" in printed


def test_answers_alone_can_be_checked(printed):
    assert "PASSED test_it.py::TestAnswers::test_case[norm.rms/broken.norm/answers]" in printed


def test_nothing_else_fails(printed):
    assert "2 failed" in printed


def test_the_option_replaces_the_device(folder):
    listed = run(folder, "--collect-only", "-q", "--inferplane-device", "broken")
    assert "TestGone::test_case[norm.rms/broken.norm/wide.fp32]" in listed
    assert "TestGone::test_case[device]" not in listed


@pytest.mark.parametrize("module", ["inferplane.testing", "inferplane.testing.pytest_plugin"])
def test_importing_it_imports_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
