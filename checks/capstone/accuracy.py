"""What quantization costs the trained model: its perplexity on the held-out text, measured for each way to quantize.

    python3 workshop.py accuracy

measures all of it and writes results/transformer/accuracy.json, which the lesson and the README quote.
"""

import argparse
import copy
import dataclasses
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from checks.capstone.training import FOLDER, load, tokens_of, windows
from checks.capstone.waiting import Bar
from checks.files import write_atomically
from kernels.error import sqnr_db
from kernels.runtime import device
from kernels.serving import paired_difference
from kernels.transformer import Transformer, perplexity

RECORD = FOLDER / "accuracy.json"
OUTLIERS = (1, 4, 16, 64)


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A way to quantize weights and activations: codes from -(2^(bits-1) - 1) up, a scale per "row" or "tensor"."""

    bits: int = 8
    per: str = "row"
    truncate: bool = False

    @property
    def name(self) -> str:
        return f"INT{self.bits} per {self.per}" + (", truncated" if self.truncate else "")

    @property
    def largest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def codes(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole numbers in float32 and scales (M,), for x (M, K); with 8 bits per row, rounded, those of the kernels."""
        x = x.float()
        amax = x.abs().amax(dim=1) if self.per == "row" else x.abs().amax().expand(len(x))
        scale = amax / self.largest
        quotient = torch.where(scale[:, None] > 0, x / scale[:, None], 0)
        return quotient.trunc() if self.truncate else quotient.round(), scale


class SimulatedLinear(torch.nn.Module):
    """A linear layer whose weights and activations are quantized by a scheme, its sums exact as those of the kernels."""

    def __init__(self, linear: torch.nn.Linear, scheme: Scheme):
        super().__init__()
        self.scheme = scheme
        self.w_q, self.w_scale = scheme.codes(linear.weight.detach())
        self.exact = torch.float32 if linear.in_features * scheme.largest**2 <= 2**24 else torch.float64

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_q, x_scale = self.scheme.codes(x.reshape(-1, x.shape[-1]))
        acc = x_q.to(self.exact) @ self.w_q.to(self.exact).T
        return (acc.float() * x_scale[:, None] * self.w_scale).to(x.dtype).reshape(*x.shape[:-1], -1)


def linears(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear layers of a model by name, in order."""
    return {name: module for name, module in model.named_modules() if type(module) is torch.nn.Linear}


def with_linears(model: torch.nn.Module, replace: Callable[[torch.nn.Linear], torch.nn.Module], only=None):
    """A copy of the model, or of a part of it, with replace(linear) in the place of each linear layer, or of those in
    `only`, by name."""
    model = copy.deepcopy(model)
    for name, linear in linears(model).items():
        if only is None or name in only:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, replace(linear))
    return model


def simulated(model: Transformer, scheme: Scheme, only=None) -> Transformer:
    return with_linears(model, lambda linear: SimulatedLinear(linear, scheme), only)


_remembered: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple[Any, ...], torch.Tensor]] = weakref.WeakKeyDictionary()


@torch.no_grad()
def logits_of(model: Transformer, scheme: Scheme | None, rows: torch.Tensor) -> torch.Tensor:
    """What the model computes of rows of tokens (B, T), its linear layers quantized by a scheme or as they are.

    Kept as long as the model, for each of its weights' states: a notebook asks for the same in several cells.
    """
    state = tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters())
    key = scheme, rows.shape, tuple(rows.flatten().tolist()), state
    known = _remembered.setdefault(model, {})
    if key not in known:
        known[key] = (model if scheme is None else simulated(model, scheme))(rows)
    return known[key]


@torch.no_grad()
def perplexity_of(model: torch.nn.Module, rows: torch.Tensor) -> float:
    """Perplexity of the model on rows of tokens (B, T)."""
    rows = rows.to(device())
    return perplexity(torch.cat([model(part) for part in rows.split(64)]), rows)


def cost_percent(quantized: float, baseline: float) -> float:
    """By how many percent a perplexity is above another."""
    return 100 * (quantized / baseline - 1)


def standard_error_percent(quantized: list[float], baseline: list[float]) -> float:
    """The standard error of `cost_percent`, from the two perplexities of each of n pieces of text of one length.

    The loss of a piece is the logarithm of its perplexity, and the cost, while it is small, is the mean of the n differences
    of losses: it varies by their standard deviation over √n.
    """
    losses = (torch.tensor(perplexities, dtype=torch.float64).log() for perplexities in (baseline, quantized))
    return 100 * paired_difference(*losses)[1]


@torch.no_grad()
def layer_sqnr_db(model: Transformer, scheme: Scheme, rows: torch.Tensor) -> dict[str, float]:
    """SQNR of each layer's output by name, its input being that of the unquantized model."""
    found = {}

    def compare(name, linear, bar):
        replacement = SimulatedLinear(linear, scheme)

        def hook(_, inputs, output):
            found[name] = sqnr_db(output, replacement(*inputs))
            bar.advance()
        return hook

    bar = Bar(f"layers, {scheme.name}", len(linears(model)))
    handles = [linear.register_forward_hook(compare(name, linear, bar)) for name, linear in linears(model).items()]
    model(rows.to(device()))
    for handle in handles:
        handle.remove()
    return found


@torch.no_grad()
def with_outlier_channel(model: Transformer, factor: float) -> Transformer:
    """The same function with one channel `factor` times as large in front of every layer that follows a norm.

    Channel 0 of the norm's weight is multiplied and column 0 of the weights behind it divided by `factor`, a power of two:
    in FP32 nothing changes. Large models grow such channels by themselves (T. Dettmers et al., LLM.int8(), NeurIPS 2022).
    """
    model = copy.deepcopy(model)
    blocks: Any = model.blocks
    for block in blocks:
        for norm, behind in ((block.attention_norm, (block.attention.q, block.attention.k, block.attention.v)),
                             (block.mlp_norm, (block.mlp.gate, block.mlp.up))):
            norm.weight[0] *= factor
            for linear in behind:
                linear.weight[:, 0] /= factor
    return model


def schemes() -> list[Scheme]:
    return [Scheme(bits, per, truncate) for bits in (8, 7, 6, 5, 4)
            for per, truncate in (("row", False), ("row", True), ("tensor", False))]


def measure(model: Transformer, rows: torch.Tensor, say: Callable[[str], None] = print) -> dict:
    """What each scheme, each layer alone and each outlier channel costs the model on rows of tokens (B, T)."""
    baseline = perplexity_of(model, rows)
    say(f"{'FP16':24} perplexity {baseline:8.4f} on {rows[:, 1:].numel():,} bytes")

    def figures(name: str, quantized: Transformer) -> dict:
        found = perplexity_of(quantized, rows)
        say(f"{name:24} perplexity {found:8.4f}  {cost_percent(found, baseline):+8.3f} %")
        return {"perplexity": found, "cost_percent": cost_percent(found, baseline)}

    record: dict[str, Any] = {"schema": 1, "torch": torch.__version__, "bytes": rows[:, 1:].numel(),
                              "fp16_perplexity": baseline}
    record["schemes"] = [
        {"name": scheme.name, **dataclasses.asdict(scheme), **figures(scheme.name, simulated(model, scheme))}
        for scheme in schemes()]
    for per in ("row", "tensor"):
        sqnr = layer_sqnr_db(model, Scheme(per=per), rows)
        record[f"sqnr_per_{per}_db"] = sqnr
        worst, least = min(sqnr.items(), key=lambda layer: layer[1])
        say(f"INT8 per {per}: the layer with the least SQNR is {worst}, {least:.1f} dB")
    record["layers"] = [
        {"name": name, "weights": linear.weight.numel(),
         **figures(f"INT4, {name} alone", simulated(model, Scheme(bits=4), only=(name,)))}
        for name, linear in linears(model).items()]
    record["outliers"] = []
    for factor in OUTLIERS:
        grown = with_outlier_channel(model, factor)
        record["outliers"] += [
            {"factor": factor, "name": name, **figures(f"channel {factor} x, {name}", quantized)} for name, quantized in
            [("FP16", grown), *((s.name, simulated(grown, s)) for s in (Scheme(), Scheme(per="tensor")))]]
    return record


def recorded_accuracy() -> dict:
    """What `measure` found for the committed model. Raises FileNotFoundError where there is no record."""
    if not RECORD.exists():
        raise FileNotFoundError(f"there is no record at {RECORD}: run `python3 workshop.py accuracy`")
    return json.loads(RECORD.read_text())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py accuracy", description="Measure what INT8 costs the trained model.")
    parser.add_argument("--out", type=Path, default=RECORD, help="file for the figures (default: results/transformer/)")
    args = parser.parse_args(argv)
    record = measure(load(), windows(tokens_of("held_out")))
    write_atomically(args.out, json.dumps(record, indent=1) + "\n")
    print(f"written to {args.out}")
    return 0
