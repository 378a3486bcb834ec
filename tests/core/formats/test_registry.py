"""Which format a checkpoint has, and what --quantization may say to it."""

import pytest

from inferplane.errors import UserError
from inferplane.formats.registry import BUILT_IN, find_quantization

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

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
