"""Plans of quantized models and of mixtures of experts for GPUs that are not here (V0)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=8)

DENSE = Path(__file__).parents[3] / "tests" / "fixtures" / "configs" / "qwen3-8b"
MIXTURE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 40960,
    "hidden_act": "silu",
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}
BLOCKS = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}


def chosen(model: str, target: str, **settings: Any) -> dict[str, set[str]]:
    """Op -> names of the kernels that its requests got."""
    plan = make_plan(Settings(model=model, device="cuda", target=target, strict=True, **settings))
    found: dict[str, set[str]] = {}
    for choice in plan.resolution.choices.values():
        scheme = getattr(choice.request, "scheme", None)
        quantized = scheme is not None and scheme.quantized
        found.setdefault(choice.request.op + " quantized" * quantized, set()).add(choice.names)
    return found


@pytest.fixture
def mixture(tmp_path):
    def write(**more: Any) -> str:
        (tmp_path / "config.json").write_text(json.dumps(MIXTURE | more))
        return str(tmp_path)

    return write


@pytest.mark.parametrize("target", ["h200", "a100", "b200"])
@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_integers_are_served_everywhere(scheme, target):
    found = chosen(str(DENSE), target, quantization=scheme)
    assert found["linear quantized"] == {"triton.linear"}


def test_fp8_by_token_goes_to_cublas_and_by_shared_exponents_to_triton():
    assert chosen(str(DENSE), "h200", quantization="fp8")["linear quantized"] == {
        "cuda.cublaslt_fp8"
    }
    assert chosen(str(DENSE), "b200", quantization="mxfp8")["linear quantized"] == {"triton.linear"}


def test_fp8_on_a_gpu_without_it_is_refused_with_what_would_work():
    with pytest.raises(UserError, match="A100-SXM4-80GB has no") as error:
        chosen(str(DENSE), "a100", quantization="fp8")
    assert "neither fp8_e4m3_gemm nor" in str(error.value)
    assert "--quantization int8 or --quantization int4 would work" in str(error.value)


@pytest.mark.parametrize("target", ["h200", "a100"])
def test_experts_are_served(mixture, target):
    found = chosen(mixture(), target)
    assert found["moe.route"] == {"triton.moe_route"}
    assert found["moe.experts"] == {"triton.moe_experts"}


def test_experts_in_blocks_of_fp8_are_served(mixture):
    found = chosen(mixture(quantization_config=BLOCKS), "h200")
    assert found["moe.experts quantized"] == {"triton.moe_experts"}
    assert found["linear quantized"] == {"triton.linear"}
