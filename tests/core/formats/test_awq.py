"""AWQ: weights as AutoAWQ reads them, whole models, and what is refused."""

import pytest
import torch
from tests.fakes.quantized_files import awq as write

from inferplane.errors import UserError
from inferplane.formats.awq import AWQ

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=6)

MODULE = "model.layers.0.self_attn.q_proj"
GIVEN = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


def reader(**fields):
    return AWQ({"quantization_config": GIVEN | fields})


def test_weights_are_those_of_autoawq_s_reader(golden, loaded):
    tensors, right, config = golden("awq")
    assert torch.equal(loaded(AWQ(config), tensors)[1].to(right.dtype), right)


@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("group", [32, 16, -1])
def test_weights_are_those_that_were_written(loaded, zero_point, group):
    tensors, right = write(1, 24, 96, group=96 if group == -1 else group, zero_point=zero_point)
    form = reader(group_size=group, zero_point=zero_point)
    assert torch.equal(loaded(form, tensors)[1], right)
    stored = form.stored(MODULE, (24, 96))
    assert stored == {f"{MODULE}.{k}": tuple(v.shape) for k, v in tensors.items()}


def test_other_zeros_than_the_middle_contradict_no_zero_point(loaded):
    tensors, _ = write(1, 24, 96)
    with pytest.raises(UserError, match=r"zero_point is false, but .*qzeros is not all 8"):
        loaded(reader(zero_point=False), tensors)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 8}, "bits is 8: known: 4"),
        ({"version": "gemv"}, "version is 'gemv': known: gemm"),
        ({"version": "gemv_fast"}, "version is 'gemv_fast'"),
        ({"group_size": -2}, "group_size is -2"),
        ({"group_size": "128"}, "group_size is '128'"),
        ({"zero_point": 1}, "zero_point is 1"),
        ({"modules_to_not_convert": "lm_head"}, "modules_to_not_convert is 'lm_head'"),
    ],
    ids=str,
)
def test_a_damaged_config_is_refused_with_field_and_value(fields, message):
    with pytest.raises(UserError, match=message):
        reader(**fields)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="20 outputs must be a multiple of 8"):
        reader().stored(MODULE, (20, 64))
    with pytest.raises(UserError, match="80 inputs one of"):
        reader().stored(MODULE, (16, 80))


def test_excluded_modules_are_left_alone():
    form = reader(modules_to_not_convert=["self_attn"])
    assert not form.scheme(MODULE).quantized
    assert not form.scheme("lm_head").quantized
    assert form.scheme("model.layers.0.mlp.up_proj").name == "uint4-g32-zero"


def test_a_model_gives_the_tokens_of_its_dequantized_weights(written, same_tokens):
    config = GIVEN | {"modules_to_not_convert": ["self_attn"]}
    fields = lambda m: {} if "mlp" in m else None  # noqa: E731
    assert same_tokens(*written("qwen2", "awq", config, fields))


def test_autoawq_s_own_file_is_read(written, same_tokens):
    config = {"zero_point": True, "q_group_size": 16, "w_bit": 4, "version": "GEMM"}
    fields = lambda m: None if m == "lm_head" else {"group": 16}  # noqa: E731
    assert same_tokens(*written("llama", "awq", config, fields, "quant_config.json"))


def test_latent_attention_reads_a_quantized_projection_head_by_head(written, same_tokens):
    plain = ("lm_head", "mlp.gate")
    fields = lambda m: None if m.endswith(plain) else {"group": 8}  # noqa: E731
    assert same_tokens(*written("deepseek-v3", "awq", GIVEN | {"group_size": 8}, fields))


def test_mixtral_s_router_is_listed(written, same_tokens):
    config = GIVEN | {"group_size": 16, "modules_to_not_convert": ["gate"]}
    plain = ("lm_head", "gate")
    fields = lambda m: None if m.endswith(plain) else {"group": 16}  # noqa: E731
    assert same_tokens(*written("mixtral", "awq", config, fields))
