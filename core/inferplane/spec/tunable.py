"""Kernels whose configurations can be measured: what `inferplane tune` asks of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Configuration = Mapping[str, int]


class Tunable(Protocol):
    """(optional) What `Candidate.tunable` names: the configurations of a kernel, and how to time
    one. The kernel itself reads the file that is written; `file` says where it looks for it.

    The file is JSON: {"format": 1, "device": name, "op": op, "entries": [{"request":
    `request.describe()`, "case": case, "configuration": {name: number}, "microseconds": number,
    "default_microseconds": number}]}, beside "made" with versions and the date.
    """

    def cases(self, request: Any) -> Sequence[str]:
        """Ways of use that have their own best configuration; "" where there is only one."""

    def configurations(self, request: Any, case: str) -> Sequence[Configuration]:
        """What to measure, the default first."""

    def call(
        self, request: Any, case: str, configuration: Configuration, device: torch.device
    ) -> Callable[[], object]:
        """A call with inputs in place, as large as the case is in use. It, or its first run, may
        raise where the device cannot run the configuration."""

    def file(self, request: Any) -> Path:
        """Where the kernel reads what was measured on the request's device."""
