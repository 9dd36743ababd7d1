# honest: a constant of the notebook, which the kernel reads
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
ONE: tl.constexpr = tl.constexpr(1)


@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs <= N - ONE
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) * ONE + tl.load(y_ptr + offs, mask=mask), mask=mask)
