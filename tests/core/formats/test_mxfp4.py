"""gpt-oss's experts: the same weights as transformers reads."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.quantized import FP4

from inferplane.errors import UserError
from inferplane.formats.mxfp4 import Mxfp4
from inferplane.formats.views import view
from inferplane.params import SamplingParams
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=6)

GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
UP = "model.layers.0.mlp.experts.gate_up_proj"
GPT_OSS = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


@pytest.fixture
def format():
    return Mxfp4({"quantization_config": GPT_OSS})


def stored(experts=2, outputs=6, groups=3):
    draw = torch.Generator().manual_seed(0)
    shape = (experts, outputs, groups)
    blocks = torch.randint(0, 256, (*shape, 16), generator=draw, dtype=torch.uint8)
    scales = torch.randint(110, 135, shape, generator=draw, dtype=torch.uint8)
    return {f"{UP}_blocks": blocks, f"{UP}_scales": scales}


def test_only_stacked_experts_are_quantized(format):
    assert format.scheme(UP).name == "fp4_e2m1-g32-sue8m0"
    assert format.scheme("model.layers.0.mlp.experts.down_proj").quantized
    for module in ("lm_head", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.router"):
        assert format.scheme(module) is UNQUANTIZED


def test_names_and_shapes(format):
    found = format.stored(UP, (2, 6, 96))
    assert found == {f"{UP}_blocks": (2, 6, 3, 16), f"{UP}_scales": (2, 6, 3)}


def test_transformers_reads_the_same(format):
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    tensors = stored()
    expected = convert_moe_packed_tensors(*tensors.values(), dtype=torch.float32)
    found = dequantize(format.scheme(UP), format.load(UP, tensors.__getitem__))
    assert torch.equal(found, expected.transpose(1, 2))


def test_gates_come_before_ups_in_the_store_s_view(format):
    tensors = stored(experts=1, outputs=4, groups=1)
    found = {n: view(t, ("deinterleave",)) for n, t in format.load(UP, tensors.__getitem__).items()}
    dense = dequantize(format.scheme(UP), found)[0]
    codes = tensors[f"{UP}_blocks"][0, :, 0]
    first_of_each_row = FP4[(codes[:, 0] & 15).long()] * 2.0 ** (
        tensors[f"{UP}_scales"][0, :, 0].float() - 127
    )
    assert torch.equal(dense[:, 0], first_of_each_row[[0, 2, 1, 3]])


def test_tokens_are_those_of_the_dequantized_experts(checkpoint, tmp_path, make_llm):
    """gpt-oss with experts as large as two blocks. Dense ones are stored [X, C, 2I]."""
    source = checkpoint("gpt-oss")
    config = json.loads((source / "config.json").read_text()) | {"intermediate_size": 64}
    draw = torch.Generator().manual_seed(3)
    kept, dense = {}, {}
    for name, tensor in load_file(source / "model.safetensors").items():
        kept[name] = dense[name] = tensor
        if ".experts." not in name:
            continue
        del kept[name], dense[name]
        experts, down = tensor.shape[0], "down_proj" in name
        outputs, inputs = (64, 64) if down else (128, 64)
        if name.endswith("_bias"):
            kept[name] = dense[name] = torch.randn((experts, outputs), generator=draw) * 0.1
            continue
        shape = (experts, outputs, inputs // 32)
        code = torch.randint(0, 16, (experts, outputs, inputs), generator=draw)
        power = torch.randint(-5, -3, shape, generator=draw)
        blocks = (code[..., 0::2] + 16 * code[..., 1::2]).to(torch.uint8)
        kept[f"{name}_blocks"] = blocks.unflatten(-1, (-1, 16))
        kept[f"{name}_scales"] = (power + 127).to(torch.uint8)
        worth = FP4[code] * 2.0 ** power.repeat_interleave(32, -1)
        dense[name] = worth.transpose(1, 2).contiguous()
    found = []
    for folder, tensors, more in (
        (tmp_path / "quantized", kept, {"quantization_config": GPT_OSS}),
        (tmp_path / "dense", dense, {}),
    ):
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config | more))
        result = make_llm(folder).generate([[3, 1, 4, 1, 5, 9]], GREEDY)
        found.append(result[0].outputs[0].token_ids)
    assert found[0] == found[1]


def test_sizes_that_do_not_fit_are_told(format):
    with pytest.raises(UserError, match="48 inputs cannot be cut into groups of 32"):
        format.stored(UP, (2, 6, 48))


def test_a_broken_list_is_told():
    with pytest.raises(UserError, match="modules_to_not_convert is 'lm_head'"):
        Mxfp4({"quantization_config": {"modules_to_not_convert": "lm_head"}})
