"""Mistakes that show without loading anything: each gives its own finding, and no other."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=6)

CASES = {
    "import_error": ("IP401", "it imports libbroken when it is discovered"),
    "exits_at_import": ("IP101", "SystemExit: no licence"),
    "misspelt_hook": ("IP104", "did you mean 'inferplane_attention'"),
    "unmarked_hook": ("IP104", "lacks the @hookimpl mark"),
    "other_major": ("IP102", "built for contract 99"),
    "torch_at_import": ("IP401", "it imports torch when it is discovered"),
    "not_a_list": ("IP201", "gave Candidate; return a list"),
    "offer_raises": ("IP201", "inferplane_ops raised KeyError"),
    "unknown_op": ("IP202", "did you mean 'norm.rms'"),
    "misspelt_feature": ("IP203", "'weight_ofset' .*did you mean 'weight_offset'"),
    "reserved_name": ("IP204", "names with 'reference.' are the core's"),
    "same_candidate_twice": ("IP204", "norm.rms broken.norm is offered twice"),
    "supports_raises": ("IP301", "AttributeError: .*'hidden'"),
    "supports_none": ("IP302", "gave NoneType; return Support"),
    "no_reason": ("IP301", "Support.no needs a reason"),
    "useless_reason": ("IP303", "refused norm.rms .* with 'not supported'"),
    "torch_in_supports": ("IP305", "it imports torch; answer from data"),
    "reads_environment": ("IP306", "environment variable BROKEN_FAST"),
    "reads_file": ("IP306", "it opens .*reads_file.py|it opens .*inferplane_broken.py"),
    "bad_profile": ("IP122", "unknown dtype 'bfloat16'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_finding(codes, case):
    code, says = CASES[case]
    found = codes(case, "pure")
    assert re.search(says, found.get(code, "")), found
    assert len(found) == 1 or case == "bad_profile"


def test_chance_is_seen_as_such_and_by_its_answers(codes):
    found = codes("random_answer", "pure")
    assert "draws a random number: random.random" in found["IP306"]
    assert "answered" in found["IP304"]


def test_an_architecture_is_no_capability(codes):
    assert "'b90' names an architecture" in codes("bad_profile", "pure")["IP123"]


def test_answers_are_given_for_comparison(half):
    (texts,) = half("useless_reason", "pure")["answers"].values()
    assert len(texts) > 5
    assert all(text.startswith("norm.rms") for text in texts)


def test_a_plugin_without_such_mistakes_has_no_findings(codes):
    assert codes("probe_raises", "pure") == {}
