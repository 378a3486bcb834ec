"""A plugin of the previous minor version works, and is told what to change."""

from __future__ import annotations

import re
import sys

import pytest
from tests.fakes.packages import FIXTURES, install
from tests.fakes.plugins import installed, module_of, only, platform_spec

from inferplane.plugins import evolution, hooks
from inferplane.plugins.changes import Change, previous, read_lock, shown
from inferplane.plugins.discovery import discover
from inferplane.plugins.evolution import version_warnings
from inferplane.plugins.uses import uses_of
from inferplane.spec import SPEC_VERSION, hookimpl
from inferplane.spec.deprecated import Deprecation

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)

RENAMED = Deprecation(since=(0, 2), removed_in=(0, 3), use="inferplane_ops")
PROMPTS = ["417+286=", "1+1="]


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    """The plugin for contract 0.2, installed for this test."""
    package = FIXTURES / "frozen" / "inferplane_frozen"
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "inferplane-frozen", [package], {"frozen": "inferplane_frozen.plugin"})
    monkeypatch.syspath_prepend(folder)
    yield next(p for p in discover(["frozen"]) if p.name == "frozen")
    for name in [n for n in sys.modules if n.startswith("inferplane_frozen")]:
        del sys.modules[name]


class TestFrozenPlugin:
    def test_uses_names_of_the_older_contract_only(self, frozen):
        assert uses_of(frozen.module).names <= read_lock((0, 2))["names"].keys()

    def test_gives_fields_of_the_older_contract_only(self, frozen):
        names = read_lock((0, 2))["names"]
        for given in uses_of(frozen.module).fields:
            owner, _, field = given.partition(".")
            fields = [f.partition(":")[0] for f in names[owner].get("fields", [field])]
            assert field in fields

    def test_is_ready(self, frozen):
        assert frozen.ready, frozen.error

    def test_is_warned(self, frozen):
        (warning,) = frozen.warnings
        assert warning.startswith(f"built for contract 0.2, running on {shown(SPEC_VERSION)}: ")

    def test_is_told_what_is_new_of_what_it_uses(self, frozen):
        assert "AttentionKernel.run (changed)" in frozen.warnings[0]

    def test_answers_as_the_cpu_does(self, frozen):
        from inferplane.llm import LLM
        from inferplane.params import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=6)
        given = {"model": "tiny-arithmetic", "dtype": "float32", "num_pages": 16}
        answers = {}
        for device in ("frozen", "cpu"):
            with LLM(device=device, page_size=32, **given) as llm:
                kernels = {c.names for c in llm.plan.resolution.choices.values()}
                outputs = llm.generate(PROMPTS, params)
                answers[device] = [o.outputs[0].text for o in outputs]
                if device == "frozen":
                    assert {"frozen.attention", "frozen.linear", "frozen.rms"} <= kernels
                    assert llm.plan.warnings
        assert answers["frozen"] == answers["cpu"]
        assert answers["frozen"][0].startswith("703")


class TestWarning:
    def plugin(self):
        return only(installed("fake", module_of(inferplane_platform=platform_spec)))

    def test_there_is_none_for_the_present_version(self):
        assert version_warnings(self.plugin()) == []

    def test_nothing_is_read_for_the_present_version(self, monkeypatch):
        monkeypatch.setattr(evolution, "uses_of", lambda module: pytest.fail("was read"))
        assert version_warnings(self.plugin()) == []

    def older(self, monkeypatch, *changes: Change) -> str:
        monkeypatch.setattr(evolution, "changes", lambda version: list(changes))
        monkeypatch.setattr(evolution, "versions", lambda: [SPEC_VERSION])
        (text,) = version_warnings(self.plugin(), {}, (SPEC_VERSION[0], SPEC_VERSION[1] + 1))
        return text

    def test_names_changes_that_break_it(self, monkeypatch):
        hook = "inferplane_platform"
        change = Change("changed", hook, f"hook {hook}", "was (), is (here)", "plugins")
        text = self.older(monkeypatch, change)
        assert "it may break on hook inferplane_platform (changed)" in text
        assert "was ()" not in text  # a line, not a listing
        assert "inferplane plugin diff --plugin fake" in text

    def test_leaves_out_changes_of_what_it_does_not_use(self, monkeypatch):
        change = Change("removed", "KVLayout", "KVLayout", "name removed", "plugins")
        assert "nothing that it uses was taken away" in self.older(monkeypatch, change)

    def test_says_when_there_is_no_record_of_the_version(self):
        plugin = self.plugin()
        (text,) = version_warnings(plugin, {}, (SPEC_VERSION[0], SPEC_VERSION[1] + 1))
        assert ("no record" in text) == (previous() == SPEC_VERSION)


TABLE = {"inferplane_element_ops": RENAMED}


class TestRenamedHook:
    def module(self):
        return module_of(
            inferplane_platform=platform_spec, inferplane_element_ops=lambda props: ["old"]
        )

    def test_is_called_by_its_new_name(self):
        manager = hooks.register("fake", "fake", self.module(), TABLE)
        assert manager.hook.inferplane_ops(props=None) == [["old"]]

    def test_counts_as_implemented(self):
        manager = hooks.register("fake", "fake", self.module(), TABLE)
        assert hooks.implemented(manager) == ["inferplane_ops", "inferplane_platform"]

    def test_does_not_hide_the_new_one(self):
        module = self.module()
        module.inferplane_ops = hookimpl(lambda props: ["new"])
        manager = hooks.register("fake", "fake", module, TABLE)
        assert manager.hook.inferplane_ops(props=None) == [["new"]]

    def test_is_named_in_a_warning(self):
        plugin = only(installed("fake", module_of(inferplane_platform=platform_spec)))
        plugin.module = self.module()
        (text,) = version_warnings(plugin, TABLE)
        assert re.search("inferplane_element_ops is inferplane_ops since contract 0.2", text)
        assert "before 0.3" in text

    def test_is_refused_without_an_entry(self):
        assert only(installed("fake", self.module())).error is not None


def test_a_plugin_may_be_an_object():
    class Hooks:
        @hookimpl
        def inferplane_platform(self):
            return platform_spec()

    found = uses_of(Hooks())
    assert found.hooks == {"inferplane_platform"}
    assert "SPEC_VERSION" in found.names  # of this file, where the class is
