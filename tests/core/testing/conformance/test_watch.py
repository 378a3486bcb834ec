"""A kernel that waits for its device is caught where the device works asynchronously."""

from __future__ import annotations

import pytest
from tests.fakes.kit import candidate, caught_by, target_of

from inferplane.reference.norm import rms_norm
from inferplane.spec import Device

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=2)


class Queue:
    """A stream of a device whose work is done at once."""

    def synchronize(self) -> None:
        pass


class Queued(Device):
    """Looks asynchronous, so that the kit watches it."""

    def stream(self) -> Queue:
        return Queue()


def reads_a_value(request):
    right = rms_norm(request)

    def run(x, weight):
        return right(x, weight) if x.abs().max().item() < 1e30 else x

    return run


def waits_for_the_device(request):
    import torch

    right = rms_norm(request)

    def run(x, weight):
        y = right(x, weight)
        torch.accelerator.synchronize()
        return y

    return run


@pytest.mark.parametrize("factory", [reads_a_value, waits_for_the_device])
def test_a_kernel_that_waits_is_caught(factory, monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "synchronize", lambda *device: None)
    target = target_of(candidate("norm.rms", factory), device=Queued)
    assert caught_by("synchronises", target, op="norm.rms", areas=("ops",))


def test_one_that_does_not_passes():
    target = target_of(candidate("norm.rms", rms_norm), device=Queued)
    assert not caught_by("synchronises", target, op="norm.rms", areas=("ops",))


def test_a_device_that_works_in_call_order_is_not_watched():
    target = target_of(candidate("norm.rms", reads_a_value))
    assert not caught_by("synchronises", target, op="norm.rms", areas=("ops",))


def test_nothing_stays_wrapped():
    import torch

    before = torch.accelerator.synchronize
    target = target_of(candidate("norm.rms", rms_norm), device=Queued)
    caught_by("none", target, op="norm.rms", areas=("ops",))
    assert torch.accelerator.synchronize is before
    assert "synchronize" not in vars(target.device)
