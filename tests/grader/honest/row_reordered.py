# honest: the same in another order, with an explicit FP32 product
import torch
import triton
import triton.language as tl

# exercise: gemv_fp16_row_kernel
@triton.jit
def gemv_fp16_row_kernel(x_ptr, w_ptr, y_ptr, K, stride_wn, BLOCK_K: tl.constexpr):
    k = tl.arange(0, BLOCK_K)
    row = w_ptr + tl.program_id(0).to(tl.int64) * stride_wn
    product = tl.load(x_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    product *= tl.load(row + k, mask=k < K, other=0.0).to(tl.float32)
    tl.store(y_ptr + tl.program_id(0), tl.sum(product, axis=0).to(tl.float16))
