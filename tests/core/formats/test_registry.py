"""Which format a checkpoint has, and what --quantization may say to it."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from tests.fakes.quantized_cases import CASES

from inferplane.errors import UserError
from inferplane.formats.registry import BUILT_IN, find_quantization

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

FP8 = {"quantization_config": {"quant_method": "fp8"}}


def test_names_differ():
    assert len({spec.name for spec in BUILT_IN}) == len(BUILT_IN)


def test_the_checkpoint_decides():
    found = find_quantization(FP8, None)
    assert (found.name, found.source) == ("fp8", "checkpoint")


def test_a_flag_may_say_what_the_checkpoint_is():
    assert find_quantization(FP8, "fp8").source == "checkpoint"


def test_a_flag_that_contradicts_is_refused_with_both_names():
    with pytest.raises(UserError, match=r"is 'int4', but the checkpoint is quantized with 'fp8'"):
        find_quantization(FP8, "int4")


def test_a_name_of_both_quantizes_while_loading():
    found = find_quantization({}, "fp8")
    assert found.online is not None


def test_a_format_s_name_needs_such_a_checkpoint():
    with pytest.raises(UserError, match="'mxfp4', but the checkpoint is not quantized"):
        find_quantization({}, "mxfp4")


def test_an_unknown_method_lists_those_known():
    config = {"quantization_config": {"quant_method": "magic"}}
    with pytest.raises(UserError, match=r"quantized with 'magic', which is not known; known.*fp8"):
        find_quantization(config, None)


@pytest.mark.parametrize("given", ["fp8", ["fp8"], {"quant_method": ["fp8"]}, 3])
def test_a_config_of_another_shape_is_refused(given):
    with pytest.raises(UserError, match="not known"):
        find_quantization({"quantization_config": given}, None)


HOSTILE = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    "",
    "x",
    "re:(",
    "re:((a+)+)+",
    [],
    [None],
    {},
    {"a": 1},
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def configs(name: str) -> dict[str, Any]:
    case = CASES[name]
    if case.config is not None:
        return deepcopy(case.config)
    kind = case.kinds.get("", "")
    given = {"model.layers.0.mlp.up_proj.weight": kind, "group_size": 32}
    file, content = case.file(given)
    if file == "hf_quant_config.json":
        return {"quant_method": "modelopt", **deepcopy(content["quantization"])}
    return {"quant_method": "modelslim", "description": content}


@pytest.mark.parametrize("name", CASES)
def test_no_value_in_a_config_does_more_than_a_clear_error(name):
    tried = 0
    for at in range(len(list(places(configs(name))))):
        for value in HOSTILE:
            config = configs(name)
            owner, key = list(places(config))[at]
            owner[key] = deepcopy(value)
            try:
                found = find_quantization({"quantization_config": config}, None)
                if found.format is not None:
                    found.format.scheme("model.layers.0.mlp.up_proj")
                    found.format.stored("model.layers.0.mlp.up_proj", (64, 128))
            except UserError:
                pass
            except AssertionError:  # `stored` is asked of quantized modules only
                assert not found.format.scheme("model.layers.0.mlp.up_proj").quantized
            tried += 1
    assert tried >= len(HOSTILE)
