"""Settings: which source wins, and what is said of unknown keys and bad values."""

import pytest

from inferplane.errors import UserError
from inferplane.settings import Settings, load_settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    import os

    for name in os.environ:
        if name.startswith("INFERPLANE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def yaml(tmp_path):
    """(text) -> path of a file with it."""

    def write(text: str) -> str:
        (tmp_path / "config.yaml").write_text(text)
        return str(tmp_path / "config.yaml")

    return write


def test_a_flag_comes_before_a_variable_and_the_file(monkeypatch, yaml):
    monkeypatch.setenv("INFERPLANE_PORT", "2")
    settings, sources = load_settings({"port": 1}, yaml("port: 3"))
    assert (settings.port, sources["port"]) == (1, "flag")


def test_a_variable_comes_before_the_file(monkeypatch, yaml):
    monkeypatch.setenv("INFERPLANE_PORT", "2")
    settings, sources = load_settings({}, yaml("port: 3"))
    assert (settings.port, sources["port"]) == (2, "environment")


def test_the_file_comes_before_defaults(yaml):
    path = yaml("port: 3\nmax-num-seqs: 5")
    settings, sources = load_settings({}, path)
    assert (settings.port, settings.max_num_seqs) == (3, 5)
    assert sources == {"port": path, "max_num_seqs": path}


def test_a_flag_of_none_was_not_given(yaml):
    settings, _ = load_settings({"port": None}, yaml("port: 3"))
    assert settings.port == 3


def test_defaults_have_no_source():
    settings, sources = load_settings({})
    assert settings == Settings()
    assert sources == {}


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 5


@pytest.mark.parametrize("given", ["a=b,c!=d", ("a=b", "c!=d"), ["a=b, c!=d"]])
def test_lists_may_be_written_with_commas(given):
    assert load_settings({"kernel": given})[0].kernel == ("a=b", "c!=d")


@pytest.mark.parametrize(
    ("given", "kept"), [("float32", "fp32"), ("bfloat16", "bf16"), ("bf16", "bf16")]
)
def test_dtypes_have_two_names(given, kept):
    assert load_settings({"dtype": given})[0].dtype == kept


def test_an_unknown_flag_names_the_nearest():
    with pytest.raises(UserError, match=r"no setting 'prot' \(did you mean 'port'\?\)"):
        load_settings({"prot": 1})


def test_an_unknown_variable_names_the_nearest(monkeypatch):
    monkeypatch.setenv("INFERPLANE_PAGE_SISE", "16")
    with pytest.raises(UserError, match=r"INFERPLANE_PAGE_SISE.*'INFERPLANE_PAGE_SIZE'"):
        load_settings({})


def test_an_unknown_key_of_the_file_names_the_file_and_the_nearest(yaml):
    path = yaml("page-sise: 16")
    with pytest.raises(UserError) as caught:
        load_settings({}, path)
    assert path in str(caught.value)
    assert "did you mean 'page_size'" in str(caught.value)


@pytest.mark.parametrize("text", ["- port", "just words", "port: [1", "7"])
def test_a_file_of_another_kind_is_refused(yaml, text):
    with pytest.raises(UserError, match="--config"):
        load_settings({}, yaml(text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="--config"):
        load_settings({}, str(tmp_path / "gone.yaml"))


def test_an_empty_file_changes_nothing(yaml):
    assert load_settings({}, yaml(""))[0] == Settings()


BAD = [
    ("port", [-1, 65536, "http", 1.5, True]),
    ("page_size", [0, 1025, "many", True]),
    ("num_pages", [0, -1, True]),
    ("memory_fraction", [0.0, 1.1, float("nan"), "half"]),
    ("max_num_seqs", [0, 65537, True]),
    ("max_num_batched_tokens", [0, True]),
    ("max_model_len", [0, 1.5]),
    ("policy", ["fastest", 1]),
    ("load_format", ["pickle"]),
    ("log_level", ["loud"]),
    ("drain_timeout", [-1.0, float("nan")]),
    ("threads", [0, True]),
    ("seed", ["lucky", 1.5, True]),
    ("strict", ["maybe"]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD for value in values]
)
def test_a_bad_value_is_named_shown_and_traced(name, value):
    with pytest.raises(UserError) as caught:
        load_settings({name: value})
    assert f"{name.replace('_', '-')} is {value!r} (from flag)" in str(caught.value)


def test_a_bad_variable_is_traced_to_the_environment(monkeypatch):
    monkeypatch.setenv("INFERPLANE_PORT", "http")
    with pytest.raises(UserError, match=r"port is 'http' \(from environment\)"):
        load_settings({})


def test_all_bad_values_are_told_at_once():
    with pytest.raises(UserError, match=r"page-size is 0.*port is -1"):
        load_settings({"port": -1, "page_size": 0})


def test_the_api_key_is_not_shown_in_an_error():
    with pytest.raises(UserError) as caught:
        load_settings({"api_key": 987654})
    assert "api-key is ***" in str(caught.value)
    assert "987654" not in str(caught.value)


def test_the_api_key_is_not_shown_beside_other_errors(yaml):
    with pytest.raises(UserError) as caught:
        load_settings({"port": -1, "api_key": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_the_api_key_is_not_shown_with_the_settings():
    assert "s3cret" not in repr(load_settings({"api_key": "s3cret"})[0])
