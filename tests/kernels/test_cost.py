"""Each cost model against the tensors that its docstring names, counted one by one at sizes that share no factor."""

import inspect
import math

import pytest

from kernels import block_cost, cost

M, N, K = 5, 7, 11
X, W, Y = (M, K), (N, K), (M, N)
FP16, FP32, INT8 = 2, 4, 1
NORM = [(X, FP16), ((K,), FP16)]  # what it reads
QUANTIZED = [(X, INT8), ((M,), FP32)]
CODES = [*QUANTIZED, (W, INT8), ((N,), FP32)]  # the product's operands
GATE_UP, GATE_UP_W = (M, 2 * N), [((2 * N, K), INT8), ((2 * N,), FP32)]
TENSORS = {  # read or written
    "gemv_bytes": ((N, K), [(W, FP16), ((K,), FP16), ((N,), FP16)]),
    "matmul_fp16_bytes": ((M, N, K), [(X, FP16), (W, FP16), (Y, FP16)]),
    "quantize_int8_perrow_bytes": ((M, K), [(X, FP16), *QUANTIZED]),
    "perrow_w8a8_matmul_bytes": ((M, N, K), [*CODES, (Y, FP16)]),
    "unfused_bytes": ((M, N, K), [*NORM, (X, FP16), (X, FP16), *QUANTIZED, (X, INT8), (W, INT8), (Y, FP32), (Y, FP32),
                                  ((M,), FP32), ((N,), FP32), (Y, FP16)]),
    "epilogue_fused_bytes": ((M, N, K), [*NORM, (X, FP16), (X, FP16), *QUANTIZED, *CODES, (Y, FP16)]),
    "producer_fused_bytes": ((M, N, K), [*NORM, *QUANTIZED, *CODES, (Y, FP16)]),
    "silu_apart_bytes": ((M, N, K), [*QUANTIZED, *GATE_UP_W, (GATE_UP, FP16), (GATE_UP, FP16), (Y, FP16), (Y, FP16),
                                     (Y, INT8), ((M,), FP32)]),
    "silu_in_quantizer_bytes": ((M, N, K), [*QUANTIZED, *GATE_UP_W, (GATE_UP, FP16), (GATE_UP, FP16), (Y, INT8),
                                            ((M,), FP32)]),
    "silu_in_epilogue_bytes": ((M, N, K), [*QUANTIZED, *GATE_UP_W, (Y, FP16), (Y, FP16), (Y, INT8), ((M,), FP32)]),
    "kv_cache_bytes": ((3, 13, 5), [((3, 13, 2, 5), FP16)]),
}
LAYERS = ((4, 4), (2, 4), (2, 4), (4, 4), (9, 4), (9, 4), (4, 9))  # (N, K) of a block's products: 156 weights
NUMBERS = {  # by arguments
    "gemv_flops": {(N, K): 2 * N * K}, "matmul_flops": {(M, N, K): 2 * M * N * K},
    "sectors_per_request": {(0, 4): 1, (1, 1): 1, (1, 2): 2, (1, 4): 4, (2, 4): 8, (3, 2): 6, (1, 32): 32, (40, 1): 32,
                            (2, 32): 32},
    "tiled_matmul_bytes": {(65, 129, 7, 64, 128): 2 * (65 * 7 * 2 + 129 * 7 * 2 + 65 * 129),
                           (64, 128, 7, 64, 128): 2 * (64 * 7 + 128 * 7 + 64 * 128)},
    "words_of_four_codes": {(0, 0, 64, 1): 1, (1, 4, 64, 1): 1, (1, 4, 65, 1): 2, (0, 2, 64, 1): 2, (3, 0, 1, 64): 4,
                            (0, 0, 64, 2): 2, (1, 0, 1, 3): 3},
    "scaling_flops": {(1, 1, 128, 128): 2, (1, 1, 129, 128): 5, (1, 1, 256, 128): 5, (M, N, 300, 128): M * N * 8},
    "group_w8a8_matmul_bytes": {(2, 3, 200, 128): 2 * 200 + 3 * 200 + 4 * (2 + 3) * 2 + 2 * 2 * 3,
                                (2, 3, 128, 128): 2 * 128 + 3 * 128 + 4 * (2 + 3) + 2 * 2 * 3},
    "main_loop_quantizations": {(65, 129, 7, 64, 128): 65 * 7 * 2, (65, 128, 7, 64, 128): 65 * 7},
    "roofline_us": {(6e6, 8e3, 2, 4): 3, (6e6, 20e3, 2, 4): 5},
    "achieved_gb_per_s": {(8e6, 4): 2000}, "achieved_tflops": {(8e6, 4): 2},
    "attainable_tflops": {(10, 700, 4000): 40, (1e3, 700, 4000): 700, (175, 700, 4000): 700},
    # FP16 by traffic, 2 bytes each; INT8's pass over x, then its traffic; and all three by arithmetic
    "int8_gain": {(M, N, K, 1e9, 1e9, 1.0): 334 / ((110 + 55 + 20) + (55 + 77 + 48 + 70)),
                  (10**6, 10**6, 10**6, 1.0, 2.0, 1e9): 2},
    "block_products": {(4, 2, 9): {"q": (4, 4), "k": (2, 4), "v": (2, 4), "o": (4, 4), "gate": (9, 4), "up": (9, 4),
                                   "down": (4, 9)}},
    "block_weights": {(4, 2, 9): 16 + 8 + 8 + 16 + 36 + 36 + 36},
    "products_fp16_us": {(3, 4, 2, 9, 1e-6, 1e9): 2 * 3 * 156, (3, 4, 2, 9, 1e9, 1e-3): sum(
        FP16 * (3 * k + n * k + 3 * n) for n, k in LAYERS)},
    "products_int8_us": {(3, 4, 2, 9, 1e-6, 1e9): 2 * 3 * 156, (3, 4, 2, 9, 1e9, 1e-3): sum(
        3 * 3 * k + FP32 * 3 + 3 * k + n * k + FP32 * (3 + n) + FP16 * 3 * n for n, k in LAYERS)},
    "amdahl_speedup": {(0.5, 2.0): 4 / 3, (0.0, 9.0): 1, (1.0, 9.0): 9, (0.75, math.inf): 4},
}
FUNCTIONS = dict(inspect.getmembers(cost, inspect.isfunction) + inspect.getmembers(block_cost, inspect.isfunction))


@pytest.mark.parametrize("name", TENSORS)
def test_bytes_are_those_of_the_tensors(name):
    sizes, tensors = TENSORS[name]
    assert FUNCTIONS[name](*sizes) == sum(math.prod(shape) * size for shape, size in tensors)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_as_counted_by_hand(name):
    for arguments, want in NUMBERS[name].items():
        found = FUNCTIONS[name](*arguments)
        assert found == (want if isinstance(want, dict) else pytest.approx(want, rel=1e-8)), arguments


def test_every_model_is_counted():
    assert set(FUNCTIONS) == set(TENSORS) | set(NUMBERS)
