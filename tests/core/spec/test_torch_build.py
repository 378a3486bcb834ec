"""What torch was built for, without importing it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inferplane.spec import torch_build

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_the_installed_torch_is_told_without_importing_it():
    code = (
        "import sys; from inferplane.spec import torch_build; print(torch_build()['__version__'])"
    )
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    version, imported = done.stdout.split()
    assert version == __import__("torch").__version__
    assert imported == "False"


def test_toolkits_that_a_build_lacks_are_left_out(tmp_path):
    (tmp_path / "version.py").write_text(
        "from typing import Optional\n__version__ = '3.0+x'\ndebug = False\n"
        "one: Optional[str] = None\ntwo: Optional[str] = '8.1'\n"
    )
    assert torch_build(tmp_path) == {"__version__": "3.0+x", "two": "8.1"}


@pytest.mark.parametrize("text", [None, "no python"])
def test_a_torch_that_cannot_be_read_tells_nothing(text, tmp_path):
    if text:
        (tmp_path / "version.py").write_text(text)
    assert torch_build(tmp_path) == {}
