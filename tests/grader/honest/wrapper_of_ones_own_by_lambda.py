# honest: the grid as a lambda, arguments by name
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)


def vector_add(x, y):
    out = torch.empty_like(x)
    N = out.numel()
    grid = lambda meta: (triton.cdiv(N, meta["BLOCK"]),)  # noqa: E731
    vector_add_kernel[grid](x_ptr=x, y_ptr=y, out_ptr=out, N=N, BLOCK=256, num_warps=8)
    return out
