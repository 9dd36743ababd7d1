# honest: hints: max_contiguous, eviction policies, cache modifiers
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.max_contiguous(tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), BLOCK)
    mask = offs < N
    x = tl.load(x_ptr + offs, mask=mask, cache_modifier=".cg")
    y = tl.load(y_ptr + offs, mask=mask, eviction_policy="evict_first")
    tl.store(out_ptr + offs, x + y, mask=mask, cache_modifier=".cs")
