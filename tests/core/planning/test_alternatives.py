"""What is said where a scheme has no kernels."""

import json
import subprocess
import sys

import pytest

from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=15)

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 300,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 28,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 128,
    "torch_dtype": "bfloat16",
}
REFUSED = "reference.linear: weight type is fp8_e4m3, which Simulated S1 neither computes"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def problem(folder, **settings) -> str:
    with pytest.raises(UserError) as raised:
        make_plan(Settings(model=str(folder), device="sim", load_format="dummy", **settings))
    return str(raised.value)


def test_every_problem_is_told_at_once_with_what_would_work(folder):
    text = problem(folder, quantization="fp8")
    assert text.startswith("1 problem stops") and text.count(REFUSED) == 1
    assert " and 1 more (112 sites):" in text
    assert text.endswith(
        "no --quantization or --quantization int8 or --quantization int4 would work"
    )


def test_pins_leave_nothing_to_advise(folder):
    text = problem(folder, quantization="fp8", kernel=("linear=sim.linear", "rotary!=sim.rotary"))
    assert "no --quantization would work" in text


def test_quantization_that_finds_nothing_is_a_warning():
    settings = {"device": "cpu", "load_format": "dummy", "plugins": ("cpu", "reference")}
    warned = "--quantization int4fp8_moe quantizes nothing of this model"

    def warnings(model: str) -> list[str]:
        return make_plan(Settings(model=model, quantization="int4fp8_moe", **settings)).warnings

    assert warnings("tiny-arithmetic") == [warned]
    assert warned not in warnings("tiny-arithmetic-moe")


def test_the_start_stops_before_torch_is_loaded(folder):
    code = f"""
import sys
from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings
try:
    make_plan(Settings(model={str(folder)!r}, device="sim", quantization="fp8"))
except UserError as error:
    assert "would work" in str(error)
    sys.exit(3 if "torch" in sys.modules else 7)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7
