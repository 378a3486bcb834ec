"""What runs, and where each value came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.plugins import PROPS

from inferplane.errors import UserError
from inferplane.planning.effective import Effective, resolve
from inferplane.spec import GiB, SettingProposal

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

GIVEN = {
    "dtype": None,
    "kv_dtype": None,
    "max_num_seqs": None,
    "max_num_batched_tokens": None,
    "max_model_len": None,
    "memory_fraction": 0.9,
    "overlap": None,
    "warm_up": None,
}


def effective(
    users: dict[str, Any] | None = None,
    proposals: dict[str, Any] | None = None,
    props=PROPS,
    checkpoint: str = "bf16",
) -> Effective:
    users = users or {}
    proposed = [
        ("fake", SettingProposal(key=key, value=value, reason="it is better"))
        for key, value in (proposals or {}).items()
    ]
    return resolve(GIVEN | users, dict.fromkeys(users, "flag"), proposed, props, checkpoint, 512)


def test_a_default_says_so():
    assert effective().values["memory_fraction"].source == "default"


def test_a_proposal_replaces_a_default_with_its_reason():
    value = effective(proposals={"memory_fraction": 0.5}).values["memory_fraction"]
    assert (value.value, value.source) == (0.5, "fake: it is better")


def test_a_user_is_never_overruled():
    value = effective({"memory_fraction": 0.7}, {"memory_fraction": 0.5}).values["memory_fraction"]
    assert (value.value, value.source) == (0.7, "flag")


def test_a_proposal_for_no_setting_is_refused():
    with pytest.raises(UserError, match="plugin 'fake' proposes 'memory', which is no setting"):
        effective(proposals={"memory": 1})


class TestDtype:
    def test_comes_from_the_checkpoint(self):
        found = effective()
        assert (found["dtype"], found.values["dtype"].source) == ("bf16", "checkpoint")

    def test_falls_back_with_a_reason(self):
        found = effective(checkpoint="fp16")
        assert found["dtype"] == "bf16"
        assert "checkpoint is fp16" in found.values["dtype"].source

    def test_of_a_user_that_the_device_lacks_is_refused(self):
        with pytest.raises(UserError, match="dtype is fp16; Fake 1 computes with bf16, fp32"):
            effective({"dtype": "fp16"})

    @pytest.mark.parametrize("setting", ["dtype", "kv_dtype"])
    def test_that_does_not_exist_is_refused(self, setting):
        flag = setting.replace("_", "-")
        with pytest.raises(UserError, match=f"--{flag} 'bf17' is not known"):
            effective({setting: "bf17"})

    def test_that_is_the_beginning_of_others_gets_a_suggestion(self):
        with pytest.raises(UserError, match="did you mean 'fp8_e4m3'"):
            effective({"kv_dtype": "fp8"})

    def test_of_the_cache_is_the_model_s(self):
        assert effective({"dtype": "fp32"})["kv_dtype"] == "fp32"


class TestLength:
    def test_comes_from_the_checkpoint(self):
        assert effective()["max_model_len"] == 512

    def test_may_be_shorter(self):
        assert effective({"max_model_len": 100})["max_model_len"] == 100

    def test_beyond_the_checkpoint_s_is_refused(self):
        with pytest.raises(UserError, match="max-model-len is 513; the model was made for 512"):
            effective({"max_model_len": 513})


class TestBatchedTokens:
    def test_have_a_default(self):
        assert effective()["max_num_batched_tokens"] == 2048

    def test_are_never_fewer_than_requests(self):
        found = effective({"max_num_seqs": 5000}, {"max_num_batched_tokens": 1024})
        assert found["max_num_batched_tokens"] == 5000

    def test_of_a_user_are_kept(self):
        found = effective({"max_num_batched_tokens": 8})
        assert found["max_num_batched_tokens"] == 8


class TestRequestsAtOnce:
    LARGE = replace(PROPS, capabilities=frozenset({"events"}), memory_bytes=80 * GiB)

    def test_have_a_default(self):
        assert effective()["max_num_seqs"] == 64

    def test_are_more_where_a_device_with_a_queue_has_the_memory(self):
        found = effective(props=self.LARGE)
        assert (found["max_num_seqs"], found["max_num_batched_tokens"]) == (256, 8192)
        assert found.values["max_num_seqs"].source == "80 GiB of device memory"

    @pytest.mark.parametrize("changes", [{"memory_bytes": 24 * GiB}, {"capabilities": frozenset()}])
    def test_are_no_more_elsewhere(self, changes):
        found = effective(props=replace(self.LARGE, **changes))
        assert (found["max_num_seqs"], found["max_num_batched_tokens"]) == (64, 2048)

    def test_follow_the_tokens_of_a_user(self):
        found = effective({"max_num_batched_tokens": 100}, props=self.LARGE)
        assert (found["max_num_seqs"], found["max_num_batched_tokens"]) == (100, 100)

    def test_of_a_user_are_kept(self):
        assert effective({"max_num_seqs": 7}, props=self.LARGE)["max_num_seqs"] == 7


@pytest.mark.parametrize("name", ["overlap", "warm_up"])
class TestOverlapAndWarmUp:
    @pytest.mark.parametrize("events", [True, False])
    def test_follow_what_the_device_has(self, name, events):
        words = {"events"} if events else set()
        found = effective(props=replace(PROPS, capabilities=frozenset(words)))
        assert found[name] is events
        assert "events" in found.values[name].source

    def test_of_a_user_are_kept(self, name):
        assert effective({name: False})[name] is False
