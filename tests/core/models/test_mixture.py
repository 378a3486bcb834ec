"""Logits of the families with experts agree with transformers."""

import pytest
import torch
from tests.fakes.mixtures import MIXTURES

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=20)

TOLERANCE = 1e-4  # absolute; logits are about 2 in size


def token_ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (count,), generator=generator).tolist()


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("length", [1, 150])
def test_logits_of_a_whole_prompt(name, length, make_llm, prompt_logits, reference_logits):
    ids = token_ids(length)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=256), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", MIXTURES)
def test_logits_of_a_prompt_in_chunks(name, make_llm, prompt_logits, reference_logits):
    ids = token_ids(150)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=17), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)
