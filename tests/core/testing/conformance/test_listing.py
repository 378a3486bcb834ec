"""Which cases a candidate gets."""

from __future__ import annotations

import pytest
from tests.fakes.kit import FEATURES, candidate, failures, floats, results, target_of

from inferplane.reference.attention import Attention
from inferplane.reference.linear import Linear
from inferplane.reference.norm import rms_norm
from inferplane.spec import Support, TokenRange
from inferplane.testing.conformance.session import Choice, Session

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=3)


def cases(offer, draws: int = 3, **choice):
    return Session(target_of(offer), Choice(draws=draws, **choice)).cases


def test_ids_are_the_same_however_many_are_drawn():
    few = [c for c in cases(candidate("norm.rms", rms_norm), 2)]
    many = {c.id: c for c in cases(candidate("norm.rms", rms_norm), 9)}
    assert all(many[c.id] == c and many[c.id].seed == c.seed for c in few)


def test_a_drawn_case_can_be_named_beyond_the_number_of_draws():
    id = "norm.rms/mutant.kernel/drawn-7.fp32"
    (case,) = cases(candidate("norm.rms", rms_norm), 2, case=id)
    assert case.id == id


def test_every_candidate_gets_the_same_numbers():
    one = cases(candidate("linear", Linear), op="linear", areas=("linear",))
    two = cases(candidate("linear", Linear, name="mutant.b"), op="linear", areas=("linear",))
    assert [c.seed for c in one] == [c.seed for c in two]


def only_128(request):
    plain = floats(request)
    if plain.ok and (request.head_dim != 128 or request.page_size != 128):
        return Support.no("it has heads and pages of 128")
    return plain


def test_a_kernel_for_few_sizes_still_meets_every_edge():
    offer = candidate("attention", Attention, supports=only_128, page_sizes=(128,))
    served = {
        feature
        for result in results(target_of(offer), op="attention", areas=("attention",))
        if result.status == "passed" and result.case.request
        for feature in result.case.request.requires
    }
    assert served == FEATURES["attention"]


def test_a_kernel_for_few_sizes_passes():
    offer = candidate("attention", Attention, supports=only_128, page_sizes=(128,))
    assert list(failures(target_of(offer), op="attention", areas=("contract",))) == []


def test_both_sides_of_a_token_break_are_called():
    offer = candidate("linear", Linear, token_breaks=(16,))
    asked = {c.name: c.request.tokens for c in cases(offer, areas=("linear",)) if c.request}
    assert asked["tokens-16.fp32"] == TokenRange(1, 16)
    assert asked["tokens-17.fp32"] == TokenRange(17)
    assert asked["many-tokens.fp32"] == TokenRange(17)


def test_a_wrong_kernel_behind_a_token_break_is_caught():
    def factory(request):
        return NoBias(request) if request.tokens.first > 16 else Linear(request)

    class NoBias(Linear):
        def __call__(self, x_TC, packed):
            return x_TC @ packed.data[0].T * 1.01

    offer = candidate("linear", factory, token_breaks=(16,))
    ids = {id for id, _ in failures(target_of(offer), op="linear", areas=("linear",))}
    assert "linear/mutant.kernel/tokens-17.fp32" in ids
    assert "linear/mutant.kernel/tokens-16.fp32" not in ids


def test_reference_kernels_are_tested_when_they_are_named():
    offer = candidate("norm.rms", rms_norm)
    named = cases(offer, candidate="reference.norm.rms")
    assert {c.candidate for c in named} == {"reference.norm.rms"}
    assert not {c.candidate for c in cases(offer)} & {"reference.norm.rms"}
