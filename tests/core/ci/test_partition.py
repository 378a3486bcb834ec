"""Longest processing time first: complete, without overlap, bounded, always the same."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.ci.partition import load, parse_part, part_of, partition, parts_for
from inferplane.ci.registry import Job
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="property", est_seconds=3)


def jobs_of(seconds: list[int]) -> list[Job]:
    return [Job(f"tests/test_{index:03}.py", float(s)) for index, s in enumerate(seconds)]


many = st.lists(st.integers(1, 1000), max_size=40).map(jobs_of)
few = st.lists(st.integers(1, 50), min_size=1, max_size=6).map(jobs_of)


@given(many, st.integers(1, 12))
def test_parts_are_everything_once(jobs, parts):
    made = partition(jobs, parts)
    assert len(made) == parts
    assert sorted(job.path for part in made for job in part) == [job.path for job in jobs]


@given(many, st.integers(1, 12))
def test_no_part_is_over_the_bound_of_list_scheduling(jobs, parts):
    longest = max((job.est_seconds for job in jobs), default=0.0)
    bound = load(jobs) / parts + (1 - 1 / parts) * longest
    assert max(map(load, partition(jobs, parts))) <= bound + 1e-9


@settings(max_examples=40)
@given(few, st.integers(1, 3))
def test_no_part_is_over_four_thirds_of_the_best_split(jobs, parts):
    best = min(
        max(
            sum(j.est_seconds for j, p in zip(jobs, at, strict=True) if p == q)
            for q in range(parts)
        )
        for at in product(range(parts), repeat=len(jobs))
    )
    worst = max(map(load, partition(jobs, parts)))
    assert worst <= (4 / 3 - 1 / (3 * parts)) * best + 1e-9


@given(st.data(), many, st.integers(1, 12))
def test_the_order_of_the_jobs_does_not_matter(data, jobs, parts):
    shuffled = data.draw(st.permutations(jobs))
    assert partition(shuffled, parts) == partition(jobs, parts)


def test_equal_jobs_are_dealt_by_path():
    jobs = jobs_of([3, 3, 3])
    assert [[j.path[-6:-3] for j in part] for part in partition(jobs, 2)] == [
        ["000", "002"],
        ["001"],
    ]


def test_a_known_split():
    seconds = [[job.est_seconds for job in part] for part in partition(jobs_of([5, 7, 2, 4]), 2)]
    assert seconds == [[7, 2], [5, 4]]


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [([], 1), ([1], 1), ([60, 60], 2), ([60, 61], 2), ([100, 1], 2), ([900], 1)],
)
def test_parts_follow_the_estimate_and_are_never_empty(seconds, parts):
    assert parts_for(jobs_of(seconds), 60) == parts


@pytest.mark.parametrize("index", [0, 3])
def test_a_part_that_is_not_there_is_refused(index):
    with pytest.raises(UserError, match="from 1 to 2"):
        part_of(jobs_of([1, 2]), index, 2)


@pytest.mark.parametrize("text", ["", "1", "a/b", "1/", "-1/2", "1/2/3"])
def test_a_part_that_is_not_understood_is_refused(text):
    with pytest.raises(UserError, match="write I/N"):
        parse_part(text)
