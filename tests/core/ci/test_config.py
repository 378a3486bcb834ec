"""The table in pyproject.toml."""

from __future__ import annotations

import pytest

from inferplane.ci.config import find_root, load_config
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def table(tmp_path, text: str):
    (tmp_path / "pyproject.toml").write_text(text)
    return load_config(tmp_path)


def test_keys_have_hyphens_and_one_word_may_stand_alone(tmp_path):
    config = table(
        tmp_path,
        '[tool.inferplane-ci]\npython = "3.11"\n'
        "[tool.inferplane-ci.suites.unit]\nfile-seconds = 9\n"
        '[tool.inferplane-ci.platforms.acme]\nruns-on = "big"\n',
    )
    assert config.python == ("3.11",)
    assert config.suites["unit"].file_seconds == 9
    assert config.platforms["acme"].runs_on == ("big",)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        (
            "[tool.inferplane-ci]\nrots = []",
            "inferplane-ci.rots: no such key (did you mean 'roots'",
        ),
        (
            "[tool.inferplane-ci.suites.unit]\nfile-second = 1",
            "suites.unit.file-second: no such key (did you mean 'file-seconds'",
        ),
        (
            "[tool.inferplane-ci.platforms.acme]\nrun-on = 'x'",
            "platforms.acme.run-on: no such key (did you mean 'runs-on'",
        ),
        ("[tool.inferplane-ci.suites.unit]\nfile-seconds = 0", "greater than 0"),
        ("[tool.inferplane-ci.platforms.'A B']", "pattern"),
        ("[tool.inferplane-ci", "no valid TOML"),
    ],
)
def test_a_wrong_table_is_explained(tmp_path, text, piece):
    with pytest.raises(UserError) as caught:
        table(tmp_path, text)
    assert piece in str(caught.value)


def test_the_root_is_found_from_a_folder_below(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.inferplane-ci]\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\n")
    assert find_root(tmp_path / "a" / "b") == tmp_path


def test_without_a_table_the_error_shows_one(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(UserError, match=r"add one, for example:\n\[tool.inferplane-ci\]"):
        find_root(tmp_path)
