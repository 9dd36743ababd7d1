"""Which launches are profiled: the kernels of the lessons at the sizes that the lessons speak of.

Run as a program under ncu, it makes the launches, each case in an NVTX range and after two launches that are not profiled,
which compile and tune. `--proton FILE` lets Triton's own profiler, Proton, watch a few calls instead.
"""

import argparse
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import kernels  # noqa: F401  first of ours: it decides whether Triton interprets
from checks.bench.attention import ATTENTION
from checks.bench.baselines import FASTEST_PRODUCT, PLACES, SILU_PLANS
from checks.bench.operands import Operands, operand_names
from checks.bench.workloads import LAYOUT, MANY, find
from kernels import fused, gemv_int8, perrow_w8a8, skinny
from kernels.gemv import gemv_fp16_kernel
from kernels.hello import copy_2d
from kernels.int_mm import int_mm
from kernels.matmul import matmul_fp16_naive_kernel
from kernels.runtime import device


@dataclass(frozen=True)
class Case:
    """One function at one shape: the lesson that speaks of it, and `prepare`, which gives a call without arguments.

    `vector`: x is (K,), as a GEMV takes it.
    """

    lesson: str
    function: str
    M: int
    K: int
    N: int
    prepare: Callable[["Case"], Callable[[], Any]]
    vector: bool = False


def by_name(case: Case) -> Callable[[], Any]:
    """The function of the benchmark of that name, on its operands."""
    return _on_operands(case, find(case.function))


def of_lesson(function: Any) -> Callable[[Case], Callable[[], Any]]:
    return lambda case: _on_operands(case, function)


def _on_operands(case: Case, function: Callable) -> Callable[[], Any]:
    operands = Operands(case.M, case.K, case.N, case.vector)
    return partial(function, *operands.arguments(function))


def _gemv_w8a8_row(case: Case) -> Callable[[], Any]:
    operands = Operands(case.M, case.K, case.N)
    return partial(gemv_int8.gemv_w8a8_row, operands["x_q"][0], operands["x_scale"], operands["w_q"], operands["w_scale"])


def _by_tma(case: Case) -> Callable[[], Any]:
    """The INT8 product that loads by TMA, in Triton: without Gluon's warps in roles."""
    return _on_operands(case, lambda x_q, x_scale, w_q, w_scale: perrow_w8a8.perrow_w8a8_matmul(
        x_q, x_scale, w_q, w_scale, config=perrow_w8a8.TMA_CONFIGS[0]))


def _strided_copy(stride: int) -> Callable[[Case], Callable[[], Any]]:
    """Lesson 01's copy of every `stride`-th number of long rows."""
    return lambda case: partial(copy_2d, torch.randn(case.M, case.K * stride, device=device())[:, ::stride])


def _gemv(rows: int, columns: int) -> Callable[[Case], Callable[[], Any]]:
    """Lesson 01's kernel in blocks that its wrapper may not choose."""
    def prepare(case: Case) -> Callable[[], Any]:
        operands = Operands(case.M, case.K, case.N, case.vector)
        x, w = operands["x"], operands["w"]
        y = torch.empty(case.N, device=x.device, dtype=x.dtype)
        return lambda: gemv_fp16_kernel[(-(-case.N // rows),)](
            x, w, y, case.N, case.K, w.stride(0), BLOCK_N=rows, BLOCK_K=columns)
    return prepare


def _naive(num_stages: int) -> Callable[[Case], Callable[[], Any]]:
    """Lesson 02's kernel as its wrapper launches it, but for the stages of its loop."""
    def prepare(case: Case) -> Callable[[], Any]:
        operands = Operands(case.M, case.K, case.N)
        x, w = operands["x"], operands["w"]
        y = torch.empty(case.M, case.N, device=x.device, dtype=x.dtype)
        grid = (-(-case.M // 128), -(-case.N // 128))
        return lambda: matmul_fp16_naive_kernel[grid](
            x, w, y, case.M, case.N, case.K, x.stride(0), w.stride(0), y.stride(0), BLOCK_M=128, BLOCK_N=128, BLOCK_K=64,
            num_warps=8, num_stages=num_stages)
    return prepare


def cases() -> list[Case]:
    """All cases, in the order of the lessons."""
    return [*_one_row(), *_products(), *_whole(), *_rows_of_x(), *_fused(), *_few_rows(), *_configurations(), *_real_stack()]


def _one_row() -> list[Case]:
    copies = [Case("01", f"copy_2d, stride {stride}", 8192, 4096, 1, _strided_copy(stride)) for stride in (1, 2, 4, 8)]
    gemvs = [Case("01", name, 1, 4096, N, by_name, vector=True) for N in (4096, 65536)
             for name in ("cuBLAS FP16", "gemv_fp16_row", "gemv_fp16")]
    return copies + gemvs + [Case("01", f"gemv_fp16, {rows} x {columns}", 1, 4096, 65536, _gemv(rows, columns), vector=True)
                             for rows, columns in ((2, 1024), (64, 128))]


def _products() -> list[Case]:
    fp16 = ("matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16", "cuBLAS FP16")
    int8 = ("perrow_w8a8_matmul_plain", "perrow_w8a8_matmul_grouped", "perrow_w8a8_matmul", "torch._int_mm",
            "torch._scaled_mm FP8")
    shape = (MANY, 2048, 6144)
    return [*(Case("02", f"matmul_fp16_naive, {n} stages", *shape, _naive(n)) for n in (1, 2, 3, 4)),
            *(Case("02", name, *shape, by_name) for name in fp16),
            *(Case("05", name, *shape, by_name) for name in int8),
            Case("05", "int_mm", *shape, of_lesson(int_mm)),
            Case("05", "perrow_w8a8_matmul, TMA", *shape, _by_tma),
            *(Case("05", name, 4096, 4096, 4096, by_name) for name in LAYOUT)]


def _whole() -> list[Case]:
    return [Case("03", name, M, 4096, 4096, by_name) for M in (128, 256, MANY) for name in ("cuBLAS FP16", "matmul_int8")]


def _rows_of_x() -> list[Case]:
    names = ("quantize_int8_perrow_plain", "quantize_int8_perrow_long", "quantize_int8_perrow")
    norms = [("rmsnorm_quantize_int8_plain", fused.rmsnorm_quantize_int8_plain),
             ("rmsnorm_quantize_int8_long", fused.rmsnorm_quantize_int8_long),
             ("rmsnorm_quantize_int8", fused.rmsnorm_quantize_int8),
             ("silu_mul_quantize_int8_plain", fused.silu_mul_quantize_int8_plain),
             ("silu_mul_quantize_int8", fused.silu_mul_quantize_int8)]
    return [*(Case("04", name, MANY, K, 1, by_name) for K in (2048, 4096, 5120, 11008) for name in names),
            *(Case("04", names[0], MANY, K, 1, by_name) for K in (8192, 16384)),  # blocks without idle lanes
            *(Case("07", name, MANY, 4096 if "rms" in name else 5632, 1, of_lesson(function)) for name, function in norms)]


def _fused() -> list[Case]:
    places = [Case("07b", name, MANY, 2048, 6144, by_name) for name in PLACES]
    plans = [Case("07b", name, MANY, 2048, 22016, by_name) for name in (*SILU_PLANS, FASTEST_PRODUCT)]
    return [*plans, *places, *(Case("07b", "matmul_int8", MANY, K, N, by_name) for K, N in ((2048, 6144), (11008, 2048)))]


def _few_rows() -> list[Case]:
    row = [Case("08", name, 1, 4096, 4096, by_name, vector=True) for name in ("gemv_w8a16_row", "gemv_w8a16")]
    row.append(Case("08", "gemv_w8a8_row", 1, 4096, 4096, _gemv_w8a8_row))
    lessons = [("skinny_w8a8", skinny.skinny_w8a8), ("split_k_w8a8", skinny.split_k_w8a8)]
    few = [Case("08", name, *shape, of_lesson(function)) for shape in ((1, 4096, 4096), (16, 4096, 4096), (16, 11008, 2048))
           for name, function in lessons]
    library = [Case("08", "decode_w8a8", M, 4096, 4096, by_name) for M in (1, 16, 64)]
    return row + few + library + [Case("08", "cuBLAS FP16", M, 4096, 4096, by_name) for M in (16, 64)]


def _configurations() -> list[Case]:
    from checks.bench.baselines import CONFIGS

    return [Case("09", name, *shape, by_name) for shape in ((512, 4096, 4096), (MANY, 2048, 6144)) for name in CONFIGS]


def _real_stack() -> list[Case]:
    attention = [Case("11", name, M, K, 1, by_name) for M, K in ((1, 2048), (64, 8192)) for name in ATTENTION]
    return [*attention, Case("11", "group_w8a8_matmul", MANY, 2048, 6144, by_name)]


def profile_all(lessons: Collection[str]) -> None:
    """Make the launches of the lessons' cases, profiled. One that fails is left out, and says why on the standard error."""
    for number, case in enumerate(cases()):
        if case.lesson not in lessons:
            continue
        try:
            call = case.prepare(case)
            for _ in range(2):
                call()
            torch.cuda.synchronize()
            torch.cuda.cudart().cudaProfilerStart()
            torch.cuda.nvtx.range_push(f"case {number}")
            try:
                call()
                torch.cuda.synchronize()
            finally:  # or the next case's first calls would be profiled, as this one's
                torch.cuda.nvtx.range_pop()
                torch.cuda.cudart().cudaProfilerStop()
        except Exception as error:
            print(f"case {number}: {case.function}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()


def proton(path: Path) -> None:
    """Let Proton write its tree of a decode step's and of a prefill's product, 100 calls each, to `path`.hatchet."""
    import triton.profiler

    calls: dict[str, tuple[Callable[[], Any], dict[str, float]]] = {}
    for M, K, N in ((16, 4096, 4096), (MANY, 2048, 6144)):
        operands = Operands(M, K, N)
        for name in ("cuBLAS FP16", "matmul_int8"):
            function = find(name)
            calls[f"{name} ({M:,}, {K:,}, {N:,})"] = partial(function, *[operands[o] for o in operand_names(function)]), {
                "flops": 2.0 * M * K * N}
    for call, _ in calls.values():
        call()
    torch.cuda.synchronize()
    triton.profiler.start(str(path))
    for name, (call, metrics) in calls.items():
        for _ in range(100):
            with triton.profiler.scope(name, metrics):
                call()
    torch.cuda.synchronize()
    triton.profiler.finalize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--proton", type=Path)
    parser.add_argument("--lessons", nargs="*", default=[])
    args = parser.parse_args()
    if args.proton:
        proton(args.proton)
    else:
        profile_all(args.lessons)
