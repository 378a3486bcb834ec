"""Building the compiled kernels: once, or a reason why not."""

import stat

import pytest

from inferplane.platforms.cpu.native import build as module

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache folder, and no memory of an earlier build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module.build.cache_clear()
    yield tmp_path / "inferplane"
    module.build.cache_clear()


def test_the_second_time_nothing_is_compiled(fresh, monkeypatch):
    built = module.build()
    assert built.path is not None
    assert built.path.parent == fresh
    module.build.cache_clear()
    monkeypatch.setattr(module.subprocess, "run", None)
    assert module.build() == built


def test_the_cache_folder_is_for_its_owner_only(fresh):
    assert stat.S_IMODE(module.cache_folder().stat().st_mode) == 0o700


def test_no_compiler(fresh, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert module.build().reason == "no C++ compiler: g++ or clang++ would do"
    assert module.details() == (("native", "no"), ("native_reason", module.build().reason))


def test_a_compiler_that_fails_is_a_reason(fresh, tmp_path, monkeypatch):
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: fatal error: omp.h: no such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(module.shutil, "which", lambda name: str(broken))
    assert "fatal error: omp.h" in module.build().reason
    assert list(fresh.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    module.build.cache_clear()
    assert "compiling failed" in module.build().reason
    module.build.cache_clear()


def test_a_change_of_the_processor_compiles_anew(tmp_path, monkeypatch):
    source = tmp_path / "a.cpp"
    source.write_text("")
    compiler, openmp = source, source
    first = module._key(str(compiler), openmp, [source])
    assert module._key(str(compiler), openmp, [source]) == first
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset({"sse9"}))
    assert module._key(str(compiler), openmp, [source]) != first
