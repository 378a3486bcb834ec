"""What transformers computes for the tiny checkpoints: logits, and greedy continuations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

LENGTHS = (1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100, 127, 128, 129, 140, 150)
SHARED = (30, 70, 70, 110)  # further prompts, which begin as the longest one does
NEW = 64
GAP = 1e-3
_VARIANTS = 6
_VOCAB = 300


@dataclass
class Reference:
    """Prompts, their greedy continuations, and the smallest distance of the two best logits."""

    prompts: list[list[int]]
    tokens: list[list[int]]
    gaps: list[float]


@torch.inference_mode()
def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    """fp32 [L, V] of one sequence, without padding or cache."""
    tensor = torch.tensor([ids])
    return model(tensor, attention_mask=torch.ones_like(tensor), use_cache=False).logits[0]


@torch.inference_mode()
def _continuations(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    made = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return made[:, width:].tolist()


def _candidates() -> list[list[list[int]]]:
    """Several prompts for every place, drawn from one seed."""
    draw = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(0, _VOCAB, (count,), generator=draw).tolist()

    prefix = ids(150)
    groups = [[ids(length) for _ in range(_VARIANTS)] for length in LENGTHS]
    groups += [[prefix[:length] + ids(9) for _ in range(_VARIANTS)] for length in SHARED]
    return groups


def make_reference(model: Any) -> Reference:
    """The first prompt of every place that decides clearly at each of its steps."""
    groups = _candidates()
    flat = [prompt for group in groups for prompt in group]
    continued = dict(zip(map(tuple, flat), _continuations(model, flat), strict=True))
    found = Reference([], [], [])
    for group in groups:
        for prompt in group:
            tokens = continued[tuple(prompt)]
            logits = logits_of(model, prompt + tokens[:-1])[len(prompt) - 1 :]
            best = logits.topk(2, dim=-1).values
            gap = float((best[:, 0] - best[:, 1]).min())
            if logits.argmax(-1).tolist() == tokens and gap > 2 * GAP:
                found.prompts.append(prompt)
                found.tokens.append(tokens)
                found.gaps.append(gap)
                break
    return found


@pytest.fixture(scope="session")
def greedy(transformers_model: Callable[[str], Any]) -> Callable[[str], Reference]:
    """The greedy reference of a checkpoint by name, computed once."""
    made: dict[str, Reference] = {}

    def get(name: str) -> Reference:
        if name not in made:
            made[name] = make_reference(transformers_model(name))
        return made[name]

    return get


@pytest.fixture
def reference_logits(transformers_model: Callable[[str], Any]) -> Callable[..., torch.Tensor]:
    """(name, token ids) -> logits [L, V] of transformers."""
    return lambda name, ids: logits_of(transformers_model(name), ids)


@pytest.fixture
def prompt_logits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """(LLM, token ids) -> logits [L, V] of our model, through scheduler and runner."""
    from inferplane.params import SamplingParams

    def get(llm: Any, ids: list[int]) -> torch.Tensor:
        model = llm.engine.executor.runner.model
        forward, pieces = model.forward, []

        def watched(step: Any) -> torch.Tensor:
            hidden = forward(step)
            pieces.append(model.logits(hidden).clone())
            return hidden

        with monkeypatch.context() as patch:
            patch.setattr(model, "forward", watched)
            llm.generate([{"prompt_token_ids": ids}], SamplingParams(max_tokens=1))
        return torch.cat(pieces)

    return get
