# honest: other names for everything inside
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    block_number = tl.program_id(axis=0)
    first = block_number * BLOCK
    lanes = first + tl.arange(0, BLOCK)
    inside = lanes < N
    tl.store(out_ptr + lanes, tl.load(x_ptr + lanes, inside) + tl.load(y_ptr + lanes, inside), inside)
