# honest: two axes in the grid, with a wrapper of its own
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    pid = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    offs = pid * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)


def vector_add(x, y, BLOCK=1024):
    out = x.new_empty(x.shape)
    programs = triton.cdiv(x.numel(), BLOCK)
    vector_add_kernel[(triton.cdiv(programs, 2), 2)](x, y, out, x.numel(), BLOCK=BLOCK)
    return out
