"""Checkpoints: sharded ones load, and what does not fit is listed."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from inferplane.errors import UserError
from inferplane.formats.checkpoint import Checkpoint
from inferplane.params import SamplingParams
from inferplane.plugins.site import WeightNeed
from inferplane.spec import WeightPart

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=12)

GREEDY = SamplingParams(temperature=0.0, max_tokens=8)
INDEX = "model.safetensors.index.json"


@pytest.fixture
def damaged(checkpoint, tmp_path):
    """(change of the tensors) -> a copy of the "llama" checkpoint with them changed."""

    def make(change):
        tensors = load_file(checkpoint("llama") / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        config = (checkpoint("llama") / "config.json").read_text()
        (tmp_path / "config.json").write_text(config)
        return tmp_path

    return make


@pytest.fixture
def sharded(transformers_model, tmp_path):
    """The "qwen3" checkpoint in several files."""
    transformers_model("qwen3").save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    return tmp_path


def test_a_sharded_checkpoint_gives_the_same_tokens(sharded, make_llm):
    found, expected = (
        make_llm(model).generate([[1, 2, 3]], GREEDY)[0].outputs[0].token_ids
        for model in (sharded, "qwen3")
    )
    assert found == expected


def test_a_slice_is_read_where_it_lies(checkpoint):
    key = "model.embed_tokens.weight"
    store = Checkpoint(checkpoint("llama"))
    part = WeightPart(name="weight", key=key, full_shape=(300, 64), offset=(7, 8), shape=(5, 9))
    whole = load_file(checkpoint("llama") / "model.safetensors")[key]
    assert torch.equal(store.read(part), whole[7:12, 8:17])


def test_missing_tensors_are_listed(damaged, make_llm):
    def change(tensors):
        del tensors["model.norm.weight"], tensors["lm_head.weight"]

    with pytest.raises(UserError) as caught:
        make_llm(damaged(change))
    assert "missing tensors (2)" in str(caught.value)
    assert "model.norm.weight" in str(caught.value)
    assert "lm_head.weight" in str(caught.value)


def test_unexpected_tensors_are_listed(damaged, make_llm):
    def change(tensors):
        tensors["model.layers.7.self_attn.q_proj.weight"] = torch.zeros(2)

    with pytest.raises(UserError, match=r"(?s)unexpected tensors \(1\).*layers\.7"):
        make_llm(damaged(change))


def test_wrong_shapes_are_listed_with_both_shapes(damaged, make_llm):
    def change(tensors):
        tensors["model.norm.weight"] = torch.zeros(63)

    with pytest.raises(UserError, match=r"norm\.weight is \[63\], the model needs \[64\]"):
        make_llm(damaged(change))


def test_long_lists_are_cut(damaged, make_llm):
    def change(tensors):
        tensors.update({f"extra.{n}": torch.zeros(1) for n in range(20)})

    with pytest.raises(UserError, match="and 8 more"):
        make_llm(damaged(change))


def test_old_rotary_buffers_are_ignored(damaged, make_llm):
    def change(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)

    assert make_llm(damaged(change)).generate([[1, 2]], GREEDY)


def with_layer(checkpoint, folder, index):
    """A copy of "deepseek-v3", which has two layers, with a tensor of another one."""
    tensors = load_file(checkpoint("deepseek-v3") / "model.safetensors")
    tensors[f"model.layers.{index}.eh_proj.weight"] = torch.zeros(64, 128)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text((checkpoint("deepseek-v3") / "config.json").read_text())
    return folder


def test_a_layer_that_predicts_further_tokens_is_ignored(checkpoint, tmp_path, make_llm):
    assert make_llm(with_layer(checkpoint, tmp_path, 2)).generate([[1, 2]], GREEDY)


def test_a_layer_that_nobody_knows_is_not_ignored(checkpoint, tmp_path, make_llm):
    with pytest.raises(UserError, match=r"(?s)unexpected tensors \(1\).*layers\.3\.eh_proj"):
        make_llm(with_layer(checkpoint, tmp_path, 3))


def test_scales_of_a_cache_that_is_not_quantized_are_ignored(damaged, make_llm):
    def change(tensors):
        tensors["model.layers.0.self_attn.k_scale"] = torch.ones(())

    assert make_llm(damaged(change)).generate([[1, 2]], GREEDY)


def test_one_number_may_be_stored_without_an_axis(tmp_path):
    save_file({"a.k_scale": torch.tensor(2.0)}, tmp_path / "model.safetensors")
    part = WeightPart(name="keys", key="a.k_scale", full_shape=(1,), offset=(0,), shape=(1,))
    store = Checkpoint(tmp_path)
    store.check([WeightNeed("kv_scales", (part,), "fp32")], tied=False)
    assert store.read(part) == 2.0


def test_a_stored_copy_of_a_tied_head_is_ignored(checkpoint, tmp_path, make_llm):
    tensors = load_file(checkpoint("qwen3") / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((checkpoint("qwen3") / "config.json").read_text())
    assert make_llm(tmp_path).generate([[1, 2]], GREEDY)


def test_a_truncated_file_is_refused(damaged, make_llm):
    folder = damaged(lambda tensors: None)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut off"):
        make_llm(folder)


def test_sizes_that_contradict_the_shape_are_refused(damaged, make_llm):
    folder = damaged(lambda tensors: None)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F16"', 1))
    with pytest.raises(UserError, match="cannot be opened"):
        make_llm(folder)


def test_no_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no \*\.safetensors file$"):
        Checkpoint(tmp_path)


def test_pickle_is_named_and_never_loaded(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is pickle, which is never loaded"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name", ["gone.safetensors", "../outside.safetensors", "/etc/hostname", "..", ".", ""]
)
def test_an_index_that_names_other_files_is_refused(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UserError, match="names files that are not there"):
        Checkpoint(folder)


@pytest.mark.parametrize("content", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_an_index_without_a_map_is_refused(tmp_path, content):
    (tmp_path / INDEX).write_text(json.dumps(content))
    with pytest.raises(UserError, match="no valid 'weight_map'"):
        Checkpoint(tmp_path)


def test_an_index_that_is_no_json_is_refused(tmp_path):
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Checkpoint(tmp_path)
