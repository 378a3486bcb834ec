"""Loading a model holds the model and what it reads, no more."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=20)

LAYERS, HIDDEN, INTER, VOCAB = 12, 768, 2048, 1024
A_SHARD = 6  # layers
MEASURE = """
import torch
from inferplane.executor.local import load_runner
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings

def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

plan = make_plan(Settings(model={folder!r}, device="cpu", num_pages=4, quantization={name!r}))
device = plan.catalog.device()
device.activate()
torch.ones(64, 64) @ torch.ones(64, 64)
before = most()
load_runner(plan, device, None)
print(plan.weight_bytes, most() - before)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of 153 MiB in shards of six layers."""
    where = tmp_path_factory.mktemp("shards")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INTER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "max_position_embeddings": 64,
        "torch_dtype": "bfloat16",
    }
    (where / "config.json").write_text(json.dumps(config))

    def drawn(*shape):
        return torch.randn(shape).mul(0.02).bfloat16()

    shards = [
        {
            "model.embed_tokens.weight": drawn(VOCAB, HIDDEN),
            "lm_head.weight": drawn(VOCAB, HIDDEN),
            "model.norm.weight": drawn(HIDDEN),
        }
    ]
    for layer in range(LAYERS):
        if layer % A_SHARD == 0:
            shards.append({})
        path = f"model.layers.{layer}"
        shards[-1] |= {f"{path}.self_attn.{n}_proj.weight": drawn(HIDDEN, HIDDEN) for n in "qkvo"}
        shards[-1] |= {f"{path}.mlp.{n}_proj.weight": drawn(INTER, HIDDEN) for n in ("gate", "up")}
        shards[-1][f"{path}.mlp.down_proj.weight"] = drawn(HIDDEN, INTER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shards[-1][f"{path}.{name}.weight"] = drawn(HIDDEN)
    names = {}
    for index, tensors in enumerate(shards):
        file = f"model-{index}.safetensors"
        save_file(tensors, where / file)
        names |= dict.fromkeys(tensors, file)
    (where / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return where


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", [None, "int8", "int4"])
def test_loading_takes_less_than_the_checkpoint_and_a_shard(folder, name):
    """Whatever the kernels pack the weights into."""
    code = MEASURE.format(folder=str(folder), name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, taken = map(int, done.stdout.split())
    shards = [path.stat().st_size for path in folder.glob("*.safetensors")]
    code_and_buffers = 32 << 20  # whatever the model's size
    assert kept < taken < sum(shards) + max(shards) + code_and_buffers
