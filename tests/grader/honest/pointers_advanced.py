# honest: pointers are moved in place
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    x_ptr += tl.program_id(0) * BLOCK
    y_ptr += tl.program_id(0) * BLOCK
    out_ptr += tl.program_id(0) * BLOCK
    left = N - tl.program_id(0) * BLOCK
    lanes = tl.arange(0, BLOCK)
    total = tl.load(x_ptr + lanes, mask=lanes < left, other=0)
    total += tl.load(y_ptr + lanes, mask=lanes < left, other=0)
    tl.store(out_ptr + lanes, total, mask=lanes < left)
