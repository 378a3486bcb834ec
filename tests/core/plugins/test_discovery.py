"""Each way in which a plugin can fail has its own error, and stops no other plugin."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import feature, installed, module_of, only, platform, platform_spec

from inferplane.plugins.discovery import discover, entry_points
from inferplane.plugins.errors import (
    BadHook,
    ContractMismatch,
    DuplicateName,
    ImportFailed,
    NotAllowed,
)
from inferplane.spec import ENTRY_POINT_GROUP, SPEC_VERSION, FeatureSpec, hookimpl

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=4)

MAJOR, MINOR = SPEC_VERSION


def group_of(major: int) -> str:
    return f"inferplane.v{major}"


def test_the_core_registers_its_own_plugins():
    names = {(entry.name, group) for entry, group, _, _ in entry_points()}
    assert {("cpu", ENTRY_POINT_GROUP), ("reference", ENTRY_POINT_GROUP)} <= names


def test_every_plugin_of_the_core_is_ready():
    assert [p.error for p in discover() if p.distribution == "inferplane"] == [None, None]


def test_a_ready_platform_has_its_spec():
    assert only(platform("fake")).platform.name == "fake"


def test_a_ready_feature_has_its_spec():
    assert only(feature("extra")).feature.name == "extra"


class TestImportFailure:
    def test_is_named_with_plugin_and_cause(self):
        plugin = only(installed("fake", ImportError("libfake.so is missing")))
        assert isinstance(plugin.error, ImportFailed)
        assert "inferplane-fake 1.0" in str(plugin.error)
        assert "ImportError: libfake.so is missing" in str(plugin.error)

    def test_keeps_the_traceback(self):
        plugin = only(installed("fake", ImportError("libfake.so is missing")))
        assert "Traceback" in plugin.traceback
        assert "libfake.so is missing" in plugin.traceback

    def test_does_not_stop_the_others(self):
        plugins = discover(found=[installed("broken", OSError("no")), platform("fake")])
        assert [p.ready for p in plugins] == [False, True]

    def test_an_exit_at_import_is_a_failure_too(self):
        assert isinstance(only(installed("fake", SystemExit(1))).error, ImportFailed)

    def test_an_interrupt_by_the_user_goes_through(self):
        with pytest.raises(KeyboardInterrupt):
            discover(found=[installed("fake", KeyboardInterrupt())])


class TestContractVersion:
    def test_another_major_is_not_imported(self):
        found = installed("fake", module_of(), group=group_of(MAJOR + 1))
        only(found)
        assert not found[0].loaded

    def test_a_newer_major_says_to_upgrade_the_core(self):
        plugin = only(installed("fake", module_of(), group=group_of(MAJOR + 1)))
        assert isinstance(plugin.error, ContractMismatch)
        assert f"built for contract {MAJOR + 1}.x" in str(plugin.error)
        assert str(plugin.error).endswith("pip install --upgrade inferplane")

    def test_majors_are_compared_as_numbers(self, monkeypatch):
        monkeypatch.setattr("inferplane.plugins.discovery.SPEC_VERSION", (2, 0))
        monkeypatch.setattr("inferplane.plugins.discovery.ENTRY_POINT_GROUP", group_of(2))
        plugin = only(installed("fake", module_of(), group=group_of(10)))
        assert str(plugin.error).endswith("pip install --upgrade inferplane")

    def test_an_older_major_says_to_upgrade_the_plugin(self, monkeypatch):
        monkeypatch.setattr("inferplane.plugins.discovery.SPEC_VERSION", (2, 0))
        monkeypatch.setattr("inferplane.plugins.discovery.ENTRY_POINT_GROUP", group_of(2))
        plugin = only(installed("fake", module_of(), group=group_of(1)))
        assert str(plugin.error).endswith("pip install --upgrade inferplane-fake")

    def test_a_newer_minor_says_to_upgrade_the_core(self):
        plugin = only(platform("fake", api=(MAJOR, MINOR + 1)))
        assert isinstance(plugin.error, ContractMismatch)
        assert f"built for contract {MAJOR}.{MINOR + 1}" in str(plugin.error)
        assert str(plugin.error).endswith("pip install --upgrade inferplane")

    def test_an_older_minor_works_with_a_warning(self, monkeypatch):
        monkeypatch.setattr("inferplane.plugins.discovery.SPEC_VERSION", (MAJOR, MINOR + 1))
        plugin = only(platform("fake", api=(MAJOR, MINOR)))
        assert plugin.ready
        assert "built for contract" in plugin.warnings[0]

    def test_the_same_version_gives_no_warning(self):
        assert only(platform("fake")).warnings == []


class TestDuplicateName:
    def test_both_distributions_are_named(self):
        plugins = discover(
            found=[
                installed("fake", module_of(inferplane_platform=platform_spec), "fake-one"),
                installed("fake", module_of(inferplane_platform=platform_spec), "fake-two"),
            ]
        )
        for plugin in plugins:
            assert isinstance(plugin.error, DuplicateName)
            assert "fake-one 1.0, fake-two 1.0" in str(plugin.error)
            assert f"pip uninstall {plugin.distribution}" in str(plugin.error)

    def test_nothing_displaces_a_plugin_of_the_core(self):
        ours = installed("cpu", module_of(inferplane_platform=lambda: platform_spec("cpu")))
        ours = (ours[0], ours[1], "inferplane", ours[3])
        plugins = discover(found=[ours, platform("cpu")])
        assert plugins[0].ready
        assert isinstance(plugins[1].error, DuplicateName)

    def test_the_name_in_the_spec_counts_not_the_entry_point(self):
        one = installed("one", module_of(inferplane_platform=lambda: platform_spec("same")))
        two = installed("two", module_of(inferplane_platform=lambda: platform_spec("same")))
        assert all(isinstance(p.error, DuplicateName) for p in discover(found=[one, two]))

    def test_a_plugin_that_is_not_allowed_is_no_duplicate(self):
        one = installed("one", module_of(inferplane_platform=lambda: platform_spec("same")))
        two = installed("same", module_of(inferplane_platform=lambda: platform_spec("same")))
        assert discover(allow=["one"], found=[one, two])[0].ready


class TestBadHook:
    def test_a_misspelt_hook_names_the_right_one(self):
        plugin = only(
            installed(
                "fake",
                module_of(inferplane_platform=platform_spec, inferplane_atention=lambda props: []),
            )
        )
        assert isinstance(plugin.error, BadHook)
        assert "inferplane_atention (did you mean 'inferplane_attention'?)" in str(plugin.error)

    def test_a_hook_without_the_mark_is_refused(self):
        module = module_of(inferplane_platform=platform_spec)
        module.inferplane_ops = lambda props: []
        plugin = only(installed("fake", module))
        assert isinstance(plugin.error, BadHook)
        assert "inferplane_ops lacks the @hookimpl mark" in str(plugin.error)

    def test_wrong_arguments_are_refused(self):
        plugin = only(
            installed(
                "fake", module_of(inferplane_platform=platform_spec, inferplane_ops=lambda gpu: [])
            )
        )
        assert isinstance(plugin.error, BadHook)
        assert "gpu" in str(plugin.error)

    @pytest.mark.parametrize("hook", ["inferplane_platform", "inferplane_feature"])
    def test_a_wrong_type_names_both_types(self, hook):
        plugin = only(installed("fake", module_of(**{hook: lambda: {"name": "fake"}})))
        assert isinstance(plugin.error, BadHook)
        assert f"{hook} returned dict, it must return" in str(plugin.error)

    def test_a_plugin_that_is_nothing_is_refused(self):
        plugin = only(installed("fake", module_of(inferplane_ops=lambda props: [])))
        assert isinstance(plugin.error, BadHook)
        assert "neither inferplane_platform nor inferplane_feature" in str(plugin.error)

    def test_a_version_that_is_no_pair_is_refused(self):
        assert isinstance(only(platform("fake", api="latest")).error, BadHook)

    def test_a_hook_that_raises_while_it_is_asked_what_it_is_keeps_the_traceback(self):
        def fails():
            raise RuntimeError("driver 3 wanted")

        plugin = only(installed("fake", module_of(inferplane_platform=fails)))
        assert isinstance(plugin.error, ImportFailed)
        assert "inferplane_platform raised RuntimeError: driver 3 wanted" in str(plugin.error)
        assert "in fails" in plugin.traceback


class TestAllowList:
    def test_a_plugin_that_is_not_on_it_is_not_imported(self):
        found = platform("fake")
        discover(allow=["other"], found=[found])
        assert not found[0].loaded

    def test_the_message_says_how_to_allow_it(self):
        (plugin,) = discover(allow=["other"], found=[platform("fake")])
        assert isinstance(plugin.error, NotAllowed)
        assert "INFERPLANE_PLUGINS is other; add 'fake' to it" in str(plugin.error)

    def test_an_empty_list_allows_only_the_core(self):
        ready = {p.distribution for p in discover(allow=[]) if p.ready}
        assert ready == {"inferplane"}

    def test_a_plugin_on_it_is_ready(self):
        (plugin,) = discover(allow=["fake"], found=[platform("fake")])
        assert plugin.ready


def test_a_class_can_hold_the_hooks():
    class Hooks:
        @hookimpl
        def inferplane_feature(self):
            return FeatureSpec(name="extra", api=SPEC_VERSION)

    assert only(installed("extra", Hooks())).ready
