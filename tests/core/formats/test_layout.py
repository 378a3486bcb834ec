"""Every format as a whole checkpoint: its weights, its tokens, and its quantized inputs."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.quantized import Case, fp8, packed, write
from tests.fakes.quantized_cases import CASES, GROUP_32, args, compressed, fp8_config

from inferplane.errors import UserError
from inferplane.formats.checkpoint import Checkpoint
from inferplane.formats.locate import read_config
from inferplane.formats.registry import find_quantization
from inferplane.params import SamplingParams
from inferplane.spec.quantized import as_quantized, dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=20)

PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [7] * 20]
GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
INPUTS = ("fp8-blocks", "fp8-tensor-static", "mxfp8", "ct-w8a8", "ct-nvfp4", "modelslim-w4a4")


@pytest.fixture
def made(checkpoint, tmp_path):
    """(name of a case) -> the folder of its checkpoint."""
    return lambda name: write(checkpoint("llama"), tmp_path, CASES[name])


def opened(folder):
    return find_quantization(read_config(folder), None).format, Checkpoint(folder)


def tokens(llm):
    return [r.outputs[0].token_ids for r in llm.generate(PROMPTS, GREEDY)]


@pytest.mark.parametrize("name", CASES)
def test_weights_are_what_was_written(name, made):
    folder = made(name)
    format, store = opened(folder)
    dense = load_file(folder.parent / "dense" / "model.safetensors")
    quantized = 0
    for key, expected in dense.items():
        module, _, last = key.rpartition(".")
        scheme = format.scheme(module)
        if not scheme.quantized:
            assert torch.equal(store.tensor(key), expected)
            continue
        assert last == "weight"
        found = dequantize(scheme, format.load(module, store.tensor))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        quantized += 1
    assert quantized >= 10


@pytest.mark.parametrize("name", CASES)
def test_tokens_are_those_of_the_dequantized_weights(name, made, make_llm):
    """Inputs are left as they are here: formats that quantize them are read dense."""
    folder = made(name)
    weights_only = not opened(folder)[0].scheme("model.layers.0.mlp.up_proj").activation
    weights_only = weights_only and name != "ct-mixed"
    quantized = make_llm(folder, quantization=None if weights_only else "dequantize")
    assert tokens(quantized) == tokens(make_llm(folder.parent / "dense"))


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_quantized_as_the_scheme_says(name, made, make_llm):
    """Against transformers, whose projections see inputs that were rounded the same way. A code
    that falls on the other side of an edge moves a logit a little, so most must agree closely."""
    import transformers

    folder = made(name)
    format, store = opened(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder.parent / "dense").eval()
    rounding = 0
    for module, layer in model.named_modules():
        scheme = format.scheme(module)
        if module.endswith("_proj") and scheme.quantized:
            scale = format.load(module, store.tensor).get("input_scale")

            def rounded(layer, given, scheme=scheme, scale=scale):
                return (as_quantized(scheme, given[0].flatten(0, 1), scale)[None],)

            layer.register_forward_pre_hook(rounded)
            rounding += 1
    assert rounding >= 10
    with torch.inference_mode():
        expected = model(torch.tensor([PROMPTS[0]])).logits[0, -1].log_softmax(-1)
    params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=20)
    given = make_llm(folder).generate([PROMPTS[0]], params)[0].outputs[0].logprobs[0]
    errors = torch.tensor([abs(float(p.logprob - expected[t])) for t, p in given.items()])
    plain = make_llm(folder.parent / "dense").generate([PROMPTS[0]], params)[0].outputs[0]
    apart = torch.tensor(
        [abs(float(p.logprob - expected[t])) for t, p in plain.logprobs[0].items()]
    )
    assert errors.median() < 0.2 * apart.median()


def test_asymmetric_inputs_are_refused_but_the_weights_load(made, make_llm):
    folder = made("modelslim-w8a8")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.input_offset"] = torch.tensor([5.0])
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"q_proj\.input_offset is not zero: asymmetric .*dequantize"
    ):
        make_llm(folder)
    found = tokens(make_llm(folder, quantization="dequantize"))
    assert found == tokens(make_llm(folder.parent / "dense"))


SPLIT = Case(
    compressed("pack-quantized", args(4, **GROUP_32), ignore=["lm_head", "re:.*(k|up)_proj"]),
    {"k_proj": None, "up_proj": None, "": packed()},
)


def test_parts_of_one_layer_with_schemes_of_their_own(checkpoint, tmp_path, make_llm):
    """q and v are quantized and k is not; gate is, and up is not."""
    folder = write(checkpoint("llama"), tmp_path, SPLIT)
    assert tokens(make_llm(folder)) == tokens(make_llm(folder.parent / "dense"))


SMALL_BLOCKS = Case(
    fp8_config(weight_block_size=[16, 16], fmt="e4m3"),
    {"": fp8(rows=16, columns=16, scale="weight_scale_inv")},
)


@pytest.mark.parametrize(
    ("model", "case", "quantization"),
    [
        ("qwen3-moe", CASES["ct-w4a16"], None),
        ("qwen3-moe", CASES["modelslim-w4a8"], "dequantize"),
        ("deepseek-v3", SMALL_BLOCKS, "dequantize"),
    ],
)
def test_mixtures_of_experts(model, case, quantization, checkpoint, tmp_path, make_llm):
    folder = write(checkpoint(model), tmp_path, case)
    format, store = opened(folder)
    experts = [key for key in store.shapes if ".experts." in key and "weight" in key]
    assert experts and format.scheme(experts[0].rpartition(".")[0]).quantized
    found = tokens(make_llm(folder, quantization=quantization))
    assert found == tokens(make_llm(folder.parent / "dense"))
    if quantization:
        assert tokens(make_llm(folder))


def test_a_scale_of_another_shape_is_listed(made):
    folder = made("ct-w4a16")
    tensors = load_file(folder / "model.safetensors")
    key = "model.layers.0.self_attn.q_proj.weight_scale"
    tensors[key] = tensors[key][:, :1].contiguous()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=r"q_proj\.weight_scale is \[64, 1\], the model needs \[64, 2\]"
    ):
        _plan_and_open(folder)


def test_a_missing_scale_is_listed(made):
    folder = made("fp8-blocks")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.self_attn.q_proj.weight_scale_inv"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"missing tensors \(1\)"):
        _plan_and_open(folder)


def test_a_weight_of_another_type_is_told(checkpoint, tmp_path, make_llm):
    case = Case(fp8_config(fmt="e4m3"), {"": fp8(torch.float8_e5m2)})
    folder = write(checkpoint("llama"), tmp_path, case)
    with pytest.raises(UserError, match="weight is float8_e5m2, its format has float8_e4m3fn"):
        make_llm(folder)


def _plan_and_open(folder):
    from inferplane.executor.local import open_store
    from inferplane.planning.plan import make_plan
    from inferplane.settings import Settings

    plan = make_plan(Settings(model=str(folder), device="cpu", dtype="fp32", num_pages=16))
    open_store(plan, torch.device("cpu"))
