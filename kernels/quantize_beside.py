"""`matmul_int8` for many rows on an H200: x is quantized beside the tensor cores, by four spare warps of the product.

    first_rows_kernel   the rows of x that the first tiles of y need, quantized as in `kernels.quantize`.
    beside_kernel       the product of `kernels.hopper_gemm` with a fourth role, the quantizer, for all rows after them.

Each program's quantizer claims CHUNK rows at a time, the next that nobody has, so rows that are waited for are always in
the hands of a program that runs. It counts what is done by blocks of BLOCK_M rows; a producer waits until a block's count
is full, and fetches its codes then. `count_ptr` holds the number of claims, then the counts: zeros, by `first_rows_kernel`.

The second launch begins when every program of the first has stored its row (programmatic dependent launch). Sooner would
cost more than it hides: a product whose programs find multiprocessors busy took 15 to 20 % longer, as if programs that read
the same rows then were no neighbours.

All that the spare warps do slows the tensor cores, so a row is read once, and a code takes fewer instructions than in
`kernels.quantize`. Codes of a row that holds NaN or Inf are left as they come, for its scale is NaN.

Measured on an H200, M = 16,384, over cuBLAS FP16, in turns with the two launches: (K, N) = (2,048, 2,048) 1.58 and 1.49,
(2,048, 6,144) 1.83 and 1.79, (2,048, 11,008) 1.94 and 1.92, (11,008, 2,048) 1.74 and 1.56; 22,016 columns gain nothing.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from kernels.hopper_gemm import (
    INT8_CONFIG,
    barrier,
    choose_hopper,
    consumer,
    descriptor,
    fetch_tile,
    grouped_tile_gluon,
    shared_memory,
)
from kernels.launch import Launch, like, overlapping, room
from kernels.quantize import blocks_of_row, codes, finite_or_inf, rooms_for_codes, row_scale
from kernels.runtime import Card, card

CHUNK = 8
"""Rows of a claim."""

MOST_PARTS = 11
"""Of 16 bytes a lane: more of a row than that, and of the next one, the quantizer's registers do not hold."""


@triton.jit
def first_rows_kernel(
    x_ptr, q_ptr, scale_ptr, count_ptr,
    K,
    stride_xm,
    COUNTS: tl.constexpr, HEAD: tl.constexpr, TAIL: tl.constexpr, TRIGGER: tl.constexpr,
):
    """Codes and scale of row m in program m, HEAD ≤ K ≤ HEAD + TAIL or K ≤ HEAD; program 0 clears the counts."""
    m = tl.program_id(0).to(tl.int64)  # 64 bits: m * stride_xm can pass 2³¹
    if m == 0:
        tl.store(count_ptr + tl.arange(0, COUNTS), tl.zeros((COUNTS,), dtype=tl.int32))
    x_row = x_ptr + m * stride_xm
    q_row = q_ptr + m * K
    offs_head = tl.arange(0, HEAD)
    head = tl.load(x_row + offs_head, mask=offs_head < K, other=0.0, eviction_policy="evict_first")  # (HEAD,)
    if TAIL > 0:
        offs_tail = HEAD + tl.arange(0, TAIL)
        tail = tl.load(x_row + offs_tail, mask=offs_tail < K, other=0.0, eviction_policy="evict_first")  # (TAIL,)
        amax = tl.maximum(tl.max(finite_or_inf(head), axis=0), tl.max(finite_or_inf(tail), axis=0))
    else:
        amax = tl.max(finite_or_inf(head), axis=0)
    scale = row_scale(amax)
    tl.store(scale_ptr + m, scale)
    tl.store(q_row + offs_head, codes(head, scale), mask=offs_head < K, eviction_policy="evict_last")
    if TAIL > 0:
        tl.store(q_row + offs_tail, codes(tail, scale), mask=offs_tail < K, eviction_policy="evict_last")
    if TRIGGER:
        gdc_launch_dependents()


@gluon.jit
def seen_by_copy_engine():
    """Between the stores or the waiting of this thread and the copy engine's reading of global memory."""
    gl.inline_asm_elementwise("fence.proxy.async.global; // dummy $0", "=r", [], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def acquire():
    """What others wrote before they counted, this thread sees after it."""
    gl.inline_asm_elementwise("fence.acq_rel.gpu; // dummy $0", "=r", [], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def wait_for_block(count_ptr, known, wanted, num_pid_m, FULL: gl.constexpr):
    """Waits until row block `wanted` is quantized; `known` are, and returned is how many now, from the first one on."""
    offs = gl.arange(0, 32, layout=gl.BlockedLayout([1], [32], [1], [0]))
    while known <= wanted:
        count = gl.load(count_ptr + 1 + known + offs, mask=known + offs < num_pid_m, other=0, volatile=True)
        known += gl.min(gl.where(count == FULL, 32, offs), axis=0)
    acquire()
    seen_by_copy_engine()
    return known


@gluon.jit
def waiting_producer(
    x_desc, w_desc, x_stages, w_stages, ready, empty, count_ptr, known, num_pid_m, num_pid_n, num_k,
    GROUP_M: gl.constexpr, FULL: gl.constexpr, OVERLAP: gl.constexpr,
):
    """`kernels.hopper_gemm.producer`, which waits for the codes of a tile's rows."""
    if OVERLAP:
        gdc_wait()
    stage = 0
    phase = 1
    for tile in range(gl.program_id(0), num_pid_m * num_pid_n, gl.num_programs(0)):
        pid_m, pid_n = grouped_tile_gluon(tile, num_pid_m, num_pid_n, GROUP_M)
        if pid_m >= known:
            known = wait_for_block(count_ptr, known, pid_m, num_pid_m, FULL)
        stage, phase = fetch_tile(x_desc, w_desc, x_stages, w_stages, ready, empty, stage, phase, pid_m, pid_n, num_k)


@gluon.jit
def waiting_consumer(
    which: gl.constexpr,
    y_desc, x_stages, w_stages, y_tile, ready, empty, turn, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, num_pid_m, num_pid_n, num_k, GROUP_M: gl.constexpr, OVERLAP: gl.constexpr,
):
    """`kernels.hopper_gemm.consumer`: when a stage is ready, so are the scales of its rows."""
    if OVERLAP:
        gdc_wait()
    consumer(which, True, y_desc, x_stages, w_stages, y_tile, ready, empty, turn, x_scale_ptr, w_scale_ptr, bias_ptr,
             M, N, num_pid_m, num_pid_n, num_k, GROUP_M)


@gluon.jit
def larger(a, b):
    return gl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@gluon.jit
def larger_magnitude(a, x, BF16: gl.constexpr):
    """max(a, |x|), NaN where one is: two numbers of 16 bits an instruction, which Triton does not find by itself."""
    ASM: gl.constexpr = ("{ .reg .b32 t; abs.bf16x2 t, $2; max.NaN.bf16x2 $0, $1, t; }" if BF16 else
                         "{ .reg .b32 t; abs.f16x2 t, $2; max.NaN.f16x2 $0, $1, t; }")
    return gl.inline_asm_elementwise(ASM, "=r,r,r", [a, x], dtype=x.dtype, is_pure=True, pack=2)


@gluon.jit
def load_rows(x_ptr, offs_m, stride_xm, M, K, PARTS: gl.constexpr, COLUMNS: gl.constexpr, layout: gl.constexpr):
    """Rows offs_m of x as PARTS tiles (ROWS, COLUMNS)."""
    offs_k = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, layout))
    x_ptrs = x_ptr + (gl.expand_dims(offs_m.to(gl.int64) * stride_xm, 1) + gl.expand_dims(offs_k, 0))
    mask_m = gl.expand_dims(offs_m < M, 1)
    parts = ()
    for i in gl.static_range(PARTS - 1):
        parts = parts + (gl.load(x_ptrs + i * COLUMNS, mask=mask_m, eviction_policy="evict_first"),)  # type: ignore[assignment]
    mask = mask_m & gl.expand_dims(offs_k < K - (PARTS - 1) * COLUMNS, 0)
    return parts + (gl.load(x_ptrs + (PARTS - 1) * COLUMNS, mask=mask, other=0.0, eviction_policy="evict_first"),)


@gluon.jit
def scale_and_inverse(amax, BF16: gl.constexpr):
    """(scale, up, 1 / (scale · up), what that is off by), amax the row's largest magnitude.

    up, a power of two, keeps the last one a normal number for every scale of BF16; FP16's need none.
    """
    scale = gl.where(amax < float("inf"), gl.div_rn(amax, 127.0), float("nan"))
    up = gl.where(scale < 1e-30, 18446744073709551616.0, gl.where(scale > 1e20, 1 / 18446744073709551616.0, 1.0))
    divisor = gl.where(scale > 0.0, scale * up if BF16 else scale, 1.0)
    inverse = gl.div_rn(1.0, divisor)
    return scale, up, inverse, gl.fma(-divisor, inverse, 1.0) * inverse


@gluon.jit
def code(x, up, inverse, rest, BF16: gl.constexpr):
    """`kernels.quantize.codes` of x in a row with these: x / scale, right to the last bit, for inverse and rest have 48."""
    value = x.to(gl.float32)
    if BF16:
        value *= gl.expand_dims(up, 1)
    quotient = gl.fma(value, gl.expand_dims(inverse, 1), value * gl.expand_dims(rest, 1))
    return (quotient + 12582912.0).to(gl.int32, bitcast=True).to(gl.int8)


@gluon.jit
def quantize_rows(
    parts, q_ptr, scale_ptr, offs_m, M, K,
    PARTS: gl.constexpr, COLUMNS: gl.constexpr, BF16: gl.constexpr, layout: gl.constexpr,
):
    """Codes and scales of rows offs_m of x, whose numbers are in `parts`."""
    amax = larger_magnitude(gl.zeros_like(parts[0]), parts[0], BF16)
    for i in gl.static_range(1, PARTS):
        amax = larger_magnitude(amax, parts[i], BF16)
    scale, up, inverse, rest = scale_and_inverse(gl.reduce(amax.to(gl.float32), 1, larger), BF16)
    gl.store(scale_ptr + offs_m, scale, mask=offs_m < M)
    offs_k = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, layout))
    q_ptrs = q_ptr + (gl.expand_dims(offs_m.to(gl.int64) * K, 1) + gl.expand_dims(offs_k, 0))
    mask = gl.expand_dims(offs_m < M, 1)
    for i in gl.static_range(PARTS):
        if i == PARTS - 1:
            mask = mask & gl.expand_dims(offs_k < K - (PARTS - 1) * COLUMNS, 0)
        gl.store(q_ptrs + i * COLUMNS, code(parts[i], up, inverse, rest, BF16), mask=mask, eviction_policy="evict_last")


@gluon.jit
def quantizer(
    x_ptr, q_ptr, scale_ptr, count_ptr, M, K, stride_xm, first_chunk, num_chunks,
    FULL: gl.constexpr, CHUNK: gl.constexpr, ROWS: gl.constexpr, PARTS: gl.constexpr, OVERLAP: gl.constexpr,
):
    """Claims chunks of rows of x, and quantizes them, ROWS at a time, while the next ROWS are on their way."""
    layout: gl.constexpr = gl.BlockedLayout([1, 8], [1, 32], [ROWS, 4 // ROWS], [1, 0])
    COLUMNS: gl.constexpr = 1024 // ROWS
    BF16: gl.constexpr = x_ptr.dtype.element_ty == gl.bfloat16
    rows = gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
    if OVERLAP:
        gdc_wait()
    chunk = first_chunk + gl.atomic_add(count_ptr, 1, sem="relaxed", scope="gpu")
    parts = load_rows(x_ptr, chunk * CHUNK + rows, stride_xm, M, K, PARTS, COLUMNS, layout)
    while chunk < num_chunks:
        next_chunk = first_chunk + gl.atomic_add(count_ptr, 1, sem="relaxed", scope="gpu")
        offs_m = chunk * CHUNK + rows
        for step in range(CHUNK // ROWS):
            ahead = gl.where(step + 1 < CHUNK // ROWS, offs_m + ROWS, next_chunk * CHUNK + rows)
            next_parts = load_rows(x_ptr, ahead, stride_xm, M, K, PARTS, COLUMNS, layout)
            quantize_rows(parts, q_ptr, scale_ptr, offs_m, M, K, PARTS, COLUMNS, BF16, layout)
            offs_m, parts = ahead, next_parts
        seen_by_copy_engine()
        barrier()  # all four warps have stored
        gl.atomic_add(count_ptr + 1 + chunk // FULL, 1, sem="release", scope="gpu")
        chunk = next_chunk


@gluon.jit
def beside_kernel(
    x_desc, w_desc, y_desc, x_ptr, q_ptr, x_scale_ptr, w_scale_ptr, bias_ptr, count_ptr,
    M, N, K,
    stride_xm, first_blocks,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, GROUP_M: gl.constexpr, NUM_STAGES: gl.constexpr,
    CHUNK: gl.constexpr, ROWS: gl.constexpr, PARTS: gl.constexpr, OVERLAP: gl.constexpr,
):
    """`hopper_gemm_kernel` with ping-pong of the codes q, of which the first `first_blocks` blocks are written, of x."""
    FULL: gl.constexpr = BLOCK_M // CHUNK  # chunks in a block of rows
    num_pid_m = gl.cdiv(M, BLOCK_M)
    num_pid_n = gl.cdiv(N, BLOCK_N)
    num_k = gl.cdiv(K, BLOCK_K)
    x_stages, w_stages, y_tile_0, y_tile_1, ready, empty, turn = shared_memory(x_desc, w_desc, y_desc, NUM_STAGES, True)
    gl.warp_specialize([
        (waiting_consumer, (0, y_desc, x_stages, w_stages, y_tile_0, ready, empty, turn, x_scale_ptr, w_scale_ptr, bias_ptr,
                            M, N, num_pid_m, num_pid_n, num_k, GROUP_M, OVERLAP)),
        (waiting_consumer, (1, y_desc, x_stages, w_stages, y_tile_1, ready, empty, turn, x_scale_ptr, w_scale_ptr, bias_ptr,
                            M, N, num_pid_m, num_pid_n, num_k, GROUP_M, OVERLAP)),
        (waiting_producer, (x_desc, w_desc, x_stages, w_stages, ready, empty, count_ptr, first_blocks, num_pid_m,
                            num_pid_n, num_k, GROUP_M, FULL, OVERLAP)),
        (quantizer, (x_ptr, q_ptr, x_scale_ptr, count_ptr, M, K, stride_xm, first_blocks * FULL,
                     num_pid_m * FULL, FULL, CHUNK, ROWS, PARTS, OVERLAP)),
    ], [4, 1, 4], [184, 32, 112])  # as in `hopper_gemm_kernel`


def beside_suits(N: int, K: int, gpu: Card) -> bool:
    """Whether this is faster than a launch for the codes and one for the product, by what was measured on an H200.

    It has 132 multiprocessors and 36 GB/s for each. Where either is far less, nothing is known.
    """
    like_an_h200 = gpu.multiprocessors >= 120 and gpu.gb_per_s >= 30 * gpu.multiprocessors
    return like_an_h200 and N <= 16384 and 2048 <= K <= 1024 * MOST_PARTS


def rows_at_a_time(K: int) -> dict[str, int]:
    """ROWS, and the PARTS in which the quantizer's four warps hold them: 16 KiB of them, or one row that is longer."""
    ROWS = 4 if K <= 2048 else 2 if K <= 4096 else 1
    return {"ROWS": ROWS, "PARTS": triton.cdiv(K * ROWS, 1024)}


def first_blocks(M: int, N: int, GROUP_M: int, gpu: Card) -> int:
    """Blocks of rows that the first tiles of all programs need, whole groups of them."""
    BLOCK_M, BLOCK_N = INT8_CONFIG.kwargs["BLOCK_M"], INT8_CONFIG.kwargs["BLOCK_N"]
    groups = triton.cdiv(gpu.multiprocessors, GROUP_M * triton.cdiv(N, BLOCK_N))
    return min(groups * GROUP_M, triton.cdiv(M, BLOCK_M))


def plan_beside(
    x: torch.Tensor, w_q: torch.Tensor, y_room: Callable[[], torch.Tensor], shape: tuple[int, ...],
) -> Callable[..., torch.Tensor]:
    """The call with (x, w_q, w_scale, bias) that gives y in that shape, for all tensors like these: x (M, K)."""
    (M, K), N, gpu = x.shape, len(w_q), card(x.device)
    config = choose_hopper(M, N, K, torch.int8, gpu)
    tile = config.kwargs
    blocks, first = triton.cdiv(M, tile["BLOCK_M"]), first_blocks(M, N, tile["GROUP_M"], gpu)
    codes_room = rooms_for_codes(M, K, x.device)
    counts = triton.next_power_of_2(1 + blocks)
    counts_room = room((counts,), torch.int32, x.device)
    overlap, options = overlapping(gpu)
    row, num_warps = blocks_of_row(K)
    first_rows = Launch(first_rows_kernel, (min(M, first * tile["BLOCK_M"]),), (K, x.stride(0)),
                        {"COUNTS": counts, **row, "TRIGGER": overlap["OVERLAP"]}, num_warps=num_warps)
    grid = min(gpu.multiprocessors, blocks * triton.cdiv(N, tile["BLOCK_N"]))
    rest = Launch(beside_kernel, (grid,), (M, N, K, x.stride(0), first),
                  {**tile, "NUM_STAGES": config.num_stages, "CHUNK": CHUNK, **rows_at_a_time(K), **overlap},
                  num_warps=config.num_warps, **options)
    x_like, w_like, y_like = (like(descriptor(tensor, rows, columns)) for tensor, rows, columns in (
        (codes_room()[0], tile["BLOCK_M"], tile["BLOCK_K"]), (w_q, tile["BLOCK_N"], tile["BLOCK_K"]),
        (y_room(), tile["BLOCK_M"], tile["BLOCK_N"])))

    def call(
        x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor, bias: torch.Tensor | None,
    ) -> torch.Tensor:
        y, (x_q, x_scale), count = y_room(), codes_room(), counts_room()
        first_rows(x, x_q, x_scale, count)
        rest(x_like(x_q), w_like(w_q), y_like(y), x, x_q, x_scale, w_scale, bias, count)
        return y.view(shape)

    return call
