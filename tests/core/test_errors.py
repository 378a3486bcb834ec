"""Errors that are the user's to mend."""

from __future__ import annotations

import pytest

from inferplane.errors import nearest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


def test_the_closest_word_or_else_one_that_begins_so():
    assert nearest("mdoel", ["mode", "model"]) == " (did you mean 'model'?)"
    assert nearest("max", ["max_model_len"]) == " (did you mean 'max_model_len'?)"
    assert nearest("", ["model"]) == nearest("other", ["model"]) == ""


def test_a_cutoff_counts_for_beginnings_too():
    assert nearest("max", ["max_model_len"], 0.88) == ""
    assert nearest("max_model_le", ["max_model_len"], 0.88) == " (did you mean 'max_model_len'?)"
