"""An error out of a kernel is told with the kernel's name."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import PROPS, candidate

from inferplane.plugins.blame import blame
from inferplane.plugins.resolution import Choice
from inferplane.spec import ANY_TOKENS, NormRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)


def choice(load: str, name: str = "acme.norm") -> Choice:
    request = NormRequest(device=PROPS, size=8, dtype="fp32", eps=1e-6)
    return Choice(request, ((ANY_TOKENS, candidate(name, op="norm.rms", load=load)),))


def raised() -> Exception:
    try:
        raise RuntimeError("tile")
    except RuntimeError as error:
        return error


def test_the_kernel_of_the_frame_is_named():
    found = blame(raised(), [choice(f"{__name__}:kernel")])
    assert found == f"raised in {__name__}, which serves acme.norm (norm.rms)"


def test_all_kernels_of_the_module_are_named():
    found = blame(raised(), [choice(f"{__name__}:a", "acme.a"), choice(f"{__name__}:b", "acme.b")])
    assert "acme.a (norm.rms), acme.b (norm.rms)" in found


def test_nobody_is_blamed_for_an_error_elsewhere():
    assert blame(raised(), [choice("somewhere.else:kernel")]) == ""
