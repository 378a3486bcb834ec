"""`--device X` gives X or an error that says what to do. It never gives Y."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import PROPS, feature, installed, module_of, only, platform

from inferplane.plugins.discovery import discover
from inferplane.plugins.errors import (
    BadDevice,
    BadHook,
    ContractMismatch,
    ImportFailed,
    NoDevice,
    NotAllowed,
    NotInstalled,
)
from inferplane.plugins.selection import parse_device, probe, select
from inferplane.spec import Probe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)


def missing() -> Probe:
    return Probe.missing("no driver is loaded", "load the driver")


def raising() -> Probe:
    raise OSError("libfake.so: wrong version")


def plugins(*found):
    return discover(found=found)


class TestDeviceText:
    @pytest.mark.parametrize(
        ("text", "meaning"),
        [
            ("cpu", ("cpu", ())),
            (" cpu ", ("cpu", ())),
            ("cpu:0", ("cpu", (0,))),
            ("cpu:2,0", ("cpu", (2, 0))),
        ],
    )
    def test_good(self, text, meaning):
        assert parse_device(text) == meaning

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "write NAME or NAME:INDEX"),
            (":0", "write NAME or NAME:INDEX"),
            ("fake:", "has no index after ':'"),
            ("fake:x", "'x' is not a list of indices"),
            ("fake:0,", "is not a list of indices"),
            ("fake:0,0", "indices must differ"),
            ("fake:-1", "indices must differ and be 0 or more"),
            ("auto:0", "auto takes no index"),
        ],
    )
    def test_bad(self, text, says):
        with pytest.raises(BadDevice, match=says):
            select(plugins(platform("fake")), text)


class TestByName:
    def test_takes_the_platform_that_was_asked_for(self):
        chosen = select(plugins(platform("high", score=99), platform("fake")), "fake")
        assert chosen.platform.name == "fake"

    def test_one_that_is_not_installed_names_the_package(self):
        with pytest.raises(NotInstalled, match="pip install inferplane-other"):
            select(plugins(platform("fake")), "other")

    def test_a_misspelt_name_gets_a_suggestion(self):
        with pytest.raises(NotInstalled, match="did you mean 'fake'"):
            select(plugins(platform("fake")), "fkae")

    @pytest.mark.parametrize("name", ["fkae", "fa"])
    def test_a_misspelt_name_is_no_package_to_install(self, name):
        with pytest.raises(NotInstalled, match="did you mean 'fake'") as error:
            select(plugins(platform("fake")), name)
        assert "pip install" not in str(error.value)

    def test_a_short_name_may_be_another_platform_s(self):
        with pytest.raises(NotInstalled, match="pip install inferplane-apu"):
            select(plugins(platform("cpu")), "apu")

    def test_a_feature_plugin_is_no_platform(self):
        with pytest.raises(BadHook, match="'extra' is a feature plugin"):
            select(plugins(feature("extra"), platform("fake")), "extra")

    @pytest.mark.parametrize(
        ("found", "error"),
        [
            (installed("other", ImportError("no library")), ImportFailed),
            (installed("other", module_of(), group="inferplane.v99"), ContractMismatch),
            (installed("other", module_of()), BadHook),
            (platform("other", probe=missing), NoDevice),
            (platform("other", probe=raising), NoDevice),
            (platform("other", probe=lambda: None), NoDevice),
        ],
    )
    def test_never_ends_on_another_platform(self, found, error):
        with pytest.raises(error):
            select(plugins(found, platform("fake")), "other")

    def test_one_that_is_not_allowed_says_so(self):
        found = [platform("other"), platform("fake")]
        with pytest.raises(NotAllowed):
            select(discover(allow=["fake"], found=found), "other")


class TestNoDevice:
    def message(self, **changes) -> str:
        broken = platform("other", **({"probe": missing} | changes))
        with pytest.raises(NoDevice) as error:
            select(plugins(broken, platform("fake"), platform("third", probe=missing)), "other")
        return str(error.value)

    def test_says_why(self):
        assert "no driver is loaded" in self.message()

    def test_says_the_remedy(self):
        assert "remedy: load the driver" in self.message()

    def test_lists_what_would_work(self):
        assert "platforms that would work now: fake" in self.message()

    def test_says_how_to_plan_without_one(self):
        hint = "explain MODEL --device other --target NAME, of fake1"
        assert hint in self.message(profiles=(PROPS,))
        assert "--target" not in self.message(profiles=())

    def test_a_probe_that_raises_is_the_reason(self):
        assert "its probe raised OSError: libfake.so: wrong version" in self.message(probe=raising)

    def test_a_probe_of_the_wrong_type_is_the_reason(self):
        assert "its probe returned bool" in self.message(probe=lambda: True)


class TestProbe:
    def test_keeps_the_traceback_of_one_that_raises(self):
        plugin = only(platform("fake", probe=raising))
        probe(plugin)
        assert "in raising" in plugin.traceback

    def test_an_exit_is_a_missing_device(self):
        def leave():
            raise SystemExit(3)

        assert not probe(only(platform("fake", probe=leave))).available


class TestIndices:
    def chosen(self, text):
        two = platform("fake", probe=lambda: Probe.found([PROPS, PROPS]))
        return select(plugins(two), text)

    def test_none_takes_all_devices(self):
        assert [d.index for d in self.chosen("fake").devices] == [0, 1]

    def test_the_order_asked_for_is_kept(self):
        assert [d.index for d in self.chosen("fake:1,0").devices] == [1, 0]

    def test_one_out_of_range_says_how_many_there_are(self):
        with pytest.raises(BadDevice, match=r"fake:2: .* fake has 2 \(0 to 1\)"):
            self.chosen("fake:2")


class TestAuto:
    def test_takes_the_highest_score(self):
        chosen = select(plugins(platform("low", score=1), platform("high", score=2)))
        assert chosen.platform.name == "high"
        assert "highest score (2)" in chosen.reason

    def test_equal_scores_go_by_name(self):
        assert select(plugins(platform("b"), platform("a"))).platform.name == "a"

    def test_skips_what_is_not_there_and_says_so(self):
        chosen = select(plugins(platform("high", score=99, probe=missing), platform("low")))
        assert chosen.platform.name == "low"
        assert chosen.skipped == ["high: no driver is loaded"]

    def test_tells_of_plugins_that_cannot_be_used(self):
        chosen = select(plugins(installed("broken", ImportError("gone")), platform("fake")))
        assert "ImportError: gone" in chosen.skipped[0]

    def test_with_no_device_at_all_lists_every_reason(self):
        with pytest.raises(NoDevice) as error:
            select(plugins(platform("a", probe=missing), platform("b", probe=raising)))
        assert "a: no driver is loaded" in str(error.value)
        assert "b: its probe raised OSError" in str(error.value)


class TestTarget:
    def test_needs_no_device(self):
        chosen = select(plugins(platform("fake", probe=missing)), "fake", target="fake1")
        assert chosen.planning
        assert chosen.props == PROPS

    def test_does_not_probe(self):
        asked = []
        found = platform("fake", probe=lambda: asked.append(1) or missing())
        select(plugins(found), "fake", target="fake1")
        assert asked == []

    def test_an_unknown_profile_lists_those_there_are(self):
        with pytest.raises(BadDevice, match="no profile 'fake9'; profiles: fake1"):
            select(plugins(platform("fake")), "fake", target="fake9")

    def test_auto_has_no_profiles(self):
        with pytest.raises(BadDevice, match="needs --device NAME"):
            select(plugins(platform("fake")), "auto", target="fake1")
