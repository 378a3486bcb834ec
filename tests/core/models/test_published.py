"""Configs as they are published: parameters and KV bytes of the plan, without torch or weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.models import plan

from inferplane.models.registry import find_model
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=8)

FILE = Path(__file__).parents[2] / "fixtures" / "published.json"
CONFIGS = json.loads(FILE.read_text())
PARAMETERS = {  # all layers, but for those that predict further tokens
    "Qwen3-30B-A3B": 30_532_122_624,
    "Mixtral-8x7B": 46_702_792_704,
    "gpt-oss-20b": 20_914_757_184,
    "DeepSeek-V2-Lite": 15_706_484_224,
    "DeepSeek-V3": 671_026_419_200,
    "GLM-4.5-Air": 106_852_251_264,
}
KV_BYTES = {  # of a token in bf16
    "Qwen3-30B-A3B": 48 * 2 * 4 * 128 * 2,
    "Mixtral-8x7B": 32 * 2 * 8 * 128 * 2,
    "gpt-oss-20b": 24 * 2 * 8 * 64 * 2,
    "DeepSeek-V2-Lite": 27 * (512 + 64) * 2,
    "DeepSeek-V3": 61 * (512 + 64) * 2,
    "GLM-4.5-Air": 46 * 2 * 8 * 128 * 2,
}
CODE = """
import json, sys
from inferplane.planning.plan import make_plan
from inferplane.planning.report import report
from inferplane.settings import Settings
found = {}
for folder in sys.argv[1:]:
    plan = make_plan(Settings(
        model=folder, load_format="dummy", device="cpu", target="server", num_pages=4096,
        dtype="bf16",
    ))
    said = report(plan)
    found[said["architecture"]] = [
        sum(need.elements for need in plan.root.needs()), said["memory"]["kv_bytes_per_token"]
    ]
print(json.dumps([found, "torch" in sys.modules]))
"""


def test_plans_have_the_published_sizes_and_need_no_torch(tmp_path):
    folders = []
    for name, config in CONFIGS.items():
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        (folders[-1] / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", CODE, *folders], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found, torch = json.loads(done.stdout)
    assert not torch
    assert found == {
        CONFIGS[name]["architectures"][0]: [PARAMETERS[name], KV_BYTES[name]] for name in CONFIGS
    }


def read(name: str, **changes):
    raw = CONFIGS[name] | changes
    return find_model(raw).read(raw)


def test_qwen3_moe():
    moe = read("Qwen3-30B-A3B").moe
    assert (moe.experts.experts, moe.experts.top_k, moe.experts.intermediate) == (128, 8, 768)
    assert (moe.renormalize, moe.precise, moe.shared) == (True, False, 0)


def test_mixtral():
    config = read("Mixtral-8x7B")
    experts = config.moe.experts
    assert (experts.gate, experts.up, experts.down) == ("w1", "w3", "w2")
    assert (config.moe_path, config.windows, config.rope.theta) == ("block_sparse_moe", (), 1e6)


def test_gpt_oss():
    config = read("gpt-oss-20b")
    assert config.windows == (128, 0) * 12
    assert (config.sinks, config.out_bias, config.rope.theta) == (True, True, 150000.0)
    assert dict(config.rope.parameters)["truncate"] == 0.0
    experts = config.moe.experts
    assert (experts.activation, experts.limit, experts.bias) == ("swigluoai", 7.0, True)


def test_gpt_oss_is_bf16_where_the_file_names_no_type():
    assert read("gpt-oss-20b").dtype == "bf16"
    assert read("gpt-oss-20b", dtype="float32").dtype == "fp32"


def test_gpt_oss_alternates_where_the_file_names_no_layers():
    assert read("gpt-oss-20b", layer_types=None).windows == (128, 0) * 12
    assert read("gpt-oss-20b", layer_types=None, sliding_window=None).windows == ()


def test_deepseek_v2_lite():
    config = read("DeepSeek-V2-Lite")
    assert (config.latent.q_rank, config.latent.kv_rank) == (0, 512)
    assert config.latent.rope.style == "interleaved"
    assert config.moe_layers == tuple(range(1, 27))
    moe = config.moe
    assert (moe.scoring, moe.renormalize, moe.groups) == ("softmax", False, 0)
    assert (moe.shared, moe.shared_experts) == (2 * 1408, 2)


def test_deepseek_v3():
    config = read("DeepSeek-V3")
    assert (config.latent.q_rank, config.latent.query_dim) == (1536, 192)
    assert config.moe_layers == tuple(range(3, 61))
    assert config.ignored == ("model.layers.61.",)
    moe = config.moe
    assert (moe.scoring, moe.correction, moe.precise) == (
        *("sigmoid", "gate.e_score_correction_bias", True),
    )
    assert (moe.groups, moe.top_groups, moe.group_score, moe.scaling) == (8, 4, "top2", 2.5)


def test_glm():
    config = read("GLM-4.5-Air")
    assert (config.rope.rotary_dim, config.rope.style, config.qk_norm) == (64, "neox", False)
    assert (config.qkv_bias, config.out_bias) == (True, False)
    assert config.ignored == ("model.layers.46.",)
    assert (config.moe.scoring, config.moe.groups, config.moe.shared) == ("sigmoid", 0, 1408)


def test_layers_without_experts_keep_their_mlp(tmp_path):
    config = CONFIGS["DeepSeek-V3"] | {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
    }
    made = plan(tmp_path, **config, settings={"dtype": "bf16"})
    parts = {
        path.split(".")[2] for path in made.resolution.choices if path.endswith("mlp.down_proj")
    }
    assert parts == {"0", "1", "2"}
    assert [group.kind for group in made.groups] == [GroupKind.LATENT]
