"""The small language model of lesson 10: its text, its training, its weights. All of it lies in results/transformer/.

The model reads bytes and is trained on the workshop's own prose and source. The text is frozen beside the weights, so
that it stays what the weights were trained on while the lessons change. Whole documents are held out, never parts: the
rest of a document would give its words away.
"""

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from checks.capstone.waiting import Bar
from checks.files import replacing, write_atomically
from checks.paths import ROOT
from kernels.runtime import device
from kernels.transformer import Config, Transformer

FOLDER = ROOT / "results" / "transformer"
HELD_OUT = ("lessons/02_gemm_fp16.ipynb", "kernels/fused.py", "kernels/gemv_int8.py")
CONFIG = Config(vocabulary=256, layers=4, dim=128, heads=4, kv_heads=2, hidden=384)
CONTEXT = 128  # tokens that the model is trained to look at


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the model is trained: AdamW, the learning rate rising for a twentieth of the steps, then down along a cosine."""

    steps: int = 1500
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.1
    seed: int = 0


def documents() -> dict[str, str]:
    """What the workshop has to read, by file: the README, the prose of the lessons, and the source."""
    found = {"README.md": (ROOT / "README.md").read_text()}
    for path in sorted((ROOT / "lessons").glob("[0-9]*.ipynb")):  # without their code, most of which stands in kernels/ too
        cells = json.loads(path.read_text())["cells"]
        prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[str(path.relative_to(ROOT))] = "\n\n".join(prose) + "\n"
    for path in sorted([*(ROOT / "kernels").rglob("*.py"), *(ROOT / "checks").rglob("*.py")]):
        found[str(path.relative_to(ROOT))] = path.read_text()
    return found


def freeze_text(folder: Path = FOLDER) -> None:
    """Write the documents as they are now into train.txt and held_out.txt."""
    found = documents()
    missing = set(HELD_OUT) - set(found)
    if missing:
        raise FileNotFoundError(f"documents to hold out are not there: {sorted(missing)}")
    for name in ("train", "held_out"):
        parts = [text for document, text in found.items() if (document in HELD_OUT) == (name == "held_out")]
        write_atomically(folder / f"{name}.txt", "\n".join(parts))


def tokens_of(name: str, folder: Path = FOLDER) -> torch.Tensor:
    """The bytes of the frozen text "train" or "held_out", (length,) int64."""
    return torch.frombuffer(bytearray((folder / f"{name}.txt").read_bytes()), dtype=torch.uint8).long()


def windows(tokens: torch.Tensor, length: int = CONTEXT) -> torch.Tensor:
    """tokens (n,) cut into rows of `length`, of which each begins with the last token of the one before."""
    return tokens.unfold(0, length, length - 1)


def train(train_tokens: torch.Tensor, recipe: Recipe, say: Callable[[str], None] = print,
          config: Config = CONFIG) -> tuple[Transformer, list[tuple[int, float]]]:
    """A model trained on the tokens, and its loss in nats per token at some of the steps. The same seed, threads and
    versions give the same weights."""
    torch.manual_seed(recipe.seed)
    model = Transformer(config).train()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:  # what a block adds to x starts small, as in GPT-2
                torch.nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * config.layers) if name.endswith(("o.weight",
                                                                                                  "down.weight")) else 1))
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": recipe.weight_decay},
                                   {"params": vectors, "weight_decay": 0.0}], lr=recipe.learning_rate, betas=(0.9, 0.95))
    warmup = max(1, recipe.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warmup, 0.05 + 0.475 * (1 + math.cos(math.pi * step / recipe.steps))))
    handles = [module.register_forward_hook(lambda _, __, y: F.dropout(y, recipe.dropout)) for name, module in
               model.named_modules() if name == "embedding" or name.endswith(("attention", "mlp"))]
    losses, started = [], time.monotonic()
    for step in range(recipe.steps):
        first = torch.randint(len(train_tokens) - CONTEXT, (recipe.batch,))
        rows = train_tokens[first[:, None] + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, recipe.steps // 20) == 0 or step == recipe.steps - 1:
            losses.append((step, round(loss.item(), 4)))
            say(f"step {step:5} of {recipe.steps}: loss {loss.item():.3f} nats a byte, {time.monotonic() - started:.0f} s")
    for handle in handles:
        handle.remove()
    return model.eval(), losses


def save(model: Transformer, path: Path) -> None:
    """Write the weights in FP16, with the config in the file's header; whole or not at all."""
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    with replacing(path) as draft:
        save_file(weights, draft, {"config": json.dumps(dataclasses.asdict(model.config))})


def load(path: Path = FOLDER / "model.safetensors") -> Transformer:
    """The trained model in FP16, for inference, where the kernels run."""
    if not path.exists():
        raise FileNotFoundError(f"there are no trained weights at {path}: run `python3 workshop.py train`")
    with safe_open(path, "pt") as file:
        config = Config(**json.loads(file.metadata()["config"]))
    model = Transformer(config).half()
    model.load_state_dict(load_file(path))
    return model.to(device()).eval().requires_grad_(False)


@torch.no_grad()
def continuation(model: Transformer, prompt: str, length: int = 160, seed: int = 0) -> str:
    """The prompt and `length` bytes more, each drawn from what the model thinks of the next."""
    model = copy.deepcopy(model).float()  # in which a CPU is several times as fast as in FP16
    generator = torch.Generator().manual_seed(seed)
    tokens = list(prompt.encode())
    bar = Bar("bytes", length)
    for _ in range(length):
        logits = model(torch.tensor(tokens[-CONTEXT:], device=device())[None])[0, -1].cpu()
        tokens.append(int(torch.multinomial((logits / 0.7).softmax(dim=0), 1, generator=generator)))
        bar.advance()
    return bytes(tokens).decode(errors="replace")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="workshop.py train", description="Train the small model of lesson 10 on the frozen text (about five minutes on "
        "two cores) and write its weights to results/transformer/. Then measure it: workshop.py accuracy.")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the text and the weights")
    parser.add_argument("--freeze-text", action="store_true", help="first take the text from the documents as they are now")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f"--steps must be at least 1, got {args.steps}")
    if args.freeze_text:
        freeze_text(args.out)
    if not (args.out / "train.txt").exists():
        parser.error(f"there is no text in {args.out}: add --freeze-text")
    recipe, started = Recipe(steps=args.steps), time.process_time()
    tokens = tokens_of("train", args.out)
    model, losses = train(tokens, recipe)
    save(model, args.out / "model.safetensors")
    record = {"recipe": dataclasses.asdict(recipe), "config": dataclasses.asdict(CONFIG), "context": CONTEXT,
              "parameters": sum(weight.numel() for weight in model.parameters()), "train_bytes": len(tokens),
              "held_out": HELD_OUT, "torch": torch.__version__, "threads": torch.get_num_threads(),
              "core_minutes": round((time.process_time() - started) / 60, 1), "loss": losses}
    write_atomically(args.out / "training.json", json.dumps(record, indent=1) + "\n")
    print(f"written to {args.out}")
    return 0
