"""From what a user asks to engine requests: tokens, stop ids, seeds, one request a completion."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from inferplane.errors import UserError
from inferplane.params import SamplingParams
from inferplane.planning.plan import Plan
from inferplane.scheduler.request import Request

from .outputs import Completion, Pending
from .tokenizer import Tokenizer

_SEED_STEP = 0x9E3779B97F4A7C15  # completions of one seeded request draw from different seeds
_MASK64 = (1 << 64) - 1

Prompt = str | Sequence[int] | Mapping[str, Any]


class RequestMaker:
    """Checks and converts. eos: ids that end a text; max_length: tokens of a request at most."""

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        vocab: int,
        eos: Sequence[int],
        max_length: int,
        seed: int = 0,
    ) -> None:
        self.tokenizer, self.vocab, self.max_length = tokenizer, vocab, max_length
        found = dict.fromkeys(eos)
        if tokenizer is not None and tokenizer.eos is not None:
            found[tokenizer.eos] = None
        self.eos = tuple(found)
        self._seeds = random.Random(seed)

    def tokens(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        """(text if given, token ids). Raises UserError for a prompt that cannot be used."""
        if isinstance(prompt, Mapping):
            if "prompt_token_ids" in prompt:
                prompt = prompt["prompt_token_ids"]
            elif "prompt" in prompt:
                prompt = prompt["prompt"]
            else:
                raise UserError("a prompt must have 'prompt' or 'prompt_token_ids'")
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise UserError("the tokenizer is off (skip_tokenizer_init): give token ids")
            return prompt, self.tokenizer.encode(prompt)
        try:
            ids: list[Any] = list(prompt)
        except TypeError:
            raise UserError(
                f"a prompt is {prompt!r}; it must be a text, token ids or a mapping"
            ) from None
        for token in ids:
            if isinstance(token, bool) or not isinstance(token, int | np.integer):
                raise UserError(f"prompt token {token!r} is not a whole number")
            if not 0 <= token < self.vocab:
                raise UserError(f"prompt token {token} is out of range 0 to {self.vocab - 1}")
        return None, [int(token) for token in ids]

    def make(
        self, id: str, prompt: Prompt, params: SamplingParams, namespace: str = ""
    ) -> tuple[Pending, list[Request]]:
        """The requests of all `n` completions, and what collects their outputs."""
        text, ids = self.tokens(prompt)
        self.check_length(len(ids))
        params.check_tokens(self.vocab)
        if params.stop and self.tokenizer is None:
            raise UserError("stop texts need a tokenizer (skip_tokenizer_init is set)")
        most = self.max_length - len(ids)
        seed = params.seed if params.seed is not None else self._seeds.getrandbits(64)
        stops = () if params.ignore_eos else self.eos
        parts: dict[str, Completion] = {}
        requests = []
        for index in range(params.n):
            part_id = id if params.n == 1 else f"{id}-{index}"
            sampling = replace(params, seed=(seed + index * _SEED_STEP) & _MASK64)
            parts[part_id] = Completion(index, params, self.tokenizer)
            parts[part_id].prompt_ids = ids
            requests.append(
                Request(
                    id=part_id,
                    tokens=np.array(ids, dtype=np.int32),
                    max_tokens=min(most, params.max_tokens or most),
                    min_tokens=min(params.min_tokens, most),
                    stop_ids=tuple(dict.fromkeys((*stops, *params.stop_token_ids))),
                    priority=params.priority,
                    namespace=namespace,
                    sampling=sampling,
                    wants_prompt=params.prompt_logprobs is not None and index == 0,
                )
            )
        return Pending(id, text, ids, params, parts), requests

    def check_length(self, tokens: int) -> None:
        if tokens == 0:
            raise UserError("the prompt is empty: it must have at least one token")
        if tokens >= self.max_length:
            raise UserError(
                f"the prompt has {tokens} tokens; this model takes at most "
                f"{self.max_length - 1}, with one left to generate (max-model-len is "
                f"{self.max_length})"
            )


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
