"""All that this platform offers, held to the contract: one test a case."""

from __future__ import annotations

import pytest

from inferplane.testing import Conformance

pytestmark = pytest.mark.ci(platforms=["acme"], suite="conformance", est_seconds=120)


class TestAcme(Conformance):
    device = "acme"
