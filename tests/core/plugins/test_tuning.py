"""Measured preferences: the file, and what it does to a choice."""

from __future__ import annotations

import json

import pytest

from inferplane.errors import UserError
from inferplane.plugins import tuning
from inferplane.plugins.resolution import Resolver
from inferplane.plugins.tuning import NO_TUNING, key_of, load_tuning
from inferplane.spec import Candidate, DeviceProps, NormRequest, Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)

PROPS = DeviceProps(name="A", profile="a", memory_bytes=1, dtypes={"fp32"})
REQUEST = NormRequest(device=PROPS, size=64, dtype="fp32", eps=1e-5)


def offer(name: str, priority: int) -> Candidate:
    return Candidate(
        op="norm.rms",
        name=name,
        supports=lambda request: Support.yes(),
        load="inferplane.reference.norm:rms_norm",
        priority=priority,
    )


OFFERS = [offer("x.first", 2), offer("x.second", 1), offer("x.third", 0)]


@pytest.fixture
def file(tmp_path):
    """(names, best first): a file with that order for the request."""

    def make(*names: str, **changes):
        device, op, request = key_of(REQUEST)
        kernels = [{"kernel": name} for name in names]
        entry = {"device": device, "op": op, "request": request, "kernels": kernels}
        path = tmp_path / "tuning.json"
        path.write_text(json.dumps({"format": 1, "entries": [entry | changes]}))
        return str(path)

    return make


def test_the_measured_order_wins_over_priorities_and_is_the_reason(file):
    choice = Resolver(OFFERS, tuning=load_tuning(file("x.third", "x.second"))).choose(REQUEST)
    assert choice.candidate.name == "x.third"
    reasons = {r.candidate.name: r.reason for r in choice.rejected}
    assert set(reasons) == {"x.first", "x.second"}
    assert set(reasons.values()) == {"tuning data prefers x.third"}


@pytest.mark.parametrize("changes", [{"device": "b"}, {"op": "norm.add_rms"}, {"request": "?"}])
def test_what_was_measured_for_something_else_says_nothing(file, changes):
    found = load_tuning(file("x.third", **changes))
    assert Resolver(OFFERS, tuning=found).choose(REQUEST).candidate.name == "x.first"


def test_a_request_whose_kernels_all_failed_is_left_to_priorities(file):
    assert Resolver(OFFERS, tuning=load_tuning(file())).choose(REQUEST).candidate.name == "x.first"


def test_the_default_file_is_read_where_it_exists(file, monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "default_file", lambda: tmp_path / "tuning.json")
    assert load_tuning(None) is NO_TUNING
    path = file("x.third")
    assert load_tuning(None).source == path
    assert load_tuning("none") is NO_TUNING


def test_a_home_that_cannot_be_read_holds_no_file(monkeypatch, tmp_path):
    class Locked(type(tmp_path)):
        """As in a home of mode 0, which a test of root could read."""

        def stat(self, **given):
            raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(tuning, "default_file", lambda: Locked(tmp_path / "tuning.json"))
    assert load_tuning(None) is NO_TUNING


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "FileNotFoundError"),
        ("[", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"format": 2, "entries": []}', "its format is 2, this version reads 1"),
        ('{"format": 1, "entries": [{"device": "a"}]}', "KeyError: 'op'"),
        ('{"format": 1, "entries": [{"device": "", "op": "", "request": ""}]}', "'kernels'"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_why(text, reason, tmp_path):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"--tuning .*x\.json: .*--tuning none") as raised:
        load_tuning(str(path))
    assert reason in str(raised.value)
