"""What the engine asks of an executor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from inferplane.batch import Batch, StepResult
from inferplane.spec import Fault


class Pending(ABC):
    """A launched batch. `result` waits until it is computed; it raises what a kernel raised."""

    @abstractmethod
    def result(self) -> StepResult: ...


class Done(Pending):
    """A batch that was computed while it was launched."""

    def __init__(self, result: StepResult | None, error: Exception | None = None) -> None:
        self._result, self._error = result, error

    def result(self) -> StepResult:
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


class Executor(ABC):
    """depth: batches that may be launched before the first is committed."""

    depth = 1

    @abstractmethod
    def launch(self, batch: Batch) -> Pending:
        """Raises what goes wrong at once; that may be an error of a batch launched before."""

    def fault(self, error: BaseException) -> Fault:
        """(optional) What kind of error a step raised. Must not use the device."""
        return Fault.KERNEL

    def settle(self) -> None:  # noqa: B027
        """(optional) After an error: waits for all that was launched, and gives memory that is not
        used back to the device. Raises what turns up on the way."""

    def memory(self) -> str:
        """(optional) The device's memory now, for people."""
        return ""

    def close(self) -> None:  # noqa: B027
        """(optional) Gives back what it holds."""
