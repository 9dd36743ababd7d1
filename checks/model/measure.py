"""What INT8 costs a model and what it gains: losses window by window, SQNR layer by layer, tokens per second."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from checks.capstone.accuracy import linears
from checks.capstone.training import windows
from checks.model.folder import BadModel, first_line
from checks.model.int8 import int8_layers
from checks.model.smooth import Smoothed
from kernels.error import sqnr_db
from kernels.runtime import device

WINDOW = 256
MOST_WINDOWS = 64
AT_ONCE = 4  # windows whose logits are in memory
CALIBRATION_WINDOWS = 8
SQNR_WINDOWS = 2

BATCHES = (1, 16)
PROMPT, NEW, REPEATS = 512, 64, 5
MODES = ("eager", "reduce-overhead")

Advance = Callable[[int], None]


def windows_of(text: str, tokenizer: Any, longest: int) -> torch.Tensor:
    """A text as rows (n, T) of tokens, each beginning with the last token of the one before, behind what the tokenizer
    puts before every text. T is WINDOW, or `longest`, the most positions that the model has. Raises BadModel."""
    first = torch.tensor(tokenizer("").input_ids, dtype=torch.int64)
    length = min(WINDOW, longest - len(first))
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids, dtype=torch.int64)
    if len(tokens) < 2 * length:
        raise BadModel(f"the text has {len(tokens):,} tokens, and two windows of {length} at least are needed for an error "
                       "bar: give a longer one with --text")
    rows = windows(tokens, length)
    return torch.cat([first.expand(len(rows), -1), rows], dim=1).to(device())


@torch.no_grad()
def window_losses(model: Any, rows: torch.Tensor, skip_first: int, advance: Advance = lambda windows: None) -> list[float]:
    """The mean loss of each window in nats per token; the first `skip_first` tokens are no guesses of the text."""
    losses: list[float] = []
    for part in rows.split(AT_ONCE):
        logits = model(part, use_cache=False).logits[:, skip_first:-1].float()  # (windows, T - 1, vocabulary)
        each = F.cross_entropy(logits.transpose(1, 2), part[:, skip_first + 1:], reduction="none")
        losses += each.mean(dim=1).tolist()
        advance(len(part))
    return losses


@torch.no_grad()
def layers_sqnr_db(model: Any, twin: Any, rows: torch.Tensor, smoothed: Smoothed) -> dict[str, float]:
    """SQNR of each INT8 layer's output by name, its input being that of the unquantized model, smoothed as the twin is."""
    found: dict[str, list[float]] = {}

    def compare(name, layer):
        def hook(_, inputs, output):
            x, = inputs
            if name in smoothed.inputs:
                x = (x.float() / smoothed.inputs[name]).to(x.dtype)
            if name in smoothed.outputs:
                output = output.float() / smoothed.outputs[name]
            found.setdefault(name, []).append(sqnr_db(output, layer(x)))
        return hook

    layers = linears(model)
    handles = [layers[name].register_forward_hook(compare(name, layer)) for name, layer in int8_layers(twin).items()]
    for row in rows[:SQNR_WINDOWS]:
        model(row[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: statistics.fmean(values) for name, values in found.items()}


class Decoder:
    """Greedy generation with a static cache of `length` tokens: prefill eager, then a step a token, compiled or not."""

    def __init__(self, model: Any, length: int, compiled: bool = False):
        from transformers import StaticCache

        self.model = model
        self.cache = StaticCache(config=model.config, max_cache_len=length)
        self._step: Callable[[torch.Tensor], torch.Tensor] = self._next
        if compiled:
            self._step = torch.compile(self._next, mode="reduce-overhead", fullgraph=True, dynamic=False)

    def _next(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = self.model(tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(dim=-1, keepdim=True)

    def prefill(self, prompt: torch.Tensor) -> torch.Tensor:
        """The token that follows each prompt (B, T): (B, 1). The cache must be empty."""
        return self._next(prompt)

    def step(self, token: torch.Tensor) -> torch.Tensor:
        """The token after this one. It is a copy: the next replay of a CUDA graph writes where the last one wrote."""
        return self._step(token).clone()


@torch.no_grad()
def continuation(model: Any, tokenizer: Any, prompt: torch.Tensor, new: int) -> str:
    """The text of `new` tokens that the model thinks most likely after the prompt (T,)."""
    decoder = Decoder(model, len(prompt) + new)
    token = decoder.prefill(prompt[None])
    tokens = [token]
    for _ in range(new - 1):
        token = decoder.step(token)
        tokens.append(token)
    return tokenizer.decode(torch.cat(tokens, dim=1)[0])


@torch.no_grad()
def speed_rows(sides: dict[str, Any], vocabulary: int, longest: int, say: Callable[[str], None],
               batches: tuple[int, ...] = BATCHES) -> list[dict[str, Any]]:
    """Prefill and decode of models by name on this GPU, in turns, by batch and mode.

    A mode that a model cannot be run in is left out, and `say` says why.
    """
    prompt, new = min(PROMPT, longest - NEW), NEW
    rows: list[dict[str, Any]] = []
    for batch in batches:
        torch.manual_seed(batch)
        tokens = torch.randint(vocabulary, (batch, prompt), device=device())
        for mode in MODES:
            torch.compiler.reset()
            torch._dynamo.utils.counters.clear()
            say(f"batch {batch}, {mode}: compiling and warming up" if mode != "eager" else f"batch {batch}, {mode}")
            try:
                decoders = {name: Decoder(model, prompt + new, mode != "eager") for name, model in sides.items()}
                for decoder in decoders.values():
                    _run(decoder, tokens, 4)
            except Exception as error:  # of many kinds: an architecture that keeps no static cache, or cannot be traced
                say(f"left out: batch {batch}, {mode}: {type(error).__name__}: {first_line(error)}")
                continue
            skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
            if skipped:
                say(f"batch {batch}: torch.compile made no CUDA graph of {skipped} steps")
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
            for _ in range(REPEATS):
                for name, decoder in decoders.items():
                    times[name].append(_run(decoder, tokens, new))
            rows += [_row(name, batch, prompt, mode, found) for name, found in times.items()]
    return rows


def _run(decoder: Decoder, tokens: torch.Tensor, new: int) -> tuple[float, float]:
    """Seconds of a prefill, and of one of the `new` steps after it."""
    decoder.cache.reset()
    _synchronize()
    began = time.perf_counter()
    token = decoder.prefill(tokens)
    _synchronize()
    between = time.perf_counter()
    for _ in range(new):
        token = decoder.step(token)
    _synchronize()
    return between - began, (time.perf_counter() - between) / new


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _row(name: str, batch: int, prompt: int, mode: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"function": name, "batch": batch, "prompt": prompt, "new": NEW, "mode": mode}
    for phase, tokens, seconds in (("prefill", batch * prompt, [pair[0] for pair in times]),
                                   ("decode", batch, [pair[1] for pair in times])):
        row[f"{phase}_ms"] = [1e3 * min(seconds), 1e3 * statistics.median(seconds), 1e3 * max(seconds)]
        row[f"{phase}_tokens_per_s"] = tokens / statistics.median(seconds)
    return row
