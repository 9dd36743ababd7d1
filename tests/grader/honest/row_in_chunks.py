# honest: the row in chunks of 128
import torch
import triton
import triton.language as tl

# exercise: gemv_fp16_row_kernel
@triton.jit
def gemv_fp16_row_kernel(x_ptr, w_ptr, y_ptr, K, stride_wn, BLOCK_K: tl.constexpr):
    CHUNK: tl.constexpr = 128 if BLOCK_K > 128 else BLOCK_K
    row = w_ptr + tl.program_id(0).to(tl.int64) * stride_wn
    acc = tl.zeros((CHUNK,), dtype=tl.float32)
    for k in range(0, K, CHUNK):
        offs = k + tl.arange(0, CHUNK)
        x = tl.load(x_ptr + offs, mask=offs < K, other=0.0).to(tl.float32)
        acc += tl.load(row + offs, mask=offs < K, other=0.0).to(tl.float32) * x
    tl.store(y_ptr + tl.program_id(0), tl.sum(acc, axis=0))
