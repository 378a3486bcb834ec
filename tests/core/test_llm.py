"""The Python API: what sampling parameters do, and what a failure leaves behind."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inferplane.errors import UserError
from inferplane.params import SamplingParams
from inferplane.testing import arithmetic

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=17)

PROMPT = [5, 17, 256, 31, 99, 3, 3, 120, 44, 7]
ARITHMETIC = Path(arithmetic.__file__).parent / "models" / "arithmetic"
GREEDY = SamplingParams(temperature=0.0, max_tokens=16)


def prompts(count: int, length: int = 20) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(count)
    ids = torch.randint(0, 300, (count, length), generator=generator).tolist()
    return [{"prompt_token_ids": row} for row in ids]


def tokens(llm, params, prompt=PROMPT) -> list[int]:
    return llm.generate([{"prompt_token_ids": prompt}], params)[0].outputs[0].token_ids


@pytest.fixture
def reference_logprobs(transformers_model):
    """(ids) -> log-probabilities [L, V] of transformers for the "qwen3" checkpoint."""

    @torch.inference_mode()
    def get(ids):
        tensor = torch.tensor([ids])
        mask = torch.ones_like(tensor)
        return transformers_model("qwen3")(tensor, attention_mask=mask).logits[0].log_softmax(-1)

    return get


# seeds

DRAWN = {
    "temperature": SamplingParams(temperature=1.3, seed=11, max_tokens=24),
    "top_k": SamplingParams(top_k=9, seed=11, max_tokens=24),
    "top_p": SamplingParams(top_p=0.8, seed=11, max_tokens=24),
    "min_p": SamplingParams(min_p=0.05, seed=11, max_tokens=24),
    "penalties": SamplingParams(
        repetition_penalty=1.3,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        seed=11,
        max_tokens=24,
    ),
    "all": SamplingParams(
        temperature=0.8, top_k=40, top_p=0.9, min_p=0.01, seed=11, max_tokens=24, logprobs=2
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_same_seed_same_tokens_alone_and_again(name, make_llm):
    llm = make_llm()
    first = tokens(llm, DRAWN[name])
    assert tokens(llm, DRAWN[name]) == first
    assert len(set(first)) > 4


@pytest.mark.parametrize("name", DRAWN)
def test_same_seed_same_tokens_in_a_batch_of_16(name, make_llm):
    alone = tokens(make_llm(), DRAWN[name])
    llm = make_llm(max_num_seqs=16, num_pages=128)
    others = [
        SamplingParams(temperature=0.1 * (i % 5), top_k=i, seed=i, max_tokens=30 - i)
        for i in range(15)
    ]
    outputs = llm.generate(
        [*prompts(7), {"prompt_token_ids": PROMPT}, *prompts(8)],
        [*others[:7], DRAWN[name], *others[7:]],
    )
    assert outputs[7].outputs[0].token_ids == alone


@pytest.mark.parametrize("name", DRAWN)
def test_same_seed_same_tokens_after_preemption(name, make_llm):
    batch = [{"prompt_token_ids": PROMPT}, *prompts(7)]
    params = replace(DRAWN[name], max_tokens=40)
    roomy = make_llm(num_pages=64).generate(batch, params)
    llm = make_llm(num_pages=14)
    tight = llm.generate(batch, params)
    assert llm.engine.scheduler.preemptions > 0
    assert [o.outputs[0].token_ids for o in tight] == [o.outputs[0].token_ids for o in roomy]


def test_same_seed_same_tokens_in_other_chunks_and_pages(make_llm):
    params = DRAWN["all"]
    batch = prompts(6, length=70)
    expected = make_llm().generate(batch, params)
    found = make_llm(page_size=1, num_pages=1024, max_num_batched_tokens=9).generate(batch, params)
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in expected]


def test_completions_of_one_request_differ(make_llm):
    output = make_llm().generate(
        [{"prompt_token_ids": PROMPT}], SamplingParams(n=6, seed=3, max_tokens=12)
    )[0]
    assert [o.index for o in output.outputs] == list(range(6))
    assert len({tuple(o.token_ids) for o in output.outputs}) == 6


def test_completions_of_one_seed_are_the_same_again(make_llm):
    params = SamplingParams(n=4, seed=3, max_tokens=12)
    llm = make_llm()
    first, second = (llm.generate([{"prompt_token_ids": PROMPT}], params)[0] for _ in range(2))
    assert [o.token_ids for o in first.outputs] == [o.token_ids for o in second.outputs]


def test_first_completion_is_that_of_n_equal_to_one(make_llm):
    llm = make_llm()
    many = llm.generate([{"prompt_token_ids": PROMPT}], SamplingParams(n=4, seed=3, max_tokens=12))[
        0
    ]
    assert tokens(llm, SamplingParams(seed=3, max_tokens=12)) == many.outputs[0].token_ids


def test_different_seeds_give_different_tokens(make_llm):
    llm = make_llm()
    found = {tuple(tokens(llm, SamplingParams(seed=s, max_tokens=12))) for s in range(5)}
    assert len(found) == 5


def test_without_a_seed_two_requests_differ(make_llm):
    llm = make_llm()
    params = SamplingParams(max_tokens=12)
    assert tokens(llm, params) != tokens(llm, params)


def test_without_a_seed_the_engine_seed_decides(make_llm):
    params = SamplingParams(max_tokens=12)
    assert tokens(make_llm(seed=4), params) == tokens(make_llm(seed=4), params)


def test_a_negative_seed_is_a_seed_of_its_own(make_llm):
    llm = make_llm()
    negative, positive = (tokens(llm, SamplingParams(seed=s, max_tokens=12)) for s in (-1, 1))
    assert negative != positive


@pytest.mark.parametrize("change", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_keeping_only_the_best_is_greedy(change, make_llm):
    llm = make_llm()
    drawn = tokens(llm, SamplingParams(seed=1, max_tokens=16, **change))
    assert drawn == tokens(llm, GREEDY)


# ends


def test_max_tokens_ends_with_length(make_llm):
    output = make_llm().generate([PROMPT], SamplingParams(temperature=0.0, max_tokens=5))[0]
    assert len(output.outputs[0].token_ids) == 5
    assert output.outputs[0].finish_reason == "length"


def test_no_max_tokens_runs_to_the_models_limit(make_llm):
    llm = make_llm(max_model_len=50)
    found = tokens(llm, SamplingParams(temperature=0.0, max_tokens=None, ignore_eos=True))
    assert len(found) == 50 - len(PROMPT)


def test_the_end_token_ends_with_stop(make_llm, changed_config):
    free = tokens(make_llm(), GREEDY)
    llm = make_llm(changed_config("qwen3", eos_token_id=free[4]))
    output = llm.generate([PROMPT], GREEDY)[0].outputs[0]
    assert output.token_ids == free[: free.index(free[4]) + 1]
    assert (output.finish_reason, output.stop_reason) == ("stop", None)


def test_ignore_eos_goes_on(make_llm, changed_config):
    free = tokens(make_llm(), GREEDY)
    llm = make_llm(changed_config("qwen3", eos_token_id=free[4]))
    params = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True)
    assert tokens(llm, params) == free


def test_stop_token_ids_end_and_are_named(make_llm):
    llm = make_llm()
    free = tokens(llm, GREEDY)
    params = SamplingParams(temperature=0.0, max_tokens=16, stop_token_ids=(free[6],))
    output = llm.generate([PROMPT], params)[0].outputs[0]
    assert output.token_ids == free[: free.index(free[6]) + 1]
    assert (output.finish_reason, output.stop_reason) == ("stop", free[6])


def test_stop_token_ids_end_although_eos_is_ignored(make_llm):
    llm = make_llm()
    free = tokens(llm, GREEDY)
    params = SamplingParams(
        temperature=0.0, max_tokens=16, stop_token_ids=(free[6],), ignore_eos=True
    )
    assert tokens(llm, params) == free[: free.index(free[6]) + 1]


def test_min_tokens_puts_the_end_off(make_llm):
    llm = make_llm()
    free = tokens(llm, GREEDY)
    params = SamplingParams(temperature=0.0, max_tokens=16, stop_token_ids=(free[1],), min_tokens=9)
    found = tokens(llm, params)
    assert len(found) >= 9
    assert free[1] not in found[:9]


def test_min_tokens_holds_after_preemption(make_llm):
    llm = make_llm(num_pages=14)
    stops = tuple(range(0, 300, 20))
    params = SamplingParams(
        seed=5, temperature=3.0, max_tokens=44, min_tokens=40, stop_token_ids=stops
    )
    outputs = llm.generate(prompts(8), params)
    assert llm.engine.scheduler.preemptions > 0
    assert all(not set(o.outputs[0].token_ids[:40]) & set(stops) for o in outputs)


# what may be chosen


def test_logit_bias_forces_a_token(make_llm):
    params = SamplingParams(temperature=0.0, max_tokens=6, logit_bias={77: 100.0})
    assert tokens(make_llm(), params) == [77] * 6


def test_logit_bias_bans_a_token(make_llm):
    llm = make_llm()
    best = tokens(llm, GREEDY)[0]
    params = SamplingParams(temperature=0.0, max_tokens=1, logit_bias={best: -100.0})
    assert tokens(llm, params) != [best]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_allowed_token_ids_are_the_only_ones(temperature, make_llm):
    allowed = (0, 31, 32, 33, 64, 299)
    params = SamplingParams(
        temperature=temperature, max_tokens=40, allowed_token_ids=allowed, seed=2
    )
    found = tokens(make_llm(), params)
    assert len(found) == 40
    assert set(found) <= set(allowed)


def test_parameters_of_one_request_leave_its_neighbours_alone(make_llm):
    llm = make_llm()
    plain = tokens(llm, GREEDY)
    asking = [
        SamplingParams(temperature=0.0, max_tokens=16, logit_bias={77: 100.0}),
        SamplingParams(temperature=0.0, max_tokens=16, allowed_token_ids=(1, 2)),
        SamplingParams(temperature=0.0, max_tokens=16, repetition_penalty=2.0),
        SamplingParams(temperature=2.0, max_tokens=16, seed=9),
    ]
    outputs = llm.generate([PROMPT] * 5, [*asking, GREEDY])
    assert outputs[-1].outputs[0].token_ids == plain


def test_a_repetition_penalty_avoids_repeats(make_llm):
    params = SamplingParams(temperature=0.0, max_tokens=40, repetition_penalty=50.0)
    found = tokens(make_llm(), params)
    assert len({*found, *PROMPT}) == len(found) + len(set(PROMPT))


def test_a_frequency_penalty_counts_what_was_made_before_a_preemption(make_llm):
    params = SamplingParams(temperature=0.0, max_tokens=40, frequency_penalty=2.0, seed=0)
    batch = prompts(8)
    roomy = make_llm(num_pages=64).generate(batch, params)
    llm = make_llm(num_pages=14)
    tight = llm.generate(batch, params)
    assert llm.engine.scheduler.preemptions > 0
    assert [o.outputs[0].token_ids for o in tight] == [o.outputs[0].token_ids for o in roomy]


def test_a_processor_sees_only_its_rows(make_llm):
    seen = []

    def forbid_low_ids(logits, rows):
        seen.append(tuple(rows))
        logits[rows, :200] = float("-inf")

    llm = make_llm()
    plain = tokens(llm, GREEDY)
    asking = SamplingParams(temperature=0.0, max_tokens=16, processors=(forbid_low_ids,))
    outputs = llm.generate([PROMPT] * 2, [GREEDY, asking])
    assert outputs[0].outputs[0].token_ids == plain
    assert min(outputs[1].outputs[0].token_ids) >= 200
    assert seen


# log-probabilities


def test_logprobs_are_those_of_the_reference(make_llm, reference_logprobs):
    params = SamplingParams(seed=6, temperature=1.4, max_tokens=12, logprobs=3)
    output = make_llm().generate([PROMPT], params)[0].outputs[0]
    expected = reference_logprobs(PROMPT + output.token_ids)[len(PROMPT) - 1 :]
    assert len(output.logprobs) == 12
    for token, entry, row in zip(output.token_ids, output.logprobs, expected[:-1], strict=True):
        best = row.topk(3).indices.tolist()
        assert next(iter(entry)) == token
        assert set(entry) == {token, *best}
        for id, found in entry.items():
            assert found.logprob == pytest.approx(float(row[id]), abs=1e-4)
            assert found.rank == int((row > row[id]).sum()) + 1


def test_logprobs_of_zero_give_the_chosen_token_only(make_llm):
    params = SamplingParams(temperature=0.0, max_tokens=4, logprobs=0)
    output = make_llm().generate([PROMPT], params)[0].outputs[0]
    assert [list(entry) for entry in output.logprobs] == [[t] for t in output.token_ids]


def test_logprobs_are_absent_where_not_asked_for(make_llm):
    asking = SamplingParams(temperature=0.0, max_tokens=4, logprobs=2)
    outputs = make_llm().generate([PROMPT] * 2, [asking, GREEDY])
    assert len(outputs[0].outputs[0].logprobs) == 4
    assert outputs[1].outputs[0].logprobs is None


def test_logprobs_do_not_change_greedy_tokens(make_llm):
    llm = make_llm()
    asking = SamplingParams(temperature=0.0, max_tokens=16, logprobs=20)
    assert tokens(llm, asking) == tokens(llm, GREEDY)


def assert_prompt_logprobs(output, reference_logprobs) -> None:
    ids = output.prompt_token_ids
    expected = reference_logprobs(ids)
    assert output.prompt_logprobs[0] is None
    assert len(output.prompt_logprobs) == len(ids)
    for at, entry in enumerate(output.prompt_logprobs[1:], 1):
        row = expected[at - 1]
        assert set(entry) == {ids[at], *row.topk(2).indices.tolist()}
        assert entry[ids[at]].logprob == pytest.approx(float(row[ids[at]]), abs=1e-4)
        assert entry[ids[at]].rank == int((row > row[ids[at]]).sum()) + 1


@pytest.mark.parametrize("chunk", [8, 33, 512])
def test_prompt_logprobs_in_chunks(chunk, make_llm, reference_logprobs):
    llm = make_llm(max_num_batched_tokens=chunk)
    params = SamplingParams(temperature=0.0, max_tokens=2, prompt_logprobs=2)
    for output in llm.generate(prompts(3, length=70), params):
        assert_prompt_logprobs(output, reference_logprobs)


def test_prompt_logprobs_of_a_cached_prompt(make_llm, reference_logprobs):
    llm = make_llm()
    prompt = prompts(1, length=70)
    llm.generate(prompt, GREEDY)
    params = SamplingParams(temperature=0.0, max_tokens=2, prompt_logprobs=2)
    assert_prompt_logprobs(llm.generate(prompt, params)[0], reference_logprobs)


def test_prompt_logprobs_after_preemption(make_llm, reference_logprobs):
    llm = make_llm(num_pages=14, max_num_batched_tokens=16)
    params = SamplingParams(temperature=0.0, max_tokens=40, prompt_logprobs=2)
    outputs = llm.generate(prompts(8, length=40), params)
    assert llm.engine.scheduler.preemptions > 0
    for output in outputs:
        assert_prompt_logprobs(output, reference_logprobs)


def test_prompt_logprobs_with_several_completions(make_llm, reference_logprobs):
    params = SamplingParams(n=3, seed=1, max_tokens=2, prompt_logprobs=2)
    output = make_llm().generate(prompts(1, length=40), params)[0]
    assert_prompt_logprobs(output, reference_logprobs)


def test_prompt_logprobs_of_one_token_are_none(make_llm):
    params = SamplingParams(max_tokens=1, prompt_logprobs=2)
    assert make_llm().generate([[7]], params)[0].prompt_logprobs == [None]


# the prefix cache


def test_num_cached_tokens_counts_whole_pages_before_the_last_token(make_llm):
    llm = make_llm()
    prompt = prompts(1, length=48)
    first, second = (llm.generate(prompt, GREEDY)[0].num_cached_tokens for _ in range(2))
    assert (first, second) == (0, 32)


def test_num_cached_tokens_is_zero_without_the_cache(make_llm):
    llm = make_llm(enable_prefix_caching=False)
    prompt = prompts(1, length=48)
    assert [llm.generate(prompt, GREEDY)[0].num_cached_tokens for _ in range(2)] == [0, 0]


def test_generated_tokens_are_cached_too(make_llm):
    llm = make_llm()
    prompt = prompts(1, length=40)[0]["prompt_token_ids"]
    made = tokens(llm, SamplingParams(temperature=0.0, max_tokens=40), prompt)
    output = llm.generate([[*prompt, *made, 1]], GREEDY)[0]
    assert output.num_cached_tokens == 64


# inputs


def test_one_prompt_of_ids_needs_no_list_around_it(make_llm):
    llm = make_llm()
    assert llm.generate(PROMPT, GREEDY)[0].outputs[0].token_ids == tokens(llm, GREEDY)


def test_no_prompts_give_no_outputs(make_llm):
    assert make_llm().generate([]) == []


def test_outputs_come_in_the_order_of_the_prompts(make_llm):
    params = [SamplingParams(temperature=0.0, max_tokens=n) for n in (9, 1, 5)]
    outputs = make_llm().generate([PROMPT] * 3, params)
    assert [len(o.outputs[0].token_ids) for o in outputs] == [9, 1, 5]


def test_a_wrong_number_of_parameters_is_refused(make_llm):
    with pytest.raises(UserError, match="2 sampling parameters for 3 prompts"):
        make_llm().generate([PROMPT] * 3, [GREEDY, GREEDY])


def test_a_text_without_a_tokenizer_is_refused(make_llm):
    with pytest.raises(UserError, match="give token ids"):
        make_llm().generate("hello")


def test_a_refused_prompt_leaves_nothing_behind(make_llm):
    llm = make_llm()
    too_many = SamplingParams(stop_token_ids=tuple(range(200)))
    with pytest.raises(UserError, match="stop token ids"):
        llm.generate([PROMPT] * 2, [GREEDY, too_many])
    assert llm.engine.unfinished == 0


def test_max_num_batched_tokens_below_max_num_seqs_is_refused(make_llm):
    with pytest.raises(UserError, match="max_num_batched_tokens is 4"):
        make_llm(max_num_batched_tokens=4)


def test_an_unknown_setting_names_the_nearest(make_llm):
    with pytest.raises(UserError, match="page_size"):
        make_llm(page_sise=16)


@pytest.mark.parametrize("name", ["dtype", "kv_dtype"])
def test_an_unknown_type_is_refused(name, make_llm):
    with pytest.raises(UserError, match="'int7' is not known"):
        make_llm(**{"dtype": None, name: "int7"})


def test_a_device_that_is_not_there_is_refused(make_llm):
    with pytest.raises(UserError, match="'toaster'"):
        make_llm(device="toaster")


def test_random_weights_need_no_checkpoint(make_llm, checkpoint, tmp_path):
    (tmp_path / "config.json").write_text((checkpoint("qwen3") / "config.json").read_text())
    found = [tokens(make_llm(tmp_path, load_format="dummy"), GREEDY) for _ in range(2)]
    assert len(found[0]) == 16
    assert found[0] == found[1]


def test_bf16_gives_tokens(make_llm):
    llm = make_llm(dtype="bfloat16")
    assert llm.plan.effective["dtype"] == "bf16"
    assert len(tokens(llm, GREEDY)) == 16


def test_progress_reaches_the_end(checkpoint):
    from inferplane.llm import LLM

    seen = []
    with LLM(
        model=str(checkpoint("llama")),
        device="cpu",
        num_pages=16,
        skip_tokenizer_init=True,
        progress=lambda done, total: seen.append((done, total)),
    ):
        pass
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


# text


def letters(text: str, llm) -> tuple[int, ...]:
    return tuple(sorted({llm.tokenizer.encode(letter)[0] for letter in text}))


@pytest.fixture
def writer(make_llm, text_checkpoint):
    """(LLM, parameters that make it write the letters a to d)."""
    llm = make_llm(text_checkpoint, skip_tokenizer_init=False)
    allowed = letters("abcd", llm)
    return llm, {"seed": 1, "temperature": 2.0, "max_tokens": 60, "allowed_token_ids": allowed}


def test_text_is_what_the_tokens_say(writer):
    llm, asked = writer
    output = llm.generate("hello", SamplingParams(**asked))[0]
    assert output.prompt == "hello"
    assert output.outputs[0].text == llm.tokenizer.decode(output.outputs[0].token_ids)
    assert set(output.outputs[0].text) == set("abcd")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_text_ends_before_itself(length, writer):
    llm, asked = writer
    free = llm.generate("hello", SamplingParams(**asked))[0].outputs[0].text
    stop = free[20 : 20 + length]
    output = llm.generate("hello", SamplingParams(**asked, stop=stop))[0].outputs[0]
    assert output.text == free[: free.index(stop)]
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)
    assert llm.engine.scheduler.unfinished == 0


def test_a_stop_text_may_be_left_in(writer):
    llm, asked = writer
    free = llm.generate("hello", SamplingParams(**asked))[0].outputs[0].text
    stop = free[20:23]
    params = SamplingParams(**asked, stop=[stop, "zz"], include_stop_str_in_output=True)
    output = llm.generate("hello", params)[0].outputs[0]
    assert output.text == free[: free.index(stop) + 3]


def test_a_stream_never_shows_what_a_stop_text_takes_back(writer):
    llm, asked = writer
    free = llm.generate("hello", SamplingParams(**asked))[0].outputs[0].text
    stop = free[20:24]
    deltas = list(llm.stream("hello", SamplingParams(**asked, stop=stop)))
    assert "".join(d.text for d in deltas) == free[: free.index(stop)]
    assert deltas[-1].finish == "stop"


def test_a_stream_gives_what_generate_gives(writer):
    llm, asked = writer
    params = SamplingParams(**asked, logprobs=1)
    whole = llm.generate("hello", params)[0].outputs[0]
    deltas = list(llm.stream("hello", params))
    assert "".join(d.text for d in deltas) == whole.text
    assert [t for d in deltas for t in d.tokens] == whole.token_ids
    assert [e for d in deltas for e in d.logprobs] == whole.logprobs


def test_a_stop_text_without_a_tokenizer_is_refused(make_llm):
    with pytest.raises(UserError, match="stop texts need a tokenizer"):
        make_llm().generate([PROMPT], SamplingParams(stop="a"))


def test_chat_goes_through_the_template(writer):
    llm, asked = writer
    message = {"role": "user", "content": "hi"}
    output = llm.chat([message], SamplingParams(**asked))[0]
    assert llm.tokenizer.decode(output.prompt_token_ids) == "user: hi\nassistant: "


def test_chat_answers_several_conversations(writer):
    llm, asked = writer
    chats = [[{"role": "user", "content": text}] for text in ("hi", "ho")]
    outputs = llm.chat(chats, SamplingParams(**asked))
    said = [llm.tokenizer.decode(o.prompt_token_ids) for o in outputs]
    assert said == ["user: hi\nassistant: ", "user: ho\nassistant: "]


def test_chat_without_a_tokenizer_is_refused(make_llm):
    with pytest.raises(UserError, match="chat needs one"):
        make_llm().chat([{"role": "user", "content": "hi"}])


@pytest.mark.skipif(
    not (ARITHMETIC / "model.safetensors").exists(), reason="the bundled weights are not here"
)
def test_chat_with_the_bundled_model():
    from inferplane.llm import LLM

    with LLM("tiny-arithmetic", device="cpu", num_pages=64) as llm:
        output = llm.chat([{"role": "user", "content": "12+30="}], GREEDY)[0].outputs[0]
    assert output.text.strip() == "42"


# streams


def test_a_stream_closed_midway_frees_its_pages(make_llm):
    llm = make_llm(enable_prefix_caching=False)
    stream = llm.stream(PROMPT, SamplingParams(temperature=0.0, max_tokens=50))
    next(stream)
    next(stream)
    held = llm.engine.cache.pools[0].free
    stream.close()
    assert held < 64
    assert llm.engine.cache.pools[0].free == 64
    assert llm.engine.unfinished == 0


def test_two_streams_by_turns_lose_nothing(make_llm):
    llm = make_llm()
    params = [SamplingParams(seed=s, max_tokens=20) for s in (1, 2)]
    expected = [tokens(llm, p) for p in params]
    streams = [llm.stream(PROMPT, p) for p in params]
    found: list[list[int]] = [[], []]
    for deltas in zip(*streams, strict=True):
        for at, delta in enumerate(deltas):
            found[at] += delta.tokens
    assert found == expected


def test_generate_while_a_stream_is_open_loses_nothing(make_llm):
    llm = make_llm()
    expected = tokens(llm, GREEDY)
    stream = llm.stream(PROMPT, GREEDY)
    found = next(stream).tokens
    assert tokens(llm, GREEDY) == expected
    for delta in stream:
        found += delta.tokens
    assert found == expected


def test_closing_one_stream_loses_nothing_of_another(make_llm):
    llm = make_llm()
    expected = tokens(llm, GREEDY)
    closed, kept = llm.stream(PROMPT, GREEDY), llm.stream(PROMPT, GREEDY)
    next(closed)
    found = next(kept).tokens
    closed.close()
    for delta in kept:
        found += delta.tokens
    assert found == expected


def test_a_stream_answers_one_completion(make_llm):
    with pytest.raises(UserError, match="n is 2"):
        next(make_llm().stream(PROMPT, SamplingParams(n=2)))


# failures


@pytest.fixture
def fail_at(monkeypatch):
    """(LLM, n): the n-th step from now raises."""

    def arrange(llm, step: int) -> None:
        model, left = llm.engine.executor.runner.model, [step]
        forward = model.forward

        def failing(inputs):
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("a kernel broke\nsecond line")
            return forward(inputs)

        monkeypatch.setattr(model, "forward", failing)

    return arrange


def test_a_kernel_error_fails_the_requests_of_its_step_only(make_llm, fail_at, caplog):
    caplog.set_level(logging.CRITICAL, "inferplane.engine")
    llm = make_llm(max_num_seqs=2)
    expected = tokens(llm, GREEDY)
    fail_at(llm, 4)
    outputs = llm.generate([PROMPT] * 4, GREEDY)
    found = [o.outputs[0] for o in outputs]
    assert [o.finish_reason for o in found] == ["error", "error", "length", "length"]
    assert [o.token_ids for o in found[2:]] == [expected] * 2
    assert found[0].token_ids == expected[:3]


def test_a_kernel_error_is_told_in_one_line(make_llm, fail_at, caplog):
    caplog.set_level(logging.CRITICAL, "inferplane.engine")
    llm = make_llm()
    fail_at(llm, 1)
    output = llm.generate([PROMPT], GREEDY)[0].outputs[0]
    assert output.error == "the step failed: RuntimeError: a kernel broke"


def test_the_engine_goes_on_after_a_kernel_error(make_llm, fail_at, caplog):
    caplog.set_level(logging.CRITICAL, "inferplane.engine")
    llm = make_llm()
    batch = prompts(4, length=40)
    expected = [o.outputs[0].token_ids for o in make_llm().generate(batch, GREEDY)]
    fail_at(llm, 2)
    llm.generate(batch, GREEDY)
    llm.check_invariants()
    assert [o.outputs[0].token_ids for o in llm.generate(batch, GREEDY)] == expected


def test_a_broken_step_leaves_nothing_false_in_the_cache(make_llm, fail_at, caplog):
    caplog.set_level(logging.CRITICAL, "inferplane.engine")
    llm = make_llm()
    prompt = prompts(1, length=64)
    fail_at(llm, 1)
    llm.generate(prompt, GREEDY)
    assert llm.generate(prompt, GREEDY)[0].num_cached_tokens == 0
