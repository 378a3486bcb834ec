"""Differences between two contracts: what changed, and whom it breaks."""

from __future__ import annotations

import copy

import pytest

from inferplane.errors import UserError
from inferplane.plugins.changes import (
    changes,
    compare,
    parse_version,
    previous,
    read_lock,
    versions,
)
from inferplane.spec import SPEC_VERSION

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.fixture
def old():
    return read_lock(SPEC_VERSION)


def after(old, change) -> list[tuple[str, str, bool]]:
    """(kind, name, whether it breaks somebody) of what `change` did to the contract."""
    new = copy.deepcopy(old)
    change(new["names"], new["ops"])
    return [(c.kind, c.name, bool(c.breaks)) for c in compare(old, new)]


def field(names, owner: str, text: str, at: int | None = None) -> None:
    fields = names[owner]["fields"]
    fields.insert(len(fields) if at is None else at, text)


def replace_field(names, owner: str, name: str, text: str) -> None:
    fields = names[owner]["fields"]
    fields[[f.partition(":")[0] for f in fields].index(name)] = text


def method(names, owner: str, name: str, text: str | None) -> None:
    if text is None:
        del names[owner]["methods"][name]
    else:
        names[owner]["methods"][name] = text


HOOK = "inferplane_ops"
SPECS = "InferplaneSpecs"
# What is done to the contract, and what must be found.
CASES = {
    "nothing": (lambda n, o: None, []),
    "a new name": (lambda n, o: n.update(New="1"), [("added", "New", False)]),
    "a removed name": (lambda n, o: n.pop("Probe"), [("removed", "Probe", True)]),
    "a constant": (lambda n, o: n.update(KiB="1000"), [("changed", "KiB", True)]),
    "a field with a default": (
        lambda n, o: field(n, "PlatformSpec", "url: str = ''"),
        [("added", "PlatformSpec.url", False)],
    ),
    "a required field": (
        lambda n, o: field(n, "PlatformSpec", "url: str"),
        [("added", "PlatformSpec.url", True)],
    ),
    "a field before others given by position": (
        lambda n, o: field(n, "Support", "code: int = 0", at=1),
        [("added", "Support.code", True)],
    ),
    "a field after others given by position": (
        lambda n, o: field(n, "Support", "code: int = 0"),
        [("added", "Support.code", False)],
    ),
    "a removed field": (
        lambda n, o: n["PlatformSpec"]["fields"].remove("score: int = 10"),
        [("removed", "PlatformSpec.score", True)],
    ),
    "a field's type": (
        lambda n, o: replace_field(n, "PlatformSpec", "score", "score: float = 10"),
        [("changed", "PlatformSpec.score", True)],
    ),
    "a field's default": (
        lambda n, o: replace_field(n, "PlatformSpec", "score", "score: int = 5"),
        [("changed", "PlatformSpec.score", True)],
    ),
    "a field that became optional": (
        lambda n, o: replace_field(n, "PlatformSpec", "vendor", "vendor: str = ''"),
        [("changed", "PlatformSpec.vendor", False)],
    ),
    "a method with a default implementation": (
        lambda n, o: method(n, "Device", "reset", "(self) -> None"),
        [("added", "Device.reset", False)],
    ),
    "a method that kernels must write": (
        lambda n, o: method(n, "LinearKernel", "warm", "(self) -> None"),
        [("added", "LinearKernel.warm", True)],
    ),
    "a removed method": (
        lambda n, o: method(n, "Device", "pin", None),
        [("removed", "Device.pin", True)],
    ),
    "a method's signature": (
        lambda n, o: method(n, "Device", "seed", "(self, seed: int, all: bool = True) -> None"),
        [("changed", "Device.seed", True)],
    ),
    "a new hook": (
        lambda n, o: method(n, SPECS, "inferplane_new", "(self) -> int"),
        [("added", "hook inferplane_new", False)],
    ),
    "a removed hook": (
        lambda n, o: method(n, SPECS, HOOK, None),
        [("removed", "hook inferplane_ops", True)],
    ),
    "a hook's new argument, which pluggy passes to who names it": (
        lambda n, o: method(
            n, SPECS, HOOK, "(self, props: DeviceProps, rank: int) -> list[Candidate]"
        ),
        [("changed", "hook inferplane_ops", False)],
    ),
    "a hook's renamed argument": (
        lambda n, o: method(n, SPECS, HOOK, "(self, device: DeviceProps) -> list[Candidate]"),
        [("changed", "hook inferplane_ops", True)],
    ),
    "a new member": (
        lambda n, o: n["GroupKind"]["members"].update(NEW="new"),
        [("added", "GroupKind.NEW", False)],
    ),
    "a member's value": (
        lambda n, o: n["GroupKind"]["members"].update(FULL="all"),
        [("changed", "GroupKind.FULL", True)],
    ),
    "a new op": (lambda n, o: o.update({"op.new": {}}), [("added", "op op.new", False)]),
    "a removed op": (lambda n, o: o.pop("rotary"), [("removed", "op rotary", True)]),
    "an op's call": (
        lambda n, o: o["rotary"].update(call="(q)"),
        [("changed", "op rotary", True)],
    ),
    "an op that is not provisional any more": (
        lambda n, o: o["moe.dispatch"].update(provisional=False),
        [("changed", "op moe.dispatch", False)],
    ),
}


@pytest.mark.parametrize(("change", "found"), CASES.values(), ids=CASES)
def test_a_change_is_found_and_says_whether_it_breaks(old, change, found):
    assert after(old, change) == found


def test_what_breaks_somebody_comes_first(old):
    def change(names, ops):
        names.update(A="1")
        names.pop("Probe")

    assert [name for _, name, _ in after(old, change)] == ["Probe", "A"]


def test_a_hook_that_lost_an_argument_says_who_names_it(old):
    new = copy.deepcopy(old)
    method(new["names"], SPECS, HOOK, "(self) -> list[Candidate]")
    (change,) = compare(old, new)
    assert change.breaks == "plugins whose hook names props"


def test_the_present_version_has_a_lock():
    assert SPEC_VERSION in versions()


def test_the_previous_version_is_the_one_before():
    assert previous((0, 2)) == (0, 1)


def test_the_first_version_has_none_before():
    assert previous((0, 1)) == (0, 1)


def test_fault_came_with_the_second_version():
    found = {change.name: change for change in changes((0, 1), (0, 2))}
    assert not found["Device.fault"].breaks


def test_an_unknown_version_lists_those_there_are():
    with pytest.raises(UserError, match=r"no contract version '7.1'; there are 0.1, 0.2"):
        parse_version("7.1")
