"""gpt-oss's experts: the same weights as transformers reads."""

import pytest
import torch
from tests.fakes.quantized import FP4

from inferplane.errors import UserError
from inferplane.formats.mxfp4 import Mxfp4
from inferplane.formats.views import view
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

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


def test_sizes_that_do_not_fit_are_told(format):
    with pytest.raises(UserError, match="48 inputs cannot be cut into groups of 32"):
        format.stored(UP, (2, 6, 48))


def test_a_broken_list_is_told():
    with pytest.raises(UserError, match="modules_to_not_convert is 'lm_head'"):
        Mxfp4({"quantization_config": {"modules_to_not_convert": "lm_head"}})
