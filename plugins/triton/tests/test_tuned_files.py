"""Tuned configurations: a file is used, or it is told why not."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import pytest
from inferplane_triton import defaults
from inferplane_triton.spaces import SPACES
from inferplane_triton.tuned_files import FOLDER, BadFile, configured, file_name, parse

from inferplane.spec import DeviceProps, GiB, NormRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)

DEVICE = DeviceProps(name="Acme A1 (80 GB)", profile="a1", memory_bytes=GiB, dtypes={"fp32"})
REQUEST = NormRequest(device=DEVICE, size=256, dtype="fp32", eps=1e-6)
ENTRY = {"request": "fp32 256", "case": "", "configuration": {"rows": 8, "warps": 2}}


def document(**changes: Any) -> dict[str, Any]:
    return {"format": 1, "device": DEVICE.name, "op": "norm.rms", "entries": [ENTRY]} | changes


def save(folder, text: str) -> None:
    (folder / file_name(DEVICE.name, "norm.rms")).write_text(text)


def test_names_of_files_are_plain():
    assert file_name("Acme A1 (80 GB)", "norm.rms") == "acme-a1-80-gb.norm.rms.json"


def test_a_measured_configuration_is_used(tmp_path):
    save(tmp_path, json.dumps(document()))
    default = defaults.norm(REQUEST)
    assert configured("norm.rms", REQUEST, "", default, tmp_path) == {"rows": 8, "warps": 2}


def test_another_request_gets_the_default(tmp_path):
    save(tmp_path, json.dumps(document()))
    other = replace(REQUEST, size=512)
    default = defaults.norm(other)
    assert configured("norm.rms", other, "", default, tmp_path) == default


def test_no_file_is_no_warning(tmp_path):
    default = defaults.norm(REQUEST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert configured("norm.rms", REQUEST, "", default, tmp_path) == default


def test_a_broken_file_is_a_warning_that_says_what_to_do_and_defaults_are_used(tmp_path):
    save(tmp_path, "{not json")
    default = defaults.norm(REQUEST)
    with pytest.warns(UserWarning, match="not JSON.*inferplane tune --op norm.rms"):
        assert configured("norm.rms", REQUEST, "", default, tmp_path) == default


BROKEN = {
    "another format": (document(format=2), "format is 2"),
    "another device": (document(device="B2"), "device is 'B2'"),
    "another op": (document(op="sample"), "op is 'sample'"),
    "no entries": (document(entries=None), "entries is not a list"),
    "an entry that is a number": (document(entries=[3]), "entry 1 is not an object"),
    "no request": (document(entries=[{**ENTRY, "request": 7}]), "request and case must be texts"),
    "an unknown case": (document(entries=[{**ENTRY, "case": "odd"}]), "case is 'odd'"),
    "an unknown parameter": (
        document(entries=[{**ENTRY, "configuration": {"wraps": 2}}]),
        "no parameter 'wraps'; there are rows, warps",
    ),
    "a value that is none": (
        document(entries=[{**ENTRY, "configuration": {"warps": 3}}]),
        "warps is 3; it can be 1, 2, 4, 8, 16",
    ),
    "true for a number": (
        document(entries=[{**ENTRY, "configuration": {"warps": True}}]),
        "warps is True",
    ),
}


@pytest.mark.parametrize(("found", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said(found, reason):
    with pytest.raises(BadFile, match=reason.replace("(", r"\(")):
        parse(json.dumps(found), "norm.rms", DEVICE.name)


def test_every_shipped_file_can_be_used():
    for path in FOLDER.glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert path.name == file_name(found["device"], found["op"])
        parse(path.read_text(encoding="utf-8"), found["op"], found["device"])
    assert FOLDER.is_dir()


def test_every_tunable_candidate_has_a_space():
    from inferplane_triton import plugin

    names = "ops", "attention", "blocks", "quantization", "moe"
    hooks = [getattr(plugin, f"inferplane_{name}") for name in names]
    tunable = {c.op for hook in hooks for c in hook(DEVICE) if c.tunable}
    assert tunable == set(SPACES)
