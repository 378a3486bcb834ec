"""Where the tensors of grouped experts are."""

from dataclasses import replace

import pytest
from tests.fakes.requests import PROPS

from inferplane.errors import UserError
from inferplane.layers.builder import Builder
from inferplane.layers.context import BuildContext
from inferplane.layers.experts import ExpertsConfig, grouped_experts
from inferplane.spec import UNQUANTIZED, QuantScheme, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

CONFIG = ExpertsConfig(experts=2, top_k=1, hidden=64, intermediate=32)
INT4 = QuantScheme.named(weight="int4", granularity="group", group=32)


def site(config, scheme_of=lambda module, inputs, plain: UNQUANTIZED, **context):
    made = BuildContext(PROPS, "bf16", "bf16", 16, standard_layout, scheme_of=scheme_of, **context)
    build = Builder(made, prefix="mlp.")
    assert grouped_experts(build, "experts", config) is None
    return build.site.children[0]


def test_experts_with_tensors_of_their_own():
    found = {need.name: need for need in site(CONFIG).weights}
    assert [p.key for p in found["gate_up.weight"].parts] == [
        "mlp.experts.0.gate_proj.weight",
        "mlp.experts.0.up_proj.weight",
        "mlp.experts.1.gate_proj.weight",
        "mlp.experts.1.up_proj.weight",
    ]
    assert [p.first for p in found["gate_up.weight"].parts] == [0, 32, 64, 96]
    assert [p.shape for p in found["down.weight"].parts] == [(64, 32), (64, 32)]
    assert all(need.experts == 2 for need in found.values())


def test_quantized_experts_have_scales():
    found = site(CONFIG, lambda module, inputs, plain: INT4)
    assert found.request.scheme == INT4
    needs = {need.name: need for need in found.weights}
    assert set(needs) == {"gate_up.weight", "gate_up.scale", "down.weight", "down.scale"}
    assert [p.shape for p in needs["down.scale"].parts] == [(64, 1), (64, 1)]


def test_stacked_experts_are_one_tensor_a_projection():
    config = replace(CONFIG, stacked=True, transposed=True, bias=True)
    needs = {need.name: need for need in site(config).weights}
    (weight,) = needs["gate_up.weight"].parts
    assert weight.key == "mlp.experts.gate_up_proj.weight"
    assert (weight.stored, weight.full_shape) == ((2, 64, 64), (2, 64, 64))
    assert weight.view == ("transpose", "deinterleave")
    assert needs["down.weight"].parts[0].stored == (2, 32, 64)
    (bias,) = needs["gate_up.bias"].parts
    assert (bias.key, bias.full_shape) == ("mlp.experts.gate_up_proj.bias", (2, 64))


def test_fused_shared_experts_are_pieces_of_their_mlp():
    config = replace(CONFIG, shared=2, shared_path="shared_experts")
    found = site(config, lambda module, inputs, plain: INT4)
    assert (found.request.experts, found.request.top_k) == (4, 3)
    needs = {need.name: need for need in found.weights}
    shared = [p for p in needs["gate_up.weight"].parts if "shared" in p.key]
    assert [(p.key, p.full_shape, p.offset) for p in shared] == [
        ("mlp.shared_experts.gate_proj.weight", (64, 32), (0, 0)),
        ("mlp.shared_experts.up_proj.weight", (64, 32), (0, 0)),
        ("mlp.shared_experts.gate_proj.weight", (64, 32), (32, 0)),
        ("mlp.shared_experts.up_proj.weight", (64, 32), (32, 0)),
    ]
    down = [p for p in needs["down.scale"].parts if "shared" in p.key]
    assert [(p.full_shape, p.offset, p.shape) for p in down] == [
        ((64, 2), (0, 0), (64, 1)),
        ((64, 2), (0, 1), (64, 1)),
    ]


def test_sizes_are_known_before_the_parts_are_made():
    (need, *_) = site(CONFIG).weights
    before = need.bytes, need.elements
    assert len(need.parts) == 4
    assert before == (need.bytes, need.elements) == (2 * 2 * 32 * 64 * 2, 2 * 2 * 32 * 64)


def test_experts_of_one_layer_have_one_scheme():
    def scheme_of(module, inputs, plain):
        return INT4 if ".1." in module else UNQUANTIZED

    (need, *_) = site(CONFIG, scheme_of).weights
    with pytest.raises(UserError, match=r"one scheme: mlp.experts.1.gate_proj is int4-g32, others"):
        need.parts  # noqa: B018


def test_experts_with_inputs_in_another_order_are_refused():
    ordered = QuantScheme.named(weight="int4", granularity="group", group=32, reordered=True)
    with pytest.raises(UserError, match=r"int4-g32-ordered: .* --quantization dequantize"):
        site(CONFIG, lambda module, inputs, plain: ordered)
