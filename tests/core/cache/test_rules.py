"""Which part of a matched path a request can resume behind, by the kind of group."""

from __future__ import annotations

import numpy as np
import pytest

from inferplane.cache.node import Node
from inferplane.cache.rules import Rule, StateRule, WindowRule, rule_for
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PAGE = 4


def usable(rule: Rule, present: str) -> int:
    """present: "x" for a node with its page, "-" for one without."""
    path = []
    for mark in present:
        node = Node(b"", None, 1)
        node.pages[0] = np.zeros(1, np.int32) if mark == "x" else None
        path.append(node)
    return len(rule.usable(path))


@pytest.mark.parametrize(("present", "length"), [("", 0), ("xxx", 3), ("x-x", 1), ("-xx", 0)])
def test_full_attention_needs_every_page(present, length):
    assert usable(Rule(0, PAGE), present) == length


@pytest.mark.parametrize(
    ("window", "present", "length"),
    [
        (5, "---x", 4),  # token 16 reads 12 to 16
        (6, "---x", 0),  # token 16 reads 11 to 16
        (6, "--xx", 4),
        (6, "xx-x", 2),
        (9, "--xx-", 4),
        (9, "-xx-", 3),
        (10, "-xx-", 0),
        (1, "---", 3),  # the next token reads itself only
        (99, "xxx", 3),  # longer than the path
        (99, "-xx", 0),
    ],
)
def test_a_window_needs_what_the_next_token_reads(window, present, length):
    assert usable(WindowRule(0, PAGE, window), present) == length


@pytest.mark.parametrize(("present", "length"), [("xx-", 2), ("--x", 3), ("---", 0), ("", 0)])
def test_a_state_needs_the_last_page_alone(present, length):
    assert usable(StateRule(0, PAGE), present) == length


@pytest.mark.parametrize(
    ("rule", "first"),
    [(Rule(0, PAGE), 0), (WindowRule(0, PAGE, 5), 6), (StateRule(0, PAGE), 10)],
)
def test_the_first_token_that_is_read_again(rule, first):
    assert rule.first_needed(10) == first


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        (Rule(0, PAGE), 5),
        (WindowRule(0, PAGE, 1), 0),
        (WindowRule(0, PAGE, 5), 1),
        (WindowRule(0, PAGE, 6), 2),
        (WindowRule(0, PAGE, 99), 5),
        (StateRule(0, PAGE), 1),
    ],
)
def test_the_nodes_that_a_resumption_reads(rule, nodes):
    assert rule.needed(5) == nodes


def test_a_window_longer_than_the_prefix_reads_all():
    assert WindowRule(0, PAGE, 99).first_needed(10) == 0


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (GroupKind.FULL, Rule),
        (GroupKind.LATENT, Rule),
        (GroupKind.WINDOW, WindowRule),
        (GroupKind.STATE, StateRule),
    ],
)
def test_every_kind_has_its_rule(kind, rule):
    assert type(rule_for(kind, 0, PAGE, 8)) is rule
