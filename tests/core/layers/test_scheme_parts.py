"""Tensors of a scheme, and the slices of them that a rank reads."""

import pytest

from inferplane.errors import UserError
from inferplane.layers.scheme_parts import can_fuse, scheme_needs, tensors_of
from inferplane.spec import UNQUANTIZED, Group, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

INT4 = QuantScheme.named(weight="uint4", granularity="group", group=32, zero_point=True)
BLOCKS = QuantScheme.named(weight="fp8_e4m3", granularity="block", block=(128, 128))
ORDERED = QuantScheme.named(weight="int4", granularity="group", group=32, reordered=True)
STATIC = QuantScheme.named(
    weight="fp8_e4m3", granularity="tensor", activation="fp8_e4m3", dynamic=False
)
ONE = Group("tp", (0,), 0)
SECOND = Group("tp", (0, 1), 1)


def needs(scheme, parts, inputs, sharding="none", group=ONE):
    return {n.name: n for n in scheme_needs(scheme, parts, inputs, "bf16", sharding, group)}


def test_shapes_of_every_tensor():
    shapes = {t.name: t.shape(48, 64) for t in tensors_of(INT4)}
    assert shapes == {"weight": (48, 32), "scale": (48, 2), "zero": (48, 2)}
    assert {t.name: t.shape(130, 200) for t in tensors_of(BLOCKS)}["scale"] == (2, 2)
    assert {t.name: t.shape(8, 4) for t in tensors_of(STATIC)}["input_scale"] == (1,)


def test_an_unquantized_weight_is_one_tensor():
    (need,) = needs(UNQUANTIZED, {"a.q": 4, "a.k": 2}, 8).values()
    assert need.dtype == "bf16" and [p.key for p in need.parts] == ["a.q.weight", "a.k.weight"]


def test_parts_follow_one_another():
    found = needs(INT4, {"a.q": 4, "a.k": 2}, 64)
    assert [p.first for p in found["scale"].parts] == [0, 4]
    assert [p.key for p in found["zero"].parts] == ["a.q.zero", "a.k.zero"]


def test_a_rank_reads_its_rows_or_its_groups():
    column = needs(INT4, {"a.q": 4}, 64, "column", SECOND)
    assert (column["weight"].parts[0].offset, column["weight"].parts[0].shape) == ((2, 0), (2, 32))
    row = needs(INT4, {"a.o": 4}, 64, "row", SECOND)
    assert (row["weight"].parts[0].offset, row["weight"].parts[0].shape) == ((0, 16), (4, 16))
    assert (row["scale"].parts[0].offset, row["scale"].parts[0].shape) == ((0, 1), (4, 1))
    whole = needs(STATIC, {"a.o": 4}, 64, "row", SECOND)["input_scale"].parts[0]
    assert (whole.offset, whole.shape) == ((0,), (1,))


@pytest.mark.parametrize(
    ("scheme", "outputs", "inputs", "sharding"),
    [(INT4, 4, 32, "row"), (BLOCKS, 128, 256, "column"), (ORDERED, 4, 64, "row")],
)
def test_no_group_is_cut(scheme, outputs, inputs, sharding):
    with pytest.raises(UserError, match="cannot be cut"):
        needs(scheme, {"a.o": outputs}, inputs, sharding, SECOND)


@pytest.mark.parametrize(
    ("schemes", "parts", "fuses"),
    [
        ({"q": INT4, "k": INT4}, {"q": 4, "k": 4}, True),
        ({"q": INT4, "k": UNQUANTIZED}, {"q": 4, "k": 4}, False),
        ({"q": ORDERED, "k": ORDERED}, {"q": 4, "k": 4}, False),
        ({"q": ORDERED}, {"q": 4}, True),
        ({"q": BLOCKS, "k": BLOCKS}, {"q": 256, "k": 100}, True),
        ({"q": BLOCKS, "k": BLOCKS}, {"q": 100, "k": 256}, False),
    ],
)
def test_parts_are_one_weight_where_that_is_exact(schemes, parts, fuses):
    assert can_fuse(schemes, parts, 1) is fuses
