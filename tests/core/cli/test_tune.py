"""`inferplane tune`, with a kernel of the tests on the CPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.fakes.packages import install_source

from inferplane.cli.main import run as command

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=12)

PLUGIN = """
from inferplane.spec import FeatureSpec, hookimpl
from tests.fakes.tunable import candidate

@hookimpl
def inferplane_feature():
    return FeatureSpec(name="tuned", api=(0, 4))

@hookimpl
def inferplane_ops(props):
    return [candidate()]
"""


@pytest.fixture
def tune(tmp_path, monkeypatch, capsys):
    """Runs the command in this process, with a plugin that is found by its metadata."""
    monkeypatch.syspath_prepend(install_source(tmp_path / "site", "tuned", PLUGIN))
    monkeypatch.setattr("tests.fakes.tunable.fake.folder", tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["tune", "--model", "tiny-arithmetic", "--device", "cpu", *arguments]
        code = command(given)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield call
    sys.modules.pop("inferplane_tuned", None)


def document(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_fastest_configuration_is_written_where_the_kernel_looks(tune, tmp_path):
    code, out, err = tune()
    assert code == 0, err
    found = document(tmp_path / "fake.json")
    assert (found["format"], found["op"]) == (1, "norm.rms")
    assert found["device"]
    assert {entry["request"] for entry in found["entries"]} == {"bf16 256"}
    for entry in found["entries"]:
        assert entry["configuration"] == {"work": 1}
        assert entry["case"] == "prefill"
        assert entry["default_microseconds"] > entry["microseconds"] > 0
    assert "work=1" in out
    assert "fake.json" in out


def test_what_the_device_cannot_run_is_told_with_its_reason(tune):
    code, out, _ = tune("--json")
    assert code == 0
    row = json.loads(out)[0]
    assert (row["tried"], row["kernel"]) == (2, "tuned.kernel")
    (refused,) = row["refused"]
    assert "too much shared memory" in refused["reason"]


def test_entries_of_other_models_stay(tune, tmp_path):
    path = tmp_path / "mine.json"
    assert tune("--op", "norm.rms", "--out", str(path))[0] == 0
    kept = document(path)
    kept["entries"] = [{**kept["entries"][0], "request": "bf16 4096"}]
    path.write_text(json.dumps(kept))
    assert tune("--op", "norm.rms", "--out", str(path))[0] == 0
    requests = [entry["request"] for entry in document(path)["entries"]]
    assert requests == ["bf16 4096", "bf16 256"]


def test_a_file_of_something_else_is_not_overwritten(tune, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"format": 1, "device": "another", "op": "norm.rms", "entries": []}')
    code, _, err = tune("--op", "norm.rms", "--out", str(path))
    assert code == 1
    assert "another device" in err
    assert document(path)["device"] == "another"


def test_an_op_without_configurations_is_an_error_that_names_those_with(tune):
    code, _, err = tune("--op", "attention")
    assert code == 1
    assert "tunable ops: norm.rms" in err


def test_out_needs_one_op(tune, tmp_path):
    code, _, err = tune("--out", str(tmp_path / "x.json"))
    assert code == 1
    assert "--op" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("moe",), "no kernel of 'moe.experts' that this model gets"),
        (("rope",), "tune 'rope': there is moe"),
        (("moe", "--op", "norm.rms"), "tune moe is --op moe.experts, and --op norm.rms is given"),
    ],
)
def test_an_area_is_the_op_that_it_stands_for(tune, arguments, said):
    code, _, err = tune(*arguments)
    assert code == 1
    assert said in err
