"""What one block of a Llama-shaped model costs: weights, bytes and the least time of its products.

dim is the width of a token's row, kv_dim that of its keys (and of its values), hidden the width of the MLP's middle.
"""

from kernels.cost import (
    matmul_flops,
    matmul_fp16_bytes,
    perrow_w8a8_matmul_bytes,
    quantize_int8_perrow_bytes,
    roofline_us,
)

LLAMA_3_8B_DIMS = {"dim": 4096, "kv_dim": 1024, "hidden": 14_336}


def block_products(dim: int, kv_dim: int, hidden: int) -> dict[str, tuple[int, int]]:
    """(N, K) of each of the seven products of a block, by the layer's name."""
    return {"q": (dim, dim), "k": (kv_dim, dim), "v": (kv_dim, dim), "o": (dim, dim),
            "gate": (hidden, dim), "up": (hidden, dim), "down": (dim, hidden)}


def block_weights(dim: int, kv_dim: int, hidden: int) -> int:
    """How many weights the seven products of a block have."""
    return 2 * dim * dim + 2 * dim * kv_dim + 3 * dim * hidden


def kv_cache_bytes(batch: int, context: int, kv_dim: int) -> int:
    """Bytes of keys and values that one block must read for one new token of each of `batch`
    sequences, each with `context` tokens in its FP16 cache."""
    return batch * context * 2 * kv_dim * 2


def products_fp16_us(
    M: int, dim: int, kv_dim: int, hidden: int, tflops: float, gb_per_s: float,
) -> float:
    """The least time of a block's seven FP16 products for M tokens, in microseconds."""
    return sum(roofline_us(matmul_flops(M, N, K), matmul_fp16_bytes(M, N, K), tflops, gb_per_s)
               for N, K in block_products(dim, kv_dim, hidden).values())


def products_int8_us(
    M: int, dim: int, kv_dim: int, hidden: int, tops: float, gb_per_s: float,
) -> float:
    """The least time of the same in INT8: each product after a pass that quantizes its x (M, K).

    The two follow each other, so their times add. Quantizing is bound by memory alone.
    """
    us = 0.0
    for N, K in block_products(dim, kv_dim, hidden).values():
        us += roofline_us(0, quantize_int8_perrow_bytes(M, K), tops, gb_per_s)
        us += roofline_us(matmul_flops(M, N, K), perrow_w8a8_matmul_bytes(M, N, K), tops, gb_per_s)
    return us


def amdahl_speedup(fraction: float, speedup: float) -> float:
    """How many times as fast the whole becomes when a part of it becomes `speedup` times as fast.

    The part takes `fraction` (0 to 1) of the time before. G. Amdahl, "Validity of the single
    processor approach to achieving large scale computing capabilities", AFIPS 1967.
    """
    return 1 / (1 - fraction + fraction / speedup)
