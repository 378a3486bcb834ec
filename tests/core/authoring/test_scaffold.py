"""`plugin new`: names, files, and that nothing is overwritten."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
from tests.fakes.plugins import only, platform

from inferplane import __version__
from inferplane.authoring.scaffold import create, template_files
from inferplane.errors import UserError
from inferplane.spec import ENTRY_POINT_GROUP, SPEC_VERSION

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.fixture
def texts(tmp_path):
    """path -> text of a new plugin called acme-a1."""
    made = create("acme-a1", tmp_path)
    return {p.relative_to(made.folder).as_posix(): p.read_text() for p in made.files}


def test_files_are_where_they_belong(texts):
    assert texts.keys() == {
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.md",
        "inferplane_acme_a1/__init__.py",
        "inferplane_acme_a1/device.py",
        "inferplane_acme_a1/memory.py",
        "inferplane_acme_a1/ops.py",
        "inferplane_acme_a1/plugin.py",
        "pyproject.toml",
        "tests/test_conformance.py",
    }


def test_no_placeholder_is_left(texts):
    for text in texts.values():
        assert not re.search(r"acme(?!-a1|_a1)|Acme(?!A1)|\(0, 0\)|0\.0\.0", text)


def test_it_is_built_for_this_core(texts):
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["dependencies"] == [f"inferplane>={__version__}"]
    assert project["entry-points"] == {ENTRY_POINT_GROUP: {"acme-a1": "inferplane_acme_a1.plugin"}}
    assert f"api={SPEC_VERSION}" in texts["inferplane_acme_a1/plugin.py"]


def test_every_module_can_be_parsed(texts):
    for path, text in texts.items():
        if path.endswith(".py"):
            ast.parse(text)


def test_no_line_gets_too_long_for_a_name_of_common_length(texts):
    lines = [line for path, t in texts.items() if path.endswith(".py") for line in t.splitlines()]
    assert max(map(len, lines)) <= 100


def test_the_template_is_a_plugin_itself():
    """Its files parse as they are: what is read is what is written."""
    for path in template_files():
        if path.suffix == ".py":
            ast.parse(path.read_text())


BAD_NAMES = ["", "Acme", "1acme", "acme.a1", "acme a1", "acme-", "äcme", "a" * 31, "../acme"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_says_which_are_possible(tmp_path, name):
    with pytest.raises(UserError, match="lower case letters and digits"):
        create(name, tmp_path)


@pytest.mark.parametrize("name", ["class", "match", "auto", "reference"])
def test_a_reserved_word_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="reserved word"):
        create(name, tmp_path)


def test_the_name_of_an_installed_plugin_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'acme' is taken by inferplane-acme 1\.0"):
        create("acme", tmp_path, [only(platform("acme"))])


def test_nothing_is_overwritten(tmp_path):
    made = create("acme", tmp_path)
    (made.folder / "README.md").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        create("acme", tmp_path)
    assert (made.folder / "README.md").read_text() == "mine"


def test_a_folder_that_is_missing_is_not_made(tmp_path):
    with pytest.raises(UserError, match="make it first"):
        create("acme", tmp_path / "nowhere")
