"""After a step that raised: what kind of error it was, and a device at rest again."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from inferplane.batch import Batch
from inferplane.executor.base import Executor, Pending
from inferplane.spec import Fault

log = logging.getLogger("inferplane.engine")

_TRIES = 3  # errors that may turn up, one after the other, while the device comes to rest


class Recovery:
    """Brings an executor to where the next batch can be launched."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def after(self, error: Exception, behind: Sequence[Pending], batch: Batch) -> Fault:
        """Sorts the error of `batch`, and waits for what was launched `behind` it, whose results
        are dropped. LOST where the device does not come to rest."""
        fault = self.sort(error)
        size = f"step {batch.step} of {len(batch.slots)} requests and {batch.tokens} tokens"
        told = f"{type(error).__name__}: {error}"
        if fault is Fault.MEMORY:
            log.warning("out of memory in %s; its requests run again: %s", size, told)
        else:
            log.error("%s failed (%s): %s", size, fault.value, told, exc_info=error)
        release(error)
        if fault is Fault.LOST:
            return fault
        for pending in behind:
            try:
                pending.result()
            except Exception as later:
                log.warning("a step behind it failed too: %s: %s", type(later).__name__, later)
                if self.sort(later) is Fault.LOST:
                    return Fault.LOST
                release(later)
        return fault if self._settle() else Fault.LOST

    def sort(self, error: BaseException) -> Fault:
        """The kind of an error; LOST where the platform cannot even tell."""
        try:
            return self.executor.fault(error)
        except Exception:
            log.exception("the platform cannot sort %s", type(error).__name__)
            return Fault.LOST

    def _settle(self) -> bool:
        for _ in range(_TRIES):
            try:
                self.executor.settle()
                return True
            except Exception as error:
                log.warning("while the device comes to rest: %s: %s", type(error).__name__, error)
                if self.sort(error) is Fault.LOST:
                    return False
                release(error)
        return False

    def advice(self, told: str) -> str:
        """Behind the message for a request that does not fit: the device's words, and a remedy."""
        try:
            memory = self.executor.memory()
        except Exception as error:
            memory = f"its memory cannot be read: {error}"
        return (
            f" ({told}{'; device: ' if memory else ''}{memory}). Leave more memory for a step: "
            "lower --memory-fraction, --kv-memory or --num-pages"
        )


def first_line(error: BaseException) -> str:
    """Of the message, with what the executor noted: the kernel that it was raised in."""
    first = (str(error).splitlines() or [""])[0]
    return "; ".join([first, *getattr(error, "__notes__", ())])


def release(error: BaseException | None) -> None:
    """Lets go of what the frames of an error hold: the tensors of the step that failed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
