"""Quantization while loading."""

import pytest
import torch
from safetensors.torch import load_file

from inferplane.errors import UserError
from inferplane.formats.checkpoint import Checkpoint
from inferplane.formats.online import INT8, LAST, NAMES, Online, OnlineStore
from inferplane.formats.quantize import quantize
from inferplane.formats.registry import find_quantization
from inferplane.params import SamplingParams
from inferplane.spec import UNQUANTIZED, WeightPart

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=12)

PROJECTION = "model.layers.0.mlp.down_proj"


def part(name: str, shape, dtype: str) -> WeightPart:
    return WeightPart(
        name="x",
        key=f"{PROJECTION}.{name}",
        full_shape=shape,
        offset=(0,) * len(shape),
        shape=shape,
        dtype=dtype,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_schemes(name):
    scheme = Online(name).scheme("model.layers.0.mlp.experts.3.up_proj", 256, False)
    assert scheme.quantized
    assert Online(name).scheme("model.layers.0.mlp.gate", 256, True) is UNQUANTIZED
    last = LAST if name in ("int8", "int4") else UNQUANTIZED
    assert Online(name).scheme("lm_head", 256, True) == last


def test_a_mixture_s_experts_alone():
    online = Online("int4fp8_moe")
    assert online.scheme("model.layers.0.self_attn.q_proj", 256, False) is UNQUANTIZED
    scheme = online.scheme("model.layers.0.mlp.experts.gate_up_proj", 256, False)
    assert (scheme.weight, scheme.activation) == ("int4", "fp8_e4m3")


def test_the_group_divides_the_inputs_or_nothing_is_quantized():
    assert Online("int4").scheme("x", 192, False).group == 64
    assert Online("int4").scheme("x", 20, False) is UNQUANTIZED
    assert Online("mxfp8").scheme("x", 20, False) is UNQUANTIZED


def test_experts_of_one_layer_have_groups_of_one_size():
    online = Online("int4", experts=32)
    for module in ("mlp.experts.3.up_proj", "mlp.experts.down_proj", "mlp.shared_experts.up_proj"):
        assert [online.scheme(module, inputs, False).group for inputs in (128, 32)] == [32, 32]
    assert online.scheme("self_attn.q_proj", 128, False).group == 128


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss", "deepseek-v3"])
def test_int4_experts_whose_projections_have_other_inputs(name, make_llm, checkpoint):
    llm = make_llm(name, quantization="int4")
    requests = [choice.request for choice in llm.plan.resolution.choices.values()]
    schemes = {r.scheme.name for r in requests if r.op == "moe.experts"}
    assert schemes == {"none" if name == "gpt-oss" else "int4-g32"}  # its inner size is 48
    assert llm.generate([[1, 2, 3]], SamplingParams(max_tokens=2))


def test_a_module_is_quantized_once_for_all_its_tensors(checkpoint, monkeypatch):
    store = OnlineStore(Checkpoint(checkpoint("llama")), Online("int8"))
    weight = load_file(checkpoint("llama") / "model.safetensors")[f"{PROJECTION}.weight"]
    right = quantize(INT8, weight)
    made = []
    original = store._quantized
    monkeypatch.setattr(store, "_quantized", lambda *a: made.append(a) or original(*a))
    for name, dtype in (("weight", "int8"), ("scale", "fp32")):
        tensor = right[name]
        assert torch.equal(store.read(part(name, tuple(tensor.shape), dtype)), tensor)
    assert len(made) == 1


@pytest.mark.parametrize("name", ["int8", "fp8", "mxfp8", "int4"])
@pytest.mark.parametrize("model", ["qwen3", "qwen3-untied"])
def test_the_model_runs_and_projections_alone_are_quantized(name, model, make_llm):
    llm = make_llm(model, quantization=name)
    llm.generate([[1, 2, 3]], SamplingParams(max_tokens=2))
    choices = llm.plan.resolution.choices
    schemes = {path: c.request.scheme for path, c in choices.items() if c.request.op == "linear"}
    assert schemes.pop("lm_head") == (LAST if name in ("int8", "int4") else UNQUANTIZED)
    assert all(scheme.quantized for scheme in schemes.values())
    assert llm.plan.effective["quantization"] == name


def test_a_tensor_that_does_not_fit_is_named(make_llm, changed_config):
    with pytest.raises(UserError, match=r"wrong shapes .*\n.*mlp.down_proj.weight is"):
        make_llm(changed_config("qwen3", intermediate_size=64), quantization="int8")


def test_an_unknown_name_is_an_error():
    with pytest.raises(UserError, match=r"'int9' is not known .did you mean 'int8'"):
        find_quantization({}, "int9")


def test_an_unknown_format_is_an_error():
    with pytest.raises(UserError, match="quantized with 'sudoku', which is not known"):
        find_quantization({"quantization_config": {"quant_method": "sudoku"}}, None)
