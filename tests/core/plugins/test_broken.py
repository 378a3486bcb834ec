"""Each way in which a plugin can be wrong gives an error of its own, and the CPU works on."""

from __future__ import annotations

import re
import sys

import pytest
from tests.fakes.packages import FIXTURES, install_broken

from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.planning.report import report
from inferplane.plugins.discovery import discover
from inferplane.settings import Settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=9)

# Stage, and what the message says. "found": by discovery. "plan": when a plan is made for it.
# "explain": as the reason against its kernel. "build": when the model is loaded. "step": as the
# answer to the requests of the step.
CASES = {
    "import_error": (
        "found",
        r"cannot be imported: ModuleNotFoundError: .*'libbroken'.*devices -v",
    ),
    "exits_at_import": ("found", "cannot be imported: SystemExit: no licence"),
    "misspelt_hook": ("found", r"no hook inferplane_atention \(did you mean 'inferplane_attention"),
    "unmarked_hook": ("found", "inferplane_attention lacks the @hookimpl mark"),
    "wrong_arguments": ("found", "hookimpl definition: inferplane_ops(.|\n)*gpu"),
    "wrong_platform_type": ("found", "inferplane_platform returned dict, it must return PlatformS"),
    "says_nothing": ("found", "neither inferplane_platform nor inferplane_feature"),
    "platform_raises": ("found", "inferplane_platform raised RuntimeError: driver 3 is too old"),
    "newer_minor": ("found", r"built for contract \d+\.99, .*upgrade inferplane$"),
    "other_major": ("found", r"built for contract 99\.x, this core has .*upgrade inferplane$"),
    "core_name": ("found", "'cpu' is offered by more than one distribution: inferplane .*uninstal"),
    "duplicate_name": ("found", "'broken' is offered by more .*broken 1.0, inferplane-broken-too"),
    "probe_raises": ("plan", "its probe raised OSError: /dev/broken0: permission denied"),
    "probe_type": ("plan", "its probe returned list, it must return Probe"),
    "not_a_list": ("plan", "inferplane_ops gave Candidate, not a list"),
    "not_a_candidate": ("plan", "inferplane_ops gave function, not Candidate"),
    "unknown_op": ("plan", r"'norm.rsm', not an op \(did you mean 'norm.rms'\?\)"),
    "reserved_name": ("plan", "reference.fast: names with 'reference.' are the core's"),
    "same_candidate_twice": ("plan", "offers norm.rms broken.norm twice"),
    "offer_raises": ("plan", "inferplane_ops raised KeyError: 'b2'"),
    "memory_raises": ("plan", "inferplane_memory raised OSError: no such counter"),
    "memory_type": ("plan", "inferplane_memory returned int, it must return MemoryInfo"),
    "unknown_setting": ("plan", "proposes 'max_num_sqes', which is no setting"),
    "no_profiles": ("plan", "has no device here\n  no Broken 1 was found\n  remedy: plug one in"),
    "supports_raises": ("explain", r"supports\(\) raised AttributeError: .*no attribute 'hidden'"),
    "supports_none": ("explain", r"supports\(\) returned NoneType, not Support"),
    "no_reason": ("explain", r"supports\(\) raised ValueError: Support.no needs a reason"),
    "device_raises": ("build", "inferplane_device raised OSError: device 0 is busy"),
    "device_type": ("build", "inferplane_device returned str, it must return Device"),
    "load_missing": ("build", "(?s)kernel broken.norm .*cannot be loaded: .*rsm_norm.*--kernel '"),
    "factory_raises": ("build", "kernel broken.norm of plugin 'broken' .*factory raised RuntimeEr"),
    "call_raises": (
        "build",
        r"kernel broken.norm of plugin .*first call, with \[1, \d+\].* launch",
    ),
    "wrong_shape": ("build", r"kernel broken.norm .*returned \[1, 63\]; the contract says \[1, 64"),
    "step_raises": (
        "step",
        r"too many rows for the grid; raised in .*kernels, .* broken.norm \(no",
    ),
}
# Plugins that work, though they should not do what they do: `inferplane plugin check` finds it.
CHECKED_ONLY = {
    "random_answer",
    "torch_in_supports",
    "reads_environment",
    "reads_file",
    "useless_reason",
    "misspelt_feature",
    "torch_at_import",
    "patches_core",
    "patches_torch",
    "bad_profile",
}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """(case): installs it for this test."""
    before = set(sys.modules)

    def put(case: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        monkeypatch.syspath_prepend(install_broken(folder, case))

    yield put
    for name in set(sys.modules) - before:
        if name.startswith(("inferplane_broken", "inferplane_sound")):
            del sys.modules[name]


def settings(model, **changes) -> Settings:
    given = {"model": str(model), "num_pages": 16, "page_size": 16, "dtype": "float32"}
    return Settings(**(given | {"device": "broken", "skip_tokenizer_init": True} | changes))


def message(case: str, model) -> str:
    """The error of a case, at its stage."""
    stage = CASES[case][0]
    plugins = discover()
    (plugin,) = [p for p in plugins if p.distribution == "inferplane-broken"]
    if stage == "found":
        assert plugin.error is not None
        return str(plugin.error)
    assert plugin.ready, plugin.error
    if stage == "explain":
        plan = make_plan(settings(model), plugins=plugins)
        (row,) = [
            r for r in report(plan)["ops"] if r["op"] == "norm.rms" and r["request"] == "fp32 64"
        ]
        return next(r["reason"] for r in row["rejected"] if r["kernel"] == "broken.norm")
    if stage == "plan":
        with pytest.raises(UserError) as caught:
            make_plan(settings(model), plugins=plugins)
        return str(caught.value)
    if stage == "step":
        return error_of_a_step(model)
    from inferplane.engine.build import build_engine

    plan = make_plan(settings(model), plugins=plugins)
    with pytest.raises(UserError) as caught:
        build_engine(plan)
    return str(caught.value)


def error_of_a_step(model) -> str:
    """What the requests of a step get; the engine goes on, and serves a shorter one."""
    from inferplane.llm import LLM
    from inferplane.params import SamplingParams

    given = settings(model).model_dump(exclude_unset=True)
    with LLM(**given) as llm:
        params = SamplingParams(temperature=0.0, max_tokens=2)
        (long,) = llm.generate([{"prompt_token_ids": list(range(9))}], params)
        (short,) = llm.generate([{"prompt_token_ids": [1, 2]}], params)
        assert len(short.outputs[0].token_ids) == 2
        llm.check_invariants()
    return long.outputs[0].error


@pytest.mark.parametrize("case", CASES)
class TestBroken:
    def test_says_what_is_wrong(self, broken, checkpoint, case):
        broken(case)
        found = message(case, checkpoint("llama"))
        assert re.search(CASES[case][1], found), found

    def test_does_not_stop_the_cpu(self, broken, checkpoint, case):
        broken(case)
        plan = make_plan(settings(checkpoint("llama"), device="cpu"))
        assert plan.selection.plugin.distribution == "inferplane"
        assert not [c for c in plan.catalog.candidates if c.name.startswith("broken.")]


EARLY = [c for c, (stage, _) in CASES.items() if stage in ("found", "plan") and c != "core_name"]


@pytest.mark.parametrize("case", EARLY)
def test_the_error_names_the_plugin_when_it_is_asked_for(broken, checkpoint, case):
    broken(case)
    with pytest.raises(UserError, match="broken"):
        make_plan(settings(checkpoint("llama")))


def test_no_two_broken_plugins_give_the_same_error():
    patterns = [pattern for _, pattern in CASES.values()]
    assert len(set(patterns)) == len(patterns)


def test_every_broken_plugin_has_a_case():
    files = {path.stem for path in (FIXTURES / "broken").glob("*.py")}
    assert files == CASES.keys() | CHECKED_ONLY
