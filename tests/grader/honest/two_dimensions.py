# honest: a block in two dimensions
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    rows = tl.arange(0, 1)[:, None]
    cols = tl.arange(0, BLOCK)[None, :]
    offs = tl.program_id(0) * BLOCK + rows * BLOCK + cols
    mask = offs < N
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)
