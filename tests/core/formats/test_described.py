"""What a folder says of its quantization outside of config.json."""

import json

import pytest
import torch
from safetensors.torch import save_file

from inferplane.errors import UserError
from inferplane.formats.locate import read_config

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_an_unquantized_folder_says_nothing(folder):
    assert "quantization_config" not in read_config(folder)


def test_a_description_of_every_tensor(folder):
    description = {"model.layers.0.mlp.up_proj.weight": "W8A8_DYNAMIC", "version": "1.0.0"}
    (folder / "quant_model_description.json").write_text(json.dumps(description))
    found = read_config(folder)["quantization_config"]
    assert found == {"quant_method": "modelslim", "description": description}


def test_a_description_of_the_whole(folder):
    inner = {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": inner}))
    assert read_config(folder)["quantization_config"] == {"quant_method": "modelopt", **inner}


def test_config_json_comes_before_the_other_file(folder):
    given = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    (folder / "config.json").write_text(json.dumps({"quantization_config": given}))
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": {}}))
    assert read_config(folder)["quantization_config"] == given


def test_types_of_the_first_quantized_module(folder):
    given = {"quant_method": "fp8", "stored": "what a file claims"}
    (folder / "config.json").write_text(json.dumps({"quantization_config": given}))
    tensors = {
        "model.norm.weight": torch.zeros(8),
        "model.up_proj.weight": torch.zeros(4, 8).to(torch.float8_e4m3fnuz),
        "model.up_proj.weight_scale": torch.zeros(4, 1),
    }
    save_file(tensors, folder / "model.safetensors")
    assert read_config(folder)["quantization_config"]["stored"] == {
        "weight": {"dtype": "F8_E4M3FNUZ", "shape": [4, 8]},
        "weight_scale": {"dtype": "F32", "shape": [4, 1]},
    }


def test_a_broken_description_is_told(folder):
    (folder / "quant_model_description.json").write_text("{")
    with pytest.raises(UserError, match=r"quant_model_description\.json cannot be read"):
        read_config(folder)
