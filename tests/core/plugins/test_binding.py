"""From a choice to a plain callable."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import candidate
from tests.fakes.requests import linear, tokens

from inferplane.plugins.binding import ByTokens, bind, load
from inferplane.plugins.errors import ImportFailed
from inferplane.plugins.resolution import Choice

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)


class Rows:
    """Stands for a tensor with so many rows."""

    def __init__(self, count: int) -> None:
        self.shape = (count, 8)


def named(name: str):
    """A candidate whose kernel gives its name and the token range that it was made for."""
    return candidate(
        name, load=lambda: lambda request: lambda x, *more: (name, str(request.tokens), *more)
    )


class TestLoad:
    def test_takes_an_attribute_of_a_module(self):
        assert load(candidate(load="math:floor"))(1.5) == 1

    def test_takes_a_callable(self):
        assert load(candidate(load=lambda: abs))(-2) == 2

    @pytest.mark.parametrize("where", ["no_such_module:x", "math:no_such_attribute", "math"])
    def test_a_failure_names_the_candidate_and_the_place(self, where):
        with pytest.raises(ImportFailed, match=f"kernel fake.kernel .{where}. cannot be loaded"):
            load(candidate(load=where))

    def test_a_failure_keeps_its_cause(self):
        with pytest.raises(ImportFailed, match="ZeroDivisionError") as error:
            load(candidate(load=lambda: 1 / 0))
        assert isinstance(error.value.__cause__, ZeroDivisionError)


class TestBind:
    def test_one_range_is_the_kernel_itself(self):
        choice = Choice(linear(), ((linear().tokens, named("x.a")),))
        assert not isinstance(bind(choice), ByTokens)

    @pytest.mark.parametrize(
        ("rows", "kernel"),
        [(0, "a"), (1, "a"), (16, "a"), (17, "b"), (64, "b"), (65, "c"), (5000, "c")],
    )
    def test_ranges_pick_by_rows(self, rows, kernel):
        ranges = (
            (tokens(1, 16), named("x.a")),
            (tokens(17, 64), named("x.b")),
            (tokens(65), named("x.c")),
        )
        assert bind(Choice(linear(), ranges))(Rows(rows))[0] == f"x.{kernel}"

    def test_each_kernel_is_made_for_its_range(self):
        ranges = ((tokens(1, 16), named("x.a")), (tokens(17), named("x.b")))
        assert bind(Choice(linear(), ranges))(Rows(20))[1] == "17+"

    def test_all_arguments_are_handed_on(self):
        ranges = ((tokens(1, 16), named("x.a")), (tokens(17), named("x.b")))
        assert bind(Choice(linear(), ranges))(Rows(1), "packed")[2:] == ("packed",)
