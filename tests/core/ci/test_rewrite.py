"""New estimates in sources: nothing but the numbers changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from inferplane.ci.durations import Proposal
from inferplane.ci.marks import read
from inferplane.ci.rewrite import diff, rewritten, write

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

SOURCE = (
    "import pytest\r\n\r\n"
    'pytestmark = pytest.mark.ci(suite="ü", est_seconds=1.5)  # ü \x0c\r\n'
    '@pytest.mark.ci(\r\n    est_seconds=20, suite="u")\r\n'
    "def test_a(): pass\r\ndef test_b(): pass\r\n"
)


def proposals(**new: int) -> list[Proposal]:
    """By scope; "module" stands for ""."""
    made = []
    for entry in read(SOURCE, "test_a.py").entries:
        wanted = new.get(entry.scope or "module")
        if wanted is not None:
            old, place = entry.mark.est_seconds, entry.mark.estimate_at
            made.append(Proposal("test_a.py", entry.scope, place, old, wanted, ()))
    return made


def test_only_the_numbers_change():
    new = rewritten(SOURCE.encode(), proposals(module=100, test_a=3))
    expected = SOURCE.replace("est_seconds=1.5", "est_seconds=100")
    assert new.decode() == expected.replace("est_seconds=20", "est_seconds=3")


def test_two_marks_of_one_line_are_both_changed():
    text = "class TestA:\n  pytestmark = [pytest.mark.ci(suite='u', est_seconds=3)]\n"
    place = read(text, "x").entries[0].mark.estimate_at
    first = Proposal("x", "TestA", place, 3, 1000, ())
    assert b"est_seconds=1000)]" in rewritten(text.encode(), [first])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_a.py").write_bytes(SOURCE.encode())
    return tmp_path


def test_write_changes_the_file(folder):
    assert write(folder, proposals(test_a=7)) == ["test_a.py"]
    assert b"est_seconds=7," in (folder / "test_a.py").read_bytes()


def test_the_diff_is_what_git_applies(folder):
    text = diff(folder, proposals(module=9, test_a=7))
    wanted = rewritten(SOURCE.encode(), proposals(module=9, test_a=7))
    subprocess.run(["git", "apply"], cwd=folder, input=text.encode(), check=True)
    assert (folder / "test_a.py").read_bytes() == wanted


def test_what_would_not_say_the_new_number_is_not_written(folder):
    (folder / "test_a.py").write_bytes(b"# a line more\n" * 2 + SOURCE.encode())
    before = (folder / "test_a.py").read_bytes()
    with pytest.raises(AssertionError):
        write(folder, proposals(test_a=7))
    assert (folder / "test_a.py").read_bytes() == before
