"""The CPU's paged attention against the reference, over drawn shapes and page tables."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.platforms.cpu import supports
from inferplane.platforms.cpu.attention import FlashAttention, LatentAttention
from inferplane.platforms.cpu.native import supports as native
from inferplane.platforms.cpu.native.attention import NativeAttention
from inferplane.platforms.cpu.native.build import details
from inferplane.reference.attention import Attention
from inferplane.spec import AttentionMetadata, AttentionRequest, DeviceProps, GroupKind
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

PROPS = DeviceProps(
    name="a",
    profile="a",
    memory_bytes=1,
    dtypes=frozenset({"fp32", "bf16"}),
    details=details(),
)
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}  # absolute, of outputs that are below 4 in size
EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Case:
    """rows: (tokens before, new tokens). scatter: share of pages that break a run."""

    rows: tuple[tuple[int, int], ...]
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    page: int = 16
    window: int = 0
    dtype: str = "fp32"
    scatter: float = 0.0
    seed: int = 0
    shared: int = 0  # leading pages that all rows have in common
    sinks: bool = False
    value_dim: int = 0  # of latent vectors, 0 for keys and values
    kv_dtype: str = ""  # of the cache, where it is not dtype
    kv_scales: tuple[float, ...] = ()

    def request(self) -> AttentionRequest:
        kind = GroupKind.WINDOW if self.window else GroupKind.FULL
        return AttentionRequest(
            device=PROPS,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype or self.dtype,
            kv_scales=bool(self.kv_scales),
            page_size=self.page,
            scale=self.head_dim**-0.5,
            kind=GroupKind.LATENT if self.value_dim else kind,
            window=self.window,
            sinks=self.sinks,
            value_dim=self.value_dim,
        )


def page_table(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """int32 [rows, pages] and the pages of the pool. Pages outside a window are -1."""
    needed = [-(-(before + new) // case.page) for before, new in case.rows]
    order = np.arange(sum(needed) + 2, dtype=np.int32)
    swapped = rng.random(len(order)) < case.scatter
    order[swapped] = rng.permutation(order[swapped])
    table, first = np.full((len(needed), max(needed)), -1, dtype=np.int32), 0
    for row, ((before, _), count) in enumerate(zip(case.rows, needed, strict=True)):
        gone = max(0, before - case.window + 1) // case.page if case.window else 0
        table[row, gone:count] = order[first + gone : first + count]
        first += count
    table[:, : case.shared] = table[0, : case.shared]
    return table, len(order)


def run_all(case: Case) -> list[torch.Tensor]:
    """What the reference gives, then every kernel of the CPU that supports the case."""
    kernels: list[Any] = [Attention]
    if supports.attention(case.request()):
        kernels.append(FlashAttention)
    if native.attention(case.request()):
        kernels.append(NativeAttention)
    if supports.latent(case.request()):
        kernels.append(LatentAttention)
    assert len(kernels) > 1
    rng, generator = np.random.default_rng(case.seed), torch.Generator().manual_seed(case.seed)
    table, pages = page_table(case, rng)
    dtype = torch_dtype(case.dtype)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    shape = (case.head_dim,) if case.value_dim else (2, case.kv_heads, case.head_dim)
    cache = normal(pages, case.page, *shape).to(torch_dtype(case.kv_dtype or case.dtype))
    slots = np.concatenate(
        [
            table[row, np.arange(b, b + n) // case.page].astype(np.int64) * case.page
            + np.arange(b, b + n) % case.page
            for row, (b, n) in enumerate(case.rows)
        ]
    )
    metadata = AttentionMetadata(
        query_starts=np.cumsum([0, *(n for _, n in case.rows)]).astype(np.int32),
        context_lens=np.array([b + n for b, n in case.rows], dtype=np.int32),
        page_table=table,
        slots=slots,
        decodes=sum(n == 1 for _, n in case.rows),
        device_slots=torch.from_numpy(slots),
    )
    q = normal(len(slots), case.heads, case.head_dim)
    new = cache.float().view(-1, *shape)[torch.from_numpy(slots)]
    if case.kv_scales:
        new = new * (torch.tensor(case.kv_scales)[:, None, None] if not case.value_dim else 3.0)
    new = new.to(dtype)
    k, v = (new[:, None], new[:, None, : case.value_dim]) if case.value_dim else new.unbind(1)
    more: dict[str, Any] = {}
    if case.sinks:
        more["sinks_H"] = torch.randn(case.heads, generator=generator) * 3
    if case.kv_scales:
        more["kv_scales"] = torch.tensor(case.kv_scales)
    outs = []
    for kernel in (factory(case.request()) for factory in kernels):
        out = torch.full((*q.shape[:2], case.request().out_dim), float("nan"), dtype=dtype)
        kernel.run(q, k, v, cache, kernel.plan(metadata, None), out, **more)
        outs.append(out)
    return outs


def check(case: Case) -> None:
    expected, *found = run_all(case)
    for out in found:
        torch.testing.assert_close(out, expected, atol=TOLERANCE[case.dtype], rtol=0)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kv_heads = draw(st.sampled_from([1, 2, 3]))
    row = st.tuples(st.integers(0, 150), st.one_of(st.just(1), st.integers(1, 60)))
    rows = sorted(draw(st.lists(row, min_size=1, max_size=5)), key=lambda r: r[1] != 1)
    return Case(
        rows=tuple(rows),
        heads=kv_heads * draw(st.sampled_from([1, 2, 4])),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([16, 24, 32, 64, 80, 128])),
        page=draw(st.sampled_from([1, 16, 32, 128])),
        window=draw(st.sampled_from([0, 0, 1, 5, 24, 64])),
        dtype=draw(st.sampled_from(["fp32", "bf16"])),
        scatter=draw(st.sampled_from([0.0, 0.3, 1.0])),
        seed=draw(st.integers(0, 1000)),
        sinks=draw(st.booleans()),
    )


@EXAMPLES
@given(cases())
def test_drawn_cases(case):
    check(case)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), st.sampled_from([(24, 16), (40, 32), (576, 512)]), st.sampled_from([1, 4, 16]))
def test_latent_vectors(case, sizes, heads):
    """Keys of (latent and rotary) elements, values of the latent ones, one for all heads."""
    size, value = sizes
    check(dataclasses.replace(case, head_dim=size, value_dim=value, heads=heads, kv_heads=1))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("rows", "window"),
    [
        (((40, 1), (40, 1), (33, 1)), 0),
        (((40, 1), (32, 1), (47, 5), (32, 17)), 0),
        (((32, 2), (60, 30), (40, 3)), 0),
        (((40, 1), (40, 1), (40, 1), (40, 3)), 20),
    ],
)
def test_rows_that_share_a_prefix(rows, window, dtype):
    case = Case(rows=rows, shared=2, window=window, dtype=dtype, kv_heads=2, heads=6)
    for sinks in (False, True):
        check(dataclasses.replace(case, sinks=sinks))
    check(dataclasses.replace(case, kv_heads=1, value_dim=24))


def test_a_shared_prefix_is_attended_to_once():
    rows = ((40, 1), (40, 1), (40, 1), (40, 7))
    case = Case(rows=rows, shared=2)
    table, _ = page_table(case, np.random.default_rng(0))
    metadata = AttentionMetadata(
        query_starts=np.array([0, 1, 2, 3, 10], dtype=np.int32),
        context_lens=np.array([41, 41, 41, 47], dtype=np.int32),
        page_table=table,
        slots=np.zeros(10, dtype=np.int64),
        decodes=3,
        device_slots=torch.zeros(10, dtype=torch.int64),
    )
    plan = FlashAttention(case.request()).plan(metadata, None)
    shared = [(found.run, found.tokens.tolist()) for found in plan.shared]
    assert shared == [((0, 32), [1, 2, *range(3, 10)])]  # the first row reads on in one run
    assert [len(row.runs) for row in plan.rows] == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("new", [1, 9])
def test_sinks_of_any_size(size, new, monkeypatch):
    monkeypatch.setattr(torch, "randn", _scaled(torch.randn, size))
    check(Case(rows=((40, new),), sinks=True))


def _scaled(randn, size):
    """randn whose vectors, which only sinks are, are shifted."""

    def run(*shape, **options):
        drawn = randn(*shape, **options)
        return drawn + size if drawn.dim() == 1 else drawn

    return run


@pytest.mark.parametrize("value_dim", [0, 16])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kv_dtype", ["fp8_e4m3", "fp8_e5m2"])
@pytest.mark.parametrize("scales", [(), (3.0, 0.5)])
@pytest.mark.parametrize("window", [0, 24])
def test_a_cache_of_eight_bits(window, scales, kv_dtype, dtype, value_dim):
    rows = ((40, 1), (40, 1), (33, 1), (0, 9), (47, 30))
    case = Case(rows=rows, dtype=dtype, kv_dtype=kv_dtype, kv_scales=scales, window=window)
    if value_dim:
        case = dataclasses.replace(case, value_dim=value_dim, kv_heads=1)
    check(dataclasses.replace(case, shared=0 if window else 2))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33])
def test_decode_at_page_boundaries(length, dtype):
    check(Case(rows=((length - 1, 1),), dtype=dtype))


@pytest.mark.parametrize("before", [0, 1, 15, 16, 17, 32])
@pytest.mark.parametrize("new", [2, 15, 16, 17])
def test_prefix_and_chunk_at_page_boundaries(before, new):
    check(Case(rows=((before, new),)))


@pytest.mark.parametrize("new", [1, 20])
@pytest.mark.parametrize("scatter", [0.0, 0.5, 1.0])
def test_one_run_and_several_runs_of_pages(new, scatter):
    check(Case(rows=((100, new), (64, new)), scatter=scatter, seed=3))


@pytest.mark.parametrize("length", [23, 24, 25, 26, 100])
@pytest.mark.parametrize("new", [1, 2, 23])
def test_windows_at_their_edge(length, new):
    check(Case(rows=((length - new, new),), window=24))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (8, 8), (8, 1), (6, 2), (7, 1)])
@pytest.mark.parametrize("new", [1, 9])
def test_one_head_and_grouped_heads(heads, kv_heads, new):
    check(Case(rows=((40, new),), heads=heads, kv_heads=kv_heads))


@pytest.mark.parametrize("head_dim", [16, 24, 32, 48, 64, 80, 96, 128])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("new", [1, 9])
def test_head_sizes(head_dim, dtype, new):
    check(Case(rows=((40, new),), head_dim=head_dim, dtype=dtype))


def test_a_step_without_earlier_tokens_takes_no_runs():
    kernel = FlashAttention(Case(rows=((0, 9),)).request())
    assert kernel._runs(np.array([3, 4], dtype=np.int32), 0, 0) == []


def test_consecutive_pages_are_one_run():
    kernel = FlashAttention(Case(rows=()).request())
    pages = np.array([3, 4, 5, 9, 7, 8], dtype=np.int32)
    assert kernel._runs(pages, 5, 90) == [(53, 96), (144, 160), (112, 138)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value_dim": 0}, "kind is full, it has latent ones"),
        ({"value_dim": 16, "dtype": "fp16"}, "dtype is fp16"),
    ],
)
def test_what_latent_attention_refuses(changes, words):
    request = Case(rows=(), **changes).request()
    assert words in supports.latent(request).reason


def test_attention_over_keys_and_values_names_the_kernel_for_latent_vectors():
    answer = supports.attention(Case(rows=(), value_dim=16).request())
    assert not answer.ok
    assert answer.instead == "cpu.latent"
