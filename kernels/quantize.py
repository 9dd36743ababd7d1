"""Per-row symmetric INT8 quantization: each row of x becomes codes from -127 to 127 and one FP32 scale.

    scale = amax / 127        amax, the row's largest magnitude
    q = round(x / scale)      halves to the even neighbour

The ladder:
  quantize_int8_perrow_torch               the definition.
  quantize_int8_perrow_plain_kernel        one program per row, the whole row in registers, each step written out.
  quantize_int8_perrow_kernel              the same with fewer instructions and two hints to the cache.
  quantize_int8_perrow_two_blocks_kernel   the row in two blocks, for blocks are powers of two and most rows are not.
  quantize_int8_perrow_long_kernel         the row in chunks, twice: once for amax, once for the codes. The second
                                           reading finds a row that other programs have not pushed out of the cache.

`quantize_int8_perrow` takes the one that fits the row's length. A row of zeros gives q = 0 and scale = 0. A row that
holds NaN or Inf gives q = 0 and scale = NaN, so whatever is computed from it is NaN, and only that.

Instructions, not memory, limit a simple kernel: 3 bytes an element at 4.1 TB/s leave an H200 some 20
instructions for each.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from kernels.arguments import expect, expect_rows
from kernels.launch import Launch, Plans, room
from kernels.runtime import INTERPRETED

FLOATS = (torch.float16, torch.bfloat16)

Codes = tuple[torch.Tensor, torch.Tensor]
"""Codes (M, K) int8 and scales (M,) float32."""

LONG = 16384
"""From this K on a row goes through the registers in chunks."""

ON_GPU = tl.constexpr(not INTERPRETED)
"""NumPy, and so the interpreter, differs in two things used here: the lesser of NaN and a number, and `tl.fma`."""


def quantize_int8_perrow_torch(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q = round(x / scale), halves to even, and scale = max |x| / 127 of each row.

    All in FP32. x (M, K) -> q (M, K) int8 from -127 to 127, scale (M,) float32. A
    row of zeros gives q = 0 and scale = 0, a row that holds NaN or Inf scale = NaN.
    """
    x = x.float()
    amax = x.abs().amax(dim=1)
    scale = torch.where(amax.isfinite(), amax / 127, torch.nan)
    q = (x / scale[:, None]).round().clamp(-127, 127)
    q = torch.where(scale[:, None] > 0, q, 0)
    return q.to(torch.int8), scale


@triton.jit
def quantize_int8_perrow_plain_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """q[m, :] = round(x[m, :] / scale[m]), scale[m] = max |x[m, :]| / 127; BLOCK_K ≥ K."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm can pass 2³¹
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + m * stride_xm + offs_k, mask=mask_k, other=0.0).to(tl.float32)
    magnitude = tl.abs(x)
    magnitude = tl.where(magnitude < float("inf"), magnitude, float("inf"))  # NaN becomes Inf
    amax = tl.max(magnitude, axis=0)
    scale = tl.where(amax < float("inf"), tl.div_rn(amax, 127.0), float("nan"))
    quotient = tl.where(scale > 0.0, tl.div_rn(x, scale), 0.0)
    quotient = tl.minimum(tl.maximum(quotient, -127.0), 127.0)
    q = (quotient + 12582912.0) - 12582912.0  # rounds: at 1.5 · 2²³ FP32 numbers are whole
    tl.store(scale_ptr + m, scale)
    tl.store(q_ptr + m * stride_qm + offs_k, q.to(tl.int8), mask=mask_k)


@triton.jit
def quantize_int8_perrow_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """q[m, :] = round(x[m, :] / scale[m]), scale[m] = max |x[m, :]| / 127, program m for row m; BLOCK_K ≥ K.

    The cache is asked to keep q, which the product reads next, rather than x, which nobody does.
    """
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm passes 2³¹ for a long batch
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x_ptrs = x_ptr + m * stride_xm + offs_k
    x = tl.load(x_ptrs, mask=mask_k, other=0.0, eviction_policy="evict_first")  # (BLOCK_K,)
    scale = row_scale(tl.max(finite_or_inf(x), axis=0))
    tl.store(scale_ptr + m, scale)
    q_ptrs = q_ptr + m * stride_qm + offs_k
    tl.store(q_ptrs, codes(x, scale), mask=mask_k, eviction_policy="evict_last")


@triton.jit
def quantize_int8_perrow_two_blocks_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    HEAD: tl.constexpr, TAIL: tl.constexpr,
):
    """The same with the row in two blocks, HEAD ≤ K ≤ HEAD + TAIL: few lanes idle where K is no power of two."""
    m = tl.program_id(0).to(tl.int64)
    offs_head = tl.arange(0, HEAD)
    offs_tail = HEAD + tl.arange(0, TAIL)
    mask_tail = offs_tail < K
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * stride_qm
    head = tl.load(x_row + offs_head, eviction_policy="evict_first")  # (HEAD,)
    tail = tl.load(x_row + offs_tail, mask=mask_tail, other=0.0, eviction_policy="evict_first")  # (TAIL,)
    scale = row_scale(tl.maximum(tl.max(finite_or_inf(head), axis=0), tl.max(finite_or_inf(tail), axis=0)))
    tl.store(scale_ptr + m, scale)
    tl.store(q_row + offs_head, codes(head, scale), eviction_policy="evict_last")
    tl.store(q_row + offs_tail, codes(tail, scale), mask=mask_tail, eviction_policy="evict_last")


@triton.jit
def quantize_int8_perrow_long_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm, stride_qm,
    BLOCK_K: tl.constexpr,
):
    """The same for rows of any length, in chunks of BLOCK_K, read twice: for amax, and for q."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm can pass 2³¹
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * stride_qm
    magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)  # each lane keeps its own maximum
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0)  # (BLOCK_K,)
        magnitude = tl.maximum(magnitude, finite_or_inf(x))
    scale = row_scale(tl.max(magnitude, axis=0))
    tl.store(scale_ptr + m, scale)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0, eviction_policy="evict_first")
        tl.store(q_row + offs_k, codes(x, scale), mask=offs_k < K, eviction_policy="evict_last")


@triton.jit
def finite_or_inf(x):
    """|x| in FP32, and Inf where x is NaN.

    A maximum would pass over a NaN, but keeps an Inf.
    """
    magnitude = tl.abs(x.to(tl.float32))
    if ON_GPU:  # where the lesser of NaN and a number is the number
        return tl.minimum(magnitude, float("inf"))
    return tl.where(magnitude < float("inf"), magnitude, float("inf"))


@triton.jit
def row_scale(amax):
    """amax / 127, rounded to nearest; NaN if amax is Inf.

    `/` alone may be off by two units in the last place.
    """
    return tl.where(amax < float("inf"), tl.div_rn(amax, 127.0), float("nan"))


@triton.jit
def codes(x, scale):
    """round(x / scale) as int8, halves to even, from -127 to 127.

    0 where scale is 0 or NaN.
    """
    if (scale > 1e-30) & (scale < float("inf")):
        # below 127.5, for scale is right to 24 bits
        quotient = divide(x.to(tl.float32), scale)
    else:
        # a row of zeros, or with NaN or Inf, or so small that scale has fewer bits
        # (in BF16 and FP32)
        usable = scale > 0.0
        quotient = tl.div_rn(x.to(tl.float32), tl.where(usable, scale, 1.0))
        quotient = tl.where(usable, quotient, 0.0)
        quotient = tl.minimum(tl.maximum(quotient, -127.0), 127.0)
    # At 1.5 · 2²³ FP32 numbers are whole, so this sum is rounded to the nearest one,
    # halves to even, and its lowest eight bits are that number as int8.
    return (quotient + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit
def divide(x, scale):
    """x / scale rounded to nearest, many numbers by one: `tl.div_rn` with the work on scale alone done once.

    A product with 1 / scale is off by up to two units in the last place; the remainder that it leaves, exact in a fused
    multiply-add, corrects it (P. Markstein, "Computation of elementary functions on the IBM RISC System/6000
    processor", IBM J. Res. Dev. 34(1), 1990). For all pairs of FP16 numbers, and all of BF16, the code is that of the
    quotient (`tests/gpu/gpu_report.py`), at a third of the instructions: 0.98 instead of 0.65 of the speed of a copy.
    """
    if ON_GPU:  # where fma rounds once
        inverse = tl.div_rn(1.0, scale)
        quotient = x * inverse
        quotient = tl.fma(tl.fma(-quotient, scale, x), inverse, quotient)
    else:
        quotient = tl.div_rn(x, scale)
    return quotient


def quantize_int8_perrow_plain(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantize_int8_perrow` by the plain kernel."""
    q, scale = empty_codes(x)
    M, K = x.shape
    quantize_int8_perrow_plain_kernel[(M,)](
        x, q, scale, K, x.stride(0), q.stride(0), BLOCK_K=triton.next_power_of_2(K),
    )
    return q, scale


def quantize_int8_perrow_long(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantize_int8_perrow` by the kernel for long rows."""
    q, scale = empty_codes(x)
    M, K = x.shape
    quantize_int8_perrow_long_kernel[(M,)](
        x, q, scale, K, x.stride(0), q.stride(0), BLOCK_K=4096, num_warps=8,
    )
    return q, scale


def quantize_int8_perrow(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """INT8 codes and FP32 scales of the rows of x.

    x (M, K) float16 or bfloat16, contiguous along K, M may be 0 -> q (M, K) int8,
    scale (M,) float32.
    """
    return _quantize(x)


def plan_codes(x: torch.Tensor) -> Callable[[torch.Tensor], Codes]:
    """`quantize_int8_perrow` of all tensors like x. Raises TypeError or ValueError where it cannot be quantized."""
    expect_quantizable(x)
    M, K = x.shape
    rooms, launch = rooms_for_codes(M, K, x.device), plan_quantize(x)

    def call(x: torch.Tensor) -> Codes:
        q, scale = rooms()
        launch(x, q, scale)
        return q, scale

    return call


_quantize = Plans(plan_codes)


def plan_quantize(x: torch.Tensor) -> Launch:
    """The launch with (x, q, scale) that writes the codes and scales of x (M, K), contiguous along K."""
    M, K = x.shape
    row, num_warps = blocks_of_row(K)
    if K >= LONG:
        kernel, row, num_warps = quantize_int8_perrow_long_kernel, {"BLOCK_K": 4096}, 8
    elif row["TAIL"] == 0:
        kernel, row = quantize_int8_perrow_kernel, {"BLOCK_K": row["HEAD"]}
    else:
        kernel = quantize_int8_perrow_two_blocks_kernel
    return Launch(kernel, (M,), (K, x.stride(0), K), row, num_warps=num_warps)


def blocks_of_row(K: int) -> tuple[dict[str, int], int]:
    """The blocks HEAD and TAIL, which may be 0, that hold a row of K < LONG numbers, and the warps of its program."""
    whole = triton.next_power_of_2(K)
    if K <= 1024 or whole <= 4096 and whole * 3 // 4 < K:
        return {"HEAD": whole, "TAIL": 0}, _warps(whole, 1024)
    tail = max(128, triton.next_power_of_2(K - whole // 2))
    return {"HEAD": whole // 2, "TAIL": tail}, _warps(whole // 2 + tail, 1536)


def _warps(elements: int, per_warp: int) -> int:
    """32 to 64 elements a thread did best on the H200: fewer leave too little in flight, more too few threads."""
    return next(warps for warps in (8, 4, 2, 1) if warps == 1 or elements >= per_warp * warps)


def empty_codes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the codes and scales of x (M, K). Raises TypeError or ValueError where x cannot be quantized."""
    expect_quantizable(x)
    M, K = x.shape
    return room_for_codes(M, K, x.device)


def expect_quantizable(x: torch.Tensor) -> None:
    """Raises TypeError or ValueError unless x is (M, K) float16 or bfloat16, contiguous along K."""
    expect("x", x, ("M", "K"), FLOATS, batch=True)
    expect_rows("x", x)


def room_for_codes(M: int, K: int, device: torch.device) -> Codes:
    """Codes (M, K) int8 and scales (M,) float32, not yet written."""
    q = torch.empty((M, K), device=device, dtype=torch.int8)
    return q, torch.empty(M, device=device, dtype=torch.float32)


def rooms_for_codes(M: int, K: int, device: torch.device) -> Callable[[], Codes]:
    """The call that gives `room_for_codes` on the current GPU."""
    q, scale = room((M, K), torch.int8, device), room((M,), torch.float32, device)
    return lambda: (q(), scale())
