# honest: sums in FP32 by atomics, which torch converts
import torch
import triton
import triton.language as tl

# exercise: gemv_fp16_kernel
@triton.jit
def gemv_fp16_kernel(x_ptr, w_ptr, out_ptr, N, K, stride_wn, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    cols = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    m = (rows < N)[:, None] & (cols < K)[None, :]
    w = tl.load(w_ptr + rows[:, None].to(tl.int64) * stride_wn + cols[None, :], mask=m, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + cols, mask=cols < K, other=0.0).to(tl.float32)
    tl.atomic_add(out_ptr + rows, tl.sum(w * x[None, :], axis=1), mask=rows < N)

def gemv_fp16(x, w):
    N, K = w.shape
    acc = torch.zeros((N,), device=x.device, dtype=torch.float32)
    gemv_fp16_kernel[(triton.cdiv(N, 32), triton.cdiv(K, 256))](x, w, acc, N, K, w.stride(0), BLOCK_N=32, BLOCK_K=256)
    return acc.to(x.dtype)
