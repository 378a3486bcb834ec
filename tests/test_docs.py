"""The docs say what is true: hooks, signatures, examples, commands, links."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.fakes.plugins import PROPS

from inferplane.authoring.findings import CODES
from inferplane.plugins.hooks import KNOWN_HOOKS, implemented, register
from inferplane.spec import PROVISIONAL_HOOKS
from inferplane.spec.lock import describe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=8)

ROOT = Path(__file__).parent.parent
PLUGIN_DOCS = ROOT / "docs" / "plugins"
SMALLEST = ROOT / "tests/fixtures/plugins/smallest/inferplane_smallest.py"
ITEMS = ("Gives", "When", "Shapes, allocation", "Errors", "Without it", "In this repository")
PLUGINS = (
    "core/inferplane/platforms/*/plugin.py",
    "core/inferplane/reference/plugin.py",
    "platforms/*/inferplane_*/plugin.py",
    "plugins/*/inferplane_*/plugin.py",
)


@cache
def sections() -> dict[str, str]:
    """hook -> its section of hooks.md."""
    text = (PLUGIN_DOCS / "hooks.md").read_text()
    found = re.split(r"^## `(\w+)`\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def name_of(path: Path) -> str:
    """The plugin's name, from the folder of its package."""
    return path.parent.name.removeprefix("inferplane_")


@cache
def implementers() -> dict[str, set[str]]:
    """hook -> plugins in this repository that implement it, from their sources."""
    found: dict[str, set[str]] = {hook: set() for hook in KNOWN_HOOKS}
    for path in (p for pattern in PLUGINS for p in ROOT.glob(pattern)):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name in found:
                found[node.name].add(name_of(path))
    return found


@cache
def text_of_tests() -> str:
    """All tests that call hooks, as one text. Fixtures are none."""
    mine = Path(__file__)
    folders = [ROOT / "tests", *ROOT.glob("plugins/*/tests"), *ROOT.glob("platforms/*/tests")]
    paths = [p for f in folders for p in f.rglob("test_*.py") if p != mine]
    return "\n".join(path.read_text() for path in paths)


def smallest():
    spec = importlib.util.spec_from_file_location("inferplane_smallest", SMALLEST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_section_is_about_a_hook_that_is_gone():
    assert sections().keys() == KNOWN_HOOKS


@pytest.mark.parametrize("hook", sorted(KNOWN_HOOKS))
class TestHook:
    def test_has_its_exact_signature_in_the_docs(self, hook):
        text = describe()["names"]["InferplaneSpecs"]["methods"][hook]
        signature = text.replace("(self, ", "(").replace("(self)", "()")
        assert f"```python\ndef {hook}{signature}\n```" in sections()[hook]

    def test_is_described(self, hook):
        assert [item for item in ITEMS if f"- **{item}:** " not in sections()[hook]] == []

    def test_says_whether_it_is_provisional(self, hook):
        assert ("Provisional:" in sections()[hook]) == (hook in PROVISIONAL_HOOKS)

    def test_has_a_smallest_example(self, hook):
        included = f'--8<-- "{SMALLEST.relative_to(ROOT).as_posix()}:{hook}"'
        assert included in sections()[hook]
        assert f"# --8<-- [start:{hook}]" in SMALLEST.read_text()

    def test_lists_implementers_that_are_there(self, hook):
        line = re.search(r"- \*\*In this repository:\*\* (.*)", sections()[hook])[1]
        assert set(re.findall(r"`(\w+)`", line)) <= implementers()[hook]

    def test_has_an_implementer_and_a_test_or_is_provisional(self, hook):
        if hook not in PROVISIONAL_HOOKS:
            assert implementers()[hook]
            assert hook in text_of_tests()

    def test_gives_what_it_says(self, hook):
        """The smallest example, called through pluggy."""
        manager = register("smallest", "smallest", smallest())
        wanted = describe()["names"]["InferplaneSpecs"]["methods"][hook].rpartition("-> ")[2]
        arguments = {"props": PROPS, "settings": {}}
        spec = getattr(manager.hook, hook).spec.argnames
        (answer,) = getattr(manager.hook, hook)(**{name: arguments[name] for name in spec})
        found = answer[0] if isinstance(answer, list) else answer
        assert type(found).__mro__[-2].__name__ == wanted.removeprefix("list[").rstrip("]")


def test_the_smallest_examples_implement_every_hook():
    manager = register("smallest", "smallest", smallest())
    assert set(implemented(manager)) == KNOWN_HOOKS


def test_the_codes_in_the_rules_exist():
    text = (PLUGIN_DOCS / "rules.md").read_text()
    assert set(re.findall(r"IP\d+", text)) <= CODES.keys()


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert pages - listed == set()


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed: make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "plugins" / "tutorial" / "index.html").read_text()
    assert "add_rms_norm" in page
