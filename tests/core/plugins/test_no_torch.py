"""What plans and answers from data imports no torch: it must work on a machine without it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import inferplane.models
import inferplane.plugins

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=10)


def modules_of(package) -> list[str]:
    found = pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    return [module.name for module in found]


MODULES = [
    "inferplane",
    "inferplane.spec",
    *modules_of(inferplane.plugins),
    "inferplane.planning.plan",
    *modules_of(inferplane.models),
    "inferplane.platforms.cpu.plugin",
    "inferplane.reference.plugin",
    "inferplane.scheduler.scheduler",
    "inferplane.cache.manager",
    "inferplane.settings",
]


def imported_torch(code: str) -> bool:
    """Whether torch is there after `code` ran in a process of its own."""
    code += "\nimport sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True"


def test_the_check_sees_torch():
    assert imported_torch("import torch")


def test_no_module_that_plans_imports_torch():
    assert not imported_torch("\n".join(f"import {name}" for name in MODULES))


def test_every_supports_of_the_core_answers_without_torch():
    code = """
from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import select
plugins = discover([])
catalog = Catalog(plugins, select(plugins, "cpu"))
assert catalog.candidates
"""
    assert not imported_torch(code)


@pytest.mark.parametrize("strict", [False, True])
def test_a_plan_is_made_without_torch(tmp_path, strict):
    (tmp_path / "config.json").write_text(
        '{"architectures": ["Qwen3ForCausalLM"], "vocab_size": 64, "hidden_size": 32,'
        ' "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,'
        ' "num_key_value_heads": 2, "head_dim": 8}'
    )
    code = f"""
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings
plan = make_plan(Settings(
    model={str(tmp_path)!r}, load_format="dummy", device="cpu", plugins=(), strict={strict}
))
assert plan.resolution.choices and plan.budget.tokens > 0
"""
    assert not imported_torch(code)
