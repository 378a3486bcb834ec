"""What planned devices say of themselves."""

from __future__ import annotations

import pytest
from inferplane_cuda.profiles import profiles

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)


@pytest.mark.parametrize(("profile", "kib"), [("a100", 163), ("l40s", 99), ("h200", 227)])
def test_portable_kernels_learn_how_much_shared_memory_there_is(profile, kib):
    found = next(props for props in profiles() if props.profile == profile)
    assert found.detail("shared_memory_bytes") == str(kib * 1024)
