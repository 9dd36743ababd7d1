# honest: tuples, a helper with a tuple result, an assertion for the compiler
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def place(N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return offs, offs < N


@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK > 0)
    offs, mask = place(N, BLOCK)
    x, y = tl.load(x_ptr + offs, mask=mask), tl.load(y_ptr + offs, mask=mask)
    tl.store(out_ptr + offs, x + y, mask=mask)
