"""docs/support.md says what the certificates in this repository say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=3)

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "support.md"


def test_the_page_is_up_to_date():
    command = [sys.executable, str(ROOT / "tools" / "support.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_has_no_certificate_is_not_run():
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| norm.add_rms")]
    assert any("example." in row and "| not run |" in row for row in rows)


def test_what_only_ran_on_an_emulation_is_not_told_as_run_on_a_device():
    section = PAGE.read_text().split("## sim")[1].split("\n## ")[0]
    assert "V3" not in section
