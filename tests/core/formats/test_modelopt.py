"""Model Optimizer: what the tool wrote, its two files, mixed layers, and what we refuse."""

import pytest
import torch
from tests.fakes.quantized import golden

from inferplane.errors import UserError
from inferplane.formats.modelopt import ModelOpt
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

GOLDEN = golden("modelopt")
K = "model.layers.0.self_attn.k_proj"
SCHEMES = {
    "FP8": "fp8_e4m3-tensor-a:fp8_e4m3-tensor-static",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8_e4m3-channel-a:fp8_e4m3-token",
    "NVFP4": "fp4_e2m1-g16-sfp8_e4m3-a:fp4_e2m1-g16-static",
    "W4A16_NVFP4": "fp4_e2m1-g16-sfp8_e4m3",
    "MXFP8": "fp8_e4m3-g32-sue8m0-a:fp8_e4m3-g32",
    "W8A16": "int8-channel",
}


def read(**config):
    return ModelOpt({"quantization_config": {"quant_method": "modelopt", **config}})


@pytest.mark.parametrize("name", SCHEMES)
def test_the_tool_s_reader_sees_the_same_weight(name):
    config, stored, dense = GOLDEN[name]
    format = ModelOpt({"quantization_config": config})
    scheme = format.scheme(K)
    assert scheme.name == SCHEMES[name]
    assert format.scheme("lm_head") is UNQUANTIZED
    tensors = {f"{K}.{key}": tensor for key, tensor in stored.items()}
    found = dequantize(scheme, format.load(K, tensors.__getitem__))
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=0)


def test_layers_of_a_mixture():
    format = read(
        quant_algo="MIXED_PRECISION",
        quantized_layers={
            "model.layers.0.self_attn": {"quant_algo": "FP8"},
            "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
        },
        ignore=["model.layers.0.self_attn.o_proj"],
        kv_cache_scheme={"num_bits": 8, "type": "float"},
    )
    assert format.scheme(K).weight == "fp8_e4m3"
    assert format.scheme("model.layers.0.mlp.up_proj").weight == "fp4_e2m1"
    assert format.scheme("model.layers.0.mlp.down_proj") is UNQUANTIZED
    assert format.scheme("model.layers.0.self_attn.o_proj") is UNQUANTIZED
    assert format.describe() == "modelopt, MIXED_PRECISION; its KV cache is meant as FP8"


@pytest.mark.parametrize("name", ["*k_proj", "model.layers.0*", "*self_attn*", "k_proj", K])
def test_excluded_modules(name):
    assert read(quant_algo="FP8", exclude_modules=[name]).scheme(K) is UNQUANTIZED


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "quant_algo is None: known: FP8"),
        ({"quant_algo": "W4A16_AWQ"}, "quant_algo is 'W4A16_AWQ': known: FP8"),
        ({"quant_algo": "NVFP4", "pre_quant_scale": True}, "scales before layers"),
        ({"quant_algo": "MIXED_PRECISION"}, "quantized_layers is None: it must name"),
        ({"quant_algo": "NVFP4", "group_size": "16"}, "group_size is '16'"),
    ],
)
def test_what_a_file_may_say_but_we_cannot_do(config, message):
    with pytest.raises(UserError, match=message):
        read(**config)


@pytest.mark.parametrize(("kind", "given"), [("FP8", True), ("NVFP4", False), (None, False)])
def test_scales_of_a_quantized_kv_cache(kind, given):
    names = ("a.k_proj.k_scale", "a.v_proj.v_scale")
    found = read(quant_algo="FP8", kv_cache_quant_algo=kind).kv_scales("a")
    assert found == (names if given else None)
