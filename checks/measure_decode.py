"""What decode costs on this GPU: products of few rows in chains, as models make them, launched one by one or as a graph."""

import functools
import statistics
import time
from collections.abc import Callable

import torch

from kernels.decode import MAX_M, decode_w8a8
from kernels.gemv_int8 import gemv_w8a16
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED

ROWS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
EAGER_ROWS = (1, 16)
QUANTIZE = "quantize_int8_perrow"
DECODE, PREFILL, FP16 = "decode_w8a8", "quantize + perrow_w8a8_matmul", "cuBLAS FP16"
CHAIN = 128  # products in a chain: what a launch or an awaited end costs the whole chain is then small for each
WEIGHTS_BYTES = 256_000_000  # of all the weights that a chain goes round: more than any L2 cache

# A function takes x (M, K) FP16, w (N, K) FP16 and its codes and scales; the number is the most rows it is meant for.
FUNCTIONS: dict[str, tuple[Callable, int]] = {
    FP16: (lambda x, w, w_q, w_scale: x @ w.T, 1 << 30),
    "gemv_w8a16": (lambda x, w, w_q, w_scale: gemv_w8a16(x[0], w_q, w_scale)[None], 1),
    DECODE: (lambda x, w, w_q, w_scale: decode_w8a8(x, w_q, w_scale), MAX_M),
    PREFILL: (lambda x, w, w_q, w_scale: perrow_w8a8_matmul(*quantize_int8_perrow(x), w_q, w_scale), 1 << 30),
}


def decode_rows(functions: dict[str, tuple[Callable, int]] | None = None, rows_of_x=ROWS, N: int = 4096,
                K: int = 4096) -> list[dict]:
    """Time y = x wᵀ for each M in `rows_of_x` and each function (FUNCTIONS) that takes so many, in microseconds a product.

    Rows as of the other measurements, test "decode": "graph" for every M, and "eager" for those in EAGER_ROWS. Raises
    RuntimeError where there is no GPU, AssertionError where a result is further from the exact one than 8 bits explain.
    """
    if INTERPRETED:
        raise RuntimeError("kernels are interpreted here, so there is no speed to measure: this needs a GPU")
    functions = FUNCTIONS if functions is None else functions
    copies = -(-WEIGHTS_BYTES // (N * K))
    weights = [torch.randn(N, K, device="cuda").half() for _ in range(copies)]
    layers = [(w, *quantize_int8_perrow(w)) for w in weights]
    rows = []
    for M in rows_of_x:
        x = torch.randn(M, K, device="cuda").half()
        taken = {name: function for name, (function, most) in functions.items() if most >= M}
        for name, function in taken.items():
            _expect_right(name, function(x, *layers[0]), x, layers[0][0])
        chains = {name: [functools.partial(function, x, *layers[i % copies]) for i in range(CHAIN)]
                  for name, function in taken.items()}
        if M in EAGER_ROWS:
            chains[QUANTIZE] = [functools.partial(quantize_int8_perrow, x)] * CHAIN
            rows += _rows("eager", chains, M, N, K)
        rows += _rows("graph", chains, M, N, K)
    return rows


def _expect_right(name: str, y: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> None:
    exact = x.double() @ w.double().T
    # Two operands of normal numbers in 8 bits, each with an SQNR of about 40 dB: an error of about 1.4 %.
    if not (y.double() - exact).norm() <= 0.03 * exact.norm():
        raise AssertionError(f"{name} is wrong at M={len(x)}, N={len(w)}, K={w.shape[1]}")


def _rows(mode: str, chains: dict[str, list[Callable]], M: int, N: int, K: int) -> list[dict]:
    timed = chain_us(chains, mode)
    made = []
    for name, times in timed.items():
        moved, flops = _work(name, M, N, K)
        median = statistics.median(times)
        tenth = len(times) // 10
        made.append({"test": "decode", "function": name, "M": M, "N": N, "K": K, "mode": mode, "bytes": moved,
                     "flops": flops, "median_us": median, "low_us": times[tenth], "high_us": times[-1 - tenth],
                     "gb_per_s": moved / median / 1e3, "tflops": flops / median / 1e6})
    return made


def _work(name: str, M: int, N: int, K: int) -> tuple[int, int]:
    """The least bytes, and the operations: of the whole product, from x in FP16 to y in FP16, or of the quantization."""
    if name == QUANTIZE:
        return 3 * M * K + 4 * M, 0
    weights = 2 * N * K if name == FP16 else N * K + 4 * N
    return weights + 2 * M * (K + N), 2 * M * N * K


def chain_us(chains: dict[str, list[Callable]], mode: str, repeats: int = 30, warmup: int = 3) -> dict[str, list[float]]:
    """By name, the sorted times of one call in a chain of them, from the first launch to the last result, in turns.

    The clock is the CPU's: in eager mode a chain is as slow as its launches where these are slower than its kernels,
    which a GPU's events, recorded between launches that wait in a queue, need not show.
    """
    runs = {name: _graph(chain).replay if mode == "graph" else functools.partial(_one_by_one, chain)
            for name, chain in chains.items()}
    times = {name: [] for name in runs}
    for repeat in range(warmup + repeats):
        for name, run in runs.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if repeat >= warmup:
                times[name].append(1e6 * (time.perf_counter() - start) / len(chains[name]))
    return {name: sorted(taken) for name, taken in times.items()}


def _one_by_one(chain: list[Callable]) -> None:
    for call in chain:
        call()


def _graph(chain: list[Callable]) -> torch.cuda.CUDAGraph:
    chain[0]()  # compiled, and tuned where it must be: neither can be done while capturing
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _one_by_one(chain)
    return graph
