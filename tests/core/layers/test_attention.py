"""What attention is given beside queries and cache: sinks, and scales of a quantized cache."""

from __future__ import annotations

import pytest
import torch
from tests.fakes import formats
from tests.fakes.models import LATENT, Weights, build, logits, plan
from tests.fakes.plugins import PROPS

from inferplane.layers.attention import AttentionConfig, attention_block
from inferplane.layers.builder import Builder
from inferplane.layers.context import BuildContext
from inferplane.layers.rotary import Rope
from inferplane.spec import Mesh, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

LAYER = "model.layers.1.self_attn"
FP8 = {"kv_dtype": "fp8_e4m3"}


def scale(name: str) -> torch.Tensor:
    return Weights().whole(f"{LAYER}.{name}", (1,))


def rounded(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return (x / by).to(torch.float8_e4m3fn).float() * by


def watched(runner) -> dict:
    """The arguments of the second layer's attention over a prompt, and its result."""
    slot, seen = runner.slots[1], {}

    class Watch:
        def run(self, q, k, v, cache, plan, out, **extras):
            kernel.run(q, k, v, cache, plan, out, **extras)
            given = {"q": q, "k": k, "v": v, "out": out, "cache": cache, **extras}
            seen.update({name: tensor.clone() for name, tensor in given.items()})

    kernel, slot.kernel = slot.kernel, Watch()
    logits(runner)
    return seen


@pytest.mark.parametrize("latent", [False, True])
def test_a_quantized_cache_is_scaled(tmp_path, latent):
    config = (LATENT if latent else {}) | formats.CONFIG
    kernel = ["attention=reference.attention"]
    made = plan(tmp_path, formats=[formats.SPEC], settings=FP8, kernel=kernel, **config)
    runner = build(made)
    reference = runner.slots[1].kernel
    seen = watched(runner)
    assert seen["cache"].dtype == torch.float8_e4m3fn
    keys = scale("k_scale")
    values = keys if latent else scale("v_scale")  # a latent vector is key and value
    assert torch.equal(seen["kv_scales"], torch.cat([keys, values]))
    k, v = rounded(seen["k"], keys), rounded(seen["v"], values)
    expected = reference.attend(seen["q"], k, v, None)
    torch.testing.assert_close(seen["out"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "settings"),
    [(formats.CONFIG, {}), ({}, FP8)],
    ids=["the cache is not quantized", "the checkpoint has no scales"],
)
def test_there_are_no_scales_where(tmp_path, config, settings):
    made = plan(tmp_path, formats=[formats.SPEC], settings=settings, **config)
    assert not any(need.name == "kv_scales" for need in made.root.needs())
    assert "kv_scales" not in watched(build(made))


def test_a_rank_reads_the_sinks_of_its_heads():
    context = BuildContext(
        props=PROPS,
        dtype="bf16",
        kv_dtype="bf16",
        page_size=16,
        layout_of=standard_layout,
        mesh=Mesh(tp=2, rank=1),
    )
    build = Builder(context)
    attention_block(
        build,
        "self_attn",
        AttentionConfig(
            hidden=32, heads=8, kv_heads=2, head_dim=8, rope=Rope(rotary_dim=8), sinks=True
        ),
    )
    (need,) = [need for need in build.site.needs() if need.name == "sinks"]
    (part,) = need.parts
    assert (part.key, part.full_shape, part.offset, part.shape, need.dtype) == (
        *("self_attn.sinks", (8,), (4,), (4,), "fp32"),
    )
