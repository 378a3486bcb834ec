"""Train the bundled arithmetic model, a tiny Qwen3 that adds and subtracts up to 999.

    python tools/train_arithmetic.py --out core/inferplane/testing/models/arithmetic

Needs torch, transformers, tokenizers and safetensors. Works on a CPU (an hour or two on a few
cores) and on a CUDA device (minutes). Without ``--steps`` the learning rate follows the clock, so
two runs differ; with ``--steps`` a run on the same machine and versions repeats. A run that broke
off goes on from its best checkpoint with ``--resume``, with a new optimizer state.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core"), str(ROOT / "tools")]

from arithmetic_accuracy import autocast, final_accuracy, forced_accuracy  # noqa: E402
from arithmetic_files import (  # noqa: E402
    CONTEXT,
    EOS,
    model_card,
    write_json,
    write_settings,
)

from inferplane.testing import arithmetic  # noqa: E402

LONGEST_QUESTION = len("999+999=1998\n")
# Row lengths and how often a step uses each: from one example and an end of text to a full context.
# The long rows join after the first part of training.
SHORT_ROWS = {14: 25, 27: 20, 53: 25, 128: 30}
LONG_ROWS = {256: 15, 512: 15, CONTEXT: 20}
SHORT_PART = 0.4
DATA = f"""The data are random questions, in rows of {min(SHORT_ROWS)} to {max(LONG_ROWS)} tokens;
        only answers are learned."""

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "initializer_range": 0.02,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
    "torch_dtype": "bfloat16",
}


class Questions:
    """All training questions as tensors, and batches drawn from them on the device."""

    def __init__(self, device: torch.device, seed: int, step: int = 1) -> None:
        """Tabulate every question, or every so many of them, that is not held out."""
        ranges = arithmetic.RANGES
        digits = [sum(n > high for _, high in ranges) for n in range(arithmetic.LARGEST + 1)]
        groups: dict[tuple[int, int], list[arithmetic.Question]] = {
            pair: [] for pair in itertools.product(range(len(ranges)), repeat=2)
        }
        for question in itertools.islice(arithmetic.every_question(), 0, None, step):
            if not arithmetic.held_out(question):
                groups[digits[question.a], digits[question.b]].append(question)
        weights = torch.tensor(arithmetic.TRAINING_WEIGHTS, dtype=torch.float)
        self.weights = torch.outer(weights, weights).flatten().to(device)
        self.counts = torch.tensor([len(g) for g in groups.values()], device=device)
        self.starts = self.counts.cumsum(0) - self.counts
        table, asked = bytearray(), []
        for question in itertools.chain(*groups.values()):
            table += question.solved.encode().ljust(LONGEST_QUESTION, b"\0")
            asked.append(len(question.text))
        flat = torch.frombuffer(table, dtype=torch.uint8)
        self.tokens = flat.view(-1, LONGEST_QUESTION).to(device)
        self.asked = torch.tensor(asked, dtype=torch.uint8, device=device)
        self.lengths = (self.tokens > 0).sum(1)
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def draw(self, count: int) -> torch.Tensor:
        """The places of this many questions, drawn as ``arithmetic.sample`` draws them."""
        g = self.generator
        group = torch.multinomial(self.weights, count, replacement=True, generator=g)
        part = torch.rand(count, generator=g, device=self.device, dtype=torch.float64)
        return self.starts[group] + (part * self.counts[group]).long()

    def batch(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows with as many solved examples as fit and an end of text, and what is to be learned.

        To be learned are the answers with their newlines and the end of text.
        """
        most = length // 9
        places = self.draw(rows * most).view(rows, most)
        lengths = self.lengths[places]
        ends = lengths.cumsum(1)
        keep = ends < length
        offsets = torch.arange(LONGEST_QUESTION, device=self.device)
        row_starts = torch.arange(rows, device=self.device)[:, None] * length
        at = (row_starts + ends - lengths)[..., None] + offsets
        used = keep[..., None] & (offsets < lengths[..., None])
        ids = torch.full((rows * length,), EOS, device=self.device)
        ids[at[used]] = self.tokens[places][used].long()
        learned = torch.zeros(rows * length, dtype=torch.bool, device=self.device)
        learned[at[used & (offsets >= self.asked[places][..., None])]] = True
        learned[row_starts[:, 0] + (lengths * keep).sum(1)] = True
        return ids.view(rows, length), learned.view(rows, length)


def loss_of(
    model: PreTrainedModel, ids: torch.Tensor, learned: torch.Tensor, half: bool
) -> torch.Tensor:
    """The mean cross-entropy of the tokens to be learned."""
    with autocast(ids.device, half):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned[:, 1:]])
    return F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])


Named = Iterable[tuple[str, torch.Tensor]]


def named_weights(model: PreTrainedModel) -> Named:
    """The weights under the names they have in a file."""
    return model.state_dict().items()


def save_weights(weights: Named, out: Path) -> None:
    """Write the weights in bfloat16; the output layer shares the embedding."""
    weights = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in weights
        if name != "lm_head.weight"
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def learning_rate(progress: float, step: int, warmup: int, peak: float) -> float:
    """Linear warm-up by steps, then a cosine down to a hundredth of the peak."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, (step + 1) / warmup) * cosine


def resume_log(folder: Path, log: dict) -> None:
    """Take over another run's log up to when it saved its weights."""
    earlier = json.loads((folder / "train_log.json").read_text(encoding="utf-8"))
    log["earlier_settings"] = [*earlier["earlier_settings"], earlier["settings"]]
    last = max(i for i, point in enumerate(earlier["curve"]) if point["saved"])
    log["curve"] = earlier["curve"][: last + 1]


def new_model(args: argparse.Namespace, device: torch.device) -> Qwen3ForCausalLM:
    """A model with random weights, or with those of the run to go on from."""
    # On a CPU plain attention is the faster one for short rows.
    attention = "eager" if device.type == "cpu" else "sdpa"
    if args.resume:
        return Qwen3ForCausalLM.from_pretrained(
            args.resume, dtype=torch.float32, attn_implementation=attention
        )
    config = Qwen3Config(**{**CONFIG, "torch_dtype": "float32"})
    config._attn_implementation = attention
    return Qwen3ForCausalLM(config)


def train(
    args: argparse.Namespace,
    model: PreTrainedModel,
    device: torch.device,
    log: dict,
    loss_of: Callable[..., torch.Tensor] = loss_of,
    named_weights: Callable[..., Named] = named_weights,
) -> None:
    """Train, keep the best checkpoint and the log in ``args.out``."""
    out: Path = args.out
    before = log["curve"][-1] if log["curve"] else {"step": 0, "tokens": 0, "minutes": 0.0}
    log["parameters"] = sum(p.numel() for p in model.parameters())
    questions = Questions(device, args.seed)
    print(f"{log['parameters']} parameters, {len(questions.tokens)} training questions", flush=True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": args.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=args.lr,
        betas=(0.9, 0.98),
    )
    # Another seed than the final measurement's, so that this choice does not flatter it.
    pairs = arithmetic.evaluation_set(args.check, seed=args.seed + 1000)
    rng = random.Random(args.seed)
    best = (-1.0, 0.0)
    tokens = step = 0
    running = torch.zeros((), device=device)
    since = 0
    start = time.monotonic()
    while True:
        minutes = (time.monotonic() - start) / 60
        share = step / args.steps if args.steps else minutes / args.minutes
        done = share >= 1 or minutes >= args.minutes
        progress = args.resume_at + (1 - args.resume_at) * share
        if done or (step and step % args.every == 0):
            model.eval()
            zero = forced_accuracy(model, pairs[0::2], device, half=args.half)
            few = forced_accuracy(model, pairs[1::2], device, half=args.half)
            model.train()
            loss = float(running) / max(since, 1)
            running.zero_()
            since = 0
            score = (min(zero, few, args.enough), -loss)
            point = {
                "step": before["step"] + step,
                "tokens": before["tokens"] + tokens,
                "minutes": round(before["minutes"] + minutes, 2),
                "loss": round(loss, 5),
                "zero_shot": zero,
                "few_shot": few,
                "saved": score >= best,
            }
            print(json.dumps(point), flush=True)
            if point["saved"]:
                best = score
                save_weights(named_weights(model), out)
            log["curve"].append(point)
            write_json(out / "train_log.json", log)
        if done:
            break
        mix = SHORT_ROWS if progress < SHORT_PART else SHORT_ROWS | LONG_ROWS
        length = rng.choices(list(mix), list(mix.values()))[0]
        ids, learned = questions.batch(max(1, args.tokens // length), length)
        loss = loss_of(model, ids, learned, args.half)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, step, args.warmup, args.lr)
        optimizer.step()
        running += loss.detach()
        since += 1
        step += 1
        tokens += ids.numel()


def device_name(device: torch.device) -> str:
    """What the training ran on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    n = torch.get_num_threads()
    return f"a CPU ({platform.machine()}, {n} thread{'s' * (n > 1)})"


def stages(log: dict) -> str:
    """How often a training was resumed, in words."""
    earlier = len(log["earlier_settings"])
    return f", resumed {earlier} time{'s' * (earlier > 1)}" if earlier else ""


def card(log: dict) -> str:
    """The README that goes with the weights."""
    last = log["curve"][-1]
    made = f"""`tools/train_arithmetic.py` made it from random weights: {last["step"]:,} steps
        of about {log["settings"]["tokens"]:,} tokens with AdamW, {last["minutes"]:.0f} minutes on
        {log["device"]}{stages(log)}. {DATA}"""
    return model_card(log, CONFIG, "Arithmetic model", "Qwen3", "", made)


def arguments(about: str, **defaults: object) -> argparse.ArgumentParser:
    """The command line of a training, with its own defaults."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--minutes", type=float, default=60.0, help="longest training time")
    parser.add_argument("--steps", type=int, help="steps to train, for a run that repeats")
    parser.add_argument("--resume", type=Path, help="folder with weights to go on from")
    parser.add_argument(
        "--resume-at", type=float, default=0.0, help="part of the schedule that is done, 0 to 1"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, help="tokens in a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=int, default=200, help="steps to the highest rate")
    parser.add_argument("--every", type=int, default=500, help="steps between checks")
    parser.add_argument("--check", type=int, default=400, help="questions in a check")
    parser.add_argument(
        "--enough", type=float, default=1.0, help="accuracy from which the loss tells what is best"
    )
    parser.add_argument("--measure", type=int, default=4000, help="questions at the end")
    parser.add_argument("--fp32", action="store_true", help="train without bfloat16")
    parser.set_defaults(**defaults)
    return parser


def begin(args: argparse.Namespace, config: dict) -> tuple[torch.device, dict]:
    """Fill in the arguments, write the settings, and start the log."""
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.manual_seed(args.seed)
    args.tokens = args.tokens or (131072 if name == "cuda" else 2048)
    args.half = not args.fp32
    args.out.mkdir(parents=True, exist_ok=True)
    write_settings(args.out, config)
    settings = {
        k: v
        for k, v in vars(args).items()
        if k not in ("device", "resume") and not isinstance(v, Path)
    }
    log = {
        "settings": settings | {"betas": [0.9, 0.98], "gradient_norm": 1.0},
        "earlier_settings": [],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "device": device_name(device),
        "questions": 2 * (arithmetic.LARGEST + 1) ** 2,
        "held_out_questions": sum(map(arithmetic.held_out, arithmetic.every_question())),
        "curve": [],
    }
    if args.resume:
        resume_log(args.resume, log)
    return device, log


def finish(
    args: argparse.Namespace,
    kind: type[PreTrainedModel],
    device: torch.device,
    log: dict,
    card: Callable[[dict], str],
) -> None:
    """Measure what was trained, and complete the log and the card."""
    log["measured_on"] = args.measure
    log["accuracy"] = final_accuracy(kind, args.out, args.measure, device)
    write_json(args.out / "train_log.json", log)
    (args.out / "README.md").write_text(card(log), encoding="utf-8")
    print(json.dumps(log["accuracy"]), flush=True)


def main() -> None:
    """Train, measure and write everything."""
    args = arguments(__doc__).parse_args()
    device, log = begin(args, CONFIG)
    train(args, new_model(args, device).to(device), device, log)
    finish(args, Qwen3ForCausalLM, device, log, card)


if __name__ == "__main__":
    main()
