"""Lists of modules: names, owners, runs of names, wildcards and patterns."""

import time

import pytest

from inferplane.errors import UserError
from inferplane.formats.matching import Names, class_of, listed, matches, pattern, wildcard

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

Q = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Q, "Linear"),
        ("lm_head", "Linear"),
        ("model.embed_tokens", "Embedding"),
        ("model.layers.0.mlp.gate", "Router"),
        ("model.layers.0.mlp.gate_proj", "Linear"),
        ("model.layers.0.mlp.experts.3.gate_proj", "Linear"),
        ("model.layers.0.mlp.experts.gate_up_proj", "Experts"),
        ("model.layers.0.input_layernorm", "Norm"),
        ("model.layers.0.self_attn.q_norm", "Norm"),
    ],
)
def test_classes(module, expected):
    assert class_of(module) == expected


@pytest.mark.parametrize(
    "name",
    [Q, "model.layers.1", "q_proj", "self_attn.q_proj", "model.layers.*.self_attn", "*q_proj"],
)
def test_names_that_mean_a_module(name):
    assert listed(Q, [name])
    assert Q in Names(["other", name])


@pytest.mark.parametrize(
    "name", ["model.layers.11", "q", "proj", "self_attn.q", "layers.*.mlp", ""]
)
def test_names_that_mean_another(name):
    assert not listed(Q, [name])
    assert Q not in Names([name])


def test_long_lists_are_fast():
    """As of a model with 256 experts in each of 60 layers, and a list with a name a layer."""
    names = Names(f"model.layers.{layer}.mlp.gate" for layer in range(1000))
    modules = [f"model.layers.1.mlp.experts.{expert}.up_proj" for expert in range(20_000)]
    begin = time.perf_counter()
    assert not any(module in names for module in modules)
    assert time.perf_counter() - begin < 2


def test_a_run_of_names_ends_with_a_name():
    assert listed("model.layers.3.mlp.gate", ["mlp.gate"])
    assert not listed("model.layers.3.mlp.gate_proj", ["mlp.gate"])


def test_wildcards_mean_owners_too():
    assert wildcard(Q, "model.layers.1*")
    assert wildcard("model.layers.1.mlp.up_proj", "*.mlp")
    assert not wildcard(Q, "layers.1*")


def test_patterns_begin_at_the_start():
    assert matches(Q, "re:.*self_attn.*", "ignore")
    assert not matches(Q, "re:self_attn", "ignore")
    assert not matches(Q, "self_attn", "ignore")


@pytest.mark.parametrize(
    "text",
    [
        r".*mlp\.(gate|up|gate_up|down)_proj.*",
        r"model\.layers\.(\d+)\.mlp",
        r"(?:.*\.)?mlp[.].*",
        r".*layers\.(0|1|2[0-9]+)\..*",
        r"^(?!.*lm_head).*",
    ],
)
def test_patterns_that_people_write(text):
    assert pattern(text, "ignore")


@pytest.mark.parametrize("text", ["(a+)+$", "((a*)b)*", "(.*){9}", "x*" * 9, "y" * 501])
def test_patterns_that_could_take_for_ever(text):
    begin = time.perf_counter()
    with pytest.raises(UserError, match="could take too long"):
        matches("a" * 60, f"re:{text}", "ignore")
    assert time.perf_counter() - begin < 1


def test_a_broken_pattern_is_told():
    with pytest.raises(UserError, match=r"ignore has the pattern '\(', which is broken"):
        matches(Q, "re:(", "ignore")
