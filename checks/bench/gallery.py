"""The pictures in `results/`: which rows of a results file each one draws."""

from pathlib import Path

import matplotlib.pyplot as plt

from checks.bench.figures import (
    bandwidth_figure,
    breakdown_figure,
    latency_figure,
    roofline_figure,
    speedup_figure,
    tflops_figure,
)
from checks.bench.results import select

MANY = 16384
PRODUCTS = ("cuBLAS FP16", "matmul_fp16", "torch._scaled_mm FP8", "torch._int_mm", "perrow_w8a8_matmul")


def pictures(figures: dict) -> dict:
    """Figures by file name, as far as the file has rows for them."""
    gpu, roofs = figures["gpu"], figures["roofs"]
    over_n = {"M": MANY, "K": 2048, "mode": "eager"}
    gemm_n = select(figures, test="gemm", **over_n)
    whole_n = select(figures, test="matmul_int8", function=("cuBLAS FP16", "matmul_int8"), **over_n)
    square = {"K": 4096, "N": 4096, "mode": "eager"}
    gemm_m = select(figures, test="gemm", **square)
    whole_m = select(figures, test="matmul_int8", function="matmul_int8", **square)
    gemv = select(figures, test="gemv", mode="eager")
    decode = select(figures, test="matmul_int8", mode="graph")
    launches = select(figures, test="matmul_int8", M=32, K=2048, N=2048, mode=("idle", "graph"))
    prefill = [row for K, N in ((2048, 22016), (11008, 2048))
               for row in select(figures, test="matmul_int8", M=MANY, K=K, N=N, mode="eager")]
    wanted = [
        ("speedup", [*select(gemm_n, function=PRODUCTS), *whole_n], lambda rows: speedup_figure(
            rows, "cuBLAS FP16", f"Prefill on an {gpu}: how much faster than torch in FP16?")),
        ("tflops", [*gemm_n, *select(whole_n, function="matmul_int8")], lambda rows: tflops_figure(
            rows, roofs, f"Prefill on an {gpu}: every rung of the ladder")),
        ("breakdown", [*prefill, *launches], lambda rows: breakdown_figure(rows, f"Where the time goes, on an {gpu}")),
        ("gemv_bandwidth", gemv, lambda rows: bandwidth_figure(rows, roofs, f"y = W x on an {gpu}: near the roof?")),
        ("gemv_time", gemv, lambda rows: latency_figure(rows, f"y = W x on an {gpu}: FP16 and INT8 weights")),
        ("gemm", [*gemm_m, *whole_m], lambda rows: tflops_figure(
            rows, roofs, f"y = x wᵀ on an {gpu}: FP16 and INT8, from one token to many")),
        ("quantize_prefill", select(figures, test="quant_prefill", M=MANY), lambda rows: bandwidth_figure(
            rows, roofs, f"Quantization of many rows on an {gpu}")),
        ("quantize_decode", select(figures, test="quant_decode"), lambda rows: latency_figure(
            rows, f"Quantization of few rows on an {gpu}, in a CUDA graph")),
        ("host", select(figures, test="host"), lambda rows: latency_figure(
            rows, f"What the CPU takes for one call, beside an {gpu}: K = N = 4,096")),
        ("roofline", [*select(gemv, K=4096, N=4096), *gemm_m, *whole_m], lambda rows: roofline_figure(
            rows, roofs, f"Roofline of an {gpu}: K = N = 4,096, M from 1 to {MANY:,}")),
    ]
    for K, N in dict.fromkeys((row["K"], row["N"]) for row in decode if row["M"] == 1):
        wanted.append((f"decode_{K}x{N}", select(decode, K=K, N=N), lambda rows: latency_figure(
            rows, f"Decode on an {gpu}, in a CUDA graph, weights from memory")))
    return {f"{name}.png": draw(rows) for name, rows, draw in wanted if rows}


def draw(figures: dict, folder: Path) -> list[Path]:
    """Write every picture of a results file into a folder; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in pictures(figures).items():
        figure.savefig(folder / name, dpi=110, metadata={"Software": None})
        plt.close(figure)
        files.append(folder / name)
    return files
