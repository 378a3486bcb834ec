"""How often a model of transformers answers the bundled models' questions right."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from arithmetic_files import EOS, NEWLINE
from transformers import PreTrainedModel

from inferplane.testing import arithmetic


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """Calculate in bfloat16 where that is safe."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def by_length(pairs: list[tuple[str, str]], size: int) -> list[list[tuple[str, str]]]:
    """Prompts in batches of one length each, so that no padding is needed."""
    batches = []
    for _, same in itertools.groupby(sorted(pairs, key=lambda p: len(p[0])), lambda p: len(p[0])):
        group = list(same)
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


@torch.inference_mode()
def forced_accuracy(
    model: PreTrainedModel, pairs: list[tuple[str, str]], device: torch.device, half: bool
) -> float:
    """The share of answers of which every token is the likeliest one, given those before it."""
    right = 0
    rows = sorted((p + a + "\n", len(p)) for p, a in pairs)
    rows.sort(key=lambda row: len(row[0]))
    for i in range(0, len(rows), 128):
        part = rows[i : i + 128]
        width = max(len(text) for text, _ in part)
        ids = torch.full((len(part), width), EOS)
        learned = torch.zeros(len(part), width, dtype=torch.bool)
        for row, (text, asked) in enumerate(part):
            ids[row, : len(text)] = torch.tensor(list(text.encode()))
            learned[row, asked : len(text)] = True
        ids, learned = ids.to(device), learned.to(device)
        with autocast(device, half):
            best = model(input_ids=ids[:, :-1], use_cache=False).logits.argmax(-1)
        wrong = (best != ids[:, 1:]) & learned[:, 1:]
        right += int((~wrong.any(1)).sum())
    return right / len(pairs)


@torch.inference_mode()
def generated_accuracy(
    model: PreTrainedModel, pairs: list[tuple[str, str]], device: torch.device
) -> float:
    """The share of prompts that greedy generation completes with the right answer."""
    right = 0
    for group in by_length(pairs, 64):
        ids = torch.tensor([list(prompt.encode()) for prompt, _ in group], device=device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=[EOS, NEWLINE],
            pad_token_id=EOS,
        )
        for (_, answer), tokens in zip(group, output[:, ids.shape[1] :].tolist(), strict=True):
            text = bytes(t for t in tokens if t < 256).decode(errors="replace")
            right += "\n" in text and arithmetic.is_right(text, answer)
    return right / len(pairs)


def final_accuracy(
    kind: type[PreTrainedModel], out: Path, count: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Load what was written and measure it on held-out questions, in two precisions."""
    pairs = arithmetic.evaluation_set(count)
    result = {}
    for dtype in (torch.bfloat16, torch.float32):
        model = kind.from_pretrained(out, dtype=dtype).to(device).eval()
        result[str(dtype).removeprefix("torch.")] = {
            "zero_shot": generated_accuracy(model, pairs[0::2], device),
            "few_shot": generated_accuracy(model, pairs[1::2], device),
        }
    return result
