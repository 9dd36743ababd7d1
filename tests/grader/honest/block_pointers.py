# honest: block pointers in place of offsets
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    x = tl.make_block_ptr(x_ptr, (N,), (1,), (start,), (BLOCK,), (0,))
    y = tl.make_block_ptr(y_ptr, (N,), (1,), (start,), (BLOCK,), (0,))
    out = tl.make_block_ptr(out_ptr, (N,), (1,), (start,), (BLOCK,), (0,))
    total = tl.load(x, boundary_check=(0,), padding_option="zero") + tl.load(y, boundary_check=(0,), padding_option="zero")
    tl.store(out, total, boundary_check=(0,))
