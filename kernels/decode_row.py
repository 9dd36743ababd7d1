"""y = x @ w.T for one row of x with INT8 weights in one launch: each program quantizes x for itself.

`kernels.decode` takes two launches, the quantizer and the product, so that x is quantized once. With few programs and a
short row that costs more than it saves: for w (1,024, 4,096) 3.8 µs against 2.9 in one launch on an H200, for (4,096, 4,096)
7.4 against 7.2; and the host launches and allocates more. With many programs it pays, 18.7 µs against 20.0 for (14,336,
4,096), and with a long row, 18.2 against 27.5 for (4,096, 14,336). Codes, sums and rounding are the same, and so is each
bit of y, in FP16 and in BF16.
"""

from collections.abc import Callable

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.launch import Launch
from kernels.quantize import codes, finite_or_inf, row_scale
from kernels.runtime import INTERPRETED

BLOCK_N = 64 if INTERPRETED else 4
MAX_K = 4096
"""The longest row: a program holds it in registers, and BLOCK_N rows of w."""


def one_launch(N: int, K: int, multiprocessors: int) -> bool:
    """Whether one row of x goes in one launch: the row is short, and all programs run at once, eight on a multiprocessor."""
    return K <= MAX_K and triton.cdiv(N, 4) <= 8 * multiprocessors


@triton.jit
def decode_row_kernel(
    x_ptr, w_ptr, y_ptr, w_scale_ptr, bias_ptr,
    N, K,
    stride_wn,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, OVERLAP: tl.constexpr,
):
    """y[n] = (Σ_k q[k] · w[n, k]) · x_scale · w_scale[n] + bias[n], q the codes of x; BLOCK_K ≥ K."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    mask_n = offs_n < N
    mask_k = offs_k < K
    if OVERLAP:
        gdc_wait()  # before the first load: w, too, may come from the kernel before this
        gdc_launch_dependents()
    w_ptrs = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn + offs_k[None, :]
    w = tl.load(w_ptrs, mask=mask_n[:, None] & mask_k[None, :], other=0)  # (BLOCK_N, BLOCK_K)
    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)  # (BLOCK_K,)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    x_scale = row_scale(tl.max(finite_or_inf(x), axis=0))
    q = codes(x, x_scale).to(tl.int32)
    acc = tl.sum(w.to(tl.int32) * q[None, :], axis=1)  # (BLOCK_N,)
    y = acc.to(tl.float32) * x_scale * w_scale
    if bias_ptr is not None:
        y += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)
    tl.store(y_ptr + offs_n, y.to(y_ptr.dtype.element_ty), mask=mask_n)


def plan_row(N: int, K: int, stride_wn: int, overlap: dict[str, int], options: dict[str, int]) -> Callable[..., None]:
    """The call with (x, w_q, w_scale, bias, y) that writes y, for w_q (N, K) with rows `stride_wn` apart.

    `overlap` and `options` are those of programmatic dependent launch (`kernels.decode`).
    """
    BLOCK_K = triton.next_power_of_2(K)
    launch = Launch(decode_row_kernel, (triton.cdiv(N, BLOCK_N),), (N, K, stride_wn),
                    {"BLOCK_N": BLOCK_N, "BLOCK_K": BLOCK_K, **overlap}, num_warps=4, **options)
    return lambda x, w_q, w_scale, bias, y: launch(x, w_q, y, w_scale, bias)
