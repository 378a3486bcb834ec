"""fp8 checkpoints: which modules, which scales, and what is refused."""

import pytest
import torch

from inferplane.errors import UserError
from inferplane.formats.fp8 import FbgemmFp8, Fp8, Mxfp8
from inferplane.spec import UNQUANTIZED

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

Q = "model.layers.0.self_attn.q_proj"
DEEPSEEK = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "weight_block_size": [128, 128],
}


def read(kind=Fp8, **config):
    return kind({"quantization_config": config})


def test_deepseek_s_config_leaves_router_embedding_and_head():
    format = read(**DEEPSEEK)
    assert format.scheme(Q).name == "fp8_e4m3-b128x128-a:fp8_e4m3-g128"
    for module in ("lm_head", "model.embed_tokens", "model.layers.3.mlp.gate", "model.norm"):
        assert format.scheme(module) is UNQUANTIZED
    assert format.scheme("model.layers.3.mlp.experts.7.gate_proj").quantized


def test_blocks_at_the_edges_have_scales_too():
    stored = read(**DEEPSEEK).stored("x.kv_a_proj_with_mqa", (576, 7168))
    assert stored["x.kv_a_proj_with_mqa.weight_scale_inv"] == (5, 56)


@pytest.mark.parametrize("field", ["modules_to_not_convert", "ignored_layers"])
def test_both_names_of_the_list(field):
    assert read(**{field: [Q]}).scheme(Q) is UNQUANTIZED


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({}, ("tensor", "weight_scale", "fp8_e4m3")),
        ({"weight_scale": []}, ("tensor", "weight_scale", "fp8_e4m3")),
        ({"weight_scale": [1]}, ("tensor", "weight_scale", "fp8_e4m3")),
        ({"weight_scale": [64, 1]}, ("channel", "weight_scale", "fp8_e4m3")),
        ({"weight_scale_inv": []}, ("tensor", "weight_scale_inv", "fp8_e4m3")),
        ({"weight": "F8_E4M3FNUZ"}, ("tensor", "weight_scale", "fp8_e4m3fnuz")),
        ({"weight": "F8_E5M2"}, ("tensor", "weight_scale", "fp8_e5m2")),
    ],
)
def test_what_the_config_leaves_out_is_seen_in_the_files(tensors, expected):
    stored = {
        name: {"dtype": seen, "shape": []}
        if isinstance(seen, str)
        else {"dtype": "F32", "shape": seen}
        for name, seen in tensors.items()
    }
    layout = read(stored=stored).layout(Q)
    assert (layout.scheme.granularity, layout.scale, layout.scheme.weight) == expected


def test_static_inputs_by_either_name():
    seen = {"activation_scale": {"dtype": "F32", "shape": []}}
    layout = read(activation_scheme="static", stored=seen).layout(Q)
    assert layout.input_scale == "activation_scale"
    assert read(activation_scheme="static").layout(Q).input_scale == "input_scale"


def test_scales_that_are_exponents_are_numbers():
    tensors = {
        f"{Q}.weight": torch.zeros(4, 8).to(torch.float8_e4m3fn),
        f"{Q}.weight_scale_inv": torch.tensor([[0.5, 2.0]]).to(torch.float8_e8m0fnu),
    }
    found = read(weight_block_size=[4, 4]).load(Q, tensors.__getitem__)
    assert found["scale"].tolist() == [[0.5, 2.0]]


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (Fp8, {"activation_scheme": "magic"}, "activation_scheme is 'magic'"),
        (Fp8, {"weight_block_size": [128]}, r"weight_block_size is \[128\]"),
        (Fp8, {"weight_block_size": [128, 0]}, r"weight_block_size\[1\] is 0"),
        (Fp8, {"fmt": "e3m4"}, "fmt is 'e3m4'"),
        (Fp8, {"expert_dtype": "fp4"}, "expert_dtype is 'fp4'"),
        (Fp8, {"ignored_layers": "lm_head"}, "ignored_layers is 'lm_head'"),
        (
            Fp8,
            {"weight_block_size": [128, 128], "activation_scheme": "static"},
            "activation_scheme is 'static': inputs of weights in blocks",
        ),
        (Mxfp8, {"weight_block_size": [1, 64]}, r"weight_block_size is \[1, 64\]: mxfp8 has"),
        (Mxfp8, {"activation_scheme": "static"}, "mxfp8 has 'dynamic'"),
    ],
)
def test_what_a_file_may_say_but_we_cannot_do(kind, config, message):
    with pytest.raises(UserError, match=message):
        read(kind, **config)


def test_a_scale_that_is_no_number_is_told():
    tensors = {
        f"{Q}.weight": torch.zeros(4, 8).to(torch.float8_e4m3fn),
        f"{Q}.weight_scale": torch.tensor(1.0),
        f"{Q}.input_scale": torch.tensor(float("nan")),
    }
    with pytest.raises(UserError, match=r"input_scale is \[nan\]; a scale is a finite number"):
        read(activation_scheme="static").load(Q, tensors.__getitem__)


def test_a_scale_a_row():
    assert read(FbgemmFp8).scheme(Q).name == "fp8_e4m3-channel-a:fp8_e4m3-token"
