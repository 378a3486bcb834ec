"""The prefix tree: what it finds, and what it gives up first."""

from __future__ import annotations

import numpy as np
import pytest

from inferplane.cache.node import Node
from inferplane.cache.pool import PagePool
from inferplane.cache.rules import Rule, WindowRule
from inferplane.cache.tree import PrefixTree

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

A, B, C, D = (np.full(2, n, np.int32) for n in range(4))


class Forest:
    """A tree with two tokens a page over one pool (or two), and paths put into it."""

    def __init__(self, *rules, pages: int = 16) -> None:
        self.rules = rules or (Rule(0, 2),)
        self.pools = [PagePool(pages) for _ in self.rules]
        self.tree = PrefixTree(2, self.pools, self.rules)

    def store(self, *words: np.ndarray, namespace: str = "", priority: int = 0) -> list[Node]:
        """A path of idle pages; nodes that are there are kept."""
        node, path = self.tree.root(namespace), []
        for word in words:
            child = node.children.get(word.tobytes())
            if child is None:
                child = self.add(node, word, priority)
                for pool, pages in zip(self.pools, child.pages, strict=True):
                    pool.release(pages)
            node = child
            path.append(node)
        self.tree.released(node)
        return path

    def add(self, node: Node, word: np.ndarray, priority: int = 0, pages: int = 1) -> Node:
        """A new child whose pages are in use."""
        all_of_it = np.ones(1, bool)
        held = [(pool.allocate(pages).reshape(1, pages), all_of_it) for pool in self.pools]
        return self.tree.append(node, [word.tobytes()], held, priority)[0]

    def use(self, node: Node) -> None:
        """A request takes the pages of a node."""
        for pool, pages in zip(self.pools, node.pages, strict=True):
            pool.acquire(pages)

    def evict(self, pages: int = 1) -> None:
        self.tree.evict(0, self.pools[0].free + pages)

    def match(self, *words: np.ndarray, **options) -> list[Node]:
        return self.tree.match(np.concatenate([*words, D]), **options)


class TestMatch:
    def test_finds_the_longest_path(self):
        forest = Forest()
        path = forest.store(A, B, C)
        assert forest.match(A, B, D) == path[:2]

    def test_of_part_of_a_page_finds_nothing(self):
        forest = Forest()
        forest.store(A)
        assert forest.tree.match(A[:1]) == []

    def test_ends_at_the_most_tokens(self):
        forest = Forest()
        path = forest.store(A, B)
        assert forest.match(A, B, most=3) == path[:1]

    def test_stays_in_its_namespace(self):
        forest = Forest()
        path = forest.store(A, namespace="one")
        assert forest.match(A, namespace="one") == path
        assert forest.match(A, namespace="two") == forest.match(A) == []

    def test_does_not_make_namespaces(self):
        forest = Forest()
        forest.match(A, namespace="new")
        assert "new" not in forest.tree.roots


class TestEviction:
    def test_the_longest_unused_leaf_goes_first(self):
        forest = Forest()
        (old,), (new,) = forest.store(A), forest.store(B)
        forest.evict()
        assert (old.alive, new.alive) == (False, True)

    def test_a_leaf_that_was_used_again_stays(self):
        forest = Forest()
        (old,), (new,) = forest.store(A), forest.store(B)
        forest.tree.touch([old], 0)
        forest.evict()
        assert (old.alive, new.alive) == (True, False)

    def test_a_low_priority_goes_before_age(self):
        forest = Forest()
        (kept,), (low,) = forest.store(A, priority=1), forest.store(B, priority=0)
        forest.evict()
        assert (kept.alive, low.alive) == (True, False)

    def test_a_higher_priority_is_kept_when_a_path_is_used_again(self):
        forest = Forest()
        (raised,), (other,) = forest.store(A), forest.store(B)
        forest.tree.touch([raised], 5)
        forest.tree.touch([other], 0)
        forest.evict()
        assert (raised.alive, other.alive) == (True, False)

    def test_a_leaf_goes_before_its_parent(self):
        forest = Forest()
        parent, leaf = forest.store(A, B)
        forest.evict()
        assert (parent.alive, leaf.alive) == (True, False)

    def test_a_parent_is_a_leaf_when_its_last_child_is_gone(self):
        forest = Forest()
        path = forest.store(A, B)
        forest.evict(2)
        assert not any(node.alive for node in path)

    def test_a_leaf_in_use_stays(self):
        forest = Forest()
        (node,) = forest.store(A)
        forest.use(node)
        forest.evict()
        assert node.alive

    def test_a_leaf_that_was_in_use_can_go_later(self):
        forest = Forest()
        (node,) = forest.store(A)
        forest.use(node)
        forest.evict()
        forest.pools[0].release(node.pages[0])
        forest.tree.released(node)
        forest.evict()
        assert not node.alive

    def test_no_more_than_wanted_goes(self):
        forest = Forest()
        for word in (A, B, C):
            forest.store(word)
        forest.evict(2)
        assert forest.tree.nodes == 1

    def test_an_idle_node_above_a_busy_one_goes_with_all_below(self):
        """A request that computed a page beside a cached one stored its next pages below that."""
        forest = Forest()
        parent, child = forest.store(A, B)
        used = child.pages[0]
        forest.use(child)
        forest.evict()
        assert (parent.alive, child.alive) == (False, False)
        assert forest.pools[0].refs[used].tolist() == [1]

    def test_of_a_window_thins_inner_nodes_before_it_cuts(self):
        forest = Forest(WindowRule(0, 2, 2))
        parent, child = forest.store(A, B)
        forest.use(child)
        forest.evict()
        assert parent.alive
        assert parent.pages == [None]

    def test_a_page_at_the_edge_of_a_window_can_be_had(self):
        """Of a node with two pages one is in use: the other one can still be freed."""
        forest = Forest(WindowRule(0, 2, 2))
        node = forest.add(forest.tree.root(""), A, pages=2)
        forest.pools[0].release(node.pages[0][:1])
        forest.evict()
        assert node.pages == [None]
        assert forest.pools[0].free == 15

    def test_of_a_window_leaves_the_other_groups_alone(self):
        forest = Forest(WindowRule(0, 2, 2), Rule(1, 2))
        (node,) = forest.store(A)
        forest.evict()
        assert node.alive
        assert [pool.free for pool in forest.pools] == [16, 15]

    def test_of_a_window_spares_what_a_resumption_reads(self):
        forest = Forest(WindowRule(0, 2, 2), Rule(1, 2))
        first, *ends = forest.store(A, B, C)
        forest.tree.keep(ends[-1])
        other = forest.store(D)[0]
        forest.evict(2)
        assert [node.pages[0] is None for node in (first, other)] == [True, True]
        assert all(node.pages[0] is not None for node in ends)

    def test_of_windows_alone_takes_out_what_holds_nothing(self):
        forest = Forest(WindowRule(0, 2, 2))
        first, second = forest.store(A, B)
        forest.tree.keep(second)
        forest.evict(2)
        assert (first.alive, second.alive, forest.tree.nodes) == (False, False, 0)

    def test_of_windows_alone_keeps_the_way_to_what_is_there(self):
        forest = Forest(WindowRule(0, 2, 2))
        path = forest.store(A, B, C)
        forest.tree.keep(path[-1])
        forest.evict()
        assert [node.pages[0] is None for node in path] == [True, False, False]
        assert forest.match(A, B, C) == path

    def test_an_idle_page_in_a_node_that_is_busy_in_another_group_can_be_had(self):
        """A request that computed a page again filled the window's page that had gone."""
        forest = Forest(Rule(0, 2), WindowRule(1, 2, 2))
        (node,) = forest.store(A)
        forest.pools[1].acquire(node.pages[1])
        used = node.pages[1]
        forest.evict()
        assert not node.alive
        assert forest.pools[0].free == 16
        assert forest.pools[1].refs[used].tolist() == [1]

    def test_frees_all_groups_of_a_leaf(self):
        forest = Forest(Rule(0, 2), Rule(1, 2))
        forest.store(A)
        forest.evict()
        assert [pool.free for pool in forest.pools] == [16, 16]


def test_the_heap_of_leaves_does_not_grow_for_ever():
    forest = Forest()
    (node,) = forest.store(A)
    for _ in range(1000):
        forest.tree.released(node)
    assert len(forest.tree._leaves) < 100
    forest.evict()
    assert not node.alive


class TestCheck:
    def test_a_page_that_no_node_holds_is_seen(self):
        forest = Forest()
        forest.store(A)[0].pages[0] = None
        with pytest.raises(AssertionError):
            forest.tree.check()

    def test_one_page_in_two_nodes_is_seen(self):
        forest = Forest()
        (one,), (two,) = forest.store(A), forest.store(B)
        two.pages[0] = one.pages[0]
        with pytest.raises(AssertionError, match="two nodes hold one page"):
            forest.tree.check()
