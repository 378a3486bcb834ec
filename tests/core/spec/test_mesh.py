"""Groups of a mesh: who talks to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferplane.spec import Group, Mesh

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

SIZE = st.integers(1, 3)
AXES = ("tp", "cp", "pp", "dp")


@st.composite
def meshes(draw) -> list[Mesh]:
    """One mesh, as each of its ranks sees it."""
    sizes = {axis: draw(SIZE) for axis in AXES}
    inner = sizes["dp"] * sizes["cp"] * sizes["tp"]
    ep = draw(st.sampled_from([n for n in range(1, inner + 1) if inner % n == 0]))
    world = inner * sizes["pp"]
    return [Mesh(**sizes, ep=ep, rank=rank) for rank in range(world)]


@given(meshes(), st.sampled_from([*AXES, "ep", "world"]))
def test_the_groups_of_an_axis_cut_the_world_into_equal_parts(ranks, axis):
    groups = {mesh.group(axis).ranks for mesh in ranks}
    size = len(ranks) if axis == "world" else getattr(ranks[0], axis)
    assert sorted(rank for group in groups for rank in group) == list(range(len(ranks)))
    assert {len(group) for group in groups} == {size}


@given(meshes(), st.sampled_from([*AXES, "ep", "world"]))
def test_a_rank_finds_itself_in_its_group(ranks, axis):
    for mesh in ranks:
        group = mesh.group(axis)
        assert group.ranks[group.rank] == mesh.rank


@given(meshes())
def test_expert_groups_stay_within_a_pipeline_stage(ranks):
    stages = {mesh.rank: mesh.group("pp").rank for mesh in ranks}
    for mesh in ranks:
        assert len({stages[rank] for rank in mesh.group("ep").ranks}) == 1


@pytest.mark.parametrize(
    ("axis", "ranks"),
    [("tp", (4, 5)), ("cp", (5, 7)), ("pp", (1, 5)), ("dp", (5, 13)), ("ep", (4, 5, 6, 7))],
)
def test_tp_is_innermost_then_cp_then_pp_then_dp(axis, ranks):
    mesh = Mesh(tp=2, cp=2, pp=2, dp=2, ep=4, rank=5)
    assert mesh.group(axis).ranks == ranks


def test_one_rank_is_alone_in_every_group():
    groups = [Mesh().group(axis) for axis in (*AXES, "ep", "world")]
    assert {(group.ranks, group.size) for group in groups} == {((0,), 1)}


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"tp": 0}, "tp is 0; it must be at least 1"),
        ({"tp": 4, "ep": 3}, "ep is 3; it must divide dp.cp.tp = 4"),
        ({"tp": 2, "rank": 2}, "rank is 2; the mesh has ranks 0 to 1"),
        ({"rank": -1}, "rank is -1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        Mesh(**sizes)


def test_an_unknown_group_lists_those_there_are():
    with pytest.raises(ValueError, match="no group 'xp'; groups: dp, pp, cp, tp, ep, world"):
        Mesh().group("xp")


def test_the_size_of_a_group_is_its_number_of_ranks():
    assert Group("tp", (3, 4, 5), 1).size == 3
