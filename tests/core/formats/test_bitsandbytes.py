"""bitsandbytes: weights as it reads them, whole models, and what is refused."""

import json

import pytest
import torch
from tests.fakes.quantized_files import int8 as write_int8
from tests.fakes.quantized_files import nf4 as write_nf4

from inferplane.errors import UserError
from inferplane.formats.bitsandbytes import BitsAndBytes

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=6)

MODULE = "model.layers.0.self_attn.q_proj"
STATE = "weight.quant_state.bitsandbytes__nf4"


def reader(**fields):
    given = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    return BitsAndBytes({"quantization_config": given | fields})


INT8 = {"load_in_4bit": False, "load_in_8bit": True}


def test_nf4_weights_are_those_of_bitsandbytes_reader(golden, loaded):
    tensors, right, config = golden("nf4-nested")
    assert torch.equal(loaded(BitsAndBytes(config), tensors)[1].to(right.dtype), right)


def test_int8_weights_are_those_of_bitsandbytes_reader(golden, loaded):
    """But for the last bit in fp32: it multiplies by the rounded 1/127."""
    tensors, right, config = golden("int8")
    torch.testing.assert_close(loaded(BitsAndBytes(config), tensors)[1], right, rtol=2e-7, atol=0)


@pytest.mark.parametrize("nested", [True, False])
def test_nf4_weights_are_those_that_were_written(loaded, nested):
    tensors, right = write_nf4(1, 40, 640, nested=nested)  # more than one nested block
    form = reader(bnb_4bit_use_double_quant=nested)
    assert torch.equal(loaded(form, tensors)[1], right)
    stored = {k: v for k, v in form.stored(MODULE, (40, 640)).items() if v is not None}
    shapes = {f"{MODULE}.{k}": tuple(v.shape) for k, v in tensors.items() if k != STATE}
    assert stored == shapes


def test_int8_weights_are_those_that_were_written(loaded):
    tensors, right = write_int8(1, 40, 96)
    assert torch.equal(loaded(reader(**INT8), tensors)[1], right)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type is 'fp4': known: nf4"),
        ({"load_in_8bit": True}, "load_in_4bit and load_in_8bit are both True"),
        ({"load_in_4bit": False}, "load_in_4bit and load_in_8bit are both False"),
        ({"load_in_4bit": "yes"}, "load_in_4bit is 'yes'"),
        ({"bnb_4bit_quant_storage": "bfloat16"}, "bnb_4bit_quant_storage is 'bfloat16'"),
        ({"llm_int8_skip_modules": [7]}, r"llm_int8_skip_modules\[0\] is 7"),
    ],
    ids=str,
)
def test_a_damaged_config_is_refused_with_field_and_value(fields, message):
    with pytest.raises(UserError, match=message):
        reader(**fields)


def test_blocks_over_the_ends_of_rows_are_refused():
    with pytest.raises(UserError, match="blocks of 64 weights go over the ends of rows of 96"):
        reader().stored(MODULE, (64, 96))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"{", "is no JSON"),
        (b"[1]", r"is \[1\]; it must be an object"),
        ({"blocksize": 128}, "nf4 in blocks of 128"),
        ({"quant_type": "fp4"}, "fp4 in blocks of 64"),
        ({"shape": [8]}, r"the shape \[8\]"),
        ({"shape": [4, 64]}, "has 256 bytes, for a shape of"),
        ({"shape": "8x64"}, "shape is '8x64'"),
    ],
    ids=str,
)
def test_a_damaged_state_is_refused(loaded, state, message):
    tensors, _ = write_nf4(1, 8, 64)
    if isinstance(state, dict):
        state = json.dumps(json.loads(bytes(tensors[STATE].tolist())) | state).encode()
    tensors[STATE] = torch.tensor(list(state), dtype=torch.uint8)
    with pytest.raises(UserError, match=message):
        loaded(reader(), tensors)


def test_another_table_is_refused(loaded):
    tensors, _ = write_nf4(1, 8, 64)
    tensors["weight.quant_map"][3] += 0.1
    with pytest.raises(UserError, match="quant_map does not hold the values of nf4"):
        loaded(reader(), tensors)


def test_listed_modules_are_left_alone():
    assert not reader().scheme("lm_head").quantized
    form = reader(llm_int8_skip_modules=["lm_head", "q_proj", "model.layers.1"])
    assert not form.scheme(MODULE).quantized
    assert not form.scheme("model.layers.1.mlp.up_proj").quantized
    assert form.scheme("model.layers.10.mlp.up_proj").quantized


def test_a_model_in_nf4_gives_the_tokens_of_its_dequantized_weights(written, same_tokens):
    """The MLP's down projection has 96 inputs, so it is left out."""
    config = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["lm_head", "down_proj"],
    }
    skipped = ("lm_head", "down_proj")
    fields = lambda m: None if m.endswith(skipped) else {"nested": True}  # noqa: E731
    assert same_tokens(*written("llama", "nf4", config, fields))


def test_a_model_in_int8_gives_the_tokens_of_its_dequantized_weights(written, same_tokens):
    config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    fields = lambda m: None if m == "lm_head" else {}  # noqa: E731
    assert same_tokens(*written("qwen3-untied", "int8", config, fields))
