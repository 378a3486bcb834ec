"""A fresh simulated driver for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from inferplane_sim import driver as drivers
from inferplane_sim.backend import install

Start = Callable[..., drivers.Driver]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """(settings): a new driver, as in a new process. Each stream is empty at the end."""
    for name in [n for n in os.environ if n.startswith("SIM_")]:
        monkeypatch.delenv(name)
    install()
    yield drivers.restart
    drivers.restart()


@pytest.fixture
def sim(start: Start) -> drivers.Driver:
    """The driver with one device of 64 MiB."""
    return start(memory_mb=64)


@pytest.fixture
def values() -> Callable[..., torch.Tensor]:
    """(shape, dtype): host numbers that are the same every time."""

    def make(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator).to(dtype)

    return make


@pytest.fixture
def run_python() -> Callable[..., str]:
    """(code, environment): what a fresh Python prints. Fails with its errors."""
    import subprocess
    import sys

    def run(code: str, **environment: Any) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SIM_")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**kept, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
