"""Writing compressed-tensors: what is written is read back, by us and by the package itself."""

import pytest
import torch

from inferplane.formats.compressed_tensors import CompressedTensors
from inferplane.formats.compressed_writing import NAMES, group_of, scheme_for, stored_tensors
from inferplane.formats.quantize import quantize
from inferplane.spec import UNQUANTIZED
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=6)

K = "model.layers.0.self_attn.k_proj"


def made(name, outputs=40, inputs=192):
    """(scheme, canonical tensors, `quantization_config`, stored tensors by the last of a name)."""
    weight = torch.randn((outputs, inputs), generator=torch.Generator().manual_seed(0))
    scheme = scheme_for(name, inputs)
    canonical = quantize(scheme, weight)
    config = {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {"group_0": group_of(scheme, ["Linear"])},
    }
    return scheme, canonical, config, stored_tensors(scheme, canonical)


@pytest.mark.parametrize("name", NAMES)
def test_our_reader_gets_back_what_was_written(name):
    scheme, canonical, config, stored = made(name)
    seen = {"weight_scale": {"dtype": "BF16", "shape": []}} if scheme.scale == "bf16" else {}
    format = CompressedTensors({"quantization_config": config | {"stored": seen}})
    assert format.scheme(K) == scheme
    tensors = {f"{K}.{key}": tensor for key, tensor in stored.items()}
    found = format.load(K, tensors.__getitem__)
    assert found.keys() == canonical.keys()
    for key, tensor in canonical.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key].float(), tensor.float())
    shapes = format.stored(K, (40, 192))
    assert all(tuple(t.shape) in (shapes[k], (40, 1), (2,)) for k, t in tensors.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_package_reads_the_same_weight(name):
    """In the type of the scales, which the package computes in."""
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    scheme, canonical, config, stored = made(name)
    group = QuantizationConfig(**config).config_groups["group_0"]
    reader = BaseCompressor.get_value_from_registry(config["config_groups"]["group_0"]["format"])
    expected = reader.decompress(stored, group)["weight"]
    assert torch.equal(dequantize(scheme, canonical).to(expected.dtype), expected)


def test_inputs_that_fill_no_group_are_left_alone():
    assert scheme_for("int4", 40) is UNQUANTIZED
    assert scheme_for("mxfp4", 40) is UNQUANTIZED
    assert scheme_for("int8", 40).quantized
    assert scheme_for("w4a8", 96).group == 32
