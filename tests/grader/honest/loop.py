# honest: the block in two halves, in a loop
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    HALVES: tl.constexpr = 2 if BLOCK > 1 else 1
    for half in range(HALVES):
        offs = tl.program_id(0) * BLOCK + half * (BLOCK // HALVES) + tl.arange(0, BLOCK // HALVES)
        mask = offs < N
        tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)
