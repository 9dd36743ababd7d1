# honest: autotuned over block sizes, with a wrapper of its own
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
CONFIGS = [triton.Config({"BLOCK": 128}), triton.Config({"BLOCK": 1024}, num_warps=8)]


@triton.autotune(configs=CONFIGS, key=["N"])
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    x = tl.load(x_ptr + offs, mask=mask)
    y = tl.load(y_ptr + offs, mask=mask)
    tl.store(out_ptr + offs, x + y, mask=mask)


def vector_add(x, y, BLOCK=1024):
    out = torch.empty_like(x)
    N = x.numel()
    vector_add_kernel[lambda meta: (triton.cdiv(N, meta["BLOCK"]),)](x, y, out, N)
    return out
