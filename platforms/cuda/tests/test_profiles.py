"""What planned devices say of themselves."""

from __future__ import annotations

import pytest
from inferplane_cuda.profiles import make_props, profiles

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)


@pytest.mark.parametrize(("profile", "kib"), [("a100", 163), ("l40s", 99), ("h200", 227)])
def test_portable_kernels_learn_how_much_shared_memory_there_is(profile, kib):
    found = next(props for props in profiles() if props.profile == profile)
    assert found.detail("shared_memory_bytes") == str(kib * 1024)


@pytest.mark.parametrize(
    ("capability", "kib"),
    [((7, 5), 48), ((8, 0), 163), ((8, 6), 99), ((8, 7), 163), ((10, 3), 227), ((12, 1), 99)],
)
def test_a_block_may_share_what_the_programming_guide_says(capability, kib):
    props = make_props(
        name="a", profile="a", memory_bytes=1, compute_capability=capability, details={}
    )
    assert props.detail("shared_memory_bytes") == str(kib << 10)
