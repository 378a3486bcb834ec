"""Logits agree with transformers over whole prompts, for every family and variant."""

import pytest
import torch

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=12)

CHECKPOINTS = (
    "llama",
    "llama-tied",
    "llama-one-kv-head",
    "llama-head-size",
    "llama-biased",
    "llama-llama3-rope",
    "llama-linear-rope",
    "llama-yarn-rope",
    "mistral",
    "qwen2",
    "qwen2-windows",
    "qwen3",
    "qwen3-untied",
)
TOLERANCE = 1e-4  # absolute; logits are about 2 in size


def token_ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (count,), generator=generator).tolist()


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("length", [1, 150])
def test_logits_of_a_whole_prompt(name, length, make_llm, prompt_logits, reference_logits):
    ids = token_ids(length)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=256), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_of_a_prompt_in_chunks(name, make_llm, prompt_logits, reference_logits):
    ids = token_ids(150)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=17), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["mistral", "qwen2-windows", "qwen3", "llama-one-kv-head"])
def test_logits_with_the_reference_kernels(name, make_llm, prompt_logits, reference_logits):
    ids = token_ids(60)
    banned = "attention!=cpu.flash,linear!=cpu.onednn,attention.input!=cpu.attention_input"
    llm = make_llm(name, max_num_batched_tokens=17, kernel=banned)
    found = prompt_logits(llm, ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


def test_logits_with_older_window_fields(changed_config, make_llm, prompt_logits, reference_logits):
    ids = token_ids(100)
    folder = changed_config("qwen2-windows", layer_types=None)
    found = prompt_logits(make_llm(folder), ids)
    expected = reference_logits("qwen2-windows", ids)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_logits_with_older_rope_fields(changed_config, make_llm, prompt_logits, reference_logits):
    ids = token_ids(100)
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    folder = changed_config(
        "llama-llama3-rope", rope_parameters=None, rope_theta=10000.0, rope_scaling=scaling
    )
    found = prompt_logits(make_llm(folder), ids)
    expected = reference_logits("llama-llama3-rope", ids)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_a_window_changes_logits_beyond_it(make_llm, changed_config, prompt_logits):
    ids = token_ids(60)
    with_window = prompt_logits(make_llm("mistral"), ids)
    without = prompt_logits(make_llm(changed_config("mistral", sliding_window=None)), ids)
    changed = (with_window - without).abs().amax(-1) > TOLERANCE
    assert not changed[:24].any()
    assert changed[24:].all()
