"""Hooks by name: which are implemented, which are wrong, and that each is asked."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import candidate, module_of, platform, platform_spec

from inferplane.plugins.catalog import CANDIDATE_HOOKS, Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.errors import BadHook
from inferplane.plugins.hooks import KNOWN_HOOKS, hook_problems, implemented, register
from inferplane.plugins.selection import select

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

ASKED = (
    "inferplane_ops",
    "inferplane_attention",
    "inferplane_moe",
    "inferplane_quantization",
    "inferplane_communicator",
    "inferplane_graphs",
    "inferplane_transfer",
    "inferplane_blocks",
)


@pytest.mark.parametrize("hook", ASKED)
def test_what_a_hook_offers_is_in_the_catalog(hook):
    offered = candidate("fake.one")
    plugins = discover(found=[platform("fake", hooks={hook: lambda props: [offered]})])
    assert Catalog(plugins, select(plugins, "fake")).candidates == [offered]


def test_every_hook_of_candidates_is_asked():
    assert set(CANDIDATE_HOOKS) == set(ASKED)
    assert set(ASKED) <= KNOWN_HOOKS


def test_all_problems_are_told_at_once():
    module = module_of(inferplane_atention=lambda props: [], inferplane_oops=lambda props: [])
    module.inferplane_ops = lambda props: []
    assert len(hook_problems(module)) == 3


def test_a_sound_module_has_no_problems():
    assert hook_problems(module_of(inferplane_platform=platform_spec)) == []


def test_what_is_implemented_is_told_in_order():
    module = module_of(inferplane_platform=platform_spec, inferplane_ops=lambda props: [])
    assert implemented(register("fake", "fake", module)) == [
        "inferplane_ops",
        "inferplane_platform",
    ]


def test_a_plugin_with_problems_is_not_registered():
    with pytest.raises(BadHook, match=r"^fake: there is no hook inferplane_oops"):
        register("fake", "fake", module_of(inferplane_oops=lambda: None))
