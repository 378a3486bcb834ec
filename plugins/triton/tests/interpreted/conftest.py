"""Checks that run in the Triton interpreter, in a process of their own: see ../test_interpreted.py.

Their files are called check_*.py, so that a run of all tests does not collect them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

if os.environ.get("TRITON_INTERPRET") == "1":
    sys.path[:0] = [str(HERE), str(HERE.parent.parent.parent.parent)]
else:  # Triton would compile for a device
    collect_ignore_glob = ["*"]


@pytest.fixture
def mended():
    """The interpreter, right for bfloat16 and fp8 while a test runs."""
    from mended import patch

    undo = patch()
    yield
    undo()
