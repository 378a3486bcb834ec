"""What the compiled attention adds to `test_attention.py` beside it, which compares its results."""

import numpy as np
import pytest
import torch

from inferplane.platforms.cpu.native import supports
from inferplane.platforms.cpu.native.attention import NativeAttention
from inferplane.platforms.cpu.native.build import details
from inferplane.spec import AttentionMetadata, AttentionRequest, DeviceProps

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

PROPS = DeviceProps(
    name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}), details=details()
)


def request(**changes: object) -> AttentionRequest:
    asked = {"heads": 4, "kv_heads": 1, "head_dim": 64, "dtype": "fp32", "kv_dtype": "fp32"}
    asked |= {"page_size": 16, "scale": 0.125} | changes
    return AttentionRequest(device=PROPS, **asked)  # type: ignore[arg-type]


def metadata(lengths: list[int]) -> AttentionMetadata:
    """Decode rows whose pages lie one after the other."""
    pages = max(-(-length // 16) for length in lengths)
    table = np.arange(len(lengths) * pages, dtype=np.int32).reshape(len(lengths), pages)
    slots = np.array([table[i, 0] * 16 + n - 1 for i, n in enumerate(lengths)], dtype=np.int64)
    return AttentionMetadata(
        query_starts=np.arange(len(lengths) + 1, dtype=np.int32),
        context_lens=np.array(lengths, dtype=np.int32),
        page_table=table,
        slots=slots,
        decodes=len(lengths),
        device_slots=torch.from_numpy(slots),
    )


def attend(
    kernel: NativeAttention, lengths: list[int], sinks: list[float] | None = None
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    step = metadata(lengths)
    cache = torch.randn(step.page_table.size, 16, 2, 1, 64, generator=generator)
    q = torch.randn(len(lengths), 4, 64, generator=generator)
    out = torch.full_like(q, float("nan"))
    sinks_H = None if sinks is None else torch.tensor(sinks)
    kernel.run(q, q[:, :1], q[:, :1], cache, kernel.plan(step, None), out, sinks_H)
    return out


@pytest.mark.parametrize("sinks", [None, [2.0, 300.0, -300.0, 0.0]])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_long_context_cut_into_parts_gives_the_same(parts, sinks, monkeypatch):
    lengths = [2000, 5, 1]  # the short rows have parts without a token
    kernel = NativeAttention(request(sinks=sinks is not None))
    monkeypatch.setattr(kernel, "_parts", lambda rows, longest: 1)
    whole = attend(kernel, lengths, sinks)
    monkeypatch.setattr(kernel, "_parts", lambda rows, longest: parts)
    torch.testing.assert_close(attend(kernel, lengths, sinks), whole, atol=1e-6, rtol=1e-5)


def test_few_rows_with_long_contexts_are_cut_so_that_all_threads_work(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    kernel = NativeAttention(request())
    assert kernel._parts(rows=1, longest=100_000) == 64
    assert kernel._parts(rows=1, longest=600) == 2
    assert kernel._parts(rows=200, longest=100_000) == 1


def test_queries_may_be_views_of_a_wider_tensor():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(2, 6, 64, generator=generator)
    cache = torch.randn(8, 16, 2, 1, 64, generator=generator)
    kernel, outs = NativeAttention(request()), []
    for q in (wide[:, :4], wide[:, :4].contiguous()):
        out = torch.empty(2, 4, 64)
        kernel.run(q, wide[:, 4:5], wide[:, 5:], cache, kernel.plan(metadata([20, 33]), None), out)
        outs.append(out)
    assert torch.equal(*outs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 72}, "head size is 72"),
        ({"head_dim": 512}, "head size is 512"),
        ({"heads": 32}, "32 query heads a kv head"),
        ({"heads": 3, "kv_heads": 2}, "1.5 query heads a kv head"),
        ({"kv_dtype": "bf16"}, "KV dtype is bf16"),
    ],
)
def test_what_it_refuses(changes, words):
    assert words in supports.attention(request(**changes)).reason
