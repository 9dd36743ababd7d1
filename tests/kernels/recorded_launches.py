"""What is asked of `fake_gpu.py`: fake GPUs, calls of the library's functions; and how to read what it found."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

SCRIPT = Path(__file__).with_name("fake_gpu.py")
GPUS = {  # CUDA's programming guide, technical specifications by compute capability
    "T4": {"capability": (7, 5), "multiprocessors": 40, "shared_memory": 65_536},
    "A100": {"capability": (8, 0), "multiprocessors": 108, "shared_memory": 166_912},
    "A40": {"capability": (8, 6), "multiprocessors": 84, "shared_memory": 101_376},
    "A40, the first is fastest": {"capability": (8, 6), "multiprocessors": 84, "shared_memory": 101_376, "fastest": 0},
    "H100": {"capability": (9, 0), "multiprocessors": 132, "shared_memory": 232_448},
    "H200": {"capability": (9, 0), "multiprocessors": 132, "shared_memory": 232_448, "memory": (3_201_000, 6144)},
    "H20": {"capability": (9, 0), "multiprocessors": 78, "shared_memory": 232_448},
    "B200": {"capability": (10, 0), "multiprocessors": 148, "shared_memory": 232_448},
    "MI300X": {"capability": (9, 4), "multiprocessors": 304, "shared_memory": 65_536, "hip": "6.4"},
}
EPS = 3e-4


def tensor(dtype, *shape, pitch=None):
    """`pitch`: elements from the start of a row to that of the next, where that is more than a row."""
    return {"dtype": dtype, "shape": shape} | ({"strides": (pitch, 1)} if pitch else {})


def matmul(M, N, K, **pitches):
    return {"x": tensor("float16", M, K, pitch=pitches.get("x")), "w": tensor("float16", N, K, pitch=pitches.get("w"))}


def weights(N, K, bias=None, pitch=None):
    given = {"w_q": tensor("int8", N, K, pitch=pitch), "w_scale": tensor("float32", N)}
    return given | ({"bias": tensor(bias, N)} if bias else {})


def linear(M, N, K, dtype="float16", bias="float16", pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch), **weights(N, K, bias)}


def product(M, N, K, bias="float32", out="bfloat16", **pitches):
    given = {"x_q": tensor("int8", M, K, pitch=pitches.get("x")), "x_scale": tensor("float32", M)}
    return given | weights(N, K, bias, pitches.get("w")) | {"out_dtype": out}


def rows(dtype, M, K, pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch)}


def norm(dtype, M, K, pitch=None):
    return {"x": tensor(dtype, M, K, pitch=pitch), "weight": tensor("float32", K), "eps": EPS}


CALLS = {
    "one row": ["decode", "decode_w8a8", linear(1, 22016, 2048, "bfloat16")],
    "one row, few long": ["decode", "decode_w8a8", linear(1, 512, 8192, bias=None)],
    **{f"{M} rows": ["decode", "decode_w8a8", linear(M, 4096, 4096, pitch=4112)] for M in (2, 32, 33)},
    **{f"{M} rows, in a graph": ["decode", "decode_w8a8", linear(M, 4096, 4096, pitch=4112), True] for M in (2, 32)},
    "16 rows, wide w": ["decode", "decode_w8a8", linear(16, 22016, 2048, bias=None)],
    "16 rows, very wide w": ["decode", "decode_w8a8", linear(16, 65536, 2048)],
    "17 rows, wide w": ["decode", "decode_w8a8", linear(17, 22016, 2048, "bfloat16", "bfloat16")],
    "64 rows, very wide w": ["decode", "decode_w8a8", linear(64, 65536, 2048)],
    "65 rows, wide w": ["decode", "decode_w8a8", linear(65, 22016, 2048, bias="float32")],
    "128 rows": ["decode", "decode_w8a8", linear(128, 1024, 8192)],
    "128 rows, wide w": ["matmul_int8", "matmul_int8", linear(128, 22016, 2048)],
    "129 rows": ["matmul_int8", "matmul_int8", linear(129, 4096, 4096, "bfloat16", "float32")],
    "many rows": ["matmul_int8", "matmul_int8", linear(16384, 6144, 2048, "bfloat16", "float16", pitch=2064)],
    "many rows, long": ["matmul_int8", "matmul_int8", linear(16384, 2048, 11008, bias=None)],
    "many rows, wide w": ["matmul_int8", "matmul_int8", linear(16384, 22016, 2048)],
    "many rows, longer": ["matmul_int8", "matmul_int8", linear(16384, 2048, 11280)],
    "many rows, short": ["matmul_int8", "matmul_int8", linear(16384, 2048, 1024)],
    "1,024 rows": ["matmul_int8", "matmul_int8", linear(1024, 4096, 4096)],
    "1,000 rows": ["matmul_int8", "matmul_int8", linear(1000, 4096, 4096, pitch=4112)],
    "many rows, odd K": ["matmul_int8", "matmul_int8", linear(1000, 520, 2049)],
    "product, few tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(80, 2048, 4096, x=4112, w=4128)],
    "product, some tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(512, 2048, 4096, bias=None)],
    "product, many tiles": ["perrow_w8a8", "perrow_w8a8_matmul", product(4096, 4096, 4096, out="float16", x=4112, w=4128)],
    "product, a tile for each of 132": ["perrow_w8a8", "perrow_w8a8_matmul", product(256, 2112, 512)],
    "product, two tiles for each of 132": ["perrow_w8a8", "perrow_w8a8_matmul", product(256, 4224, 512)],
    "product, odd N": ["perrow_w8a8", "perrow_w8a8_matmul", product(300, 1001, 256)],
    "product, grouped": ["perrow_w8a8", "perrow_w8a8_matmul_grouped", product(300, 1000, 256, w=272)],
    "product, plain": ["perrow_w8a8", "perrow_w8a8_matmul_plain", product(300, 1000, 256, x=300, w=280)],
    "int_mm": ["int_mm", "int_mm", {"x_q": tensor("int8", 300, 256, pitch=272), "w_q": tensor("int8", 520, 256, pitch=288)}],
    "FP16, few tiles": ["matmul", "matmul_fp16", matmul(80, 2048, 4096, x=4104)],
    "FP16, many tiles": ["matmul", "matmul_fp16", matmul(4096, 4096, 4096, w=4112)],
    "FP16, a tile for nearly each": ["matmul", "matmul_fp16", matmul(1024, 2048, 4096)],
    "FP16, odd K": ["matmul", "matmul_fp16", matmul(300, 1000, 257)],
    "FP16, grouped": ["matmul", "matmul_fp16_grouped", matmul(300, 1000, 256, x=264, w=272)],
    **{f"FP16, grouped, {what}": ["matmul", "matmul_fp16_grouped", matmul(*shape)] for what, shape in {
        "as many rows": (500, 1000, 256), "more rows": (600, 1000, 256), "other N": (300, 1008, 256),
        "other K": (300, 1000, 264)}.items()},
    "FP16, naive": ["matmul", "matmul_fp16_naive", matmul(300, 1000, 256, x=264, w=272)],
    **{f"quantize, K = {K}": ["quantize", "quantize_int8_perrow", rows("bfloat16", 5, K, K + 8)]
       for K in (1, 1024, 1025, 1600, 2048, 3000, 4096, 5120, 8192, 11008, 16383, 16384)},
    "quantize, plain": ["quantize", "quantize_int8_perrow_plain", rows("float16", 5, 700, 704)],
    **{f"norm, K = {K}": ["fused", "rmsnorm_quantize_int8", norm("bfloat16", 5, K, K + 8)]
       for K in (100, 4096, 5632, 16384, 20000)},
    "norm, plain": ["fused", "rmsnorm_quantize_int8_plain", norm("float16", 5, 700, 704)],
    "norm, long": ["fused", "rmsnorm_quantize_int8_long", norm("float16", 5, 7000, 7008)],
    "norm, FP16": ["plans", "rmsnorm", norm("float16", 5, 5000, 5008)],
    **{f"gate and up, K = {K}": ["fused", "silu_mul_quantize_int8", {"gate": tensor("float16", 5, K, pitch=2 * K),
                                                            "up": tensor("float16", 5, K, pitch=3 * K)}]
       for K in (100, 11008, 20000)},
    "gate and up, plain": ["fused", "silu_mul_quantize_int8_plain", {"gate": tensor("float16", 5, 700, pitch=704),
                                                            "up": tensor("float16", 5, 700, pitch=720)}],
    "scaled sums": ["plans", "scale_sums", {"acc": tensor("int32", 5, 3000, pitch=3008), "x_scale": tensor("float32", 5),
                                   "w_scale": tensor("float32", 3000)}],
    **{f"FP16 GEMV, {rung}": ["gemv", rung, {"x": tensor("float16", 300), "w": tensor("float16", 1001, 300, pitch=304)}]
       for rung in ("gemv_fp16_row", "gemv_fp16")},
    **{f"INT8 GEMV, {rung}": ["gemv_int8", rung, {"x": tensor("bfloat16", 300), **weights(1001, 300, pitch=304)}]
       for rung in ("gemv_w8a16_row", "gemv_w8a16")},
    **{f"the longest row, {rung}": [module, rung, given] for module, rung, given in [
        ("gemv", "gemv_fp16_row", {"x": tensor("float16", 65536), "w": tensor("float16", 9, 65536)}),
        ("gemv_int8", "gemv_w8a16_row", {"x": tensor("bfloat16", 65536), **weights(9, 65536)})]},
    "codes GEMV": ["gemv_int8", "gemv_w8a8_row", {"x_q": tensor("int8", 300), "x_scale": tensor("float32", 1),
                                     **weights(1001, 300, pitch=304)}],
    "skinny": ["skinny", "skinny_w8a8", {"x_q": tensor("int8", 5, 700, pitch=704), "x_scale": tensor("float32", 5),
                               **weights(1001, 700, pitch=720)}],
    "split K": ["skinny", "split_k_w8a8", {"x_q": tensor("int8", 5, 700, pitch=704), "x_scale": tensor("float32", 5),
                                 **weights(1001, 700, pitch=720)}],
}


@cache
def on_each_gpu() -> dict:
    """{gpu: {call: [launch, ...]}}, or in place of the launches what the call raised."""
    asked = json.dumps({"gpus": GPUS, "calls": CALLS})
    done = subprocess.run([sys.executable, SCRIPT], input=asked, capture_output=True, text=True, timeout=300,
                          cwd=SCRIPT.parents[2], env={"PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def launches(of_gpu):
    """(call, its arguments, launch as a namespace with its arguments as one more) of every launch."""
    for call, launched in of_gpu.items():
        for launch in launched if isinstance(launched, list) else ():
            if "kernel" in launch:
                yield call, CALLS[call][2], SimpleNamespace(**launch | {"arguments": SimpleNamespace(**launch["arguments"])})


def sizes(given):
    """M, N and K of a call."""
    x = next(given[name]["shape"] for name in ("x", "x_q", "gate", "acc") if name in given)
    N = next((given[name]["shape"][0] for name in ("w", "w_q", "w_scale") if name in given), None)
    return (x[0] if len(x) == 2 else 1), N, x[-1]


def pitch(given, name):
    return given[name].get("strides", given[name]["shape"][-1:])[0]


def chosen(of_gpu, call):
    """The last launch of a call: the product, whatever was timed before it."""
    return [launch for name, _, launch in launches(of_gpu) if name == call][-1]


def timed(of_gpu, call):
    return [launch for name, _, launch in launches(of_gpu) if name == call and launch.timed]
