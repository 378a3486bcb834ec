"""Everything that this platform offers, held to the contract by Inferplane's own kit."""

from __future__ import annotations

import pytest

from inferplane.testing import Conformance

pytestmark = pytest.mark.ci(platforms=["example"], suite="conformance", est_seconds=60)


class TestExample(Conformance):
    device = "example"
