"""From slots' parameters to a sampling kernel's inputs."""

import numpy as np
import pytest
import torch

from inferplane.params import SamplingParams
from inferplane.reference.noise import row_keys
from inferplane.reference.sample import unpack
from inferplane.runner.mirror import Mirror, is_plain
from inferplane.runner.sampling import make_sample_inputs

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=7)

VOCAB = 40
CPU = torch.device("cpu")
PROMPT = [3, 3, 5]
MADE = [7, 7, 9]
NOT_PLAIN = {
    "temperature": {"temperature": 1.0},
    "logprobs": {"logprobs": 0},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "presence_penalty": {"presence_penalty": 0.5},
    "frequency_penalty": {"frequency_penalty": -0.5},
    "logit_bias": {"logit_bias": {1: 2.0}},
    "allowed_token_ids": {"allowed_token_ids": (1,)},
    "processors": {"processors": (print,)},
    "min_tokens": {"min_tokens": 2},
}


def mirror(*params: SamplingParams, stops: tuple[int, ...] = ()) -> Mirror:
    """One slot a request, each with PROMPT and MADE as its tokens."""
    made = Mirror([], len(params), 32)
    for slot, asked in enumerate(params):
        made.tokens[slot, :6] = PROMPT + MADE
        made.params[slot], made.prompt[slot] = asked, len(PROMPT)
        made.stops[slot], made.plain[slot] = stops, is_plain(asked)
    return made


def inputs_of(*params: SamplingParams, stops: tuple[int, ...] = (), length: int = 6):
    slots = np.arange(len(params))
    lengths = np.full(len(params), length)
    return make_sample_inputs(mirror(*params, stops=stops), slots, lengths, VOCAB, lambda x: x)


def greedy(**changes) -> SamplingParams:
    return SamplingParams(temperature=0.0, **changes)


def test_a_greedy_request_is_plain():
    assert is_plain(greedy(max_tokens=99, stop_token_ids=(1,), seed=4, top_k=3))


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_request_that_wants_more_is_not_plain(name):
    assert not is_plain(SamplingParams(**({"temperature": 0.0} | NOT_PLAIN[name])))


def test_plain_rows_ask_for_nothing():
    assert inputs_of(greedy(), greedy()).features() == frozenset()


def test_greedy_rows_with_logprobs_draw_nothing():
    inputs = inputs_of(greedy(logprobs=2), greedy())
    assert inputs.features() == {"logprobs"}
    assert inputs.logprobs == 2


def test_rows_that_draw_stand_beside_greedy_ones():
    inputs = inputs_of(SamplingParams(temperature=0.7), greedy())
    assert inputs.greedy_B.tolist() == [False, True]
    assert inputs.temperature_B.tolist() == pytest.approx([0.7, 1.0])
    assert inputs.features() == {"random"}


def test_seeds_are_keyed_by_position():
    inputs = inputs_of(SamplingParams(seed=5), SamplingParams(seed=-1))
    seeds = np.array([5, (1 << 64) - 1], dtype=np.uint64)
    assert inputs.seed_B2.tolist() == row_keys(seeds, np.array([6, 6])).tolist()


def test_top_k_of_no_limit_is_the_vocabulary():
    asked = [SamplingParams(top_k=k) for k in (7, 0, -1, 1 << 30)]
    assert inputs_of(*asked).top_k_B.tolist() == [7, VOCAB, VOCAB, VOCAB]


@pytest.mark.parametrize(("name", "neutral"), [("top_k", 0), ("top_p", 1.0), ("min_p", 0.0)])
def test_neutral_values_are_left_out(name, neutral):
    assert getattr(inputs_of(SamplingParams(**{name: neutral})), f"{name}_B") is None


def test_penalties_count_generated_tokens_and_know_the_prompt():
    inputs = inputs_of(greedy(frequency_penalty=0.5), greedy())
    counts, prompt = inputs.counts_BV, inputs.prompt_BV
    assert (int(counts[0, 7]), int(counts[0, 9]), int(counts[0].sum())) == (2, 1, 3)
    assert prompt[0].nonzero()[:, 0].tolist() == [3, 5]
    assert inputs.penalties_B3.tolist() == [[1.0, 0.0, 0.5], [1.0, 0.0, 0.0]]


def test_tokens_behind_the_length_are_not_counted():
    inputs = inputs_of(greedy(presence_penalty=0.5), length=4)
    assert inputs.counts_BV[0].nonzero()[:, 0].tolist() == [7]


def test_biases_name_their_rows():
    inputs = inputs_of(greedy(), greedy(logit_bias={4: 1.5, 6: -2.0}))
    rows, ids, values = inputs.bias
    assert (rows.tolist(), ids.tolist(), values.tolist()) == ([1, 1], [4, 6], [1.5, -2.0])


def test_stops_are_banned_below_min_tokens():
    rows, ids, values = inputs_of(greedy(min_tokens=4), greedy(), stops=(8,)).bias
    assert (rows.tolist(), ids.tolist(), values.tolist()) == ([0], [8], [float("-inf")])


def test_stops_are_free_at_min_tokens():
    assert inputs_of(greedy(min_tokens=3), stops=(8,)).bias is None


def test_a_mask_allows_listed_tokens_and_leaves_other_rows_free():
    inputs = inputs_of(greedy(allowed_token_ids=(0, 31, 32, 39)), greedy())
    allowed = unpack(inputs.mask_BN, VOCAB)
    assert allowed[0].nonzero()[:, 0].tolist() == [0, 31, 32, 39]
    assert allowed[1].all()


def test_a_processor_comes_once_with_all_its_rows():
    def first(logits, rows): ...

    def second(logits, rows): ...

    asked = [(second,), (first, second), (first,)]
    inputs = inputs_of(*(greedy(processors=processors) for processors in asked))
    assert inputs.processors == ((second, [0, 1]), (first, [1, 2]))
