"""What an operation costs at the least: floating-point operations, bytes, and the time they imply.

Bytes are those that must cross between memory and chip when each input is read once and each output written once.
1 GB is 1e9 bytes, 1 TFLOPS is 1e12 operations a second.
"""


def gemv_flops(N: int, K: int) -> int:
    """Operations of y = W x with W (N, K): one multiply and one add for each weight."""
    return 2 * N * K


def gemv_bytes(N: int, K: int) -> int:
    """Bytes that y = W x must move in FP16: W (N, K) and x (K,) in, y (N,) out."""
    return 2 * (N * K + K + N)


def sectors_per_request(stride: int, element_bytes: int) -> int:
    """Sectors of 32 bytes that a warp touches when thread i of its 32 loads element i * stride.

    An element takes 1, 2, 4, 8, 16 or 32 bytes; the first one begins a sector; stride ≥ 0.
    """
    return max(1, min(32, stride * element_bytes))


def matmul_flops(M: int, N: int, K: int) -> int:
    """Operations of y = x wᵀ with x (M, K), w (N, K), integer or not: two for each product."""
    return 2 * M * N * K


def matmul_fp16_bytes(M: int, N: int, K: int) -> int:
    """Bytes that y = x wᵀ must move in FP16: x (M, K) and w (N, K) in, y (M, N) out."""
    return 2 * (M * K + N * K + M * N)


def tiled_matmul_bytes(M: int, N: int, K: int, BLOCK_M: int, BLOCK_N: int) -> int:
    """Bytes that all programs ask for in FP16, one program for each (BLOCK_M, BLOCK_N) tile of y.

    Each reads its tile's rows of x and of w once, as far as they exist, and writes its tile.
    """
    rows_of_tiles, columns_of_tiles = -(-M // BLOCK_M), -(-N // BLOCK_N)  # rounded up
    return 2 * (M * K * columns_of_tiles + N * K * rows_of_tiles + M * N)


def quantize_int8_perrow_bytes(M: int, K: int) -> int:
    """Bytes that per-row quantization must move: x (M, K) FP16 in, codes (M, K) INT8 and scales
    (M,) FP32 out."""
    return 2 * M * K + M * K + 4 * M


def words_of_four_codes(n: int, k: int, stride_n: int, stride_k: int) -> int:
    """In how many words of four bytes INT8 codes w[n, k] to w[n, k + 3] lie; w starts at a word.

    On an NVIDIA GPU these four share a register when tensor cores multiply.
    """
    return len({(n * stride_n + (k + i) * stride_k) // 4 for i in range(4)})


def scaling_flops(M: int, N: int, K: int, GROUP_K: int) -> int:
    """FP32 operations of scaling INT32 sums, where every GROUP_K codes along K share one scale in x
    and one in w: each group's sum times both scales, and the groups of an element added up."""
    groups = -(-K // GROUP_K)  # rounded up
    return M * N * (2 * groups + groups - 1)


def perrow_w8a8_matmul_bytes(M: int, N: int, K: int) -> int:
    """Bytes that the INT8 product must move: codes (M, K) and (N, K) and their FP32 scales in,
    y (M, N) FP16 out."""
    return M * K + N * K + 4 * (M + N) + 2 * M * N


def group_w8a8_matmul_bytes(M: int, N: int, K: int, GROUP_K: int) -> int:
    """Bytes that the same product must move with a scale for each row and each GROUP_K codes along K."""
    groups = -(-K // GROUP_K)  # rounded up
    return M * K + N * K + 4 * (M + N) * groups + 2 * M * N


def unfused_bytes(M: int, N: int, K: int) -> int:
    """Bytes of y = norm(x) wᵀ in four passes, each writing its result to memory for the next.

    RMSNorm: FP16 to FP16. Quantizer: FP16 to INT8. Product: INT8 to INT32 sums. Scaling: INT32 to
    FP16. x and norm(x) are (M, K), the norm's weight (K,), the codes of w (N, K), y (M, N), scales
    FP32.
    """
    norm = 2 * M * K + 2 * K + 2 * M * K
    quantizer = 2 * M * K + M * K + 4 * M
    product = M * K + N * K + 4 * M * N
    scaling = 4 * M * N + 4 * (M + N) + 2 * M * N
    return norm + quantizer + product + scaling


def epilogue_fused_bytes(M: int, N: int, K: int) -> int:
    """Bytes of the same in three passes: the product scales its sums itself and writes FP16."""
    norm = 2 * M * K + 2 * K + 2 * M * K
    quantizer = 2 * M * K + M * K + 4 * M
    product = M * K + N * K + 4 * (M + N) + 2 * M * N
    return norm + quantizer + product


def producer_fused_bytes(M: int, N: int, K: int) -> int:
    """Bytes of the same in two passes: the norm writes INT8 itself as well."""
    norm = 2 * M * K + 2 * K + M * K + 4 * M
    product = M * K + N * K + 4 * (M + N) + 2 * M * N
    return norm + product


def silu_apart_bytes(M: int, N: int, K: int) -> int:
    """Bytes from the codes of x (M, K) to those of h = silu(gate) · up (M, N), in
    three passes.

    Product: codes to gate and up in FP16, (M, 2N), w (2N, K). SiLU·mul: FP16 to
    FP16. Quantizer: FP16 to INT8. Scales are FP32.
    """
    product = M * K + 2 * N * K + 4 * (M + 2 * N) + 2 * M * 2 * N
    silu_mul = 2 * M * 2 * N + 2 * M * N
    quantizer = 2 * M * N + M * N + 4 * M
    return product + silu_mul + quantizer


def silu_in_quantizer_bytes(M: int, N: int, K: int) -> int:
    """Bytes of the same in two passes: the quantizer computes SiLU·mul itself."""
    product = M * K + 2 * N * K + 4 * (M + 2 * N) + 2 * M * 2 * N
    quantizer = 2 * M * 2 * N + M * N + 4 * M
    return product + quantizer


def silu_in_epilogue_bytes(M: int, N: int, K: int) -> int:
    """Bytes of the same in two passes: the product computes SiLU·mul itself and writes h."""
    product = M * K + 2 * N * K + 4 * (M + 2 * N) + 2 * M * N
    quantizer = 2 * M * N + M * N + 4 * M
    return product + quantizer


def main_loop_quantizations(M: int, N: int, K: int, BLOCK_M: int, BLOCK_N: int) -> int:
    """How many numbers all programs quantize when each reads its rows of x (M, K) in FP16 and makes
    the codes in its own loop along K, one program for each (BLOCK_M, BLOCK_N) tile of y (M, N)."""
    columns_of_tiles = -(-N // BLOCK_N)  # rounded up
    return M * K * columns_of_tiles


def roofline_us(flops: float, num_bytes: float, tflops: float, gb_per_s: float) -> float:
    """The least time in microseconds of some work on a chip of `tflops` TFLOPS and `gb_per_s` GB/s.

    Arithmetic and traffic overlap, so the slower of the two sets the time: the roofline model
    (Williams, Waterman and Patterson, CACM 52(4), 2009).
    """
    return max(flops / (tflops * 1e6), num_bytes / (gb_per_s * 1e3))


def achieved_gb_per_s(num_bytes: float, us: float) -> float:
    """GB/s of a call that moved `num_bytes`, reads plus writes, in `us` microseconds.

    1 GB is 1e9 bytes.
    """
    return num_bytes / us / 1e3


def achieved_tflops(flops: float, us: float) -> float:
    """TFLOPS of a call that did `flops` operations in `us` microseconds; of integers, TOPS."""
    return flops / us / 1e6


def attainable_tflops(intensity: float, tflops: float, gb_per_s: float) -> float:
    """The TFLOPS that the roofline allows work of `intensity` operations per byte.

    `tflops` and `gb_per_s` are the chip's two roofs. A low intensity is bound by memory.
    """
    return min(tflops, intensity * gb_per_s / 1e3)


def int8_gain(M: int, N: int, K: int,
              fp16_tflops: float, int8_tops: float, gb_per_s: float) -> float:
    """How many times as fast as the FP16 product INT8 can be, x (M, K) and w (N, K): 2 is twice.

    INT8 takes two kernels, one after the other, each as fast as its roofline: per-row
    quantization of x, which is all traffic, and the product of the codes. w is INT8 already.
    """
    flops = matmul_flops(M, N, K)
    fp16_us = roofline_us(flops, matmul_fp16_bytes(M, N, K), fp16_tflops, gb_per_s)
    quantize_us = roofline_us(0, quantize_int8_perrow_bytes(M, K), int8_tops, gb_per_s)
    int8_us = roofline_us(flops, perrow_w8a8_matmul_bytes(M, N, K), int8_tops, gb_per_s)
    return fp16_us / (quantize_us + int8_us)
