"""What `prepare` says it keeps is checked, and so are dump and restore."""

from __future__ import annotations

import pytest
import torch
from tests.fakes.kit import candidate, caught_by, results, target_of

from inferplane.reference.linear import Linear
from inferplane.spec import Packed

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=2)


class CountsNothing(Linear):
    def prepare(self, source):
        packed = super().prepare(source)
        return Packed(data=packed.data, final_bytes=0)


class CountsTied(Linear):
    """A tied tensor is counted though it is shared."""

    def prepare(self, source):
        packed = super().prepare(source)
        return Packed(data=packed.data, final_bytes=packed.data[0].nbytes)


class CountsOther(Linear):
    def prepare(self, source):
        packed = super().prepare(source)
        packed.final_bytes += 8
        return packed


class Kept(Linear):
    def dump(self, packed):
        return {"weight": packed.data[0]}

    def restore(self, tensors):
        weight = tensors["weight"]
        return Packed(data=(weight, None), final_bytes=weight.nbytes, tensors=dict(tensors))


class KeptWrong(Kept):
    def dump(self, packed):
        return {"weight": packed.data[0] + torch.ones(1)}


@pytest.mark.parametrize(
    ("factory", "check"),
    [
        (CountsNothing, "bytes"),
        (CountsTied, "bytes"),
        (CountsOther, "bytes"),
        (KeptWrong, "dump"),
    ],
)
def test_a_mutant_is_caught(factory, check):
    assert caught_by(check, target_of(candidate("linear", factory)), areas=("memory",))


def test_a_packed_copy_of_a_tied_weight_is_fair_if_it_is_declared():
    copies = candidate("linear", CountsTied, extra_bytes=lambda r: 4 * r.in_features * 96)
    assert not caught_by("bytes", target_of(copies), op="linear", areas=("memory",))


def test_dump_and_restore_run_where_they_are_offered():
    found = results(target_of(candidate("linear", Kept)), op="linear", areas=("memory",))
    assert {r.status for r in found if "dump" in r.case.name} == {"passed"}
