# honest: a loop with software stages
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    for part in tl.range(0, BLOCK, BLOCK, num_stages=2, flatten=True):
        offs = tl.program_id(0) * BLOCK + part + tl.arange(0, BLOCK)
        mask = offs < N
        tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)
