"""GPTQ: weights as its tools read them, whole models, and what is refused."""

import pytest
import torch
from tests.fakes.quantized_files import gptq as write

from inferplane.errors import UserError
from inferplane.formats.gptq import GPTQ

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=12)

MODULE = "model.layers.0.self_attn.q_proj"


def reader(**fields):
    given = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    return GPTQ({"quantization_config": given | fields})


@pytest.mark.parametrize("name", ["gptq-4-ordered", "gptq-8-channel"])
def test_weights_are_those_of_gptqmodel_s_reader(golden, loaded, name):
    tensors, right, config = golden(name)
    _, weight = loaded(GPTQ(config), tensors)
    assert torch.equal(weight.to(right.dtype), right)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("group", [32, 16, -1])
@pytest.mark.parametrize("ordered", [True, False])
def test_weights_are_those_that_were_written(loaded, version, bits, sym, group, ordered):
    fields = {"bits": bits, "sym": sym}
    tensors, right = write(1, 24, 96, group=group, ordered=ordered, version=version, **fields)
    form = reader(
        **fields,
        group_size=group,
        desc_act=ordered,
        checkpoint_format="gptq" if version == 1 else "gptq_v2",
    )
    found, weight = loaded(form, tensors)
    assert torch.equal(weight, right)
    assert ("order" in found) == (ordered and group > 0)
    shapes = {k: tuple(v.shape) for k, v in tensors.items()}
    stored = form.stored(MODULE, (24, 96))
    assert {k.removeprefix(f"{MODULE}."): v for k, v in stored.items() if v} == {
        k: v for k, v in shapes.items() if k != "g_idx" or (ordered and group > 0)
    }


def test_the_last_group_may_be_smaller(loaded):
    tensors, right = write(2, 8, 40, group=32, sym=False)
    assert torch.equal(loaded(reader(sym=False), tensors)[1], right)
    tensors, right = write(2, 8, 40, group=32, sym=False, ordered=True)
    assert torch.equal(loaded(reader(sym=False, desc_act=True), tensors)[1], right)


def test_static_groups_are_in_order():
    assert not reader(desc_act=True, static_groups=True).scheme(MODULE).reordered
    assert reader(desc_act=True).scheme(MODULE).reordered


@pytest.mark.parametrize("bits", [2, 3, 5, 16])
def test_other_bits_are_refused(bits):
    with pytest.raises(UserError, match=rf"quantization_config\.bits is {bits}: known: 4, 8"):
        reader(bits=bits)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": "4"}, r"quantization_config\.bits is '4': .*integer"),
        ({"bits": True}, r"quantization_config\.bits is True"),
        ({"group_size": 0}, "group_size is 0: it is -1"),
        ({"group_size": None}, r"group_size is None"),
        ({"sym": "yes"}, r"sym is 'yes'"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin': known: gptq, gptq_v2"),
        ({"is_marlin_format": True}, "is_marlin_format is True"),
        ({"pack_dtype": "int8"}, "pack_dtype is 'int8': known: int32"),
        ({"dynamic": ["a"]}, r"dynamic is \['a'\]"),
        ({"dynamic": {"+:(": {}}}, r"dynamic has the pattern '\(', which is broken"),
        ({"dynamic": {"-:" + "a" * 2000: {}}}, "which could take too long to match"),
        ({"dynamic": {"+:.*": {"bits": 3}}}, r"dynamic\['\+:\.\*'\]\.bits is 3"),
        ({"dynamic": {"+:.*": {"group_size": "x"}}}, r"dynamic\['\+:\.\*'\]\.group_size is 'x'"),
        ({"modules_in_block_to_quantize": [[1]]}, "modules_in_block_to_quantize"),
    ],
    ids=str,
)
def test_a_damaged_config_is_refused_with_field_and_value(fields, message):
    with pytest.raises(UserError, match=message):
        reader(**fields)


def test_no_bits_are_refused():
    with pytest.raises(UserError, match=r"quantization_config\.bits is missing"):
        GPTQ({"quantization_config": {"quant_method": "gptq"}})


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(UserError) as caught:
        reader(bits="4" * 100_000)
    assert len(str(caught.value)) < 300


def test_modules_outside_of_layers_and_routers_are_left_alone():
    form = reader()
    for module in ("lm_head", "model.embed_tokens", "model.layers.0.mlp.gate"):
        assert not form.scheme(module).quantized
    assert form.scheme("model.layers.0.mlp.gate_proj").quantized
    assert reader(lm_head=True).scheme("lm_head").quantized


def test_patterns_change_and_exclude_modules():
    form = reader(
        dynamic={
            r"-:.*\.0\..*k_proj": {},
            r"+:.*down_proj": {"bits": 8, "group_size": 64},
            r".*o_proj": {"sym": False},
            r"+:.*": {"group_size": 16},
        }
    )
    assert not form.scheme("model.layers.0.self_attn.k_proj").quantized
    assert form.scheme("model.layers.0.mlp.down_proj").name == "int8-g64"
    assert form.scheme("model.layers.0.self_attn.o_proj").name == "uint4-g32-zero"
    assert form.scheme("model.layers.1.self_attn.k_proj").name == "int4-g16"


def test_optimum_s_list_of_modules_is_honoured():
    form = reader(
        modules_in_block_to_quantize=[["self_attn.q_proj", "self_attn.k_proj"], ["mlp.up_proj"]],
        block_name_to_quantize="model.layers",
    )
    assert form.scheme("model.layers.0.mlp.up_proj").quantized
    assert not form.scheme("model.layers.0.mlp.down_proj").quantized
    assert not form.scheme("visual.layers.0.mlp.up_proj").quantized


def test_sizes_that_do_not_fill_words_are_refused():
    with pytest.raises(UserError, match=r"20 outputs and 64 inputs do not fill words of 8"):
        reader().stored(MODULE, (20, 64))
    with pytest.raises(UserError, match="no stacked experts"):
        reader().stored(MODULE, (2, 16, 64))


def spoilt(loaded, message, change, **fields):
    tensors, _ = write(3, 8, 64, **fields)
    change(tensors)
    with pytest.raises(UserError, match=message):
        loaded(reader(desc_act=fields.get("ordered", False)), tensors)


def test_tensors_that_contradict_the_config_are_refused(loaded):
    spoilt(loaded, "sym is true, but .*qzeros is not all 8", lambda t: t["qzeros"].add_(1))
    spoilt(loaded, "desc_act is false, but .*g_idx", lambda t: t.update(g_idx=t["g_idx"].flip(0)))
    spoilt(loaded, "does not make groups of 32", lambda t: t["g_idx"][:1].fill_(7), ordered=True)
    spoilt(loaded, "has no tensor .*g_idx", lambda t: t.pop("g_idx"), ordered=True)
    spoilt(
        loaded, "qweight is torch.float32, it must be int32",
        lambda t: t.update(qweight=t["qweight"].float()),
    )  # fmt: skip
    spoilt(
        loaded, "scales is torch.float32 with numbers that fp16 has not",
        lambda t: t.update(scales=t["scales"].float() * 1.0001),
    )  # fmt: skip


def test_a_model_gives_the_tokens_of_its_dequantized_weights(written, same_tokens):
    """Mixed: one excluded module, one with 8 bits, the last projection is quantized."""

    def fields(module):
        if module.endswith("1.self_attn.k_proj"):
            return None
        if module == "lm_head":
            return None
        common = {"sym": False, "ordered": True}
        return common | ({"bits": 8, "group": 16} if "down_proj" in module else {})

    config = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "sym": False,
        "desc_act": True,
        "dynamic": {r"-:.*\.1\..*k_proj": {}, r"+:.*down_proj": {"bits": 8, "group_size": 16}},
    }
    assert same_tokens(*written("qwen3-untied", "gptq", config, fields))


def test_an_older_checkpoint_says_it_in_a_file_of_its_own(written, same_tokens):
    config = {"bits": 4, "group_size": 32, "sym": True, "desc_act": False}
    fields = lambda module: None if module == "lm_head" else {}  # noqa: E731
    assert same_tokens(*written("llama-biased", "gptq", config, fields, "quantize_config.json"))


def test_experts_are_quantized_and_their_router_is_not(written, same_tokens):
    config = {"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": True, "desc_act": False}
    plain = ("lm_head", "mlp.gate")
    fields = lambda m: None if m.endswith(plain) else {"group": 16}  # noqa: E731
    assert same_tokens(*written("qwen3-moe", "gptq", config, fields))
