"""Fixtures for all tests: tiny random checkpoints, one thread."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["INFERPLANE_TUNING"] = "none"  # what was measured on this machine changes no test
os.environ.pop("COLUMNS", None)  # of a terminal that tests must not see; xdist hands it to workers

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.mixtures import MIXTURES

VOCAB = 300
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 128}
CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"max_position_embeddings": 512}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-one-kv-head": ("Llama", {"num_key_value_heads": 1, "num_hidden_layers": 3}),
    "llama-head-size": ("Llama", {"head_dim": 32}),
    "llama-biased": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-llama3-rope": (
        "Llama",
        {
            "rope_parameters": {
                **_ROPE,
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            }
        },
    ),
    "llama-linear-rope": (
        "Llama",
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}},
    ),
    "llama-yarn-rope": (
        "Llama",
        {"rope_parameters": {**_ROPE, "rope_type": "yarn", "factor": 4.0}},
    ),
    "mistral": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen2-windows": (
        "Qwen2",
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 24,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3-untied": ("Qwen3", {"head_dim": 16, "num_hidden_layers": 3}),
    **MIXTURES,
}


def make_model(name: str, seed: int = 0) -> Any:
    """A transformers model in fp32, with weights that make its logits differ clearly."""
    import torch
    import transformers

    torch.set_num_threads(1)
    family, changes = CHECKPOINTS[name]
    config = getattr(transformers, f"{family}Config")(**(_SIZES | changes))
    model: Any = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.dim() == 1:
                mean = 0.0 if key.endswith("bias") else 1.0
                weight.normal_(mean, 0.2, generator=generator)
            else:
                # stacked experts are [experts, outputs, inputs], but for gpt-oss
                inputs = weight.shape[2 if weight.dim() == 3 and family != "GptOss" else 1]
                weight.normal_(0.0, 2.0 * inputs**-0.5, generator=generator)
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                buffer.normal_(0.0, 0.2, generator=generator)
    return model


@pytest.fixture(scope="session")
def transformers_model() -> Callable[[str], Any]:
    """The model of a checkpoint by name, made once."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = make_model(name)
        return made[name]

    return get


@pytest.fixture(scope="session")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, transformers_model: Callable[[str], Any]
) -> Callable[[str], Path]:
    """The folder of a checkpoint by name, saved once. Tests must not write there."""
    saved: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in saved:
            saved[name] = tmp_path_factory.mktemp("checkpoints") / name
            transformers_model(name).save_pretrained(saved[name])
        return saved[name]

    return get


@pytest.fixture
def changed_config(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a checkpoint whose config.json has other values; None takes a key out."""

    def make(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for path in checkpoint(name).iterdir():
            if path.name != "config.json":
                (folder / path.name).symlink_to(path)
        config = json.loads((checkpoint(name) / "config.json").read_text()) | changes
        kept = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder

    return make


TEMPLATE = """{%- for message in messages -%}
{{ message['role'] }}: {{ message['content'] }}
{% endfor -%}
{%- if add_generation_prompt -%}assistant: {% endif -%}"""


def write_tokenizer(folder: Path) -> None:
    """One token a byte, in the order of the byte-level alphabet, then two special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<end>", "<pad>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<end>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def byte_tokenizer() -> Callable[[Path], None]:
    """(folder): writes a tokenizer there, whose tokens are single bytes."""
    return write_tokenizer


@pytest.fixture
def text_checkpoint(changed_config: Callable[..., Path]) -> Path:
    """The "qwen3" checkpoint with a tokenizer of one token a byte, and a chat template."""
    folder = changed_config("qwen3")
    write_tokenizer(folder)
    return folder


@pytest.fixture
def make_llm(checkpoint: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """An `LLM` of a checkpoint on the CPU in fp32. All are checked and closed after the test."""
    from inferplane.llm import LLM

    made: list[Any] = []

    def make(model: str | Path = "qwen3", **settings: Any) -> Any:
        folder = checkpoint(model) if isinstance(model, str) else model
        defaults = {
            "device": "cpu",
            "dtype": "float32",
            "page_size": 16,
            "num_pages": 64,
            "max_num_batched_tokens": 64,
            "max_num_seqs": 8,
            "skip_tokenizer_init": True,
        }
        made.append(LLM(model=str(folder), **(defaults | settings)))
        return made[-1]

    yield make
    for llm in made:
        llm.check_invariants()
        llm.close()
