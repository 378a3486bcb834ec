"""Names of dtypes, and the width of indices."""

import pytest
import torch

from inferplane.spec import DeviceProps
from inferplane.spec.torch_types import dtype_name, index_dtype, torch_dtype

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_names_and_types_go_both_ways():
    assert dtype_name(torch_dtype("bf16")) == "bf16"


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ValueError, match=r"no dtype for 'int4'; it has .*bf16"):
        torch_dtype("int4")


@pytest.mark.parametrize(
    ("capabilities", "dtype"), [({"int64_index"}, torch.int64), (set(), torch.int32)]
)
def test_indices_are_wide_only_where_the_device_says_so(capabilities, dtype):
    props = DeviceProps(
        name="a", profile="a", memory_bytes=1, dtypes=frozenset(), capabilities=capabilities
    )
    assert index_dtype(props) is dtype
