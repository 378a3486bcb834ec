"""What `load` names: there, missing, or not to be told on this machine."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import candidate

from inferplane.authoring.targets import of_load

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

OWN = {"ownpackage"}


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "ownpackage"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "ops.py").write_text("NUMBER = 1\ndef norm(request): ...\n")
    (folder / "vendor.py").write_text("import missing_vendor_library\ndef norm(request): ...\n")
    (folder / "broken.py").write_text("raise RuntimeError('no')\n")
    (folder / "inner.py").write_text("from . import nothing_there\n")
    monkeypatch.syspath_prepend(tmp_path)


CASES = {
    "ownpackage.ops:norm": None,
    "ownpackage.ops:nrom": ("IP205", "ownpackage.ops has no 'nrom'"),
    "ownpackage.ops:NUMBER": ("IP205", "is not callable"),
    "ownpackage.ops": ("IP205", "write 'module:attribute'"),
    "ownpackage.opps:norm": ("IP205", "cannot be imported"),
    "ownpackage.broken:norm": ("IP205", "raised RuntimeError: no"),
    "ownpackage.inner:norm": ("IP205", "cannot be imported"),
    "ownpackage.vendor:norm": ("IP206", "needs missing_vendor_library, which is not installed"),
    "ownpackage.vendor:nrom": ("IP205", "defines no 'nrom' (read from its source"),
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("load", CASES)
def test_a_target(load):
    found = of_load(candidate(load=load), OWN)
    if CASES[load] is None:
        assert found is None
    else:
        assert found is not None
        assert found.code == CASES[load][0]
        assert CASES[load][1] in found.message


def test_a_callable_that_gives_a_factory():
    assert of_load(candidate(load=lambda: lambda request: None), OWN) is None


def test_a_callable_that_gives_nothing():
    assert of_load(candidate(load=lambda: None), OWN).code == "IP205"


def test_a_callable_that_needs_a_library():
    def load():
        import missing_vendor_library

        return missing_vendor_library

    assert of_load(candidate(load=load), OWN).code == "IP206"
