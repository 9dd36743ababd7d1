# honest: the weight transposed and laid out anew before the launch
import torch
import triton
import triton.language as tl

# exercise: matmul_fp16_naive_kernel
@triton.jit
def matmul_fp16_naive_kernel(
    x_ptr, w_ptr, y_ptr,
    M, N, K,
    stride_xm, stride_wn, stride_ym,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """y[m, n] = Σ_k x[m, k] · w[n, k], one program per (BLOCK_M, BLOCK_N) tile of y."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_m = offs_m < M
    mask_n = offs_n < N
    x_rows = x_ptr + offs_m.to(tl.int64)[:, None] * stride_xm  # 64 bits: M * K can pass 2³¹
    w_rows = w_ptr + offs_n.to(tl.int64)[:, None] * stride_wn
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        mask_k = offs_k < K
        mask_x = mask_m[:, None] & mask_k[None, :]  # (BLOCK_M, BLOCK_K)
        x = tl.load(x_rows + offs_k[None, :], mask=mask_x, other=0.0)
        mask_w = mask_n[:, None] & mask_k[None, :]  # (BLOCK_N, BLOCK_K)
        w = tl.load(w_rows + offs_k[None, :], mask=mask_w, other=0.0)
        acc = tl.dot(x, w.T, acc)  # (BLOCK_M, BLOCK_N)
    y_ptrs = y_ptr + offs_m.to(tl.int64)[:, None] * stride_ym + offs_n[None, :]
    tl.store(y_ptrs, acc.to(tl.float16), mask=mask_m[:, None] & mask_n[None, :])


def matmul_fp16_naive(x, w):
    (M, K), N = x.shape, w.shape[0]
    w = w.t().contiguous().t().contiguous()
    y = torch.empty((M, N), device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(M, 64), triton.cdiv(N, 64))
    matmul_fp16_naive_kernel[grid](x, w, y, M, N, K, x.stride(0), w.stride(0), y.stride(0), BLOCK_M=64, BLOCK_N=64, BLOCK_K=64)
    return y
