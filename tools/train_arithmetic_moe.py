"""Train the bundled mixture of experts, a tiny Qwen3-MoE that adds and subtracts up to 999.

    python tools/train_arithmetic_moe.py --out core/inferplane/testing/models/arithmetic_moe

It starts from the dense model: every second layer's MLP is cut into slices, each slice becomes a
pair of experts, and a router picks one of each pair, so that what is calculated hardly changes
(after "Sparse Upcycling", Komatsuzaki et al. 2022, https://arxiv.org/abs/2212.05055, and the
slices of "Upcycling Large Language Models into Mixture of Experts", He et al. 2024,
https://arxiv.org/abs/2410.07524). Training with noise and a loss for balance then makes experts
that differ. The options are those of train_arithmetic.py.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
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
    "router_aux_loss_coef": 0.01,
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
    source: Qwen3ForCausalLM, ids: torch.Tensor, noise: float, sharpness: float
) -> Qwen3MoeForCausalLM:
    """A mixture of experts that calculates what a dense model calculates, but for the noise.

    Experts 2s and 2s+1 are slice s of the dense MLP. Their router's rows are opposite, so the best
    half of all experts has one of each slice. ``noise`` is relative to the standard deviation of
    each expert's weights, ``sharpness`` is the standard deviation of the router's logits on
    ``ids``.
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
            gate, up = mlp.gate_proj.weight, mlp.up_proj.weight
            pairs = torch.cat([gate.unflatten(0, (SLICES, -1)), up.unflatten(0, (SLICES, -1))], 1)
            experts.gate_up_proj.copy_(pairs.repeat_interleave(2, 0))
            # Shares sum to one, slices are added.
            down = SLICES * mlp.down_proj.weight.unflatten(1, (SLICES, -1)).transpose(0, 1)
            experts.down_proj.copy_(down.repeat_interleave(2, 0))
            for weight in (experts.gate_up_proj, experts.down_proj):
                weight += noise * weight.std() * torch.randn_like(weight)
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


def loss_of(
    model: Qwen3MoeForCausalLM, ids: torch.Tensor, learned: torch.Tensor, half: bool
) -> torch.Tensor:
    """The mean cross-entropy of the tokens to be learned, and what balances the experts' use.

    Balance is asked of each layer ("Switch Transformers", Fedus et al. 2021, equation 4).
    """
    with autocast(ids.device, half):
        output = model.model(input_ids=ids[:, :-1], use_cache=False, output_router_logits=True)
        logits = model.lm_head(output.last_hidden_state[learned[:, 1:]])
    balance = [
        load_balancing_loss_func((layer.float(),), EXPERTS, SLICES) / SLICES
        for layer in output.router_logits
    ]
    loss = F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])
    return loss + CONFIG["router_aux_loss_coef"] * torch.stack(balance).mean()


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


def routed(model: Qwen3MoeForCausalLM, pick) -> list:
    """Let ``pick`` (layer, logits [T, E], index [T, K]) choose other experts; the hooks to remove.

    Shares stay as they are, the largest first.
    """

    def hook(layer: int):
        def replace(_, __, output):
            logits, shares, index = output
            return logits, shares, pick(layer, logits, index)

        return replace

    return [gate.register_forward_hook(hook(i)) for i, gate in routers(model).items()]


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

    def random(_, logits, index):
        return torch.rand_like(logits).topk(SLICES).indices

    def others(_, logits, index):
        return logits.scatter(1, index, float("-inf")).topk(SLICES).indices

    result = {}
    for name, pick in (("chosen", counted), ("random", random), ("not_chosen", others)):
        hooks = routed(model, pick)
        result[name] = forced_accuracy(model, pairs, device, half=False)
        for hook in hooks:
            hook.remove()
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
        expert began as a quarter of an MLP with noise. {last["step"]:,} steps of about
        {log["settings"]["tokens"]:,} tokens with AdamW and a loss for balance followed,
        {last["minutes"]:.0f} minutes on {log["device"]}. An expert gets {percent(low)} to
        {percent(high)} of a layer's tokens. With random experts instead of the router's choice
        {percent(routing["random"])} of answers are right, with those that the router did not
        choose {percent(routing["not_chosen"])}. {dense.DATA}"""
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
    return upcycle(source, ids, args.noise, args.sharpness)


def main() -> None:
    """Train, measure and write everything."""
    parser = dense.arguments(__doc__, lr=1.5e-3, resume_at=dense.SHORT_PART, enough=0.995)
    models = dense.ROOT / "core" / "inferplane" / "testing" / "models"
    parser.add_argument("--dense", type=Path, default=models / "arithmetic", help="to start from")
    parser.add_argument("--noise", type=float, default=0.5, help="of an expert's weights at first")
    parser.add_argument("--sharpness", type=float, default=0.2, help="of the router at first")
    args = parser.parse_args()
    device, log = dense.begin(args, CONFIG)
    dense.train(args, new_model(args, device).to(device), device, log, loss_of, named_weights)
    log["routing"] = measure_routing(args.out, min(args.measure, 500), device)
    dense.finish(args, Qwen3MoeForCausalLM, device, log, card)


if __name__ == "__main__":
    main()
