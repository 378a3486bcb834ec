"""SIM_ variables."""

from __future__ import annotations

import pytest
from inferplane_sim.config import load_settings, variables
from inferplane_sim.driver import props_of

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=2)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_the_profile_s1():
    props = props_of(load_settings())
    assert (props.profile, props.memory_bytes, props.page_sizes) == ("s1", 4 << 30, (128,))
    assert props.dtypes == {"fp32", "bf16", "fp16"}
    assert "int64_index" not in props.capabilities
    assert props.execution == "emulated"


def test_variables_are_read(monkeypatch):
    for name, value in {
        "SIM_PROFILE": "910b",
        "SIM_DEVICES": "3",
        "SIM_MEMORY_MB": "64",
        "SIM_DTYPES": "fp32, bf16",
        "SIM_ASYNC": "0",
        "SIM_LATENCY_US": "5.5",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    props = props_of(settings)
    assert (settings.devices, settings.asynchronous, settings.latency_us) == (3, False, 5.5)
    assert (props.profile, props.memory_bytes) == ("910b", 64 << 20)
    assert props.dtypes == {"fp32", "bf16"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SIM_PROFILE", "h200x", "profiles: s1, h100"),
        ("SIM_DEVICES", "0", "greater than or equal to 1"),
        ("SIM_DTYPES", "fp31", "no dtype 'fp31'"),
        ("SIM_FAULTS", "melt@3", "no fault 'melt'; faults: oom, kernel"),
        ("SIM_GRAPH", "1", "did you mean SIM_GRAPHS"),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_there_is(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="simulator") as raised:
        load_settings()
    assert said in str(raised.value)


def test_every_variable_is_in_the_readme():
    from pathlib import Path

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert [name for name in variables() if f"`{name}`" not in readme] == []
