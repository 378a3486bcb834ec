"""From settings to a running engine."""

from __future__ import annotations

from inferplane.executor.local import LocalExecutor, Progress
from inferplane.planning.plan import Plan

from .engine import Engine
from .requests import RequestMaker
from .tokenizer import Tokenizer


def build_engine(plan: Plan, progress: Progress | None = None) -> Engine:
    """Loads the model on this process's device. Raises UserError for what a user can mend."""
    return Engine(plan, LocalExecutor(plan, progress))


def build_requests(plan: Plan) -> RequestMaker:
    """The front end of a plan: tokenizer and request checks, no device."""
    tokenizer = None if plan.settings.skip_tokenizer_init else Tokenizer(plan.folder)
    return RequestMaker(
        tokenizer,
        plan.config.vocab,
        plan.config.eos,
        plan.effective["max_model_len"],
        plan.settings.seed,
    )
