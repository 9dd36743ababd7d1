"""The workshop's measuring functions: functions side by side at given shapes, right first, then timed.

    rows = test_perf_gemv({"cuBLAS FP16": cublas_fp16, "gemv_fp16": gemv_fp16}, [(4096, 4096)])

Each takes functions by name and gives rows as `checks.bench.results` describes them. A function gets the operands that its
parameters name (see `checks.bench.operands`): x, w, their codes and scales x_q, x_scale, w_q, w_scale, and more. Its result
is compared with float64 or exact integer sums before it is timed, and once more after, on new numbers that lie where the
old ones lay. Without a GPU the shapes must be small, and a row has no speed: its mode is "interpreter", its times None.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from checks.bench.attention import expect_attention
from checks.bench.baselines import BASELINES
from checks.bench.measure import Refused, time_in_graphs_us, time_us
from checks.bench.operands import Operands, expect_codes, expect_product, operand_names
from checks.bench.results import MODES
from kernels.runtime import INTERPRETED

REPEATS = 20
ROTATED_BYTES = 200e6  # INT8 weights that take turns in a CUDA graph: more than any L2 cache
MOST_INTERPRETED = 1 << 27  # multiply-adds

Functions = dict[str, Callable]


class Watcher:
    """What a measurement tells on its way. This one fails at a wrong function; a time that is refused it only reports."""

    def trying(self, name: str) -> None:
        """A function is about to run for the first time; with an empty name, all are about to be timed."""

    def left_out(self, name: str, error: Exception) -> None:
        if not isinstance(error, Refused):
            raise error
        print(f"left out: {error}")


def _call_on(function: Callable, sets: list[list], i: int) -> object:
    return function(*sets[i])


@dataclass(frozen=True)
class _Test:
    """A kind of measurement: its name in rows, what its results are held to, whether x is a vector, and w as in a model."""

    name: str
    expect: Callable
    vector: bool = False
    unit: bool = False


def test_perf_gemv(functions: Functions, shapes=None, mode: str = "eager", watcher: Watcher | None = None) -> list[dict]:
    """Time y = W x for W (N, K), `shapes` a list of (K, N). Functions of x (K,) and w, or of x, w_q and w_scale."""
    shapes = _shapes(shapes, ("K", "N"), [(256, 320)] if INTERPRETED else [(4096, 2**n) for n in range(10, 17)])
    return _each(_Test("gemv", expect_product, vector=True), functions, [(1, K, N) for K, N in shapes], mode, watcher)


def test_perf_gemm(functions: Functions, shapes=None, mode: str = "eager", watcher: Watcher | None = None) -> list[dict]:
    """Time y = x wᵀ, `shapes` a list of (M, K, N). Functions of x and w, or of x_q, x_scale, w_q and w_scale."""
    shapes = _shapes(shapes, ("M", "K", "N"), [(128, 256, 128)] if INTERPRETED else [
        (16384, 2048, N) for N in (2048, 4096, 6144, 11008, 22016)])
    return _each(_Test("gemm", expect_product), functions, shapes, mode, watcher)


def test_perf_matmul_int8(functions: Functions, shapes=None, mode: str = "eager",
                          watcher: Watcher | None = None) -> list[dict]:
    """Time y = x wᵀ with the quantization of x included, `shapes` a list of (M, K, N). Functions of x, w_q and w_scale;
    or of x and w to compare with, of x to quantize alone, of x_q, x_scale, w_q and w_scale to multiply alone."""
    shapes = _shapes(shapes, ("M", "K", "N"), [(33, 256, 128)] if INTERPRETED else [
        (16384, 2048, 2048), (16384, 2048, 6144), (16384, 2048, 22016), (16384, 11008, 2048)])
    return _each(_Test("matmul_int8", _expect_either), functions, shapes, mode, watcher)


def test_perf_gate_up(functions: Functions, shapes=None, mode: str = "eager", watcher: Watcher | None = None) -> list[dict]:
    """Time the way from the codes of x (M, K) to those of silu(gate) · up, `shapes` a list of (M, K, N), N counting the rows
    of gate and of up. Functions of x_q, x_scale, w_q and w_scale."""
    shapes = _shapes(shapes, ("M", "K", "N"), [(33, 256, 128)] if INTERPRETED else [(16384, 2048, 22016)])
    return _each(_Test("gate_up", expect_codes, unit=True), functions, shapes, mode, watcher)


def test_perf_quant_decode(functions: Functions, shapes=None, mode: str = "graph",
                           watcher: Watcher | None = None) -> list[dict]:
    """Time the quantization of few rows x (M, K), `shapes` a list of (M, K). Functions of x."""
    shapes = _shapes(shapes, ("M", "K"), [(3, 500)] if INTERPRETED else [(M, 4096) for M in (1, 4, 16, 64, 128)])
    return _each(_Test("quant_decode", expect_codes), functions, [(M, K, 1) for M, K in shapes], mode, watcher)


def test_perf_quant_prefill(functions: Functions, shapes=None, mode: str = "eager",
                            watcher: Watcher | None = None) -> list[dict]:
    """Time the quantization of many rows x (M, K), `shapes` a list of (M, K). Functions of x; of x and weight or of gate
    and up where an operation before it is fused; of source and target for a copy of as many bytes."""
    shapes = _shapes(shapes, ("M", "K"), [(65, 500)] if INTERPRETED else [(16384, K) for K in (2048, 4096, 5120, 11008)])
    return _each(_Test("quant_prefill", expect_codes), functions, [(M, K, 1) for M, K in shapes], mode, watcher)


def test_perf_attention(functions: Functions, shapes=None, mode: str = "eager",
                        watcher: Watcher | None = None) -> list[dict]:
    """Time attention of one new token of each of M sequences to K tokens in the cache, `shapes` a list of (M, K). Functions
    of query, and of keys and values, or of their codes and scales and lengths."""
    shapes = _shapes(shapes, ("M", "K"), [(2, 70)] if INTERPRETED else [(1, 8192), (64, 8192)])
    return _each(_Test("attention", expect_attention), functions, [(M, K, 1) for M, K in shapes], mode, watcher)


def copy_roof() -> dict:
    """The one roof that a lesson's picture of bandwidth needs, measured now: a copy of 1 GiB, in GB/s."""
    row, = test_perf_quant_prefill({"copy": BASELINES["copy"]}, [(32768, 21845)])
    return {"copy_gb_per_s": row["gb_per_s"]}


_measuring: tuple[Any, ...] = (test_perf_gemv, test_perf_gemm, test_perf_matmul_int8, test_perf_gate_up,
                               test_perf_quant_decode, test_perf_quant_prefill, test_perf_attention)
for _function in _measuring:
    _function.__test__ = False  # their names are the workshop's: pytest shall not take them for tests


def _shapes(shapes, names: tuple[str, ...], default: list[tuple]) -> list[tuple]:
    shapes = default if shapes is None else [tuple(shape) for shape in shapes]
    for shape in shapes:
        if len(shape) != len(names) or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError(f"a shape must be ({', '.join(names)}), whole numbers above 0, got {shape}")
        if INTERPRETED and math.prod(shape) > MOST_INTERPRETED:
            raise ValueError(f"({', '.join(names)}) = {shape} would take Triton's interpreter many minutes: without a GPU, "
                             f"ask for shapes with a product up to {MOST_INTERPRETED}")
    return shapes


def _expect_either(name, function, result, operands) -> None:
    quantizes = not any("w" in operand or "linear" in operand for operand in operand_names(function))
    (expect_codes if quantizes else expect_product)(name, function, result, operands)


def _each(test: _Test, functions: Functions, shapes: list[tuple], mode: str, watcher: Watcher | None) -> list[dict]:
    if mode not in (*MODES, "check"):
        raise ValueError(f'mode must be one of {", ".join(MODES)}, or "check" for no times at all; got {mode!r}')
    rows = []
    for M, K, N in shapes:
        operands = Operands(M, K, N, test.vector, unit=test.unit)
        rows += _Measurement(test, functions, operands, mode, watcher or Watcher()).rows()
    return rows


class _Measurement:
    """One shape, the functions side by side."""

    def __init__(self, test: _Test, functions: Functions, operands: Operands, mode: str, watcher: Watcher):
        self.test, self.operands, self.mode, self.watcher = test, operands, mode, watcher
        self.functions = dict(functions)
        self.bytes: dict[str, int] = {}
        self.interpreter_s: dict[str, float] = {}

    def rows(self) -> list[dict]:
        for name, function in list(self.functions.items()):
            self.watcher.trying(name)
            self._try(name, partial(self._first_call, name, function))
        self.watcher.trying("")
        timings = {} if INTERPRETED or self.mode == "check" or not self.functions else self._timings()
        self.operands.refresh()
        for name, function in list(self.functions.items()):
            self._try(name, partial(self._call, name, function))
        return [self._row(name, timings.get(name)) for name in self.functions if self.mode != "check"]

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            del self.functions[name]
            self.watcher.left_out(name, error)

    def _first_call(self, name: str, function: Callable) -> None:
        began = time.perf_counter()
        result = self._call(name, function)
        self.interpreter_s[name] = time.perf_counter() - began
        outputs = result if isinstance(result, tuple) else (result,)
        given = set(map(id, self.operands.arguments(function)))
        tensors = [t for t in outputs if id(t) not in given]  # a copy gives back what it was given
        self.bytes[name] = sum(_bytes(self.operands[n], self.operands) for n in operand_names(function)) + sum(
            t.numel() * t.element_size() for t in tensors)

    def _call(self, name: str, function: Callable):
        result = function(*self.operands.arguments(function))
        self.test.expect(name, function, result, self.operands)
        return result

    def _timings(self) -> dict:
        try:
            return self._in_graphs() if self.mode == "graph" else time_us(
                {name: partial(f, *self.operands.arguments(f)) for name, f in self.functions.items()}, REPEATS,
                mode=self.mode)
        except Refused as refused:
            for name, reason in refused.reasons.items():
                self.functions.pop(name, None)  # it may have been found wrong as well
                self.watcher.left_out(name, Refused({name: reason}, {}))
            return refused.timings

    def _in_graphs(self) -> dict:
        """The weights, and all that was made of them, in as many copies as exceed the cache; x is small, and shared."""
        copies = max(4, math.ceil(ROTATED_BYTES / (o.N * o.K))) if (o := self.operands).N > 1 else 1
        sides: dict[str, Callable[[int], object]] = {}
        for name, function in self.functions.items():
            sets = [self.operands.arguments(function)]
            sets += [[value.clone() if n.startswith("w") else value for n, value in zip(
                operand_names(function), sets[0], strict=True)] for _ in range(copies - 1)]
            sides[name] = partial(_call_on, function, sets)
        return time_in_graphs_us(sides, copies, REPEATS, check=lambda name, result: self._try(
            name, partial(self.test.expect, name, self.functions[name], result, self.operands)))

    def _row(self, name: str, timing) -> dict:
        o, num_bytes = self.operands, self.bytes[name]
        multiplies = any(n.startswith("w") and n != "weight" or "linear" in n for n in operand_names(self.functions[name]))
        flops = 2 * o.M * o.N * o.K if multiplies else 0
        row = {"test": self.test.name, "function": name, "M": o.M, "N": o.N, "K": o.K, "mode": self.mode, "bytes": num_bytes,
               "flops": flops}
        if timing is None:
            return row | {"mode": "interpreter", "median_us": None, "low_us": None, "high_us": None, "gb_per_s": None,
                          "tflops": None, "interpreter_s": self.interpreter_s[name]}
        us = timing.median_us
        return row | {"median_us": us, "low_us": timing.low_us, "high_us": timing.high_us, "gb_per_s": num_bytes / us / 1e3,
                      "tflops": flops / us / 1e6 if flops else None}


def _bytes(value, operands: Operands) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return operands.N * operands.K + 4 * operands.N  # a linear layer of another library: INT8 codes and FP32 scales
