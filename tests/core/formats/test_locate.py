"""Where a model is, and reading its JSON files."""

import json

import pytest

from inferplane.errors import UserError
from inferplane.formats.locate import BUNDLED, locate, read_config, read_json

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_complete(name):
    files = {path.name for path in locate(name).iterdir()}
    assert files >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert locate(str(tmp_path)) == tmp_path


def test_a_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="is a file"):
        locate(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "../missing", "word", "a/b/c"])
def test_a_folder_that_is_not_there_lists_the_bundled_models(name):
    with pytest.raises(UserError, match="tiny-arithmetic"):
        locate(name)


def test_a_missing_config_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 50_000])
def test_a_damaged_json_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        read_config(tmp_path)


def test_a_json_file_must_hold_an_object(tmp_path):
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="holds list"):
        read_json(tmp_path / "config.json")


def test_end_tokens_of_the_generation_config_come_first(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    assert read_config(tmp_path)["eos_token_id"] == [2, 3]


def test_a_generation_config_without_end_tokens_changes_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    (tmp_path / "generation_config.json").write_text("{}")
    assert read_config(tmp_path)["eos_token_id"] == 1


@pytest.mark.parametrize(
    ("name", "method"), [("quantize_config.json", "gptq"), ("quant_config.json", "awq")]
)
def test_quantization_may_be_in_a_file_of_its_own(tmp_path, name, method):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps({"bits": 4}))
    found = read_config(tmp_path)["quantization_config"]
    assert found == {"quant_method": method, "bits": 4}


def test_quantization_in_config_json_comes_first(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"bits": 8}}))
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert read_config(tmp_path)["quantization_config"] == {"bits": 8}
