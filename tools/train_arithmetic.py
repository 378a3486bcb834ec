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
import textwrap
import time
from pathlib import Path

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "core"))

from inferplane.testing import arithmetic  # noqa: E402

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS = 256
NEWLINE = ord("\n")
LONGEST_QUESTION = len("999+999=1998\n")
CONTEXT = 1024
# Row lengths and how often a step uses each: from one example and an end of text to a full context.
# The long rows join after the first part of training.
SHORT_ROWS = {14: 25, 27: 20, 53: 25, 128: 30}
LONG_ROWS = {256: 15, 512: 15, CONTEXT: 20}
SHORT_PART = 0.4

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

# A user's message is a question and the assistant's reply its answer.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set text = message['content'] | trim -%}
{%- if message['role'] == 'user' -%}
{%- if text[-1:] == '=' -%}{%- set text = text[:-1] | trim -%}{%- endif -%}
{{- text + '=' -}}
{%- elif message['role'] == 'assistant' -%}
{{- text + '\\n' -}}
{%- endif -%}
{%- endfor -%}
"""


def byte_symbols() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in symbols)
    symbols.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [symbols[byte] for byte in range(256)]


def build_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer without merges: a token's number is its byte."""
    vocab = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS]
    )
    return tokenizer


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that reads well in a diff."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_settings(out: Path) -> None:
    """Write everything but the weights, the log and the card."""
    write_json(out / "config.json", CONFIG)
    write_json(
        out / "generation_config.json",
        {"do_sample": False, "eos_token_id": [EOS, NEWLINE], "pad_token_id": EOS},
    )
    build_tokenizer().save(str(out / "tokenizer.json"))
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT,
            "add_bos_token": False,
            "bos_token": None,
            "eos_token": SPECIAL_TOKENS[0],
            "pad_token": SPECIAL_TOKENS[0],
            "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


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


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """Calculate in bfloat16 where that is safe."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def loss_of(
    model: Qwen3ForCausalLM, ids: torch.Tensor, learned: torch.Tensor, half: bool
) -> torch.Tensor:
    """The mean cross-entropy of the tokens to be learned."""
    with autocast(ids.device, half):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learned[:, 1:]])
    return F.cross_entropy(logits.float(), ids[:, 1:][learned[:, 1:]])


def by_length(pairs: list[tuple[str, str]], size: int) -> list[list[tuple[str, str]]]:
    """Prompts in batches of one length each, so that no padding is needed."""
    batches = []
    for _, same in itertools.groupby(sorted(pairs, key=lambda p: len(p[0])), lambda p: len(p[0])):
        group = list(same)
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


@torch.inference_mode()
def forced_accuracy(
    model: Qwen3ForCausalLM, pairs: list[tuple[str, str]], device: torch.device, half: bool
) -> float:
    """The share of answers of which every token is the likeliest one, given those before it."""
    right = 0
    rows = sorted((p + a + "\n", len(p)) for p, a in pairs)
    rows.sort(key=lambda row: len(row[0]))
    for i in range(0, len(rows), 128):
        part = rows[i : i + 128]
        width = max(len(text) for text, _ in part)
        ids = torch.full((len(part), width), EOS)
        learned = torch.zeros(len(part), width, dtype=torch.bool)
        for row, (text, asked) in enumerate(part):
            ids[row, : len(text)] = torch.tensor(list(text.encode()))
            learned[row, asked : len(text)] = True
        ids, learned = ids.to(device), learned.to(device)
        with autocast(device, half):
            best = model(input_ids=ids[:, :-1], use_cache=False).logits.argmax(-1)
        wrong = (best != ids[:, 1:]) & learned[:, 1:]
        right += int((~wrong.any(1)).sum())
    return right / len(pairs)


@torch.inference_mode()
def generated_accuracy(
    model: Qwen3ForCausalLM, pairs: list[tuple[str, str]], device: torch.device
) -> float:
    """The share of prompts that greedy generation completes with the right answer."""
    right = 0
    for group in by_length(pairs, 64):
        ids = torch.tensor([list(prompt.encode()) for prompt, _ in group], device=device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=[EOS, NEWLINE],
            pad_token_id=EOS,
        )
        for (_, answer), tokens in zip(group, output[:, ids.shape[1] :].tolist(), strict=True):
            text = bytes(t for t in tokens if t < 256).decode(errors="replace")
            right += "\n" in text and arithmetic.is_right(text, answer)
    return right / len(pairs)


def final_accuracy(out: Path, count: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Load what was written and measure it on held-out questions, in two precisions."""
    pairs = arithmetic.evaluation_set(count)
    result = {}
    for dtype in (torch.bfloat16, torch.float32):
        model = Qwen3ForCausalLM.from_pretrained(out, dtype=dtype).to(device).eval()
        result[str(dtype).removeprefix("torch.")] = {
            "zero_shot": generated_accuracy(model, pairs[0::2], device),
            "few_shot": generated_accuracy(model, pairs[1::2], device),
        }
    return result


def save_weights(model: Qwen3ForCausalLM, out: Path) -> None:
    """Write the weights in bfloat16; the output layer shares the embedding."""
    weights = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def learning_rate(progress: float, step: int, warmup: int, peak: float) -> float:
    """Linear warm-up by steps, then a cosine down to a hundredth of the peak."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, (step + 1) / warmup) * cosine


def resume(model: Qwen3ForCausalLM, folder: Path, log: dict) -> None:
    """Take over another run's weights, and its log up to when it saved them."""
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    earlier = json.loads((folder / "train_log.json").read_text(encoding="utf-8"))
    log["earlier_settings"] = [*earlier["earlier_settings"], earlier["settings"]]
    last = max(i for i, point in enumerate(earlier["curve"]) if point["saved"])
    log["curve"] = earlier["curve"][: last + 1]


def train(args: argparse.Namespace, device: torch.device, out: Path, log: dict) -> None:
    """Train, keep the best checkpoint and the log in ``out``."""
    torch.manual_seed(args.seed)
    # On a CPU plain attention is the faster one for short rows.
    config = Qwen3Config(**{**CONFIG, "torch_dtype": "float32"})
    config._attn_implementation = "eager" if device.type == "cpu" else "sdpa"
    model = Qwen3ForCausalLM(config).to(device)
    if args.resume:
        resume(model, args.resume, log)
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
            score = (min(zero, few), -loss)
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
                save_weights(model, out)
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


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.2f} %"


def model_card(log: dict) -> str:
    """The README that goes with the weights."""
    c, low, high = CONFIG, *arithmetic.FEW_SHOT
    last, earlier = log["curve"][-1], len(log["earlier_settings"])
    stages = f", resumed {earlier} time{'s' * (earlier > 1)}" if earlier else ""
    about = f"""A tiny Qwen3 checkpoint that adds and subtracts whole numbers from 0 to
        {arithmetic.LARGEST}. It reads `12+345=` and writes `357` and a newline. Solved lines may
        come before the question, up to {CONTEXT} tokens in all. It exists to test inference
        engines: it is small enough to ship and to run on any machine, and its answers are right or
        wrong. It can do nothing else."""
    shape = f"""- Architecture: Qwen3 with {log["parameters"]:,} parameters in bfloat16:
        {c["num_hidden_layers"]} layers, hidden size {c["hidden_size"]},
        {c["num_attention_heads"]} query heads and {c["num_key_value_heads"]} key/value heads of
        size {c["head_dim"]}, tied embeddings."""
    tokens = f"- Tokenizer: one token per byte, plus `{'`, `'.join(SPECIAL_TOKENS)}`."
    chat = """- Chat template: a user's message is a question, the assistant's reply its answer;
        system messages are ignored. Generation stops at a newline or at the end of text."""
    training = f"""`tools/train_arithmetic.py` made it from random weights: {last["step"]:,} steps
        of about {log["settings"]["tokens"]:,} tokens with AdamW, {last["minutes"]:.0f} minutes on
        {log["device"]}{stages}. The data are random questions, in rows of {min(SHORT_ROWS)} to
        {max(LONG_ROWS)} tokens; only answers are learned. {log["held_out_questions"]:,} of the
        {log["questions"]:,} questions, chosen by a hash (`inferplane.testing.arithmetic.held_out`),
        never occur in training. `train_log.json` has the settings, versions and curve."""
    accuracy = f"""Greedy generation on {log["measured_on"]:,} held-out questions, half of them
        without examples, half after {low} to {high} solved ones:"""
    table = [f"| precision | no examples | {low} to {high} examples |", "| --- | --- | --- |"]
    for precision, share in log["accuracy"].items():
        zero, few = percent(share["zero_shot"]), percent(share["few_shot"])
        table.append(f"| {precision} | {zero} | {few} |")
    return "\n\n".join(
        [
            "# Arithmetic model",
            wrap(about),
            "\n".join([wrap(shape), wrap(tokens), wrap(chat)]),
            "## Training",
            wrap(training),
            "## Accuracy",
            wrap(accuracy),
            "\n".join(table),
            "## Licence",
            "Apache-2.0.\n",
        ]
    )


def wrap(paragraph: str) -> str:
    """Fill a paragraph or a list item."""
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(" ".join(paragraph.split()), 88, subsequent_indent=indent)


def device_name(device: torch.device) -> str:
    """What the training ran on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"a CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    parser.add_argument("--measure", type=int, default=4000, help="questions at the end")
    parser.add_argument("--fp32", action="store_true", help="train without bfloat16")
    return parser.parse_args()


def main() -> None:
    """Train, measure and write everything."""
    args = parse_arguments()
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    args.tokens = args.tokens or (131072 if name == "cuda" else 2048)
    args.half = not args.fp32
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    write_settings(out)
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "device", "resume")}
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
    train(args, device, out, log)
    finish(args, device, out, log)


def finish(args: argparse.Namespace, device: torch.device, out: Path, log: dict) -> None:
    """Measure what was trained, and complete the log and the card."""
    log["measured_on"] = args.measure
    log["accuracy"] = final_accuracy(out, args.measure, device)
    write_json(out / "train_log.json", log)
    (out / "README.md").write_text(model_card(log), encoding="utf-8")
    print(json.dumps(log["accuracy"]), flush=True)


if __name__ == "__main__":
    main()
