"""tools/train_arithmetic_moe.py: its mixture of experts begins as the dense model."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=20)

ROOT = Path(__file__).parent.parent
LAYERS = (1, 3)


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
        import train_arithmetic_moe

        return train_arithmetic_moe


@pytest.fixture(scope="module")
def dense(tool):
    folder = ROOT / "core" / "inferplane" / "testing" / "models" / "arithmetic"
    return tool.Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def ids(tool):
    pairs = tool.arithmetic.evaluation_set(16, seed=5)[1::2]
    shortest = min(len(prompt) for prompt, _ in pairs)
    return torch.tensor([list(prompt.encode())[:shortest] for prompt, _ in pairs])


@pytest.fixture
def moe(tool, dense, ids):
    torch.manual_seed(0)
    return tool.upcycle(dense, ids, fresh=0.0, sharpness=0.01)


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids).logits.log_softmax(-1)


def test_it_calculates_what_the_dense_model_calculates(dense, moe, ids):
    assert (logits(moe, ids) - logits(dense, ids)).abs().max() < 1


def test_the_two_of_a_pair_keep_different_neurons(tool, dense, moe, ids):
    half = tool.upcycle(dense, ids, fresh=0.5, sharpness=0.01)
    for i in LAYERS:
        whole, halves = (m.model.layers[i].mlp.experts for m in (moe, half))
        first, second = halves.down_proj[::2], halves.down_proj[1::2]
        assert (first * second).count_nonzero() == 0
        torch.testing.assert_close(first + second, whole.down_proj[::2])
        same = (halves.gate_up_proj == whole.gate_up_proj).float().mean()
        assert same == pytest.approx(0.5, abs=0.001)


def test_a_token_goes_to_one_expert_of_each_pair_and_no_expert_is_idle(tool, moe, ids):
    seen = {}

    def keep(layer, _, index):
        seen[layer] = index
        return index

    with tool.routed(moe, keep):
        logits(moe, ids)
    assert tuple(seen) == LAYERS
    for index in seen.values():
        assert (index // 2).sort(-1).values.eq(torch.arange(tool.SLICES)).all()
        used = torch.bincount(index.flatten(), minlength=tool.EXPERTS) / index.numel()
        assert used.min() > 0.25 / tool.EXPERTS


def test_all_experts_at_once_are_transformers_loop_over_experts(moe, ids):
    at_once = logits(moe, ids)
    moe.set_experts_implementation("eager")
    torch.testing.assert_close(at_once, logits(moe, ids), atol=1e-3, rtol=1e-4)


def test_the_part_for_balance_doubles_where_half_of_the_experts_are_idle(
    tool, moe, ids, monkeypatch
):
    monkeypatch.setattr(tool, "UNLIKELY", 0)

    def part():
        learned = torch.ones_like(ids, dtype=torch.bool)
        with torch.inference_mode():
            whole, answers = (
                f(moe, ids, learned, False) for f in (tool.loss_of, tool.dense.loss_of)
            )
        return float(whole - answers) / tool.CONFIG["router_aux_loss_coef"]

    def half(x):
        even = torch.arange(0, tool.EXPERTS, 2).expand(x[..., 0].numel(), -1)
        logits = torch.zeros(len(even), tool.EXPERTS).scatter(1, even, 20.0)
        return logits, torch.full(even.shape, 1 / tool.SLICES), even

    assert 0.99 < part() < 1.1
    for router in tool.routers(moe).values():
        router.forward = half
    assert part() == pytest.approx(2, abs=0.01)


def test_right_answers_with_random_experts_cost_and_wrong_ones_do_not(tool, moe, ids):
    sure = logits(moe, ids)[:, :-1].max(-1)
    learned = torch.zeros_like(ids, dtype=torch.bool)
    learned[:, 1:] = (sure.indices == ids[:, 1:]) & (sure.values > -0.01)
    wrong = torch.where(learned, ord("x"), ids)
    torch.manual_seed(0)
    with torch.inference_mode():
        assert tool.unlikelihood(moe, ids, learned, half=False) > 1
        assert tool.unlikelihood(moe, wrong, learned, half=False) < 0.1


def test_files_are_those_that_transformers_writes(tool, moe, tmp_path):
    tool.dense.save_weights(tool.named_weights(moe), tmp_path)
    ours = load_file(tmp_path / "model.safetensors")
    moe.to(torch.bfloat16).save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    assert "model.layers.3.mlp.experts.7.gate_proj.weight" in ours
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
