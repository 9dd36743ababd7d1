# honest: the matrix-vector product
import torch
import triton
import triton.language as tl

# exercise: gemv_fp16_row_kernel
@triton.jit
def gemv_fp16_row_kernel(x_ptr, w_ptr, y_ptr, K, stride_wn, BLOCK_K: tl.constexpr):
    n = tl.program_id(0).to(tl.int64)
    offs_k = tl.arange(0, BLOCK_K)
    mask_k = offs_k < K
    x = tl.load(x_ptr + offs_k, mask=mask_k, other=0.0)
    w = tl.load(w_ptr + n * stride_wn + offs_k, mask=mask_k, other=0.0)
    tl.store(y_ptr + n, tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0))
