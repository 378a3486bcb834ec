"""What every platform must do, whoever made it. `inferplane-ci` runs it on each one there is.

By hand: `inferplane-ci run --suite conformance --platform NAME`. Plain pytest runs it on the CPU.
"""

from __future__ import annotations

import pytest

from inferplane.params import SamplingParams
from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import probe
from inferplane.testing.arithmetic import evaluation_set, is_right

pytestmark = pytest.mark.ci(platforms=["*"], suite="conformance", est_seconds=5)

QUESTIONS = 24


@pytest.fixture(scope="module")
def plugin(ci_platform):
    """The one plugin that offers the platform. One that is not there is a failure, not a skip."""
    found = [plugin for plugin in discover() if plugin.offers(ci_platform)]
    assert len(found) == 1, f"platform {ci_platform!r} is offered by {len(found)} plugins"
    assert found[0].error is None, str(found[0].error)
    return found[0]


def test_it_has_a_device_here(plugin):
    found = probe(plugin)
    assert found.available, f"{found.reason}; remedy: {found.remedy}"
    assert found.devices


def test_its_devices_say_what_planning_needs(plugin):
    for props in probe(plugin).devices:
        assert props.memory_bytes > 0
        assert props.dtypes


def test_the_small_model_is_right_on_it(plugin, ci_platform):
    from inferplane import LLM

    asked = evaluation_set(QUESTIONS)
    params = SamplingParams(temperature=0.0, max_tokens=8, stop=("\n",))
    with LLM("tiny-arithmetic", device=ci_platform) as llm:
        outputs = llm.generate([prompt for prompt, _ in asked], params)
        llm.check_invariants()
    answers = [output.outputs[0].text for output in outputs]
    pairs = [(given, right) for given, (_, right) in zip(answers, asked, strict=True)]
    wrong = [pair for pair in pairs if not is_right(*pair)]
    assert len(wrong) <= 1, wrong
