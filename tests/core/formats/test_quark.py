"""Quark: what the tool wrote, layers of their own, and what we refuse."""

import pytest
import torch
from tests.fakes.quantized import eights, golden
from tests.fakes.quantized_cases import BY_32, quark

from inferplane.errors import UserError
from inferplane.formats.quark import Quark
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

GOLDEN = golden("quark")
K = "model.layers.0.self_attn.k_proj"
SCHEMES = {
    "fp8_tensor": "fp8_e4m3-tensor-a:fp8_e4m3-tensor-static",
    "fp8_channel": "fp8_e4m3-channel-a:fp8_e4m3-token",
    "int8": "int8-channel-a:int8-tensor",
    "int4": "int4-g32",
    "uint4": "uint4-g32-zero",
    "mxfp4": "fp4_e2m1-g32-sue8m0-a:fp4_e2m1-g32",
}
FP8 = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}


def read(weight, inputs=None, **more):
    return Quark({"quantization_config": quark(weight, inputs) | more})


@pytest.mark.parametrize("name", SCHEMES)
def test_the_tool_s_reader_sees_the_same_weight(name):
    config, stored, dense = GOLDEN[name]
    format = Quark({"quantization_config": config})
    scheme = format.scheme(K)
    assert scheme.name == SCHEMES[name]
    assert format.scheme("lm_head") is UNQUANTIZED
    assert format.scheme("model.layers.0.mlp.down_proj") is UNQUANTIZED
    tensors = {f"{K}.{key}": tensor for key, tensor in stored.items()}
    found = dequantize(scheme, format.load(K, tensors.__getitem__))
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=0)


def test_outputs_in_their_order():
    """`pack_method` "order" does not mix the eight outputs of an int32."""
    draw = torch.Generator().manual_seed(0)
    made = eights(True)(8, 32, draw)
    weight = {"dtype": "int4", "symmetric": True, **BY_32}
    mixed, plain = (read(weight, export={"pack_method": m}) for m in ("reorder", "order"))
    tensors = {f"{K}.{key}": tensor for key, tensor in made.tensors.items()}
    codes = mixed.load(K, tensors.__getitem__)["weight"]
    assert torch.equal(
        plain.load(K, tensors.__getitem__)["weight"], codes[[0, 2, 4, 6, 1, 3, 5, 7]]
    )


def test_layers_of_their_own():
    other = {"weight": {"dtype": "int8", "qscheme": "per_channel", "ch_axis": 0}}
    format = read(FP8, layer_quant_config={"*.mlp.*": other, "model.layers.9": {"weight": None}})
    assert format.scheme("model.layers.0.mlp.up_proj").weight == "int8"
    assert format.scheme("model.layers.9.self_attn.k_proj") is UNQUANTIZED
    assert format.scheme(K).weight == "fp8_e4m3"


@pytest.mark.parametrize(
    ("weight", "inputs", "message"),
    [
        ({"dtype": "int3", **BY_32}, None, r"weight\.dtype is 'int3': known: fp8_e4m3"),
        ({"dtype": "int4", "qscheme": "per_channel"}, None, "known for int4: per_group"),
        ({"dtype": "int4", "qscheme": "per_group"}, None, "group_size is None"),
        ({**FP8, "is_dynamic": True}, None, "weights are quantized once"),
        (
            {"dtype": "int8", "qscheme": "per_tensor", "symmetric": False},
            None,
            "symmetric is False",
        ),
        (FP8, {**FP8, "symmetric": False}, "asymmetric activations are not supported"),
        (FP8, {"dtype": "fp8_e4m3", "qscheme": "per_channel"}, "one scale a tensor"),
        ([FP8, FP8], None, r"weight is \[\{"),
    ],
)
def test_what_a_scheme_may_say_but_we_cannot_do(weight, inputs, message):
    with pytest.raises(UserError, match=message):
        read(weight, inputs)
