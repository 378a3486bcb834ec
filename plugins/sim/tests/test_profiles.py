"""profiles.json."""

from __future__ import annotations

import pytest
from inferplane_sim.profiles import Profile, profiles
from pydantic import ValidationError

from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import select

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


@pytest.mark.parametrize("name", profiles())
def test_a_profile_can_be_planned_for(name):
    selection = select(discover(), "sim", target=name)
    assert selection.props.profile == name
    assert selection.props.execution == "emulated"


def test_the_default_is_first():
    assert next(iter(profiles())) == "s1"


def test_a_profile_without_a_source_is_refused():
    with pytest.raises(ValidationError, match="source"):
        Profile(name="x", source="", memory_gib=1, dtypes=("fp32",))


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValidationError, match="fp31"):
        Profile(name="x", source="made up for a test", memory_gib=1, dtypes=("fp31",))
