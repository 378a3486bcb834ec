"""Every check that can fail is explained in the docs, and every name there exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import inferplane.testing.conformance as kit

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=1)

FOLDER = Path(kit.__file__).parent
DOCS = Path(__file__).parents[4] / "docs" / "conformance.md"
GIVEN = {"determinism", "poison", "crashes", "wrong-device"}  # named where the check is called


def test_checks_and_their_table_agree():
    sources = "".join(path.read_text() for path in FOLDER.rglob("*.py"))
    failing = set(re.findall(r'\.fail\(\s*"([a-z-]+)"', sources)) | GIVEN
    section = DOCS.read_text().split("## The checks")[1].split("NaN in")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    explained = {name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)}
    assert explained == failing
