"""What a launched batch yields, and when it reaches the mirror."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.fakes.plugins import PROPS

from inferplane.batch import Batch, NewRow
from inferplane.runner.launched import Launched
from inferplane.runner.mirror import Mirror
from inferplane.runner.transfers import Transfers
from inferplane.spec import Device, SampleOutput

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

TRANSFERS = Transfers(Device("cpu", PROPS))


def batch(new: list[NewRow] | None = None) -> Batch:
    """Two rows, of slots 3 and 1, that decode at positions 5 and 7."""
    return Batch(
        step=1,
        new=new or [],
        slots=np.array([3, 1], np.int32),
        starts=np.array([5, 7], np.int32),
        counts=np.array([1, 1], np.int32),
        sample=np.array([True, True]),
        decodes=2,
        updates=[],
        copies=[],
    )


def launch(mirror: Mirror, tokens: list[int]) -> Launched:
    output = SampleOutput(tokens_B=torch.tensor(tokens))
    return Launched(batch(), mirror, np.arange(2), np.array([6, 8]), output, TRANSFERS)


def test_tokens_are_expected_until_they_are_read():
    mirror = Mirror([], 4, 16)
    launched = launch(mirror, [10, 11])
    assert mirror.expected[[3, 1]].tolist() == [6, 8]
    assert launched.result().tokens.tolist() == [10, 11]
    assert mirror.tokens[3, 6] == 10 and mirror.tokens[1, 8] == 11
    assert mirror.expected[[3, 1]].tolist() == [-1, -1]


def test_a_result_for_a_slot_that_has_another_request_by_now_is_not_written():
    mirror = Mirror([], 4, 16)
    launched = launch(mirror, [10, 11])
    row = NewRow(
        slot=3,
        tokens=np.full(9, 7, np.int32),
        prompt_length=9,
        sampling=None,
        wants_prompt=False,
    )
    mirror.apply(batch([row]))
    launched.result()
    assert mirror.tokens[3, 6] == 7
    assert mirror.tokens[1, 8] == 11


def test_an_error_is_raised_every_time_and_nothing_is_expected_any_more():
    mirror = Mirror([], 4, 16)
    launched = launch(mirror, [10, 11])

    def fail() -> list[None]:
        raise RuntimeError("the device said no")

    launched._reading.get = fail  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="said no"):
            launched.result()
    assert mirror.expected.tolist() == [-1] * 4
