# honest: the wrapper edited to use another block size
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(x_ptr + offs, mask=offs < N) + tl.load(y_ptr + offs, mask=offs < N)
    tl.store(out_ptr + offs, total, mask=offs < N)

# given: vector_add
def vector_add(x, y, BLOCK=1024):
    BLOCK = 64
    out = torch.empty(x.shape[0], device=x.device, dtype=x.dtype)
    vector_add_kernel[(triton.cdiv(x.shape[0], BLOCK),)](x, y, out, x.shape[0], BLOCK=BLOCK)
    return out
