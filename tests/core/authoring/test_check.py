"""Both halves joined: what users of `plugin check` get."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import only, platform

from inferplane.authoring.check import Report, _without_echo, named
from inferplane.authoring.findings import CODES, Finding, ordered
from inferplane.errors import UserError
from inferplane.plugins.discovery import discover

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)


def test_errors_come_first():
    found = ordered(
        [Finding("IP112", "", "n"), Finding("IP303", "", "w"), Finding("IP301", "", "e")]
    )
    assert [f.severity for f in found] == ["error", "warning", "note"]


def test_a_finding_is_told_once():
    assert len(ordered([Finding("IP112", "", "n")] * 2)) == 1


def test_one_fault_of_a_candidate_is_told_for_one_request():
    found = _without_echo([Finding("IP303", "a.k", "for 1"), Finding("IP303", "a.k", "for 2")])
    assert [f.message for f in found] == ["for 1"]


def test_two_reads_of_a_candidate_are_both_told():
    found = [Finding("IP306", "a.k", "opens a"), Finding("IP306", "a.k", "opens b")]
    assert _without_echo(found) == found


def test_only_errors_count_as_errors():
    report = Report(only(platform("fake")), [Finding("IP112", "", "n"), Finding("IP301", "", "e")])
    assert report.errors == 1


def test_a_plugin_is_found_by_its_name():
    assert [p.name for p in named(discover([]), "cpu")] == ["cpu"]


def test_an_unknown_plugin_names_those_there_are():
    with pytest.raises(UserError, match=r"no plugin 'cpi' is installed \(did you mean 'cpu'"):
        named(discover([]), "cpi")


def test_every_code_has_a_severity_and_a_meaning():
    for code, (severity, meaning) in CODES.items():
        assert code.startswith("IP")
        assert severity in ("error", "warning", "note")
        assert meaning
