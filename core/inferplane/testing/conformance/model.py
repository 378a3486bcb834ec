"""Area "model": the bundled arithmetic model from end to end, through the product's own engine.

Names of checks: "tokens" (greedy tokens in fp32 differ from the reference kernels' on the CPU),
"accuracy".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from inferplane.spec import OPS

from .case import Case, Result, not_run
from .layouts import page_sizes
from .target import Target

_MODEL = "tiny-arithmetic"
_PROMPTS, _QUESTIONS = 12, 100
_LEAST = 0.97
"""The model answers 99.65 % of 2,000 held-out questions: 4 wrong of 100 are no accident."""


def cases(target: Target, draws: int) -> Iterator[Case]:
    expected = Expected()
    steps = (512, 48)  # tokens a step: a prompt in one piece, or in several
    for page in page_sizes(target)[:3]:
        for step in steps if page == page_sizes(target)[0] else steps[:1]:
            run = partial(_greedy, expected, page, step)
            name = f"greedy-page-{page}-step-{step}"
            yield Case("model", "model", target.name, name, runner=partial(_run, run))
    for dtype in target.floats:
        ask = partial(_run, partial(_accuracy, dtype))
        yield Case("model", "model", target.name, f"accuracy.{dtype}", runner=ask)


def _run(check: Any, case: Case, target: Target) -> Result:
    from .driver import explain

    if target.data_only:
        return not_run(case, "no device")
    if not target.installed:
        return not_run(case, "the engine opens installed plugins only")
    begin, result = time.perf_counter(), Result(case)
    try:
        result = check(case, target, result) or result
    except Exception as error:
        result.fail("raises", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


class Expected:
    """What the reference kernels answer on the CPU in fp32, asked once."""

    def __init__(self) -> None:
        self.tokens: list[list[int]] = []

    def get(self) -> list[list[int]]:
        if not self.tokens:
            self.tokens = _answers(device="cpu", kernel=_only_references(), page_size=16)
        return self.tokens


def _only_references() -> tuple[str, ...]:
    """Pins that leave no other kernel: every block is composed, every op is the reference's."""
    from inferplane.plugins.resolution import is_reference

    target = Target.open("cpu", data_only=False)
    offers = target.catalog.candidates
    having = {c.op for c in offers if is_reference(c)}
    pins = [f"{op}=reference.{op}" for op in OPS if op in having]
    return (*pins, *(f"{c.op}!={c.name}" for c in offers if c.level != "op"))


def _answers(**settings: Any) -> list[list[int]]:
    from inferplane import LLM, SamplingParams

    from ..arithmetic import evaluation_set

    prompts = [prompt for prompt, _ in evaluation_set(_PROMPTS, seed=7)]
    params = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    with LLM(_MODEL, **_SMALL | {"dtype": "float32"} | settings) as llm:
        outputs = llm.generate(prompts, params)
        llm.check_invariants()
    return [list(o.outputs[0].token_ids) for o in outputs]


_SMALL: dict[str, Any] = {
    "max_model_len": 1024,
    "max_num_seqs": 32,
    "kv_memory": 1 << 28,
    "tuning": "none",  # a certificate is of the kernels, not of what was measured on this machine
}


def _greedy(
    expected: Expected, page: int, step: int, case: Case, target: Target, result: Result
) -> Result | None:
    if "fp32" not in target.props.dtypes:
        return not_run(case, "the device has no fp32")
    found = _answers(device=_device(target), page_size=page, max_num_batched_tokens=step)
    for at, (mine, right) in enumerate(zip(found, expected.get(), strict=True)):
        if mine != right:
            result.fail("tokens", f"prompt {at}: {mine}, the reference gives {right}")
            return None
    return None


def _accuracy(dtype: str, case: Case, target: Target, result: Result) -> None:
    from inferplane import LLM, SamplingParams

    from ..arithmetic import evaluation_set, is_right

    asked = evaluation_set(_QUESTIONS, seed=11)
    params = SamplingParams(temperature=0.0, max_tokens=8, stop=("\n",))
    with LLM(_MODEL, device=_device(target), dtype=dtype, **_SMALL) as llm:
        outputs = llm.generate([prompt for prompt, _ in asked], params)
        llm.check_invariants()
    pairs = zip(outputs, asked, strict=True)
    right = sum(is_right(output.outputs[0].text, answer) for output, (_, answer) in pairs)
    result.note = f"{right} of {_QUESTIONS} sums are right"
    if right < _LEAST * _QUESTIONS:
        result.fail("accuracy", f"{result.note}, {_LEAST:.0%} must be")


def _device(target: Target) -> str:
    return f"{target.name}:{target.props.index}"
