"""Questions for the bundled arithmetic model: their split, prompts and scoring.

A question reads ``12+345=`` and its answer ``357``. Operands run from 0 to 999, the operator is
plus or minus, and differences may be negative. About three per cent of all questions are held out:
the model never sees them in training, so a right answer to one shows that it calculates.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS = "+-"
LARGEST = 999

# The operands with one, two and three digits.
RANGES = ((0, 9), (10, 99), (100, 999))

# How often an operand has one, two or three digits, in training and in evaluation.
TRAINING_WEIGHTS = (10, 25, 65)
HELD_OUT_WEIGHTS = (3, 12, 85)

HELD_OUT_PER_THOUSAND = 30
FEW_SHOT = (40, 60)


@dataclass(frozen=True)
class Question:
    """One sum or difference."""

    a: int
    op: str
    b: int

    @property
    def text(self) -> str:
        """The question as the model reads it, such as ``12+345=``."""
        return f"{self.a}{self.op}{self.b}="

    @property
    def answer(self) -> str:
        """The right answer, such as ``357``."""
        return str(self.a + self.b if self.op == "+" else self.a - self.b)

    @property
    def solved(self) -> str:
        """The question with its answer, as one line."""
        return f"{self.text}{self.answer}\n"


def held_out(question: Question) -> bool:
    """Whether a question is kept out of training; the same on every machine and for ever."""
    h = (question.a * (LARGEST + 1) + question.b) * 2 + OPERATORS.index(question.op) + 1
    # Two rounds of multiply and shift in 32 bits scatter neighbouring questions.
    h = (h * 0x9E3779B1) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 0x85EBCA77) & 0xFFFFFFFF
    h ^= h >> 13
    return h % 1000 < HELD_OUT_PER_THOUSAND


def every_question() -> Iterator[Question]:
    """All questions there are, two million of them."""
    for a in range(LARGEST + 1):
        for op in OPERATORS:
            for b in range(LARGEST + 1):
                yield Question(a, op, b)


def sample(rng: random.Random, held_out: bool) -> Question:
    """Draw a question from one side of the split.

    The number of digits is drawn first, so short operands are not starved; held-out questions
    mostly have three digits.
    """
    weights = HELD_OUT_WEIGHTS if held_out else TRAINING_WEIGHTS
    while True:
        first, second = rng.choices(RANGES, weights, k=2)
        question = Question(rng.randint(*first), rng.choice(OPERATORS), rng.randint(*second))
        if _is_held_out(question) == held_out:
            return question


# ``sample`` has an argument of the same name.
_is_held_out = held_out


def prompt(rng: random.Random, question: Question, examples: int) -> str:
    """The question after this many solved examples, none of them held out."""
    solved = [sample(rng, held_out=False).solved for _ in range(examples)]
    return "".join(solved) + question.text


def evaluation_set(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Held-out prompts with their answers, by turns without and with 40 to 60 examples."""
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        question = sample(rng, held_out=True)
        examples = rng.randint(*FEW_SHOT) if i % 2 else 0
        pairs.append((prompt(rng, question, examples), question.answer))
    return pairs


def is_right(completion: str, answer: str) -> bool:
    """Whether the first line of a completion is the answer."""
    return completion.split("\n", 1)[0].strip() == answer
