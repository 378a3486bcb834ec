"""compressed-tensors: what its own tools wrote, and what we refuse of what they can say."""

import pytest
import torch
from tests.fakes.quantized import golden
from tests.fakes.quantized_cases import CHANNEL, GROUP_32, TOKEN, args, compressed

from inferplane.errors import UserError
from inferplane.formats.compressed_tensors import CompressedTensors
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

GOLDEN = golden("compressed_tensors")
K = "model.layers.0.self_attn.k_proj"
PRESETS = {
    "W4A16": "int4-g128",
    "W4A16_G32_ASYM": "uint4-g32-zero",
    "W8A16_G32": "int8-g32",
    "W8A16_CH_ASYM": "uint8-channel-zero",
    "W8A8": "int8-channel-a:int8-token",
    "INT8_STATIC": "int8-channel-a:int8-tensor-static",
    "W4A8": "int4-g128-a:int8-token",
    "W4AFP8": "int4-g128-a:fp8_e4m3-token",
    "FP8": "fp8_e4m3-tensor-a:fp8_e4m3-tensor-static",
    "FP8_DYNAMIC": "fp8_e4m3-channel-a:fp8_e4m3-token",
    "FP8_BLOCK": "fp8_e4m3-b128x128-a:fp8_e4m3-g128",
    "NVFP4": "fp4_e2m1-g16-sfp8_e4m3-a:fp4_e2m1-g16-static",
    "MXFP4": "fp4_e2m1-g32-sue8m0-a:fp4_e2m1-g32",
    "MXFP8": "fp8_e4m3-g32-sue8m0-a:fp8_e4m3-g32",
}


def read(**changes):
    config = compressed("int-quantized", args(8, **CHANNEL), args(8, **TOKEN)) | changes
    return CompressedTensors({"quantization_config": config})


def of(weights, inputs=None, format="pack-quantized"):
    return CompressedTensors({"quantization_config": compressed(format, weights, inputs)})


@pytest.mark.parametrize("name", PRESETS)
def test_the_tool_s_reader_sees_the_same_weight(name):
    config, stored, dense = GOLDEN[name]
    format = CompressedTensors({"quantization_config": config})
    scheme = format.scheme(K)
    assert scheme.name == PRESETS[name]
    tensors = {f"{K}.{key}": tensor for key, tensor in stored.items()}
    found = dequantize(scheme, format.load(K, tensors.__getitem__))
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=0)
    shapes = {k: v for k, v in format.stored(K, tuple(dense.shape)).items() if v is not None}
    assert set(shapes) <= set(tensors)
    assert set(tensors) <= set(format.stored(K, tuple(dense.shape)))


def test_scales_are_kept_in_the_type_of_the_file():
    config = compressed("pack-quantized", args(4, **GROUP_32))
    seen = {"weight_scale": {"dtype": "BF16", "shape": [8, 4]}}
    format = CompressedTensors({"quantization_config": config | {"stored": seen}})
    assert format.scheme(K).scale == "bf16"
    tensors = {
        f"{K}.weight_packed": torch.zeros(8, 16, dtype=torch.int32),
        f"{K}.weight_scale": torch.full((8, 4), 0.1),
    }
    with pytest.raises(UserError, match=r"weight_scale is torch\.float32, other scales are bf16"):
        format.load(K, tensors.__getitem__)


def test_a_name_comes_before_a_pattern_and_a_pattern_before_a_class():
    def group(target, bits):
        return {"targets": [target], "weights": args(bits, **CHANNEL)}

    format = read(
        config_groups={
            "a": group("Linear", 8) | {"format": "int-quantized"},
            "b": group("re:.*k_proj", 4) | {"format": "pack-quantized"},
            "c": group(K, 8) | {"format": "pack-quantized"},
        },
        ignore=["re:.*down_proj"],
    )
    assert format.layout(K).packing == "words"
    assert format.scheme(K).weight == "int8"
    assert format.scheme("model.layers.1.self_attn.k_proj").weight == "int4"
    assert format.layout("model.layers.1.self_attn.q_proj").packing == "loose"
    assert format.scheme("model.layers.1.mlp.down_proj") is UNQUANTIZED


@pytest.mark.parametrize(
    "module",
    ["lm_head", "model.embed_tokens", "model.layers.0.mlp.gate", "model.layers.0.input_layernorm"],
)
def test_what_is_no_linear_layer_or_ignored_stays(module):
    assert read().scheme(module) is UNQUANTIZED


def test_the_kv_cache_scheme_is_told():
    scheme = args(8, "float", strategy="tensor")
    assert read(kv_cache_scheme=scheme).describe().endswith("KV cache is meant as float8")
    assert f"{K}.k_scale" in read().stored(K, (8, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config_groups": None}, r"config_groups is None"),
        ({"config_groups": {"FP8": ["Linear"]}}, r"config_groups\.FP8 is \['Linear'\]"),
        ({"format": "marlin-24"}, r"group_0\.format is 'marlin-24': known: pack-quantized"),
        ({"format": "dense"}, r"group_0\.format is 'dense'"),
        ({"quantization_status": "frozen"}, r"quantization_status is 'frozen': only 'compressed'"),
        (
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            r"sparsity_config\.format is 'sparse-24-bitmask': sparse weights",
        ),
        ({"transform_config": {"config_groups": {"u": {}}}}, r"transforms \(rotations\)"),
        ({"ignore": ["re:("]}, r"ignore has the pattern '\(', which is broken"),
    ],
)
def test_what_a_file_may_say_but_we_cannot_do(changes, message):
    with pytest.raises(UserError, match=message):
        read(**changes).scheme(K)


@pytest.mark.parametrize(
    ("weights", "inputs", "format", "message"),
    [
        (args(3, **GROUP_32), None, "pack-quantized", r"weights\.num_bits is 3: known for int"),
        (args(6, "float", **GROUP_32), None, "naive-quantized", r"num_bits is 6"),
        (args(4, "float", **GROUP_32), None, "naive-quantized", "float does not fit"),
        (args(4, **GROUP_32 | {"group_size": 0}), None, "pack-quantized", "group_size is 0"),
        (args(8, strategy="token"), None, "int-quantized", "strategy is 'token'"),
        (args(8, "float", strategy="block"), None, "float-quantized", "block_structure is None"),
        (args(8, **CHANNEL, actorder="group"), None, "pack-quantized", "only groups have an order"),
        (args(8, strategy="channel") | {"dynamic": True}, None, "int-quantized", "dynamic is True"),
        (
            args(8, **CHANNEL),
            args(8, **TOKEN) | {"symmetric": False},
            "int-quantized",
            r"input_activations\.symmetric is False: asymmetric activations are not supported",
        ),
        (args(8, **CHANNEL), args(8, **CHANNEL), "int-quantized", "one scale a tensor"),
        (args(8, **CHANNEL), args(8, strategy="attn_head", dynamic=True), "int-quantized", "known"),
    ],
)
def test_what_a_scheme_may_say_but_we_cannot_do(weights, inputs, format, message):
    with pytest.raises(UserError, match=message):
        of(weights, inputs, format)


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(UserError, match="48 inputs cannot be cut into groups of 32"):
        of(args(4, **GROUP_32)).stored(K, (8, 48))
    with pytest.raises(UserError, match="12 inputs of 4 bits do not fill words"):
        of(args(4, **CHANNEL)).stored(K, (8, 12))


def test_an_order_that_is_none_is_told():
    format = of(args(4, **GROUP_32, actorder="group"))
    tensors = {
        f"{K}.weight_packed": torch.zeros(8, 8, dtype=torch.int32),
        f"{K}.weight_scale": torch.ones(8, 2),
        f"{K}.weight_g_idx": torch.zeros(64, dtype=torch.int32),
    }
    with pytest.raises(UserError, match="does not put 32 inputs into each group"):
        format.load(K, tensors.__getitem__)


def test_inputs_with_a_zero_point_are_refused_before_weights_are_read():
    tensors = {f"{K}.input_zero_point": torch.tensor([3], dtype=torch.int8)}
    with pytest.raises(UserError, match="input_zero_point is not zero: asymmetric activations"):
        read().verify(K, tensors.__getitem__)
    read().verify(K, {}.__getitem__)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ("a.k_scale", "a.v_scale")),
        ({"dynamic": True}, None),
        ({"type": "int"}, None),
        ({"strategy": "channel"}, None),
    ],
)
def test_scales_of_a_quantized_kv_cache(change, found):
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", **change}
    assert read(kv_cache_scheme=scheme).kv_scales("a") == found
    assert read().kv_scales("a") is None
