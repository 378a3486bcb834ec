"""Train the bundled mixture of experts, a tiny Qwen3-MoE that adds and subtracts up to 999.

    python tools/train_arithmetic_moe.py --out core/inferplane/testing/models/arithmetic_moe

It starts from the dense model: every second layer's MLP is cut into slices, each slice becomes a
pair of experts, and a router picks one of each pair (after "Sparse Upcycling", Komatsuzaki et al.
2022, https://arxiv.org/abs/2212.05055, and the slices of "Upcycling Large Language Models into
Mixture of Experts", He et al. 2024, https://arxiv.org/abs/2410.07524). The two of a pair keep
different neurons and draw the others anew ("Drop-Upcycling", Nakamura et al. 2025,
https://arxiv.org/abs/2502.19261); else they would stay alike. Training makes up for what is
missing, with a loss for balance and one for right answers of random experts. The options are those
of train_arithmetic.py.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
import train_arithmetic as dense
from arithmetic_accuracy import autocast, forced_accuracy
from arithmetic_files import model_card, percent
from transformers import Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.integrations.moe import ExpertsInterface
from transformers.models.qwen3_moe.modeling_qwen3_moe import (
    Qwen3MoeTopKRouter,
    load_balancing_loss_func,
)

from inferplane.testing import arithmetic

SLICES = 4  # of a dense MLP, and experts that a token uses
EXPERTS = 2 * SLICES
UNLIKELY = 0.1  # weight of the loss for right answers of random experts

# The experts [T, K] to use in a layer, of the router's logits [T, E] and its choice [T, K].
Pick = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]

# The fields of public Qwen3-MoE checkpoints, such as Qwen/Qwen3-30B-A3B.
CONFIG = {
    **dense.CONFIG,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 2,
    "mlp_only_layers": [],
    "num_experts": EXPERTS,
    "num_experts_per_tok": SLICES,
    "moe_intermediate_size": dense.CONFIG["intermediate_size"] // SLICES,
    "norm_topk_prob": True,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.1,
}


def every_expert(
    experts: torch.nn.Module, x: torch.Tensor, index: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """All experts of a layer for all tokens in three matrix products, those not chosen times zero.

    That is faster than to gather tokens where a token uses half of the experts. ``x`` is [T, H],
    ``index`` and ``share`` are [T, K].
    """
    shares = share.new_zeros(len(x), experts.num_experts).scatter(1, index, share)
    both = F.linear(x, experts.gate_up_proj.flatten(0, 1))
    gate, up = both.view(len(x), experts.num_experts, -1).chunk(2, dim=-1)
    inner = F.silu(gate) * up * shares[..., None]
    return inner.flatten(1) @ experts.down_proj.transpose(1, 2).flatten(0, 1)


ExpertsInterface.register("every", every_expert)


def routers(model: Qwen3MoeForCausalLM) -> dict[int, Qwen3MoeTopKRouter]:
    """The routers by the numbers of their layers."""
    found = {i: getattr(layer.mlp, "gate", None) for i, layer in enumerate(model.model.layers)}
    return {i: gate for i, gate in found.items() if isinstance(gate, Qwen3MoeTopKRouter)}


def upcycle(
    source: Qwen3ForCausalLM, ids: torch.Tensor, fresh: float, sharpness: float
) -> Qwen3MoeForCausalLM:
    """A mixture of experts that calculates what a dense model calculates, but for new neurons.

    Experts 2s and 2s+1 are slice s of the dense MLP. Their router's rows are opposite, so the best
    half of all experts has one of each slice. ``fresh`` is the share of an expert's neurons that
    are drawn anew and add nothing at first, ``sharpness`` the standard deviation of the router's
    logits on ``ids``.
    """
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**CONFIG, "torch_dtype": "float32"}))
    model.set_attn_implementation(source.config._attn_implementation)
    model.set_experts_implementation("every")
    model.load_state_dict(source.state_dict(), strict=False)
    inputs: dict[int, torch.Tensor] = {}

    def keep(layer: int):
        return lambda _, given: inputs.update({layer: given[0].flatten(0, -2)})

    with torch.no_grad():
        layers = routers(model)
        hooks = [source.model.layers[i].mlp.register_forward_pre_hook(keep(i)) for i in layers]
        source.model(input_ids=ids, use_cache=False)
        for hook in hooks:
            hook.remove()
        for i, router in layers.items():
            mlp, experts = source.model.layers[i].mlp, model.model.layers[i].mlp.experts
            # Shares sum to one, slices are added: what enters is as many times as large.
            scale = SLICES**0.5
            parts = mlp.gate_proj.weight, scale * mlp.up_proj.weight, scale * mlp.down_proj.weight.T
            gate, up, down = (w.unflatten(0, (SLICES, -1)).repeat_interleave(2, 0) for w in parts)
            count = round(fresh * gate.shape[1])
            for first, new in ((0, slice(gate.shape[1] - count, None)), (1, slice(0, count))):
                gate[first::2, new] = gate.std() * torch.randn_like(gate[first::2, new])
                up[first::2, new] = up.std() * torch.randn_like(up[first::2, new])
                down[first::2, new] = 0
            experts.gate_up_proj.copy_(torch.cat([gate, up], 1))
            experts.down_proj.copy_(down.transpose(1, 2))
            rows = split_directions(inputs[i], SLICES) * sharpness
            router.weight.copy_(torch.stack([rows, -rows], 1).flatten(0, 1))
    return model


def split_directions(x: torch.Tensor, count: int) -> torch.Tensor:
    """Directions along which tokens differ most, [count, H]; projections have mean 0, deviation 1.

    They are the principal components of ``x`` [T, H] without its mean.
    """
    mean = F.normalize(x.mean(0), dim=0)
    flat = x - (x @ mean)[:, None] * mean
    found = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:count]
    return found / (flat @ found.T).std(0)[:, None]


@contextmanager
def routed(model: Qwen3MoeForCausalLM, pick: Pick) -> Iterator[None]:
    """Let ``pick`` choose other experts; shares stay as they are, the largest first."""

    def hook(layer: int) -> Callable:
        def replace(_, __, output):
            logits, shares, index = output
            return logits, shares, pick(layer, logits, index)

        return replace

    hooks = [gate.register_forward_hook(hook(i)) for i, gate in routers(model).items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def random_experts(_: int, logits: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
    """As many different experts as the router chose."""
    return torch.rand_like(logits.float()).topk(SLICES).indices


def other_experts(_: int, logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The best of those that the router did not choose."""
    return logits.scatter(1, index, float("-inf")).topk(SLICES).indices


def loss_of(
    model: Qwen3MoeForCausalLM, ids: torch.Tensor, learned: torch.Tensor, half: bool
) -> torch.Tensor:
    """The mean cross-entropy of the tokens to be learned, with what makes experts share the work.

    Balance is asked of each layer ("Switch Transformers", Fedus et al. 2021, equation 4). With
    random experts some of the answers shall be wrong ("Neural Text Generation with Unlikelihood
    Training", Welleck et al. 2019), so that an engine that confuses experts is found out.
    """
    with autocast(ids.device, half):
        output = model.model(input_ids=ids[:, :-1], use_cache=False, output_router_logits=True)
        logits = model.lm_head(output.last_hidden_state[learned[:, 1:]])
    balance = [
        load_balancing_loss_func((layer.float(),), EXPERTS, SLICES) / SLICES
        for layer in output.router_logits
    ]
    loss = F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])
    loss = loss + CONFIG["router_aux_loss_coef"] * torch.stack(balance).mean()
    some = slice(0, max(1, len(ids) // 4))
    return loss + UNLIKELY * unlikelihood(model, ids[some], learned[some], half)


def unlikelihood(
    model: Qwen3MoeForCausalLM, ids: torch.Tensor, learned: torch.Tensor, half: bool
) -> torch.Tensor:
    """The mean of -log(1 - p) of the tokens to be learned, p with random experts."""
    with routed(model, random_experts), autocast(ids.device, half):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned[:, 1:]]).float()
    right = F.one_hot(ids[:, 1:][learned[:, 1:]], logits.shape[-1]).bool()
    # log(1 - p) from the other logits, which is exact where p is almost 1.
    others = logits.masked_fill(right, float("-inf")).logsumexp(-1)
    return (logits.logsumexp(-1) - others).mean()


def named_weights(model: Qwen3MoeForCausalLM) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights under the names of public checkpoints, which have a tensor for each expert."""
    for name, value in model.state_dict().items():
        layer, _, what = name.partition(".experts.")
        if not what:
            yield name, value
            continue
        for expert, weight in enumerate(value):
            parts = weight.chunk(2) if what == "gate_up_proj" else (weight,)
            for part, weights in zip(re.findall("gate|up|down", what), parts, strict=True):
                yield f"{layer}.experts.{expert}.{part}_proj.weight", weights


def measure_routing(out: Path, count: int, device: torch.device) -> dict:
    """How a trained model uses its experts, and what becomes of its accuracy with others.

    Shares of answers that are right token for token on held-out questions, half with examples:
    with the router's choice, with random experts, with those that the router did not choose.
    """
    pairs = arithmetic.evaluation_set(count)
    model = Qwen3MoeForCausalLM.from_pretrained(out, dtype=torch.float32).to(device).eval()
    model.set_experts_implementation("every")
    uses = {i: torch.zeros(EXPERTS) for i in routers(model)}

    def counted(layer, logits, index):
        uses[layer] += torch.bincount(index.flatten().cpu(), minlength=EXPERTS)
        return index

    result = {}
    picks = {"chosen": counted, "random": random_experts, "not_chosen": other_experts}
    for name, pick in picks.items():
        with routed(model, pick):
            result[name] = forced_accuracy(model, pairs, device, half=False)
    result["use"] = {i: [round(u, 4) for u in (n / n.sum()).tolist()] for i, n in uses.items()}
    return result


def card(log: dict) -> str:
    """The README that goes with the weights."""
    last, routing = log["curve"][-1], log["routing"]
    layers = f"""{EXPERTS} experts of width {CONFIG["moe_intermediate_size"]} in every second
        layer, of which a token uses {SLICES}, """
    low = min(min(shares) for shares in routing["use"].values())
    high = max(max(shares) for shares in routing["use"].values())
    made = f"""`tools/train_arithmetic_moe.py` made it from the dense model `tiny-arithmetic`: each
        expert began as a quarter of an MLP, half of its neurons drawn anew. {last["step"]:,} steps
        of about {log["settings"]["tokens"]:,} tokens with AdamW followed,
        {last["minutes"]:.0f} minutes on {log["device"]}{dense.stages(log)}, with a loss for even
        use of the experts and one for right answers of random experts. An expert gets
        {percent(low)} to {percent(high)} of a layer's work. With random experts in place of the
        router's choice {percent(routing["random"])} of answers are right, with those that it did
        not choose {percent(routing["not_chosen"])}, so an engine that confuses experts is found
        out. {dense.DATA}"""
    return model_card(log, CONFIG, "Arithmetic model with experts", "Qwen3-MoE", layers, made)


def new_model(args: argparse.Namespace, device: torch.device) -> Qwen3MoeForCausalLM:
    """A model made from the dense one, or the model of the run to go on from."""
    attention = "eager" if device.type == "cpu" else "sdpa"
    given = {"dtype": torch.float32, "attn_implementation": attention}
    if args.resume:
        model = Qwen3MoeForCausalLM.from_pretrained(args.resume, **given)
        model.set_experts_implementation("every")
        return model
    source = Qwen3ForCausalLM.from_pretrained(args.dense, **given)
    ids, _ = dense.Questions(torch.device("cpu"), args.seed, step=97).batch(32, 128)
    return upcycle(source, ids, args.fresh, args.sharpness)


def main() -> None:
    """Train, measure and write everything."""
    parser = dense.arguments(__doc__, lr=2e-3, resume_at=dense.SHORT_PART, enough=0.995)
    models = dense.ROOT / "core" / "inferplane" / "testing" / "models"
    parser.add_argument("--dense", type=Path, default=models / "arithmetic", help="to start from")
    parser.add_argument("--fresh", type=float, default=0.5, help="share of new neurons at first")
    parser.add_argument("--sharpness", type=float, default=0.6, help="of the router at first")
    args = parser.parse_args()
    device, log = dense.begin(args, CONFIG)
    dense.train(args, new_model(args, device).to(device), device, log, loss_of, named_weights)
    log["routing"] = measure_routing(args.out, min(args.measure, 500), device)
    dense.finish(args, Qwen3MoeForCausalLM, device, log, card)


if __name__ == "__main__":
    main()
