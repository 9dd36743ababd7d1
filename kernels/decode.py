"""y = x @ w.T with INT8 weights for few rows of x (decode): quantization of x included, at most 128 rows.

Reading w takes nearly all of the time, so the kernels keep that stream going and everything else out of its way.

The ladder:
  decode_quantize_kernel     the rows of x, each cut into slices: with one token, one program per row would leave the
                             GPU waiting for it. Every program reads its whole row, and rounds only its slice.
  decode_row_kernel          M = 1 where one launch is no slower than two (`kernels.decode_row`).
  decode_gemv_w8a8_kernel    M = 1 without tensor cores: products summed in INT32, rows of w straight into registers.
  decode_w8a8_kernel         M ≤ 128 on the tensor cores, operands swapped: the side of a tile that must have 64 rows on
                             Hopper takes w's, of which there are plenty, and x's few rows pad the other to 16 only.
                             Beyond 64 rows they are padded in two blocks, 64 and the rest: 65 rows cost 80, not 128.
  decode_reduce_kernel       split-K for small N: programs that share rows of w each sum a part of K, and this one adds
                             the parts. INT32 sums are exact, so the order does not matter: the same bits on every run.

On Hopper and later each launch starts while the one before it ends (programmatic dependent launch): `wait` is where a
kernel stops for the results of its predecessors. That hides launch latency, 0.6 to 1.3 µs of 8 to 10 on an H200.

Codes and scales are those of `kernels.quantize`, sums and rounding those of `kernels.perrow_w8a8`.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.arguments import expect, expect_rows
from kernels.decode_row import one_launch, plan_row
from kernels.decode_tiles import Tile, gemv_blocks, plan, plan_unsplit, row_blocks, stages
from kernels.int_mm import MAX_K
from kernels.launch import Launch, Plans, is_traced, overlapping, room
from kernels.quantize import FLOATS, Codes, codes, expect_quantizable, finite_or_inf, rooms_for_codes, row_scale
from kernels.runtime import INTERPRETED, Card, capturing, card, launching_at

MAX_M = 128
"""The most rows of x: a program holds all of them in its tile."""


@triton.jit
def decode_quantize_kernel(
    x_ptr, q_ptr, scale_ptr,
    K,
    stride_xm,
    BLOCK_K: tl.constexpr, SLICE: tl.constexpr, OVERLAP: tl.constexpr,
):
    """q[m, :] = round(x[m, :] / scale[m]), scale[m] = max |x[m, :]| / 127; program (m, s) rounds slice s of row m."""
    if OVERLAP:
        gdc_wait()
        # Not before the wait: the next kernel may fetch w at its start, and w too may come from a kernel before this.
        gdc_launch_dependents()
    m = tl.program_id(0)
    x_row = x_ptr + m.to(tl.int64) * stride_xm
    offs_s = tl.program_id(1) * SLICE + tl.arange(0, SLICE)
    x_slice = tl.load(x_row + offs_s, mask=offs_s < K, other=0.0)  # (SLICE,)
    magnitude = tl.zeros((BLOCK_K,), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        x = tl.load(x_row + offs_k, mask=offs_k < K, other=0.0)  # (BLOCK_K,)
        magnitude = tl.maximum(magnitude, finite_or_inf(x))
    scale = row_scale(tl.max(magnitude, axis=0))
    tl.store(q_ptr + m * K + offs_s, codes(x_slice, scale), mask=offs_s < K)
    tl.store(scale_ptr + m, scale)  # every slice's program stores the same number


@triton.jit
def decode_gemv_w8a8_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    N, K,
    stride_wn,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, OVERLAP: tl.constexpr,
):
    """y[n] = (Σ_k x[k] · w[n, k]) · x_scale · w_scale[n] + bias[n], BLOCK_N rows of w per program."""
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    mask_n = offs_n < N
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    if OVERLAP:
        gdc_launch_dependents()
    # w is there already, only x's codes may not be: the first weights are on their way while the wait lasts. The scales
    # and the bias come early too: loaded after the loop, they would add their whole latency, 0.9 µs of 8.
    w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & (offs_k < K)[None, :], other=0)  # (BLOCK_N, BLOCK_K)
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)  # (BLOCK_N,)
    if OVERLAP:
        gdc_wait()
    x_scale = tl.load(x_scale_ptr)
    acc = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for k in range(0, K, BLOCK_K):
        offs_next = k + BLOCK_K + offs_k
        w_next = tl.load(w_rows + offs_next[None, :], mask=mask_n[:, None] & (offs_next < K)[None, :], other=0)
        x = tl.load(x_ptr + k + offs_k, mask=k + offs_k < K, other=0)  # (BLOCK_K,)
        acc += tl.sum(w.to(tl.int32) * x.to(tl.int32)[None, :], axis=1)
        w = w_next
    y = acc.to(tl.float32) * x_scale * w_scale
    if bias_ptr is not None:
        y += bias
    tl.store(y_ptr + offs_n, y.to(y_ptr.dtype.element_ty), mask=mask_n)


@triton.jit
def rows_of_x(x_ptr, offs_m, offs_k, mask_k, M, K):
    """x[offs_m, offs_k], transposed: (BLOCK_K, rows)."""
    return tl.load(x_ptr + offs_m[None, :] * K + offs_k[:, None], mask=mask_k[:, None] & (offs_m < M)[None, :], other=0)


@triton.jit
def store_sums(
    acc, y_ptr, x_scale, w_scale, bias, offs_m, offs_n, M, N, PARTIAL: tl.constexpr, HAS_BIAS: tl.constexpr,
):
    """y[offs_m, offs_n] = acc (columns, rows), as it is where it is PARTIAL, else scaled and with bias."""
    y_ptrs = y_ptr + offs_m[None, :].to(tl.int64) * N + offs_n[:, None]
    mask = (offs_n < N)[:, None] & (offs_m < M)[None, :]
    if PARTIAL:
        tl.store(y_ptrs, acc, mask=mask)
    else:
        y = acc.to(tl.float32) * x_scale[None, :] * w_scale[:, None]
        if HAS_BIAS:
            y += bias[:, None]
        tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def decode_w8a8_kernel(
    x_ptr, w_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    stride_wn, k_per_split,
    BLOCK_M: tl.constexpr, REST: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    PARTIAL: tl.constexpr, OVERLAP: tl.constexpr,
):
    """y[m, n] = (Σ_k x[m, k] · w[n, k]) · x_scale[m] · w_scale[n] + bias[n], program (pid_n, pid_k); BLOCK_M + REST ≥ M.

    With PARTIAL, y (splits, M, N) int32 takes each program's sum over its own part of K, and nothing is scaled.
    """
    pid_k = tl.program_id(1)
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_m = tl.arange(0, BLOCK_M)
    mask_n = offs_n < N
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    k_end = tl.minimum((pid_k + 1) * k_per_split, K)
    if OVERLAP:
        gdc_launch_dependents()
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    bias = w_scale  # something to hand on, and not read, where there is none
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)  # (BLOCK_N,)
    if OVERLAP:
        gdc_wait()
    x_scale = tl.load(x_scale_ptr + offs_m, mask=offs_m < M, other=0.0)  # (BLOCK_M,)
    acc = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.int32)
    if REST > 0:
        offs_rest = BLOCK_M + tl.arange(0, REST)
        rest_scale = tl.load(x_scale_ptr + offs_rest, mask=offs_rest < M, other=0.0)  # (REST,)
        rest = tl.zeros((BLOCK_N, REST), dtype=tl.int32)
    for k in range(pid_k * k_per_split, k_end, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < k_end
        w = tl.load(w_rows + offs_k[None, :], mask=mask_n[:, None] & mask_k[None, :], other=0)  # (BLOCK_N, BLOCK_K)
        acc = tl.dot(w, rows_of_x(x_ptr, offs_m, offs_k, mask_k, M, K), acc, out_dtype=tl.int32)  # (BLOCK_N, BLOCK_M)
        if REST > 0:
            rest = tl.dot(w, rows_of_x(x_ptr, offs_rest, offs_k, mask_k, M, K), rest, out_dtype=tl.int32)
    y_part = y_ptr + pid_k.to(tl.int64) * M * N  # (M, N)
    store_sums(acc, y_part, x_scale, w_scale, bias, offs_m, offs_n, M, N, PARTIAL, bias_ptr is not None)
    if REST > 0:
        store_sums(rest, y_part, rest_scale, w_scale, bias, offs_rest, offs_n, M, N, PARTIAL, bias_ptr is not None)


@triton.jit
def decode_reduce_kernel(
    partial_ptr, y_ptr, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, splits,
    BLOCK_N: tl.constexpr, OVERLAP: tl.constexpr,
):
    """y[m, n] = (Σ_s partial[s, m, n]) · x_scale[m] · w_scale[n] + bias[n], program (m, pid_n)."""
    m = tl.program_id(0)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_n = offs_n < N
    if OVERLAP:
        gdc_launch_dependents()
    w_scale = tl.load(w_scale_ptr + offs_n, mask=mask_n, other=0.0)  # (BLOCK_N,)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)  # (BLOCK_N,)
    if OVERLAP:
        gdc_wait()
    x_scale = tl.load(x_scale_ptr + m)
    acc = tl.zeros((BLOCK_N,), dtype=tl.int32)
    for s in range(splits):
        acc += tl.load(partial_ptr + (s * M + m).to(tl.int64) * N + offs_n, mask=mask_n, other=0)
    y = acc.to(tl.float32) * x_scale * w_scale
    if bias_ptr is not None:
        y += bias
    tl.store(y_ptr + m.to(tl.int64) * N + offs_n, y.to(y_ptr.dtype.element_ty), mask=mask_n)


def decode_w8a8(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """y = x @ (w_q · w_scale[:, None]).T + bias for at most 128 rows of x, which is quantized row by row on the way.

    x (M, K) float16 or bfloat16, w_q (N, K) int8, both contiguous along K; w_scale (N,) float32; bias (N,) float16,
    bfloat16 or float32 -> y (M, N) in the dtype of x; M may be 0. Nothing is timed, so that it can be captured in a CUDA
    graph, first call included. Raises ValueError for more than 128 rows, and on a GPU before Ampere, whose INT8 tensor
    cores Triton does not reach, for more than one.
    """
    return _decode(x, w_q, w_scale, bias)


def plan_decode(
    x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    shape: tuple[int, ...] | None = None,
) -> Callable[..., torch.Tensor]:
    """The call with (x, w_q, w_scale, bias) that gives y, (M, N) or in that shape, for all tensors like these.

    Raises TypeError or ValueError where they are not as `decode_w8a8` needs them.
    """
    M, N, K = _check_decode("x", x, w_q, w_scale, bias)
    gpu, y_room = card(x.device), room(shape or (M, N), x.dtype, x.device)
    if M == 1 and one_launch(N, K, gpu.multiprocessors):
        write = plan_row(N, K, w_q.stride(0), *overlapping(gpu))
    else:
        write = _quantized(_plan_quantize(M, K, x.stride(0), gpu), plan_product(M, N, K, w_q, gpu), x)

    def call(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        y = y_room()
        write(x, w_q, w_scale, bias, y)
        return y

    return call


def _quantized(quantize: Launch, product: Callable[..., None], x: torch.Tensor) -> Callable[..., None]:
    """The call with (x, w_q, w_scale, bias, y) that quantizes an x (M, K) like this one, and multiplies its codes."""
    M, K = x.shape
    rooms = rooms_for_codes(M, K, x.device)

    def call(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor) -> None:
        x_q, x_scale = rooms()
        quantize(x, x_q, x_scale)
        product(x_q, x_scale, w_q, w_scale, bias, y)

    return call


_decode = Plans(plan_decode)


def decode_codes(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None, out_dtype: torch.dtype = torch.float16,
) -> torch.Tensor:
    """`decode_w8a8` of rows that are codes already, written by a norm or SiLU·mul: the bits of `perrow_w8a8_matmul`.

    x_q (M, K) int8 contiguous, x_scale (M,) float32, the others as in `decode_w8a8` -> y (M, N) in `out_dtype`.
    """
    return _codes(x_q, x_scale, w_q, w_scale, bias, out_dtype)


def decode_quantize(x: torch.Tensor) -> Codes:
    """`quantize_int8_perrow` for at most 128 rows, each cut into slices: x (M, K) -> q (M, K) int8, scale (M,) float32."""
    return _few(x)


def plan_decode_quantize(x: torch.Tensor) -> Callable[[torch.Tensor], Codes]:
    """`decode_quantize` of all tensors like x. Raises TypeError or ValueError where it cannot be quantized."""
    expect_quantizable(x)
    M, K = x.shape
    launch, rooms = _plan_quantize(M, K, x.stride(0), card(x.device)), rooms_for_codes(M, K, x.device)

    def call(x: torch.Tensor) -> Codes:
        q, scale = rooms()
        launch(x, q, scale)
        return q, scale

    return call


_few = Plans(plan_decode_quantize)


def plan_decode_codes(
    x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    out_dtype: torch.dtype,
) -> Callable[..., torch.Tensor]:
    """`decode_codes` of all tensors like these. Raises TypeError or ValueError where they are not as it needs them."""
    M, N, K = _check_decode("x_q", x_q, w_q, w_scale, bias, torch.int8)
    expect("x_scale", x_scale, (M,), torch.float32, device=w_q.device)
    expect_rows("x_scale", x_scale)
    if not x_q.is_contiguous():
        raise ValueError(f"x_q must be contiguous, got strides {x_q.stride()} for shape {tuple(x_q.shape)}")
    if out_dtype not in FLOATS:
        raise TypeError(f"out_dtype must be torch.float16 or torch.bfloat16, got {out_dtype}")
    product, y_room = plan_product(M, N, K, w_q, card(w_q.device)), room((M, N), out_dtype, w_q.device)

    def call(
        x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
        out_dtype: torch.dtype,
    ) -> torch.Tensor:
        y = y_room()
        product(x_q, x_scale, w_q, w_scale, bias, y)
        return y

    return call


_codes = Plans(plan_decode_codes)


def plan_product(M: int, N: int, K: int, w_q: torch.Tensor, gpu: Card) -> Callable[..., None]:
    """The call with (x_q, x_scale, w_q, w_scale, bias, y) that multiplies codes of M rows on this GPU."""
    if M == 0:
        return lambda *_: None
    if M == 1:
        return _plan_gemv(gemv_blocks(N, K, gpu.multiprocessors), N, K, w_q.stride(0), gpu)
    on_gpu = gpu.multiprocessors, gpu.capability or (8, 0)
    unsplit = plan_unsplit(M, N, K, *on_gpu)
    best = unsplit if is_traced() else plan(M, N, K, *on_gpu)
    in_graph = _plan_matmul(*best, M, w_q, gpu)
    if best == unsplit or M > 32 or INTERPRETED:
        return in_graph
    one_by_one = _plan_matmul(*unsplit, M, w_q, gpu)
    # Launched one by one, a model of few rows waits for the host: a launch less counts for more than the GPU's time.
    return lambda *tensors: (in_graph if capturing() else one_by_one)(*tensors)


def gemv_with(
    blocks: tuple[int, int, int], x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`decode_w8a8` for one row, with the given (BLOCK_N, BLOCK_K, num_warps)."""
    N, K = w_q.shape
    return _with(_plan_gemv(blocks, N, K, w_q.stride(0), card(x.device)), x, w_q, w_scale, bias)


def matmul_with(
    tile: Tile, splits: int, x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`decode_w8a8` on the tensor cores, with the given tile and number of parts of K."""
    return _with(_plan_matmul(tile, splits, len(x), w_q, card(x.device)), x, w_q, w_scale, bias)


def _with(
    product: Callable[..., None], x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
) -> torch.Tensor:
    M, K = x.shape
    y = torch.empty((M, w_q.shape[0]), device=x.device, dtype=x.dtype)
    with launching_at(x):
        _quantized(_plan_quantize(M, K, x.stride(0), card(x.device)), product, x)(x, w_q, w_scale, bias, y)
    return y


def _plan_gemv(blocks: tuple[int, int, int], N: int, K: int, stride_wn: int, gpu: Card) -> Callable[..., None]:
    BLOCK_N, BLOCK_K, num_warps = blocks
    if INTERPRETED:  # which pays per program, and knows nothing of registers
        BLOCK_N, BLOCK_K = 64, 512
    overlap, options = overlapping(gpu)
    launch = Launch(decode_gemv_w8a8_kernel, (triton.cdiv(N, BLOCK_N),), (N, K, stride_wn),
                    {"BLOCK_N": BLOCK_N, "BLOCK_K": BLOCK_K, **overlap}, num_warps=num_warps, **options)
    return lambda x_q, x_scale, w_q, w_scale, bias, y: launch(x_q, w_q, y, x_scale, w_scale, bias)


def _plan_matmul(tile: Tile, splits: int, M: int, w_q: torch.Tensor, gpu: Card) -> Callable[..., None]:
    N, K = w_q.shape
    BLOCK_M, REST = row_blocks(M)
    k_per_split = triton.cdiv(triton.cdiv(K, splits), 128) * 128  # parts that start on a cache line
    splits = triton.cdiv(K, k_per_split)
    overlap, options = overlapping(gpu)
    blocks = {"BLOCK_M": BLOCK_M, "REST": REST, "BLOCK_N": tile.BLOCK_N, "BLOCK_K": tile.BLOCK_K, "PARTIAL": splits > 1}
    multiply = Launch(decode_w8a8_kernel, (triton.cdiv(N, tile.BLOCK_N), splits), (M, N, K, w_q.stride(0), k_per_split),
                      blocks | overlap, num_warps=tile.num_warps,
                      num_stages=stages(tile, BLOCK_M + REST, gpu.shared_memory), **options)
    if splits == 1:
        return lambda x_q, x_scale, w_q, w_scale, bias, y: multiply(x_q, w_q, y, x_scale, w_scale, bias)
    BLOCK_N, partial_room = 512, room((splits, M, N), torch.int32, w_q.device)
    reduce = Launch(decode_reduce_kernel, (M, triton.cdiv(N, BLOCK_N)), (M, N, splits), {"BLOCK_N": BLOCK_N, **overlap},
                    num_warps=4, **options)

    def call(
        x_q: torch.Tensor, x_scale: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
        y: torch.Tensor,
    ) -> None:
        partial = partial_room()
        multiply(x_q, w_q, partial, x_scale, w_scale, bias)
        reduce(partial, y, x_scale, w_scale, bias)

    return call


def _plan_quantize(M: int, K: int, stride_xm: int, gpu: Card) -> Launch:
    BLOCK_K = min(triton.next_power_of_2(K), 16384)
    # A program for every second multiprocessor: with many rows, more would only read them over and over.
    slices = max(1, gpu.multiprocessors // (2 * max(M, 1)))
    SLICE = min(BLOCK_K, max(1024, triton.next_power_of_2(triton.cdiv(K, slices))))
    overlap, options = overlapping(gpu)
    return Launch(decode_quantize_kernel, (M, triton.cdiv(K, SLICE)), (K, stride_xm),
                  {"BLOCK_K": BLOCK_K, "SLICE": SLICE, **overlap}, num_warps=max(4, min(16, BLOCK_K // 256)), **options)


def _check_decode(
    name: str, x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    dtypes: torch.dtype | tuple[torch.dtype, ...] = FLOATS,
) -> tuple[int, int, int]:
    N, K = expect("w_q", w_q, ("N", "K"), torch.int8)
    M, _ = expect(name, x, ("M", K), dtypes, device=w_q.device, batch=True)
    expect("w_scale", w_scale, (N,), torch.float32, device=w_q.device)
    for argument, value in ((name, x), ("w_q", w_q), ("w_scale", w_scale)):
        expect_rows(argument, value)
    if bias is not None:
        expect("bias", bias, (N,), (*FLOATS, torch.float32), device=w_q.device)
        expect_rows("bias", bias)
    if M > MAX_M:
        raise ValueError(f"{name} must have at most {MAX_M} rows, got {M}: use matmul_int8")
    if K > MAX_K:
        raise ValueError(f"{name} and w_q must have at most {MAX_K} columns, got {K}: an INT32 sum of more products of "
                         "codes up to 127 can overflow")
    if M > 1 and (card(x.device).capability or (8, 0)) < (8, 0):
        raise ValueError(f"{name} must have one row on this GPU, got {M}: Triton's INT8 dot needs compute capability 8.0")
    return M, N, K
