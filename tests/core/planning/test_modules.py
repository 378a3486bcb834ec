"""Which modules may be quantized is read from a config alone."""

import json

import pytest

from inferplane.errors import UserError
from inferplane.planning.modules import quantizable

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_projections_but_not_the_last_one(name, checkpoint):
    found = quantizable(json.loads((checkpoint(name) / "config.json").read_text()))
    assert len(found) == 14
    assert found["model.layers.1.mlp.down_proj"] == 96
    assert found["model.layers.0.self_attn.q_proj"] == 64


def test_all_experts_but_no_router(checkpoint):
    found = quantizable(json.loads((checkpoint("qwen3-moe") / "config.json").read_text()))
    assert {f"model.layers.1.mlp.experts.{e}.down_proj" for e in range(8)} <= found.keys()
    assert not [module for module in found if module.endswith(".gate")]


def test_an_unknown_model_is_told():
    with pytest.raises(UserError, match="no model for architecture"):
        quantizable({"architectures": ["Nothing"]})
