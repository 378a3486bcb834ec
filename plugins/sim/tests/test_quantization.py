"""Linear layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inferplane_sim import supports
from inferplane_sim.quantization import Linear, QuantizedLinear

from inferplane.formats.quantize import quantize
from inferplane.reference.linear import Linear as Reference
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


SCHEMES = [
    QuantScheme.named(weight="int8", granularity="channel", activation="int8"),
    QuantScheme.named(weight="int4", granularity="group", group=32, scale="fp16"),
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("bias", [False, True])
def test_quantized_weights_are_what_the_reference_says(sim, values, scheme, bias):
    request = LinearRequest(
        device=sim.boards[0].props,
        in_features=64,
        out_features=6,
        dtype="fp32",
        bias=bias,
        scheme=scheme,
    )
    assert supports.quantized_linear(request).ok
    tensors = quantize(scheme, values(6, 64)) | ({"bias": values(6, seed=1)} if bias else {})
    x = values(3, 64, seed=2)
    right = Reference(request)(x, Packed(data=(tensors, (6,)), final_bytes=0))
    held = {name: tensor.to("sim") for name, tensor in tensors.items()}
    given = QuantizedLinear(request)(x.to("sim"), Packed(data=(held, (6,)), final_bytes=0))
    torch.testing.assert_close(given.cpu(), right)


def test_types_that_the_device_has_not_are_refused(sim):
    scheme = QuantScheme.named(weight="fp8_e4m3", granularity="channel")
    request = LinearRequest(
        device=sim.boards[0].props, in_features=64, out_features=6, dtype="fp32", scheme=scheme
    )
    assert "weights are fp8_e4m3, the device has" in supports.quantized_linear(request).reason
