"""Broken JSON of others is told by field and value."""

import pytest
from pydantic import PositiveInt

from inferplane.errors import UserError
from inferplane.formats.schema import Schema, read_schema, refuse

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


class Inner(Schema):
    bits: int
    sizes: list[PositiveInt] | None = None


class Outer(Schema):
    group: Inner


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "quantization_config is None; it must be an object"),
        ([1], r"quantization_config is \[1\]; it must be an object"),
        ({}, r"quantization_config\.group is missing"),
        ({"group": 5}, r"quantization_config\.group is 5"),
        ({"group": {"bits": "8"}}, r"group\.bits is '8': .*integer"),
        ({"group": {"bits": True}}, r"group\.bits is True: .*integer"),
        ({"group": {"bits": 8, "sizes": [4, -1]}}, r"group\.sizes\[1\] is -1: .*greater than 0"),
    ],
)
def test_a_field_that_does_not_fit(data, message):
    with pytest.raises(UserError, match=message):
        read_schema(Outer, data)


def test_long_values_are_cut():
    with pytest.raises(UserError) as caught:
        read_schema(Outer, {"group": "x" * 1000})
    assert len(str(caught.value)) < 250


def test_what_is_not_named_is_left_alone():
    assert read_schema(Outer, {"group": {"bits": 4, "new": 1}, "more": None}).group.bits == 4


def test_a_refusal_names_field_value_and_reason():
    assert (
        str(refuse("bits", 3, "known: 4")) == "config.json: quantization_config.bits is 3: known: 4"
    )
