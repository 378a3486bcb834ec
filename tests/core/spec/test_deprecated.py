"""Renamed names of the contract work for one minor version."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import inferplane.spec as spec
from inferplane.plugins.hooks import KNOWN_HOOKS
from inferplane.spec.deprecated import (
    DEPRECATED,
    Deprecation,
    accept_old_fields,
    check_table,
    old_name,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

NAMES = vars(spec)


def entry(use: str, since=(0, 2), removed_in=(0, 3)) -> Deprecation:
    return Deprecation(since=since, removed_in=removed_in, use=use)


def test_the_table_of_this_version_is_right():
    assert check_table(DEPRECATED, NAMES, KNOWN_HOOKS) == []


GOOD = {
    "a hook": {"inferplane_element_ops": entry("inferplane_ops")},
    "a name": {"DeviceProperties": entry("DeviceProps")},
    "a field": {"PlatformSpec.env": entry("visible_devices")},
}
BAD = {
    "nothing to use": ({"inferplane_x": entry("inferplane_y")}, "there is no 'inferplane_y'"),
    "no such field": ({"PlatformSpec.env": entry("variable")}, "there is no 'variable'"),
    "not renamed": ({"Probe": entry("Support")}, "Probe still exists"),
    "a field that is there": ({"PlatformSpec.score": entry("vendor")}, "score still exists"),
    "overdue": ({"Props": entry("DeviceProps", (0, 1), (0, 2))}, "take the entry out"),
    "no time": ({"Props": entry("DeviceProps", (0, 4), (0, 4))}, "one version at least"),
}


@pytest.mark.parametrize("table", GOOD.values(), ids=GOOD)
def test_a_rename_is_accepted(table):
    assert check_table(table, NAMES, KNOWN_HOOKS, (0, 2)) == []


@pytest.mark.parametrize(("table", "says"), BAD.values(), ids=BAD)
def test_a_wrong_entry_is_found(table, says):
    (found,) = check_table(table, NAMES, KNOWN_HOOKS, (0, 2))
    assert says in found


def test_the_message_names_both_and_the_time():
    text = entry("visible_devices").message("PlatformSpec.env")
    assert text == (
        "PlatformSpec.env is PlatformSpec.visible_devices since contract 0.2: rename it before 0.3"
    )


def test_an_old_name_is_the_new_one():
    assert old_name("Properties", NAMES, {"Properties": entry("DeviceProps")}) is spec.DeviceProps


def test_any_other_name_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'Properties'"):
        _ = spec.Properties


class TestOldField:
    def kind(self):
        @dataclass(frozen=True, kw_only=True)
        class Spec:
            name: str
            visible: str = ""

        accept_old_fields({"Spec": Spec}, {"Spec.env": entry("visible")})
        return Spec

    def test_can_be_given(self):
        assert self.kind()(name="a", env="X").visible == "X"

    def test_can_be_read(self):
        assert self.kind()(name="a", visible="X").env == "X"

    def test_does_not_change_the_new_one(self):
        assert self.kind()(name="a", visible="X").visible == "X"

    def test_cannot_be_given_with_the_new_one(self):
        with pytest.raises(TypeError, match="was given 'visible' and its old name 'env'"):
            self.kind()(name="a", env="X", visible="Y")
