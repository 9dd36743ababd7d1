"""Figures computed from a formula, for tests of what reads figures: no one measured them, and no file keeps them."""

from kernels.cost import roofline_us

ROOFS = {"copy_gb_per_s": 4000.0, "read_gb_per_s": 4200.0, "fp16_tflops": 700.0, "int8_tops": 1400.0,
         "fp16_by": "cuBLAS FP16", "int8_by": "perrow_w8a8_matmul"}
PART = {"cuBLAS FP16": 0.9, "matmul_fp16_naive": 0.6, "matmul_fp16": 0.92, "perrow_w8a8_matmul": 0.95}


def row(test, function, M, N, K, mode="eager", extra_us=0.0):
    """A row whose time is that of the roofline, divided by a part of its own for each function, plus extra_us."""
    if function.startswith("copy of x, then "):
        extra_us, function_alone = extra_us + 3, function.removeprefix("copy of x, then ")
        return {**row(test, function_alone, M, N, K, mode, extra_us), "function": function}
    if function == "copy of x":
        return {**row("quant", "copy", M, 1, K, mode), "test": test, "function": function, "N": N}
    int8 = any(word in function for word in ("int8", "w8", "int_mm"))
    if test.startswith("quant"):
        num_bytes, flops = 3 * M * K + 4 * M, 0
    else:
        num_bytes, flops = (1 if int8 else 2) * (N * K + M * K) + 2 * M * N, 2 * M * N * K
    least = roofline_us(flops, num_bytes, ROOFS["int8_tops" if int8 else "fp16_tflops"], ROOFS["copy_gb_per_s"])
    us = least / PART.get(function, 0.8) + 2 + extra_us
    return {"test": test, "function": function, "M": M, "N": N, "K": K, "mode": mode, "bytes": num_bytes, "flops": flops,
            "median_us": us, "low_us": 0.97 * us, "high_us": 1.04 * us, "gb_per_s": num_bytes / us / 1e3,
            "tflops": flops / us / 1e6 if flops else None}
