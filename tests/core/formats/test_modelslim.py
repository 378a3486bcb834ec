"""ModelSlim: types of single tensors, and what is refused."""

import pytest
import torch

from inferplane.errors import UserError
from inferplane.formats.modelslim import ModelSlim
from inferplane.spec import UNQUANTIZED

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

Q = "model.layers.0.self_attn.q_proj"


def read(kind="W8A8", **more):
    description = {f"{Q}.weight": kind, "model.norm.weight": "FLOAT", **more}
    return ModelSlim({"quantization_config": {"description": description}})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("W8A8", "int8-channel-a:int8-tensor-static"),
        ("W8A8_DYNAMIC", "int8-channel-a:int8-token"),
        ("W8A16", "int8-channel"),
        ("W4A8_DYNAMIC", "int4-channel-a:int8-token"),
        ("W4A4_DYNAMIC", "int4-channel-a:int4-token"),
        ("WFP8AFP8_DYNAMIC", "fp8_e4m3-channel-a:fp8_e4m3-token"),
        ("W8A8_MXFP8", "fp8_e4m3-g32-sue8m0-a:fp8_e4m3-g32"),
        ("W4A8_MXFP", "fp4_e2m1-g32-sue8m0-a:fp8_e4m3-g32"),
        ("W4A4_MXFP4", "fp4_e2m1-g32-sue8m0-a:fp4_e2m1-g32"),
    ],
)
def test_types(kind, expected):
    assert read(kind).scheme(Q).name == expected


def test_modules_that_are_float_or_not_named_stay():
    assert read("FLOAT").scheme(Q) is UNQUANTIZED
    assert read().scheme("lm_head") is UNQUANTIZED


def test_groups_hold_for_types_that_have_them():
    assert read("W4A4_DYNAMIC", group_size=64).scheme(Q).name == "int4-g64-a:int4-token"
    assert read("W8A8", group_size=64).scheme(Q).granularity == "channel"


@pytest.mark.parametrize("as_bits", [True, False])
def test_the_scale_of_static_inputs_is_taken_out(as_bits):
    product = torch.tensor([0.5, 0.25])
    tensors = {
        f"{Q}.weight": torch.ones(2, 4, dtype=torch.int8),
        f"{Q}.deq_scale": product.view(torch.int32).to(torch.int64) if as_bits else product,
        f"{Q}.input_scale": torch.tensor([0.125]),
    }
    found = read().load(Q, tensors.__getitem__)
    assert found["scale"].tolist() == [4.0, 2.0]


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("W8A8", "input_offset", "asymmetric activations are not supported"),
        ("W8A8_DYNAMIC", "weight_offset", "asymmetric weights of this kind"),
    ],
)
def test_offsets_are_refused_before_weights_are_read(kind, name, why):
    tensors = {f"{Q}.{name}": torch.tensor([3.0])}
    with pytest.raises(UserError, match=f"q_proj.{name} is not zero: {why}"):
        read(kind).verify(Q, tensors.__getitem__)


def test_offsets_of_inputs_do_not_matter_to_weights_alone():
    tensors = {f"{Q}.input_offset": torch.tensor([3.0])}
    read().verify(Q, tensors.__getitem__, dense=True)
    with pytest.raises(UserError, match="weight_offset is not zero"):
        read().verify(Q, {f"{Q}.weight_offset": torch.ones(1)}.__getitem__, dense=True)


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (
            lambda: read("W8A8_FLATQUANT_DYNAMIC"),
            "is 'W8A8_FLATQUANT_DYNAMIC': known: FLOAT, W8A16",
        ),
        (lambda: read(7), r"q_proj\.weight is 7"),
        (lambda: read(group_size=-1), "group_size is -1"),
    ],
)
def test_what_a_file_may_say_but_we_cannot_do(format, message):
    with pytest.raises(UserError, match=message):
        format().scheme(Q)


def test_the_kv_cache_is_told():
    found = read(model_quant_type="W8A8", kv_cache_type="C8").describe()
    assert found == "modelslim, W8A8; its KV cache is meant as C8"
