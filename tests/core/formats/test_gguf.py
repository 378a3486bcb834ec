"""GGUF: whole models, what the metadata must say, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fakes.gguf_files import blocks, file_name, neighbours, write

from inferplane.errors import UserError
from inferplane.formats.gguf import GGUF, config_of, file_in, model_name
from inferplane.formats.locate import locate, read_config

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=8)


def metadata_of(raw, kind):
    heads = raw["num_attention_heads"]
    return {
        "general.architecture": kind,
        "general.alignment": 32,
        f"{kind}.block_count": raw["num_hidden_layers"],
        f"{kind}.context_length": 512,
        f"{kind}.embedding_length": raw["hidden_size"],
        f"{kind}.feed_forward_length": raw["intermediate_size"],
        f"{kind}.attention.head_count": heads,
        f"{kind}.attention.head_count_kv": raw["num_key_value_heads"],
        f"{kind}.attention.layer_norm_rms_epsilon": raw["rms_norm_eps"],
        f"{kind}.attention.key_length": raw.get("head_dim") or raw["hidden_size"] // heads,
        f"{kind}.rope.freq_base": 10000.0,
        "tokenizer.ggml.tokens": ["a", "bc"],
        "tokenizer.ggml.eos_token_id": 7,
    }


@pytest.fixture
def packed(checkpoint, tmp_path):
    """(checkpoint, type by the model's name of a matrix, more metadata) -> (folder with one GGUF
    file, folder with the same weights dense)."""

    def make(name, kind_of, **more):
        source, kind = checkpoint(name), name.partition("-")[0]
        raw = json.loads((source / "config.json").read_text())
        found, dense = {}, {}
        for key, tensor in load_file(source / "model.safetensors").items():
            rows = tensor.float().numpy()
            heads = raw["num_attention_heads" if "q_proj" in key else "num_key_value_heads"]
            turned = kind == "llama" and ("q_proj" in key or "k_proj" in key)
            what = kind_of(key) if rows.ndim == 2 else "F32"
            _, worth = blocks(what, rows)
            data, _ = blocks(what, neighbours(rows, heads) if turned else rows)
            found[file_name(key)] = (what, rows.shape, data)
            dense[key] = torch.from_numpy(np.ascontiguousarray(worth))
        folders = tmp_path / "packed", tmp_path / "dense"
        for folder in folders:
            folder.mkdir()
        write(folders[0] / "model.gguf", metadata_of(raw, kind) | more, found)
        save_file(dense, folders[1] / "model.safetensors")
        (folders[1] / "config.json").write_text(json.dumps(raw))
        return folders

    return make


@pytest.mark.parametrize(
    ("name", "kind"),
    [("llama", "Q8_0"), ("llama", "Q4_0"), ("qwen2", "F16"), ("qwen3", "Q4_0"), ("qwen3", "Q8_0")],
)
def test_a_model_gives_the_tokens_of_its_dequantized_weights(packed, same_tokens, name, kind):
    assert same_tokens(*packed(name, lambda key: kind))


def test_types_may_differ_by_tensor(packed, same_tokens):
    def kind(key):
        return "F16" if "embed" in key else "Q8_0" if "mlp" in key else "Q4_0"

    packed_folder, dense = packed("llama", kind)
    form = GGUF(read_config(packed_folder))
    assert form.scheme("model.layers.0.mlp.up_proj").name == "int8-g32"
    assert form.scheme("model.layers.0.self_attn.q_proj").name == "int4-g32"
    assert not form.scheme("model.embed_tokens").quantized
    assert same_tokens(packed_folder, dense)


def test_the_config_comes_from_the_metadata(packed):
    folder, _ = packed("qwen3", lambda key: "F16")
    config = read_config(folder)
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert (config["head_dim"], config["vocab_size"], config["eos_token_id"]) == (32, 300, 7)
    assert config["tie_word_embeddings"] is True


def test_a_file_may_be_named_itself(packed):
    folder, _ = packed("llama", lambda key: "F16")
    assert locate(str(folder / "model.gguf")) == folder


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"general.architecture": "mamba"}, "architecture is 'mamba'; known: llama, qwen2, qwen3"),
        ({"llama.block_count": "many"}, r"block_count is 'many'"),
        ({"llama.rope.scaling.type": "yarn"}, "scaled rotary embedding"),
        ({"general.alignment": 0}, "alignment is 0"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(packed, more, message):
    folder, _ = packed("llama", lambda key: "F16", **more)
    with pytest.raises(UserError, match=message):
        read_config(folder)


def test_an_unknown_tensor_is_named():
    assert model_name("blk.3.attn_q.bias") == "model.layers.3.self_attn.q_proj.bias"
    for name in ("blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "rope_freqs.weight"):
        with pytest.raises(UserError, match="not known"):
            model_name(name)


def test_several_files_are_refused_and_safetensors_come_first(tmp_path):
    assert file_in(tmp_path) is None
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"several GGUF files \(a\.gguf, b\.gguf\)"):
        file_in(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert file_in(tmp_path) is None


def test_types_that_need_the_package_say_so(tmp_path, monkeypatch):
    import sys

    from inferplane.formats.gguf_checkpoint import open_checkpoint

    monkeypatch.setitem(sys.modules, "gguf", None)
    metadata = {"general.architecture": "llama"}
    write(tmp_path / "m.gguf", metadata, {"output.weight": ("Q6_K", (1, 256), bytes(210))})
    with pytest.raises(UserError, match=r"tensors of Q6_K, .* pip install inferplane\[gguf\]"):
        open_checkpoint(tmp_path)


def test_no_embedding_is_refused(tmp_path):
    full = metadata_of(
        {
            "num_attention_heads": 4,
            "num_hidden_layers": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
        },
        "llama",
    )
    write(tmp_path / "m.gguf", full, {})
    with pytest.raises(UserError, match="has no tensor token_embd"):
        config_of(tmp_path / "m.gguf")
