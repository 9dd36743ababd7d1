"""The fastest rung of both matrix products on Hopper (H100, H200), in Gluon, Triton's language of explicit layouts.

Triton waits for each INT8 tensor-core product before it starts the next, and its programs have no product under way
while they scale and store a tile. Here three roles work side by side in each program, one program per multiprocessor:

  the producer, one warp, keeps a ring of NUM_STAGES stages full: each holds a step along K of x and w, fetched by TMA;
  two consumers, four warps each, keep the tensor cores busy, each with two products in flight.

With PINGPONG the consumers take alternate tiles of y: while one scales and stores its tile, the other multiplies. A
tile of 128 x 128 is the largest whose sums one consumer can hold. Without, they share a tile of 128 x 256, half of its
rows each, and read less shared memory for each product. That is better in FP16; for INT8 Triton lacks the instruction
with 256 columns. Measured on an H200: INT8 1,336 to 1,443 TOPS with and 1,237 to 1,401 without, FP16 666 to 733 TFLOPS
with and 656 to 751 without.

Every stage has two barriers: `ready` (its bytes have come) and `empty` (it has been read). Barriers count phases; a
waiter names the parity of the phase it waits for. `turn` keeps the main loops of ping-pong consumers apart: one that
began to wait too early could take the parity of a fill two rounds back for its own. CUTLASS calls the two schedules
warp-specialized ping-pong and cooperative.
"""

from collections.abc import Callable
from functools import cache

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from kernels.configs import rows_in_a_group, tiles
from kernels.launch import Launch, like
from kernels.runtime import Card, card, launching_at

barrier = getattr(gl, "thread_barrier", None) or gl.barrier  # its name in Triton 3.6, and from 3.7


@gluon.jit
def next_stage(stage, phase, NUM_STAGES: gl.constexpr):
    last = stage == NUM_STAGES - 1
    return gl.where(last, 0, stage + 1), gl.where(last, phase ^ 1, phase)


@gluon.jit
def grouped_tile_gluon(pid, num_pid_m, num_pid_n, GROUP_M: gl.constexpr):
    """`kernels.matmul.grouped_tile` in Gluon."""
    group_size = GROUP_M * num_pid_n
    first_m = (pid // group_size) * GROUP_M
    rows = min(num_pid_m - first_m, GROUP_M)
    return first_m + (pid % group_size) % rows, (pid % group_size) // rows


@gluon.jit
def fetch_tile(x_desc, w_desc, x_stages, w_stages, ready, empty, stage, phase, pid_m, pid_n, num_k):
    """Fetches every step along K for one tile of y. Returns the stage that comes next and its phase."""
    NUM_STAGES: gl.constexpr = x_stages.shape[0]
    BLOCK_M: gl.constexpr = x_stages.shape[1]
    BLOCK_N: gl.constexpr = w_stages.shape[1]
    BLOCK_K: gl.constexpr = x_stages.shape[2]
    for k in range(num_k):
        mbarrier.wait(empty.index(stage), phase)
        mbarrier.expect(ready.index(stage), x_desc.block_type.nbytes + w_desc.block_type.nbytes)
        tma.async_copy_global_to_shared(
            x_desc, [pid_m * BLOCK_M, k * BLOCK_K], ready.index(stage), x_stages.index(stage))
        tma.async_copy_global_to_shared(
            w_desc, [pid_n * BLOCK_N, k * BLOCK_K], ready.index(stage), w_stages.index(stage))
        stage, phase = next_stage(stage, phase, NUM_STAGES)
    return stage, phase


@gluon.jit
def producer(x_desc, w_desc, x_stages, w_stages, ready, empty, num_pid_m, num_pid_n, num_k, GROUP_M: gl.constexpr):
    """Fetches the tiles of x and w of every step, in the order in which the consumers read them."""
    stage = 0
    phase = 1  # a fresh barrier counts as having completed phase 1: every stage is empty
    for tile in range(gl.program_id(0), num_pid_m * num_pid_n, gl.num_programs(0)):
        pid_m, pid_n = grouped_tile_gluon(tile, num_pid_m, num_pid_n, GROUP_M)
        stage, phase = fetch_tile(x_desc, w_desc, x_stages, w_stages, ready, empty, stage, phase, pid_m, pid_n, num_k)


@gluon.jit
def scaled(acc, x_scale_ptr, w_scale_ptr, bias_ptr, offs_m, offs_n, M, N):
    """acc · x_scale[offs_m, None] · w_scale[offs_n] + bias[offs_n] in FP32."""
    x_scale = gl.load(x_scale_ptr + offs_m, mask=offs_m < M, other=0.0)
    w_scale = gl.load(w_scale_ptr + offs_n, mask=offs_n < N, other=0.0)
    y = acc.to(gl.float32) * gl.expand_dims(x_scale, 1) * gl.expand_dims(w_scale, 0)
    if bias_ptr is not None:
        y += gl.expand_dims(gl.load(bias_ptr + offs_n, mask=offs_n < N, other=0.0).to(gl.float32), 0)
    return y


@gluon.jit
def consumer(
    which: gl.constexpr, PINGPONG: gl.constexpr,
    y_desc, x_stages, w_stages, y_tile, ready, empty, turn, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, num_pid_m, num_pid_n, num_k, GROUP_M: gl.constexpr,
):
    """Multiplies, scales and stores: with PINGPONG every second tile of y, else half the rows of every tile."""
    NUM_STAGES: gl.constexpr = x_stages.shape[0]
    BLOCK_M: gl.constexpr = x_stages.shape[1]
    ROWS: gl.constexpr = y_tile.shape[0]
    FIRST_ROW: gl.constexpr = 0 if PINGPONG else which * ROWS
    FIRST_TILE: gl.constexpr = which if PINGPONG else 0
    EVERY: gl.constexpr = 2 if PINGPONG else 1
    BLOCK_N: gl.constexpr = w_stages.shape[1]
    acc_dtype: gl.constexpr = gl.int32 if x_stages.dtype == gl.int8 else gl.float32
    layout: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, 256 // x_stages.dtype.primitive_bitwidth])
    step = FIRST_TILE * num_k  # steps along K that the producer fetches before those of this tile
    turn_phase = 1 - which
    programs = gl.num_programs(0)
    for tile in range(gl.program_id(0) + FIRST_TILE * programs, num_pid_m * num_pid_n, EVERY * programs):
        pid_m, pid_n = grouped_tile_gluon(tile, num_pid_m, num_pid_n, GROUP_M)
        stage, phase = step % NUM_STAGES, (step // NUM_STAGES) & 1
        step += EVERY * num_k
        if PINGPONG:
            mbarrier.wait(turn.index(which), turn_phase)
            turn_phase ^= 1
        acc = gl.zeros([ROWS, BLOCK_N], acc_dtype, layout=layout)
        mbarrier.wait(ready.index(stage), phase)
        x = x_stages.index(stage).slice(FIRST_ROW, ROWS)  # (ROWS, BLOCK_K)
        w = w_stages.index(stage).permute((1, 0))  # (BLOCK_K, BLOCK_N)
        acc = warpgroup_mma(x, w, acc, use_acc=False, is_async=True)
        acc = warpgroup_mma_wait(1, deps=(acc,))
        for _ in range(1, num_k):
            previous = stage
            stage, phase = next_stage(stage, phase, NUM_STAGES)
            mbarrier.wait(ready.index(stage), phase)
            x = x_stages.index(stage).slice(FIRST_ROW, ROWS)
            w = w_stages.index(stage).permute((1, 0))
            acc = warpgroup_mma(x, w, acc, is_async=True)
            acc = warpgroup_mma_wait(1, deps=(acc,))  # the previous step's is done
            barrier()  # in all four warps
            mbarrier.arrive(empty.index(previous), count=1)
        if PINGPONG:
            mbarrier.arrive(turn.index(1 - which), count=1)
        acc = warpgroup_mma_wait(0, deps=(acc,))
        barrier()
        mbarrier.arrive(empty.index(stage), count=1)

        first_m = pid_m * BLOCK_M + FIRST_ROW
        y = acc
        if x_scale_ptr is not None:
            offs_m = first_m + gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
            offs_n = pid_n * BLOCK_N + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, layout))
            y = scaled(acc, x_scale_ptr, w_scale_ptr, bias_ptr, offs_m, offs_n, M, N)
        tma.store_wait(0)  # the tile before has left y_tile,
        barrier()  # and all four warps know
        y_tile.store(y.to(y_desc.dtype))
        fence_async_shared()
        tma.async_copy_shared_to_global(y_desc, [first_m, pid_n * BLOCK_N], y_tile)
    tma.store_wait(0)


@gluon.jit
def shared_memory(x_desc, w_desc, y_desc, NUM_STAGES: gl.constexpr, PINGPONG: gl.constexpr):
    """The stages of x and w, each consumer's tile of y, and the barriers `ready`, `empty` and `turn`."""
    x_stages = gl.allocate_shared_memory(x_desc.dtype, [NUM_STAGES] + x_desc.block_shape, x_desc.layout)
    w_stages = gl.allocate_shared_memory(w_desc.dtype, [NUM_STAGES] + w_desc.block_shape, w_desc.layout)
    y_tile_0 = gl.allocate_shared_memory(y_desc.dtype, y_desc.block_shape, y_desc.layout)
    y_tile_1 = gl.allocate_shared_memory(y_desc.dtype, y_desc.block_shape, y_desc.layout)
    ready = gl.allocate_shared_memory(gl.int64, [NUM_STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [NUM_STAGES, 1], mbarrier.MBarrierLayout())
    turn = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(NUM_STAGES):
        mbarrier.init(ready.index(i), count=1)
        mbarrier.init(empty.index(i), count=1 if PINGPONG else 2)  # consumers that read a stage
    for i in gl.static_range(2):
        mbarrier.init(turn.index(i), count=1)
    fence_async_shared()
    return x_stages, w_stages, y_tile_0, y_tile_1, ready, empty, turn


@gluon.jit
def hopper_gemm_kernel(
    x_desc, w_desc, y_desc, x_scale_ptr, w_scale_ptr, bias_ptr,
    M, N, K,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, GROUP_M: gl.constexpr,
    NUM_STAGES: gl.constexpr, PINGPONG: gl.constexpr,
):
    """y = x @ w.T, x (M, K), w (N, K) FP16 or INT8; scaled by x_scale (M,) and w_scale (N,), plus bias, where given."""
    num_pid_m = gl.cdiv(M, BLOCK_M)
    num_pid_n = gl.cdiv(N, BLOCK_N)
    num_k = gl.cdiv(K, BLOCK_K)
    x_stages, w_stages, y_tile_0, y_tile_1, ready, empty, turn = shared_memory(x_desc, w_desc, y_desc, NUM_STAGES, PINGPONG)
    gl.warp_specialize([
        (consumer, (0, PINGPONG, y_desc, x_stages, w_stages, y_tile_0, ready, empty, turn, x_scale_ptr, w_scale_ptr,
                    bias_ptr, M, N, num_pid_m, num_pid_n, num_k, GROUP_M)),
        (consumer, (1, PINGPONG, y_desc, x_stages, w_stages, y_tile_1, ready, empty, turn, x_scale_ptr, w_scale_ptr,
                    bias_ptr, M, N, num_pid_m, num_pid_n, num_k, GROUP_M)),
        (producer, (x_desc, w_desc, x_stages, w_stages, ready, empty, num_pid_m, num_pid_n, num_k, GROUP_M)),
    ], [4, 1], [232, 24])  # warps, and registers per thread, of the second and third role


# 128 bytes along K fill one row of the shared memory's swizzle. Stages and tiles of y fill 225 and 209 of the 227 KiB.
# In INT8 the order of tiles depends on w and the GPU: `rows_in_a_group`.
INT8_CONFIG = tiles(128, 128, 128, GROUP_M=12, num_warps=4, num_stages=5)
FP16_CONFIG = tiles(128, 256, 64, GROUP_M=8, num_warps=4, num_stages=3)
FP16_FEW_TILES_CONFIG = tiles(128, 128, 64, GROUP_M=8, num_warps=4, num_stages=5)  # when 128 x 256 leave many SMs idle


def choose_hopper(M: int, N: int, K: int, dtype: torch.dtype, gpu: Card) -> triton.Config:
    """The configuration for inputs of `dtype`, as measured on an H100 and an H200."""
    if dtype == torch.int8:
        return _int8_config(rows_in_a_group(N, K, gpu))
    enough = triton.cdiv(M, 128) * triton.cdiv(N, 256) >= 0.75 * gpu.multiprocessors
    return FP16_CONFIG if enough else FP16_FEW_TILES_CONFIG


@cache
def _int8_config(GROUP_M: int) -> triton.Config:
    return tiles(**{**INT8_CONFIG.kwargs, "GROUP_M": GROUP_M}, num_warps=INT8_CONFIG.num_warps,
                 num_stages=INT8_CONFIG.num_stages)


def hopper_gemm(
    x: torch.Tensor, w: torch.Tensor, y: torch.Tensor, x_scale: torch.Tensor | None = None,
    w_scale: torch.Tensor | None = None, bias: torch.Tensor | None = None, config: triton.Config | None = None,
) -> torch.Tensor:
    """Writes x @ w.T, scaled and with bias where given, into y, and returns it. Its callers check the arguments."""
    with launching_at(x):
        plan_hopper(x, w, y, config)(x, w, y, x_scale, w_scale, bias)
    return y


def plan_hopper(
    x: torch.Tensor, w: torch.Tensor, y: torch.Tensor, config: triton.Config | None = None,
) -> Callable[..., None]:
    """The call with (x, w, y, x_scale, w_scale, bias) that does what `hopper_gemm` does, for all tensors like these."""
    (M, K), N, gpu = x.shape, w.shape[0], card(x.device)
    config = config or choose_hopper(M, N, K, x.dtype, gpu)
    tile = config.kwargs
    BLOCK_M, BLOCK_N, BLOCK_K = tile["BLOCK_M"], tile["BLOCK_N"], tile["BLOCK_K"]
    pingpong = BLOCK_M * BLOCK_N <= 128 * 128
    grid = min(gpu.multiprocessors, triton.cdiv(M, BLOCK_M) * triton.cdiv(N, BLOCK_N))
    launch = Launch(hopper_gemm_kernel, (grid,), (M, N, K),
                    {**tile, "NUM_STAGES": config.num_stages, "PINGPONG": pingpong}, num_warps=config.num_warps)
    x_like, w_like = like(descriptor(x, BLOCK_M, BLOCK_K)), like(descriptor(w, BLOCK_N, BLOCK_K))
    y_like = like(descriptor(y, BLOCK_M if pingpong else BLOCK_M // 2, BLOCK_N))
    return lambda x, w, y, x_scale, w_scale, bias: launch(x_like(x), w_like(w), y_like(y), x_scale, w_scale, bias)


def descriptor(tensor: torch.Tensor, rows: int, columns: int) -> TensorDescriptor:
    """By which TMA moves blocks (rows, columns) of the tensor to and from shared memory."""
    return TensorDescriptor.from_tensor(tensor, [rows, columns], _layout(rows, columns, tensor.dtype))


@cache
def _layout(rows: int, columns: int, dtype: torch.dtype) -> gl.NVMMASharedLayout:
    element = {torch.int8: gl.int8, torch.float16: gl.float16, torch.bfloat16: gl.bfloat16}[dtype]
    return gl.NVMMASharedLayout.get_default_for([rows, columns], element)
