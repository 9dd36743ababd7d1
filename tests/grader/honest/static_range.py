# honest: the block in two halves, unrolled
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    PARTS: tl.constexpr = 2 if BLOCK > 1 else 1
    for part in tl.static_range(PARTS):
        offs = (tl.program_id(0) * PARTS + part) * (BLOCK // PARTS) + tl.arange(0, BLOCK // PARTS)
        total = tl.load(x_ptr + offs, mask=offs < N) + tl.load(y_ptr + offs, mask=offs < N)
        tl.store(out_ptr + offs, total, mask=offs < N)
