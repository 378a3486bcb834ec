"""What a platform and the feature plugins offer, and what happens to a bad offer."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import candidate, feature, platform

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.errors import BadHook, ImportFailed
from inferplane.plugins.selection import select
from inferplane.spec import MemoryInfo, ModelSpec, SettingProposal

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)


def raising_ops(props):
    raise RuntimeError("out of order")


def catalog(*found, target=None) -> Catalog:
    plugins = discover(found=found)
    return Catalog(plugins, select(plugins, "fake", target))


def offers(*candidates):
    return {"inferplane_ops": lambda props: list(candidates)}


def names(made: Catalog) -> list[str]:
    return [c.name for c in made.candidates]


class TestOffers:
    def test_platform_and_features_are_joined(self):
        made = catalog(
            platform("fake", hooks=offers(candidate("fake.a"))),
            feature("extra", **offers(candidate("extra.b"))),
        )
        assert names(made) == ["fake.a", "extra.b"]

    def test_other_platforms_are_not_asked(self):
        asked = []
        other = platform("other", hooks={"inferplane_ops": lambda props: asked.append(1)})
        catalog(platform("fake"), other)
        assert asked == []

    def test_a_feature_for_another_platform_is_left_out(self):
        extra = feature("extra", platforms=("other",), **offers(candidate("extra.b")))
        assert names(catalog(platform("fake"), extra)) == []

    def test_hooks_receive_the_device(self):
        seen = []

        def ops(props):
            seen.append(props)
            return []

        made = catalog(platform("fake", hooks={"inferplane_ops": ops}))
        assert seen == [made.props]

    def test_a_hook_may_return_nothing(self):
        assert names(catalog(platform("fake", hooks={"inferplane_ops": lambda props: None}))) == []


BAD_OFFERS = {
    "not a candidate": (["kernel"], "gave str, not Candidate"),
    "not a list": (7, "gave int, not a list"),
    "unknown op": ([candidate("x.a", op="linaer")], "'linaer', not an op.*did you mean 'linear'"),
    "unknown level": ([candidate("x.a", level="huge")], "level 'huge'"),
    "twice": ([candidate("x.a"), candidate("x.a", priority=1)], "offers linear x.a twice"),
    "the core's name": ([candidate("reference.a")], "names with 'reference.' are the core's"),
}


@pytest.mark.parametrize(("offer", "says"), BAD_OFFERS.values(), ids=BAD_OFFERS)
class TestBadOffer:
    def test_of_the_platform_is_an_error(self, offer, says):
        with pytest.raises(BadHook, match=says):
            catalog(platform("fake", hooks={"inferplane_ops": lambda props: offer}))

    def test_of_a_feature_is_a_warning(self, offer, says):
        made = catalog(platform("fake"), feature("extra", inferplane_ops=lambda props: offer))
        (warning,) = made.warnings
        with pytest.raises(BadHook, match=says):
            raise BadHook(warning)


class TestFeatureThatRaises:
    def test_does_not_stop_the_platform(self):
        made = catalog(
            platform("fake", hooks=offers(candidate("fake.a"))),
            feature("extra", inferplane_ops=raising_ops),
        )
        assert names(made) == ["fake.a"]

    def test_is_told(self):
        made = catalog(platform("fake"), feature("extra", inferplane_ops=raising_ops))
        assert "inferplane_ops raised RuntimeError: out of order" in made.warnings[0]

    def test_loses_all_its_offers(self):
        half = feature("extra", inferplane_attention=raising_ops, **offers(candidate("extra.a")))
        assert names(catalog(platform("fake"), half)) == []

    def test_does_not_keep_the_name_that_it_offered(self):
        bad = feature("bad", inferplane_attention=raising_ops, **offers(candidate("same.a")))
        good = feature("good", **offers(candidate("same.a")))
        assert names(catalog(platform("fake"), bad, good)) == ["same.a"]

    def test_in_settings_does_not_stop_the_platform(self):
        def settings(settings, props):
            raise RuntimeError("out of order")

        made = catalog(platform("fake"), feature("extra", inferplane_settings=settings))
        assert made.proposals({}) == []
        assert "out of order" in made.warnings[0]

    def test_in_models_does_not_stop_the_platform(self):
        def models():
            raise RuntimeError("out of order")

        made = catalog(platform("fake"), feature("extra", inferplane_models=models))
        assert made.models() == []
        assert "out of order" in made.warnings[0]


def test_a_platform_that_raises_is_an_error():
    with pytest.raises(ImportFailed, match="inferplane_ops raised RuntimeError"):
        catalog(platform("fake", hooks={"inferplane_ops": raising_ops}))


def test_two_features_cannot_offer_one_name():
    made = catalog(
        platform("fake"),
        feature("one", **offers(candidate("same.a"))),
        feature("two", **offers(candidate("same.a"))),
    )
    assert names(made) == ["same.a"]
    assert "plugin 'one'" in made.warnings[0]


def test_proposals_name_their_plugin():
    proposal = SettingProposal(key="threads", value=1, reason="few cores")
    hooks = {"inferplane_settings": lambda settings, props: [proposal]}
    assert catalog(platform("fake", hooks=hooks)).proposals({}) == [("fake", proposal)]


def test_models_of_features_are_collected():
    model = ModelSpec(name="New", load="new:New")
    made = catalog(platform("fake"), feature("extra", inferplane_models=lambda: [model]))
    assert made.models() == [model]


class TestMemory:
    info = MemoryInfo(free_bytes=1, total_bytes=2, source="the driver")

    def test_comes_from_the_platform(self):
        hooks = {"inferplane_memory": lambda props: self.info}
        assert catalog(platform("fake", hooks=hooks)).memory() == self.info

    def test_comes_from_the_profile_when_planning(self):
        hooks = {"inferplane_memory": lambda props: self.info}
        made = catalog(platform("fake", hooks=hooks), target="fake1")
        assert made.memory().source == "profile fake1"

    def test_comes_from_the_device_without_the_hook(self):
        made = catalog(platform("fake"))
        assert made.memory().total_bytes == made.props.memory_bytes


def test_a_platform_without_a_driver_gets_the_default_one():
    assert catalog(platform("fake")).device().torch_type == "cpu"
