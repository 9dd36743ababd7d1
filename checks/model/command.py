"""`python3 workshop.py model FOLDER`: a checkpoint of transformers in INT8, and its card."""

import argparse
import datetime
import importlib.metadata
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from checks.capstone.accuracy import linears
from checks.capstone.training import FOLDER
from checks.files import write_atomically
from checks.model import card as cards
from checks.model import int8, measure
from checks.model.folder import BadModel, Found, expect_room, free_bytes, label, load, look_into, offer_transformers, quiet
from checks.model.made import RANDOM, WRITERS
from checks.model.smooth import NOTHING, Smoothed, smooth_
from kernels.runtime import INTERPRETED

NEW_TOKENS, PROMPT_TOKENS = 48, 64


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="workshop.py model", description="Turn the linear layers of a checkpoint in a local folder to INT8, and "
        "measure what that costs and gains: perplexity with an error bar, SQNR by layer, text, memory and, on a GPU, tokens "
        "per second. Nothing is downloaded.")
    made.add_argument("folder", type=Path, help="folder with config.json, *.safetensors and the tokenizer's files")
    made.add_argument("--text", type=Path, help="text to measure perplexity on (default: the workshop's held-out text)")
    made.add_argument("--skip", nargs="+", default=(), metavar="LAYER", help="linear layers to leave as they are: whole "
                      "names, or last parts such as lm_head")
    made.add_argument("--smooth", type=float, metavar="ALPHA", help="SmoothQuant first, with this α from 0 to 1 (0.5 is "
                      "usual)")
    made.add_argument("--save", type=Path, metavar="FILE", help="write the INT8 model to this safetensors file")
    made.add_argument("--load", type=Path, metavar="FILE", help="take the INT8 weights from a file that --save wrote")
    made.add_argument("--out", type=Path, metavar="DIR", help="write the card into this folder too, as JSON and as text")
    made.add_argument("--write", choices=WRITERS, help="first make the folder: the workshop's own small model, or random "
                      "weights in the shapes of Llama 3.2 1B (2.5 GB)")
    return made


def main(argv: list[str]) -> int:
    commands = parser()
    args = commands.parse_args(argv)
    if args.smooth is not None and not 0 <= args.smooth <= 1:
        commands.error(f"--smooth takes an α from 0 to 1, got {args.smooth}")
    if args.load and (args.skip or args.smooth is not None):
        commands.error("--load takes the layers and the smoothing from the file: leave out --skip and --smooth")
    try:
        card = run(args)
        print("\n" + cards.page(card))
        if args.out:
            print(f"\nwritten to {keep(card, args.out)}")
    except BadModel as error:
        print(f"model: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError as error:
        print(f"model: the GPU's memory is full: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:  # of what is printed
            raise
        print(f"model: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def keep(card: dict[str, Any], folder: Path) -> Path:
    """Write the card into a folder, as JSON and as text; returns the path of the JSON."""
    path = folder / f"{file_name(card)}.json"
    write_atomically(path, json.dumps(card, indent=1) + "\n")
    write_atomically(path.with_suffix(".txt"), cards.page(card) + "\n")
    return path


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that the command does, and its card. Raises BadModel."""
    offer_transformers()
    if args.write:
        write(args.write, args.folder)
    found = look_into(args.folder)
    expect_room(found, free_bytes())
    text, name = read_text(args.text)
    model, tokenizer = load(found)
    rows = measure.windows_of(text, tokenizer, longest(model))
    prefix = len(tokenizer("").input_ids)
    calibration, rows = split(rows, args.smooth)
    print(plan(found, model, args, name, rows))
    twin, smoothed = make_twin(model, calibration, args)
    if args.save:
        int8.save(twin, args.save, {"skip": list(args.skip), "smooth": args.smooth}, smoothed)
        print(f"INT8 model written to {args.save}, {args.save.stat().st_size / 1e9:.3f} GB")
    base = label(found.dtype)
    losses = measured_losses({base: model, "INT8": twin}, rows, prefix)
    prompt = rows[0, :prefix + PROMPT_TOKENS]
    sample = {"prompt": tokenizer.decode(prompt[prefix:]), **{
        side: measure.continuation(each, tokenizer, prompt, NEW_TOKENS) for side, each in ((base, model), ("INT8", twin))}}
    config = model.config
    return {
        "schema": cards.SCHEMA, "model": args.folder.name, "architecture": type(model).__name__,
        "parameters": sum({p.data_ptr(): p.numel() for p in model.parameters()}.values()), "dtype": base,
        "random": (args.folder / RANDOM).exists(), "gpu": None if INTERPRETED else torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(), "torch": torch.__version__, "triton": triton.__version__,
        "transformers": importlib.metadata.version("transformers"), "smooth": args.smooth,
        "left": list(linears(twin)), "text": name, "windows": len(rows), "window": rows.shape[1] - prefix,
        "accuracy": cards.accuracy(losses), "sqnr_db": measure.layers_sqnr_db(model, twin, rows, smoothed), "sample": sample,
        "memory": {base: int8.weight_bytes(model), "INT8": int8.weight_bytes(twin),
                   "cache_bytes_per_token": cache_bytes_per_token(config)},
        "speed": [] if INTERPRETED else measure.speed_rows(
            {base: model, "INT8": twin}, config.vocab_size, longest(model), print),
    }


def write(which: str, folder: Path) -> None:
    """Make a checkpoint in a folder that is not there yet. Raises BadModel."""
    if folder.exists() and any(folder.iterdir()):
        raise BadModel(f"--write makes a new folder, and {folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"making {which} in {folder}")
    quiet()
    WRITERS[which](folder)


def read_text(path: Path | None) -> tuple[str, str]:
    """The text for perplexity, and what the card calls it. Raises BadModel."""
    if path is None:
        return (FOLDER / "held_out.txt").read_text(), "the workshop's held-out text"
    try:
        return path.read_text(encoding="utf-8"), path.name
    except (OSError, UnicodeDecodeError) as error:
        raise BadModel(f"--text {path} cannot be read as UTF-8 text: {error}") from None


def longest(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or measure.WINDOW)


def split(rows: torch.Tensor, smooth: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows to calibrate on, none without smoothing, and those to measure on. Raises BadModel."""
    count = measure.CALIBRATION_WINDOWS if smooth is not None else 0
    if len(rows) < count + 2:
        raise BadModel(f"the text has {len(rows)} windows; --smooth takes {count} to calibrate on, and measures on the "
                       "others, two at least: give a longer one with --text")
    return rows[:count], rows[count:count + measure.MOST_WINDOWS]


def plan(found: Found, model: Any, args: argparse.Namespace, text: str, rows: torch.Tensor) -> str:
    """What the command is going to do."""
    base = label(found.dtype)
    layers = {name: linear for name, linear in linears(model).items()
              if not any(name == part or name.endswith("." + part) for part in args.skip)}
    weights = sum(linear.weight.numel() for linear in layers.values())
    tied = model.get_output_embeddings() is not None and (
        model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr())
    without = f", without {', '.join(args.skip)}" if args.skip else ""
    lines = [f"{args.folder}: {type(model).__name__}, {len(found.shards)} file(s) of {found.stored}, loaded in {base}",
             f"to INT8: {len(layers)} linear layers, {weights:,} weights{without}",
             f"stays {base}: embeddings, norms, attention itself, the cache"]
    if tied and "lm_head" not in args.skip:
        lines.append("lm_head shares its weight with the embedding: the embedding keeps it, lm_head gets codes beside it")
    if args.smooth is not None:
        lines.append(f"SmoothQuant, α = {args.smooth}: calibrated on {measure.CALIBRATION_WINDOWS} windows of their own")
    lines.append(f"perplexity: {len(rows)} windows of {text}")
    lines.append("speed: needs a GPU, left out here" if INTERPRETED else
                 f"speed: batch {', '.join(map(str, measure.BATCHES))}; {' and '.join(measure.MODES)}; some minutes")
    return "\n".join(lines)


def make_twin(model: Any, calibration: torch.Tensor, args: argparse.Namespace) -> tuple[Any, Smoothed]:
    """The INT8 model beside `model`, and how it was smoothed."""
    if args.load:
        return int8.load(model, args.load)
    twin, smoothed = int8.twin_of(model), NOTHING
    if args.smooth is not None:
        smoothed = smooth_(twin, calibration, args.smooth)
        print(f"smoothed: the inputs of {len(smoothed.inputs)} layers; as they were: {', '.join(smoothed.left) or 'none'}")
    return int8.quantize_(twin, args.skip), smoothed


def measured_losses(sides: dict[str, Any], rows: torch.Tensor, prefix: int) -> dict[str, list[float]]:
    """Each side's losses, window by window, with a bar that says how long it takes."""
    columns = TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    losses: dict[str, list[float]] = {}
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        for name, side in sides.items():
            task = progress.add_task(f"perplexity, {name}", total=len(rows))
            losses[name] = measure.window_losses(side, rows, prefix, partial(progress.advance, task))
    return losses


def cache_bytes_per_token(config: Any) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * 2)


def file_name(card: dict[str, Any]) -> str:
    """nvidia_h200_llama_3_2_1b."""
    return "".join(c if c.isalnum() else "_" for c in f"{card['gpu'] or 'cpu'} {card['model']}".lower())
