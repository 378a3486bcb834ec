"""Reading a model's config.json: fields, defaults, and what is said of wrong ones."""

import pytest

from inferplane.errors import UserError
from inferplane.models.llama import Llama
from inferplane.models.mistral import Mistral
from inferplane.models.qwen2 import Qwen2
from inferplane.models.qwen3 import Qwen3
from inferplane.models.registry import find_model

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

RAW = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


def test_defaults():
    config = Llama.read(RAW)
    assert (config.kv_heads, config.head_dim, config.activation) == (4, 16, "silu")
    assert (config.tied, config.qkv_bias, config.windows) == (False, False, ())
    assert (config.dtype, config.eos) == ("fp32", ())


@pytest.mark.parametrize("name", RAW)
def test_a_missing_size_is_named(name):
    with pytest.raises(UserError, match=f"has no '{name}'"):
        Llama.read({key: value for key, value in RAW.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", "100"),
        ("hidden_size", 64.0),
        ("hidden_size", 0),
        ("num_hidden_layers", True),
        ("num_hidden_layers", [3]),
        ("head_dim", -1),
        ("rms_norm_eps", "1e-6"),
        ("rms_norm_eps", True),
        ("tie_word_embeddings", "yes"),
        ("attention_bias", 1),
        ("hidden_act", "relu"),
        ("hidden_act", ["silu"]),
        ("torch_dtype", "int7"),
        ("eos_token_id", "</s>"),
        ("eos_token_id", [1, None]),
    ],
)
def test_a_wrong_value_is_named_and_shown(name, value):
    with pytest.raises(UserError) as caught:
        Llama.read(RAW | {name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_heads_must_be_a_multiple_of_kv_heads():
    with pytest.raises(UserError, match="num_attention_heads 4 is not a multiple"):
        Llama.read(RAW | {"num_key_value_heads": 3})


def test_an_unknown_rope_scaling_is_named():
    with pytest.raises(UserError, match="'dynamic' is not known"):
        Llama.read(RAW | {"rope_scaling": {"type": "dynamic", "factor": 2.0}})


def test_a_rope_scaling_without_factor_is_refused():
    with pytest.raises(UserError, match="needs 'factor'"):
        Llama.read(RAW | {"rope_scaling": {"type": "linear"}})


@pytest.mark.parametrize(("given", "ids"), [(None, ()), (7, (7,)), ([7, 9], (7, 9))])
def test_end_tokens(given, ids):
    assert Llama.read(RAW | {"eos_token_id": given}).eos == ids


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_dtype_by_either_name(field):
    assert Llama.read(RAW | {field: "bfloat16"}).dtype == "bf16"


def test_mistral_has_its_window_in_every_layer():
    assert Mistral.read(RAW | {"sliding_window": 24}).windows == (24, 24, 24)


@pytest.mark.parametrize("window", [None, 0])
def test_mistral_without_a_window(window):
    assert Mistral.read(RAW | {"sliding_window": window}).windows == ()


def test_qwen2_is_biased_and_ignores_an_unused_window():
    config = Qwen2.read(RAW | {"sliding_window": 24, "use_sliding_window": False})
    assert config.qkv_bias
    assert not config.out_bias
    assert config.windows == ()


WINDOWED = RAW | {"use_sliding_window": True, "sliding_window": 24}


@pytest.mark.parametrize(
    ("first", "windows"), [(0, (24, 24, 24)), (1, (0, 24, 24)), (3, (0, 0, 0)), (None, (0, 0, 0))]
)
def test_qwen2_windows_by_max_window_layers(first, windows):
    assert Qwen2.read(WINDOWED | {"max_window_layers": first}).windows == windows


def test_layer_types_come_before_max_window_layers():
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Qwen2.read(WINDOWED | {"layer_types": types, "max_window_layers": 3})
    assert config.windows == (24, 0, 24)


@pytest.mark.parametrize("types", [["full_attention"], "full_attention", {"0": "full"}])
def test_layer_types_must_name_every_layer(types):
    with pytest.raises(UserError, match="must name 3 layers"):
        Qwen2.read(WINDOWED | {"layer_types": types})


@pytest.mark.parametrize("first", ["1", True, 1.5])
def test_a_wrong_max_window_layers_is_named(first):
    with pytest.raises(UserError, match="max_window_layers"):
        Qwen2.read(WINDOWED | {"max_window_layers": first})


def test_qwen3_has_a_head_size_of_its_own():
    config = Qwen3.read(RAW)
    assert (config.head_dim, config.qk_norm, config.qkv_bias) == (128, True, False)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("LlamaForCausalLM", Llama),
        ("MistralForCausalLM", Mistral),
        ("Qwen2ForCausalLM", Qwen2),
        ("Qwen3ForCausalLM", Qwen3),
    ],
)
def test_architectures(name, found):
    assert find_model({"architectures": [name]}) is found


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'LlamaForCausalLM'"):
        find_model({"architectures": ["LLamaForCausalLM"]})
    with pytest.raises(UserError, match="no model for architecture 'FooForCausalLM'; known"):
        find_model({"architectures": ["FooForCausalLM"]})


@pytest.mark.parametrize("value", [None, [], "LlamaForCausalLM"])
def test_no_list_of_architectures_is_refused(value):
    with pytest.raises(UserError, match="'architectures'"):
        find_model({"architectures": value})
