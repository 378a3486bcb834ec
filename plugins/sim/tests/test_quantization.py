"""Linear layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inferplane_sim import supports
from inferplane_sim.quantization import Linear

from inferplane.spec import LinearRequest, Packed, QuantScheme
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=2)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_linear_map_of_the_host(sim, values, dtype, bias):
    request = LinearRequest(
        device=sim.boards[0].props, in_features=8, out_features=6, dtype=dtype, bias=bias
    )
    kind = torch_dtype(dtype)
    weights = [values(6, 8, dtype=kind), *([values(6, dtype=kind, seed=1)] if bias else [])]
    x = values(3, 8, dtype=kind, seed=2)
    packed = Packed(data=tuple(w.to("sim") for w in weights), final_bytes=0)
    given = Linear(request)(x.to("sim"), packed)
    assert torch.equal(given.cpu(), torch.nn.functional.linear(x, *weights))


def test_a_quantized_scheme_is_refused_with_its_name(sim):
    request = LinearRequest(device=sim.boards[0].props, in_features=8, out_features=6, dtype="fp32")
    scheme = QuantScheme(name="int4_g128", weight="int4", granularity="group", group=128)
    answer = supports.linear(replace(request, scheme=scheme))
    assert not answer.ok
    assert "int4_g128" in answer.reason
