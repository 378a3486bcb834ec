"""Every op has requests to ask with, and every semantic is in one of them."""

from __future__ import annotations

import inspect
import re

import pytest

from inferplane.authoring.offers import NO_PROFILE
from inferplane.authoring.samples import features, samples
from inferplane.spec import OPS, SampleInputs

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.mark.parametrize("op", OPS)
class TestSamples:
    def test_are_of_the_ops_own_kind(self, op):
        found = samples(op, NO_PROFILE)
        assert found
        assert {type(request) for request in found} == {OPS[op].request}
        assert {request.op for request in found} == {op}

    def test_carry_the_device(self, op):
        assert {request.device for request in samples(op, NO_PROFILE)} == {NO_PROFILE}

    def test_can_be_described(self, op):
        assert all(isinstance(request.describe(), str) for request in samples(op, NO_PROFILE))

    def test_show_every_semantic_that_the_request_yields_by_name(self, op):
        source = inspect.getsource(OPS[op].request._semantics)
        named = set(re.findall(r'yield "(\w+)"', source))
        assert named <= features(op, NO_PROFILE)


def test_sampling_has_every_feature_of_a_batch():
    everything = SampleInputs(
        **dict.fromkeys(SampleInputs.__dataclass_fields__, ()) | {"logprobs": 1}
    )
    everything.processors = ((None, []),)
    assert everything.features() <= features("sample", NO_PROFILE)
