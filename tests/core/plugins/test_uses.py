"""What a plugin uses of the contract, read from its source."""

from __future__ import annotations

from types import ModuleType

import pytest

from inferplane.plugins.uses import uses_of

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)


@pytest.fixture
def read(tmp_path):
    def run(text: str, **more: str):
        folder = tmp_path / "package"
        folder.mkdir()
        for name, source in {"__init__": "", "plugin": text, **more}.items():
            (folder / f"{name}.py").write_text(source)
        module = ModuleType("package.plugin")
        module.__file__ = str(folder / "plugin.py")
        return uses_of(module)

    return run


def test_imported_names_are_found(read):
    assert read("from inferplane.spec import Probe, Support as S").names == {"Probe", "Support"}


def test_names_of_the_module_are_found(read):
    assert read("import inferplane.spec as spec\nspec.Probe.found([])").names == {"Probe"}


def test_names_in_other_files_of_the_package_are_found(read):
    assert read("", ops="from inferplane.spec import Packed").names == {"Packed"}


def test_names_of_other_packages_are_not(read):
    assert read("from somewhere.spec import Probe").names == set()


def test_fields_given_by_keyword_are_found(read):
    text = "from inferplane.spec import PlatformSpec as P\nP(name='a', score=1)"
    assert read(text).fields == {"PlatformSpec.name", "PlatformSpec.score"}


def test_a_field_that_is_read_is_mentioned(read):
    found = read("from inferplane.spec import NormRequest\ndef f(r): return r.eps")
    assert found.mentions("NormRequest.eps")
    assert not found.mentions("NormRequest.size")


def test_a_field_of_a_name_that_is_not_imported_is_not_mentioned(read):
    assert not read("def f(r): return r.eps").mentions("NormRequest.eps")


def test_ops_with_a_dot_are_touched(read):
    found = read("")
    found.ops = {"norm.rms"}
    assert found.touches("norm.rms")
    assert found.mentions("norm.rms")


def test_a_file_that_cannot_be_read_is_told(read):
    (text,) = read("", bad="def (").unreadable
    assert "bad.py" in text
