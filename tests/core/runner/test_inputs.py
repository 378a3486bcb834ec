"""The arrays of a step, from a batch and the mirror."""

import numpy as np
import pytest

from inferplane.batch import Batch, NewRow
from inferplane.params import SamplingParams
from inferplane.runner.inputs import make_inputs
from inferplane.runner.mirror import Mirror
from inferplane.spec import GroupKind, KVGroup, KVLayout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PAGE = 4
GROUP = KVGroup(
    index=0,
    name="full",
    kind=GroupKind.FULL,
    layers=(0,),
    layout=KVLayout(name="standard", page_size=PAGE, dtype="fp32", shape=(), page_bytes=1),
)


def batch(rows: list[tuple[int, int, int]], new=(), updates=()) -> Batch:
    """rows: (slot, start, count)."""
    slots, starts, counts = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    return Batch(
        step=1,
        new=list(new),
        slots=slots,
        starts=starts,
        counts=counts,
        sample=np.ones(len(rows), dtype=bool),
        decodes=int((counts == 1).sum()),
        updates=list(updates),
        copies=[],
    )


def filled() -> Mirror:
    """Two slots with tokens 100.. and 200.., on pages 5, 2, 7 and 1, 3, 0."""
    mirror = Mirror([GROUP], 2, 12)
    mirror.tokens[0], mirror.tokens[1] = np.arange(100, 112), np.arange(200, 212)
    mirror.tables[0][0], mirror.tables[0][1] = [5, 2, 7], [1, 3, 0]
    return mirror


def test_a_decode_and_a_chunk():
    inputs = make_inputs(batch([(1, 8, 1), (0, 2, 4)]), filled(), [PAGE])
    assert inputs.tokens.tolist() == [208, 102, 103, 104, 105]
    assert inputs.positions.tolist() == [8, 2, 3, 4, 5]
    assert inputs.slots[0].tolist() == [0, 22, 23, 8, 9]
    assert inputs.starts.tolist() == [0, 1, 5]
    assert inputs.lengths.tolist() == [9, 6]
    assert inputs.last.tolist() == [0, 4]


def test_decodes_only():
    inputs = make_inputs(batch([(1, 3, 1), (0, 4, 1)]), filled(), [PAGE])
    assert inputs.tokens.tolist() == [203, 104]
    assert inputs.slots[0].tolist() == [7, 8]
    assert inputs.starts.tolist() == [0, 1, 2]


def test_indices_are_narrow_where_the_device_wants_them():
    inputs = make_inputs(batch([(1, 8, 1), (0, 2, 4)]), filled(), [PAGE], np.int32)
    wide = make_inputs(batch([(1, 8, 1), (0, 2, 4)]), filled(), [PAGE])
    for name in ("tokens", "positions", "last"):
        assert getattr(inputs, name).dtype == np.int32
        assert getattr(wide, name).dtype == np.int64
        assert getattr(inputs, name).tolist() == getattr(wide, name).tolist()
    assert inputs.slots[0].dtype == np.int32


def test_a_new_row_replaces_what_its_slot_held():
    mirror = filled()
    asked = SamplingParams(temperature=0.5)
    row = NewRow(
        slot=1,
        tokens=np.array([7, 8], dtype=np.int32),
        prompt_length=2,
        sampling=asked,
        wants_prompt=True,
        stop_ids=(9,),
    )
    mirror.apply(batch([(1, 0, 2)], new=[row]))
    assert mirror.tokens[1, :2].tolist() == [7, 8]
    assert mirror.params[1] is asked
    assert (mirror.prompt[1], mirror.wants_prompt[1]) == (2, True)
    assert mirror.stops[1] == (9,)
    assert not mirror.plain[1]


def test_a_row_without_parameters_is_greedy():
    mirror = filled()
    row = NewRow(
        slot=0,
        tokens=np.array([7], dtype=np.int32),
        prompt_length=1,
        sampling=None,
        wants_prompt=False,
    )
    mirror.apply(batch([(0, 0, 1)], new=[row]))
    assert mirror.plain[0]
    assert mirror.params[0].greedy


def test_page_updates_reach_their_group():
    mirror = filled()
    update = (0, np.array([0, 1]), np.array([1, 2]), np.array([9, 8]))
    mirror.apply(batch([(0, 0, 1)], updates=[update]))
    assert mirror.tables[0].tolist() == [[5, 9, 7], [1, 3, 8]]
