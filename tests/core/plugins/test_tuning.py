"""Measured preferences: the file, and what it does to a choice."""

from __future__ import annotations

import json

import pytest

from inferplane.errors import UserError
from inferplane.plugins import tuning
from inferplane.plugins.resolution import Resolver
from inferplane.plugins.tuning import NO_TUNING, key_of, load_tuning, text_of, versions
from inferplane.spec import (
    AttentionRequest,
    Candidate,
    DeviceProps,
    LinearRequest,
    NormRequest,
    QuantScheme,
    Support,
    TokenRange,
)

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
        device, op, text = key_of(REQUEST)
        kernels = [{"kernel": name, "relative": 1.0 + at} for at, name in enumerate(names)]
        entry = {"device": device, "op": op, "key": text, "request": REQUEST.describe()}
        entry |= {"kernels": kernels, "failed": [], "made": versions()}
        path = tmp_path / "tuning.json"
        path.write_text(json.dumps({"format": 2, "entries": [entry | changes]}))
        return str(path)

    return make


def chosen(file: str, offers=OFFERS):
    return Resolver(offers, tuning=load_tuning(file)).choose(REQUEST)


def reasons(choice) -> dict[str, str]:
    return {r.candidate.name: r.reason for r in choice.rejected}


def test_the_measured_order_wins_over_priorities_and_is_the_reason(file):
    choice = chosen(file("x.third", "x.second", "x.first"))
    assert choice.candidate.name == "x.third"
    assert reasons(choice) == dict.fromkeys(("x.first", "x.second"), "tuning data prefers x.third")


def test_kernels_that_failed_come_last(file):
    failed = [{"kernel": "x.first", "reason": "it disagrees"}]
    choice = chosen(file("x.third", "x.second", failed=failed))
    assert choice.candidate.name == "x.third"
    assert reasons(choice)["x.first"] == "tuning data prefers x.third"


def test_a_kernel_that_was_not_measured_leaves_all_to_priorities(file):
    choice = chosen(file("x.third", "x.second"))
    assert choice.candidate.name == "x.first"
    assert set(reasons(choice).values()) == {"lower priority than x.first"}


def test_a_kernel_that_cannot_serve_need_not_have_been_measured(file):
    unable = Candidate(
        op="norm.rms",
        name="x.unable",
        supports=lambda request: Support.no("too small"),
        load="inferplane.reference.norm:rms_norm",
    )
    named = file("x.third", "x.second", "x.first")
    assert chosen(named, [*OFFERS, unable]).candidate.name == "x.third"


def test_references_never_take_part(file):
    reference = offer("reference.norm.rms", 9)
    named = file("reference.norm.rms", "x.third", "x.second", "x.first")
    choice = chosen(named, [*OFFERS, reference])
    assert choice.candidate.name == "x.third"
    assert reasons(choice)["reference.norm.rms"] == "lower priority than x.third"
    only = chosen(file("reference.norm.rms", "x.third"), [reference, OFFERS[2]])
    assert only.candidate.name == "x.third"


@pytest.mark.parametrize(("relative", "name"), [(1.029, "x.first"), (1.031, "x.third")])
def test_within_three_percent_of_the_fastest_the_priority_decides(file, relative, name):
    rows = {"x.third": 1.0, "x.first": relative, "x.second": 3.0}
    kernels = [{"kernel": kernel, "relative": time} for kernel, time in rows.items()]
    choice = chosen(file(kernels=kernels))
    assert choice.candidate.name == name
    assert reasons(choice)["x.second"] == f"tuning data prefers {name}"


ATTENTION = {
    "device": PROPS,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "dtype": "bf16",
    "kv_dtype": "bf16",
    "page_size": 16,
    "scale": 0.125,
}
SCHEME = {"weight": "int4", "granularity": "group", "group": 128}


@pytest.mark.parametrize(
    "change",
    [
        {"kv_dtype": "fp8_e4m3"},
        {"sinks": True},
        {"softcap": 50.0},
        {"window": 128},
        {"kv_scales": True},
        {"causal": False},
    ],
)
def test_all_that_attention_computes_is_in_the_key(change):
    assert key_of(AttentionRequest(**ATTENTION)) != key_of(AttentionRequest(**ATTENTION | change))


@pytest.mark.parametrize(
    "change",
    [
        {"bias": True},
        {"shards": 2, "sharding": "row"},
        {"parts": (64, 64)},
        {"scheme": QuantScheme(name="same", **SCHEME | {"group": 64})},
        {"scheme": QuantScheme(name="same", **SCHEME, zero_point=True)},
    ],
)
def test_all_that_a_linear_layer_computes_is_in_the_key(change):
    given = {"device": PROPS, "in_features": 128, "out_features": 128, "dtype": "bf16"}
    given["scheme"] = QuantScheme(name="same", **SCHEME)
    assert key_of(LinearRequest(**given)) != key_of(LinearRequest(**given | change))


def test_the_key_is_sorted_text_without_device_tokens_and_extra():
    assert text_of(REQUEST) == "dtype=fp32 eps=1e-05 op=norm.rms size=64 weight_offset=0.0"
    assert text_of(REQUEST.over(TokenRange(1, 8))) == text_of(REQUEST)
    assert "kind=full" in text_of(AttentionRequest(**ATTENTION)).split()


def test_other_versions_than_those_of_the_file_are_told(file):
    assert load_tuning(file("x.first")).note() == ""
    old = load_tuning(file("x.first", made={"date": "2020-01-01", **versions(), "torch": "1.0"}))
    now = versions()
    assert old.note() == (
        f"; measured with torch 1.0, here are inferplane {now['inferplane']}, torch "
        f"{now['torch']}: measure again"
    )


@pytest.mark.parametrize("changes", [{"device": "b"}, {"op": "norm.add_rms"}, {"key": "?"}])
def test_what_was_measured_for_something_else_says_nothing(file, changes):
    named = file("x.third", "x.second", "x.first", **changes)
    assert chosen(named).candidate.name == "x.first"


def test_a_request_whose_kernels_all_failed_is_left_to_priorities(file):
    failed = [{"kernel": c.name, "reason": "?"} for c in OFFERS]
    choice = chosen(file(failed=failed))
    assert choice.candidate.name == "x.first"
    assert set(reasons(choice).values()) == {"lower priority than x.first"}


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
        ('{"format": 1, "entries": []}', "its format is 1, this version reads 2; measure again"),
        ('{"format": 2, "entries": [{"device": "a"}]}', "KeyError: 'op'"),
        ('{"format": 2, "entries": [{"device": "", "op": "", "key": ""}]}', "'failed'"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_says_why(text, reason, tmp_path):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"--tuning .*x\.json: .*--tuning none") as raised:
        load_tuning(str(path))
    assert reason in str(raised.value)
