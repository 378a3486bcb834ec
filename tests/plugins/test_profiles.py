"""What the docs show about testing without the hardware, on the example plugin."""

from __future__ import annotations

import sys

import pytest
from tests.fakes.packages import install
from tests.plugins.conftest import ROOT

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.fixture
def example(tmp_path, monkeypatch):
    package = ROOT / "plugins" / "example" / "inferplane_example"
    names = {"example": "inferplane_example.plugin"}
    monkeypatch.syspath_prepend(install(tmp_path, "inferplane-example", [package], names))
    yield
    for name in [n for n in sys.modules if n.startswith("inferplane_example")]:
        del sys.modules[name]


@pytest.mark.usefixtures("example")
# --8<-- [start:profile]
def test_every_add_norm_runs_on_our_kernel():
    from inferplane.planning.plan import make_plan
    from inferplane.settings import Settings

    settings = Settings(model="tiny-arithmetic", device="example", target="example-8g")
    choices = make_plan(settings).resolution.choices.values()
    assert {c.names for c in choices if c.request.op == "norm.add_rms"} == {"example.add_rms_norm"}


# --8<-- [end:profile]


@pytest.mark.usefixtures("example")
# --8<-- [start:supports]
def test_fp16_is_refused_with_a_reason():
    from inferplane_example.device import PROFILE
    from inferplane_example.plugin import supports_add_rms_norm

    from inferplane.spec import NormRequest

    request = NormRequest(op="norm.add_rms", device=PROFILE, size=64, dtype="fp16", eps=1e-6)
    answer = supports_add_rms_norm(request)
    assert answer.reason == "dtype is fp16, the example has bf16 and fp32"


# --8<-- [end:supports]
