"""Quantized checkpoints as a store: what does not fit the model is said before it runs."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

CONFIG = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
BIAS = "model.layers.0.mlp.up_proj.bias"


@pytest.fixture
def changed(written):
    """(change of the stored tensors) -> the folders of a GPTQ checkpoint and of a dense one."""

    def make(change):
        fields = lambda module: None if module == "lm_head" else {}  # noqa: E731
        quantized, dense = written("llama", "gptq", CONFIG, fields)
        tensors = load_file(quantized / "model.safetensors")
        change(tensors)
        save_file(tensors, quantized / "model.safetensors")
        return quantized, dense

    return make


def test_zeros_for_a_bias_that_the_model_has_not_are_ignored(changed, same_tokens):
    assert same_tokens(*changed(lambda t: t.update({BIAS: torch.zeros(96)})))


def test_other_numbers_for_a_bias_that_the_model_has_not_are_refused(changed, make_llm):
    quantized, _ = changed(lambda t: t.update({BIAS: torch.ones(96)}))
    with pytest.raises(UserError, match=r"up_proj\.bias is not zero, but the model has no bias"):
        make_llm(quantized)


def test_missing_and_misshapen_tensors_are_listed_together(changed, make_llm):
    def change(tensors):
        del tensors["model.layers.0.mlp.up_proj.scales"]
        tensors["model.layers.1.mlp.up_proj.qzeros"] = torch.zeros(1, 12, dtype=torch.int32)
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(1)

    quantized, _ = changed(change)
    with pytest.raises(UserError) as caught:
        make_llm(quantized)
    text = str(caught.value)
    assert "missing tensors (1)" in text and "layers.0.mlp.up_proj.scales" in text
    assert "unexpected tensors (1)" in text and "layers.1.mlp.up_proj.weight" in text
    assert "layers.1.mlp.up_proj.qzeros is [1, 12], the model needs [2, 12]" in text


def test_quantization_that_the_flag_contradicts_is_refused_with_both(changed, make_llm):
    quantized, _ = changed(lambda tensors: None)
    with pytest.raises(UserError, match=r"--quantization is 'fp8', but .* 'gptq'"):
        make_llm(quantized, quantization="fp8")


def test_a_quantized_checkpoint_is_dequantized_when_asked(changed, same_tokens, make_llm):
    from inferplane.params import SamplingParams

    quantized, dense = changed(lambda tensors: None)
    greedy = SamplingParams(temperature=0.0, max_tokens=12)
    found, right = (
        make_llm(folder, **more).generate([[5, 6, 7]], greedy)[0].outputs[0].token_ids
        for folder, more in ((quantized, {"quantization": "dequantize"}), (dense, {}))
    )
    assert found == right


@pytest.mark.parametrize("name", ["deepseek-v2-lite", "deepseek-v3"])
def test_a_quantized_projection_of_all_heads_is_read_head_by_head(name, written, same_tokens):
    def fields(module):
        return None if module == "lm_head" or module.endswith("mlp.gate") else {"group": 8}

    folders = written(name, "gptq", CONFIG | {"group_size": 8}, fields)
    assert "model.layers.0.self_attn.kv_b_proj.qweight" in load_file(
        folders[0] / "model.safetensors"
    )
    assert same_tokens(*folders)
