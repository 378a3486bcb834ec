"""SIM_FAULTS as text."""

from __future__ import annotations

import pytest
from inferplane_sim.faultplan import FaultPlan, parse_faults

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=2)


def test_the_grammar():
    text = "kernel@120, oom%300,nan/5s:p0.5,hang@7:r1,slow@3:250ms,lost/1.5m"
    assert parse_faults(text) == [
        FaultPlan(kind="kernel", at=120),
        FaultPlan(kind="oom", every=300),
        FaultPlan(kind="nan", period_s=5.0, probability=0.5),
        FaultPlan(kind="hang", at=7, rank=1),
        FaultPlan(kind="slow", at=3, delay_s=0.25),
        FaultPlan(kind="lost", period_s=90.0),
    ]


@pytest.mark.parametrize(
    "text",
    ["kernel", "kernel@", "kernel@x", "kernel@0", "melt@1", "slow@3:2h", "nan/5", "oom@1:p2"],
)
def test_a_wrong_entry_is_shown(text):
    with pytest.raises(ValueError, match="fault"):
        parse_faults(text)
