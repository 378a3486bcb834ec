"""A dense checkpoint becomes a quantized one."""

import json

import pytest
from safetensors.torch import load_file, save_file

from inferplane.errors import UserError
from inferplane.formats import online
from inferplane.formats.compressed_writing import NAMES
from inferplane.formats.convert import convert
from inferplane.params import SamplingParams
from inferplane.planning.modules import quantizable
from inferplane.spec import UNQUANTIZED

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=8)

GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
PROMPT = [[3, 1, 4, 1, 5]]


def made(folder, out, name="int8", **more):
    inputs = quantizable(json.loads((folder / "config.json").read_text()))
    return convert(folder, out, name, inputs, **more)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_runs(name, checkpoint, tmp_path, make_llm):
    done = made(checkpoint("llama"), tmp_path / "out", name)
    assert len(done.modules) == 14
    assert done.left_alone == ["lm_head"]
    assert make_llm(tmp_path / "out").generate(PROMPT, GREEDY)


@pytest.mark.parametrize("name", ["int8", "fp8", "mxfp8"])
def test_it_is_what_quantization_while_loading_gives(
    name, checkpoint, tmp_path, make_llm, monkeypatch
):
    """But for the last projection, which stays in files."""
    monkeypatch.setattr(online, "LAST", UNQUANTIZED)
    made(checkpoint("llama-tied"), tmp_path / "out", name)
    found, expected = (
        make_llm(model, **more).generate(PROMPT, GREEDY)[0].outputs[0].token_ids
        for model, more in ((tmp_path / "out", {}), ("llama-tied", {"quantization": name}))
    )
    assert found == expected


def test_groups_of_two_sizes_are_two_schemes(checkpoint, tmp_path):
    """Of 64 and of 96 inputs: a group of 64, and one of 32."""
    done = made(checkpoint("llama"), tmp_path / "out", "int4")
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    first, second = config["config_groups"].values()
    assert (first["targets"], first["weights"]["group_size"]) == (["Linear"], 64)
    downs = [f"model.layers.{layer}.mlp.down_proj" for layer in range(2)]
    assert (second["targets"], second["weights"]["group_size"]) == (downs, 32)
    assert done.bytes_after < done.bytes_before


def test_experts_of_both_sizes_share_a_group(checkpoint, tmp_path, make_llm):
    """Of 64 inputs and of 32."""
    done = made(checkpoint("qwen3-moe"), tmp_path / "out", "int4")
    experts = {s.name for module, s in done.modules.items() if ".experts." in module}
    assert experts == {"int4-g32"}
    assert "model.layers.0.mlp.gate" in done.left_alone
    assert make_llm(tmp_path / "out").generate(PROMPT, GREEDY)


def test_experts_in_one_tensor_stay(checkpoint, tmp_path, make_llm):
    done = made(checkpoint("gpt-oss"), tmp_path / "out")
    assert not [module for module in done.modules if "experts" in module]
    assert make_llm(tmp_path / "out").generate(PROMPT, GREEDY)


def test_a_tied_head_is_ignored_by_name(checkpoint, tmp_path):
    """To other readers it is a linear layer, though the file has none."""
    made(checkpoint("llama-tied"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["ignore"] == ["lm_head"]


def test_files_stay_as_they_were_split(transformers_model, tmp_path, make_llm):
    source, out = tmp_path / "source", tmp_path / "out"
    transformers_model("qwen3").save_pretrained(source, max_shard_size="100KB")
    reports = []
    made(source, out, progress=lambda done, total: reports.append((done, total)))
    names = {path.name for path in source.glob("*.safetensors")}
    assert len(names) > 2
    assert {path.name for path in out.glob("*.safetensors")} == names
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    held = {k: p.name for p in out.glob("*.safetensors") for k in load_file(p)}
    assert index == held
    assert reports[-1][0] == reports[-1][1] and reports == sorted(reports)
    assert make_llm(out).generate(PROMPT, GREEDY)


def test_other_files_come_along(text_checkpoint, tmp_path):
    (text_checkpoint / "LICENSE").write_text("free")
    (text_checkpoint / "pytorch_model.bin").write_bytes(b"old")
    made(text_checkpoint, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "LICENSE", "config.json"} <= names
    assert "pytorch_model.bin" not in names


def test_a_folder_with_something_in_it_is_refused(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is there already and is not empty"):
        made(checkpoint("llama"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unfinished_folder_is_no_model(checkpoint, tmp_path, monkeypatch):
    def fail(*arguments, **more):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        made(checkpoint("llama"), tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_checkpoint_that_nothing_fits_is_refused(checkpoint, tmp_path):
    tensors = load_file(checkpoint("llama") / "model.safetensors")
    save_file(
        {k: v[:, :40].contiguous() if v.dim() == 2 else v for k, v in tensors.items()},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text((checkpoint("llama") / "config.json").read_text())
    with pytest.raises(UserError, match="has no weight that int4 fits"):
        made(tmp_path, tmp_path / "out", "int4")
