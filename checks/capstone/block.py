"""One block in Llama 3 8B's shapes, random weights, timed on this GPU: in FP16, in INT8, and in INT8 with fewer passes.

Rows follow the schema of results/: `test` is "block" for a whole block and "block_product" for one of its products, and
`phase` is "prefill" (one sequence) or "decode" (one new token for each of `batch` sequences).
"""

import copy
import functools
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from checks.bench.measure import Refused, Timing, time_us
from kernels.block_cost import block_products, block_weights, kv_cache_bytes
from kernels.linear import Int8Linear, quantize_linears_
from kernels.operators import quantize_rows
from kernels.runtime import device
from kernels.transformer import LLAMA_3_8B, Block, Config, FusedInt8Block, Past, rotation

PLACES = (("prefill", 1, 8192), ("decode", 1, 2048), ("decode", 16, 2048), ("decode", 64, 2048))
"""(phase, batch, length): prefill of `length` tokens each, or decode of one token each with so many in the cache."""
WORST = 0.1  # relative error of a block's change of x, above which its time does not count
MODES = ("eager", "compile", "reduce-overhead", "graph")
"""As it is; by torch.compile, and in its mode that makes CUDA graphs; torch.compile's, replayed as one CUDA graph."""
IN_A_ROW = 4
MODES_IN_A_ROW = {"prefill": ("eager", "compile", "graph"), "decode": ("reduce-overhead",)}
"""What is also timed of so many blocks after one another, as a model has them: of one alone the GPU waits for the first
launches, and for what a CUDA graph of torch.compile's costs the host."""


def label(mode: str, number: int) -> str:
    """What a row calls the mode of so many blocks after one another."""
    return mode if number == 1 else f"{mode}, {number} in a row"


LABELS = (*MODES, *(label(mode, IN_A_ROW) for modes in MODES_IN_A_ROW.values() for mode in modes))


def make_blocks(config: Config) -> dict[str, torch.nn.Module]:
    """The same random block by name of its variant."""
    torch.manual_seed(0)
    block = Block(config).to(device(), torch.float16).eval().requires_grad_(False)
    return {"FP16": block, "INT8": quantize_linears_(copy.deepcopy(block)), "INT8 fused": FusedInt8Block(block)}


def workload(config: Config, phase: str, batch: int, length: int) -> tuple:
    """(x, turn, past) of one call."""
    decode = phase == "decode"
    x = torch.randn(batch, 1 if decode else length, config.dim, device=device(), dtype=torch.float16)
    position = torch.arange(length - 1 if decode else 0, length, device=device())
    shape = (batch, config.kv_heads, length, config.head_dim)
    past = tuple(torch.randn(shape, device=device(), dtype=torch.float16) for _ in range(2)) if decode else ()
    for kept in past:
        torch._dynamo.mark_static_address(kept)  # or reduce-overhead makes no CUDA graph of what writes to it
    return x, rotation(config, position), past or None


@torch.no_grad()
def block_rows(config: Config = LLAMA_3_8B, places=PLACES, say: Callable[[str], None] = print) -> list[dict]:
    """Every variant in every mode at every size, each result compared with FP16's first.

    Raises AssertionError where a variant is further from FP16 than INT8 can explain.
    """
    rows, blocks = [], make_blocks(config)
    for phase, batch, length in places:
        torch.compiler.reset()  # or the shapes of one place count as recompilations in the next, of which few are allowed
        rows += _rows_at(blocks, config, phase, batch, length, say)
    return rows


def _rows_at(blocks, config, phase: str, batch: int, length: int, say) -> list[dict]:
    arguments = workload(config, phase, batch, length)
    rows = _rows_in(blocks, arguments, MODES, 1, say)
    rows += _rows_in(blocks, arguments, MODES_IN_A_ROW[phase], IN_A_ROW, say)
    M = arguments[0].shape[0] * arguments[0].shape[1]
    place = {"test": "block", "phase": phase, "batch": batch, "context": length, "M": M}
    return [place | row | block_work(config, row["function"], phase, batch, length) for row in rows]


def _rows_in(blocks, arguments: tuple, wanted: tuple[str, ...], number: int, say) -> list[dict]:
    """A row for each mode and variant, of `number` calls after one another: the time is that of one."""
    x = arguments[0]
    sides = {name: in_a_row(block, number) for name, block in blocks.items()}
    change = sides["FP16"](*arguments) - x
    calls = {}
    for name, side in sides.items():
        for mode, call in itertools.islice(modes(side, arguments), MODES.index(wanted[-1]) + 1):
            if mode not in wanted:
                continue
            error = ((call() - x - change).float().norm() / change.float().norm()).item()
            if not error < WORST:
                raise AssertionError(f"{name}, {mode}, M={x.shape[0] * x.shape[1]}: the block's change of x is off by "
                                     f"{error:.3f}, at most {WORST} was expected of INT8")
            calls[name, mode] = call
    rows = []
    for mode in wanted:
        # A call launched piece by piece is timed on an idle GPU, as it runs in a model: the launches count.
        timings = timed({name: call for (name, of), call in calls.items() if of == mode},
                        "eager" if mode == "graph" else "idle", say)
        for name, t in timings.items():
            us = {"median_us": t.median_us / number, "low_us": t.low_us / number, "high_us": t.high_us / number}
            rows.append({"function": name, "mode": label(mode, number), **us})
            say(f"M={x.shape[0] * x.shape[1]:5}  {name:12} {label(mode, number):16} {us['median_us']:9.1f} us")
    return rows


def in_a_row(block: Callable, number: int) -> Callable[..., torch.Tensor]:
    """So many calls of a block after one another, each with the one before's result."""
    def call(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        for _ in range(number):
            x = block(x, *rest)
        return x

    # With a code object of its own: by that torch.compile keeps what it compiled, and searches all of it at each call.
    return types.FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def timed(sides: dict, mode: str, say: Callable[[str], None]) -> dict[Any, Timing]:
    """`time_us`, without the sides whose times mean nothing: it says which, and why."""
    try:
        return time_us(sides, mode=mode)
    except Refused as refused:
        for name, reason in refused.reasons.items():
            say(f"left out: {name}, {reason}")
        return refused.timings


def modes(block: Callable, arguments: tuple) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """A call of the block in each mode. A CUDA graph writes its result to the same place on each replay."""
    yield "eager", functools.partial(block, *arguments)
    compiled = torch.compile(block, dynamic=False)
    yield "compile", functools.partial(compiled, *arguments)
    yield "reduce-overhead", functools.partial(torch.compile(block, mode="reduce-overhead", dynamic=False), *arguments)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            compiled(*arguments)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = compiled(*arguments)

    def replay() -> torch.Tensor:
        graph.replay()
        return result
    yield "graph", replay


def block_work(config: Config, function: str, phase: str, batch: int, length: int) -> dict[str, int]:
    """Operations of one call, and the bytes of weights and cache that it must read."""
    kv_dim = config.kv_heads * config.head_dim
    weights = block_weights(config.dim, kv_dim, config.hidden)
    tokens = batch if phase == "decode" else batch * length
    # Two products of attention: each token with all before it, on average half of a prefill's.
    pairs = batch * length if phase == "decode" else batch * length * length // 2
    bytes_ = weights * (2 if function == "FP16" else 1) + (kv_cache_bytes(batch, length, kv_dim) if phase == "decode" else 0)
    return {"flops": 2 * tokens * weights + 4 * pairs * config.dim, "bytes": bytes_}


@torch.no_grad()
def product_rows(config: Config = LLAMA_3_8B, places=PLACES, say: Callable[[str], None] = print) -> list[dict]:
    """Each of the block's products alone, in FP16 and in INT8, and what lies between them in attention.

    An INT8 product includes the quantization of its input; the rows "quantize" are that part, timed on its own.
    """
    block, rows = make_blocks(config)["FP16"], []
    layers = {name: getattr(part, name) for part in (block.attention, block.mlp) for name in block_products(1, 1, 1)
              if hasattr(part, name)}
    for phase, batch, length in places:
        x, _, past = workload(config, phase, batch, length)
        place = {"phase": phase, "batch": batch, "context": length, "M": x.shape[0] * x.shape[1], "mode": "eager"}
        sides: dict[tuple[str, str], Callable] = {}
        for layer, linear in layers.items():
            given = torch.randn(*x.shape[:2], linear.in_features, device=device(), dtype=torch.float16)
            sides |= {(layer, "FP16"): functools.partial(linear, given),
                      (layer, "INT8"): functools.partial(Int8Linear.from_linear(linear), given),
                      (layer, "quantize"): functools.partial(quantize_rows, given.flatten(0, 1))}
        sides["attention", "FP16"] = scaled_dot_products(config, x, past)
        for (layer, function), t in timed(sides, "eager", say).items():
            rows.append({"test": "block_product", "function": function, "layer": layer, **place, "median_us": t.median_us,
                         "low_us": t.low_us, "high_us": t.high_us})
            say(f"{phase:8} batch {batch:3} x {length:5}  {layer:10} {function:10} {t.median_us:9.1f} us")
    return rows


def scaled_dot_products(config: Config, x: torch.Tensor, past: Past | None) -> Callable[[], torch.Tensor]:
    """A call of attention for x's tokens, without its products and rotation."""
    q, k, v = (torch.randn(x.shape[0], heads, x.shape[1], config.head_dim, device=x.device, dtype=x.dtype)
               for heads in (config.heads, config.kv_heads, config.kv_heads))
    k, v = past or (k, v)
    return functools.partial(F.scaled_dot_product_attention, q, k, v, is_causal=past is None, enable_gqa=True)
