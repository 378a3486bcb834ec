"""Mistakes that show when a plugin probes and loads: what is missing, and what it overwrites."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=16)

CASES = {
    "patches_core": (
        "IP403",
        "it writes inferplane.plugins.selection.parse_device when it is disc",
    ),
    "patches_torch": ("IP404", "it replaces torch.nn.functional.rms_norm when it is loaded"),
    "memory_type": ("IP502", "gave int; return MemoryInfo"),
}
MORE_CASES = {
    "probe_raises": ("IP130", "probe raised OSError: .*return Probe.missing"),
    "no_profiles": ("IP120", "add profiles to PlatformSpec"),
    "load_missing": ("IP205", "has no 'rsm_norm'"),
    "device_raises": ("IP501", "inferplane_device raised OSError"),
    "unknown_setting": ("IP503", "no setting 'max_num_sqes' .did you mean 'max_num_seqs'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_finding(codes, case):
    code, says = CASES[case]
    found = codes(case, "loaded")
    assert re.search(says, found.get(code, "")), found
    assert len(found) == 1


@pytest.mark.nightly
@pytest.mark.ci(nightly=True, est_seconds=20)
@pytest.mark.parametrize("case", MORE_CASES)
def test_a_rarer_mistake_is_one_finding(codes, case):
    code, says = MORE_CASES[case]
    found = codes(case, "loaded")
    assert re.search(says, found.get(code, "")), found
    assert len(found) == 1
