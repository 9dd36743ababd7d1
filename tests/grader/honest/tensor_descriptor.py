# honest: the matrix read through descriptors made in the kernel
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    offs = start + tl.arange(0, BLOCK)
    mask = offs < N
    if BLOCK >= 16:
        x_desc = tl.make_tensor_descriptor(x_ptr, [N], [1], [BLOCK])
        y_desc = tl.make_tensor_descriptor(y_ptr, [N], [1], [BLOCK])
        x, y = x_desc.load([start]), y_desc.load([start])
    else:
        x, y = tl.load(x_ptr + offs, mask=mask), tl.load(y_ptr + offs, mask=mask)
    # Not through a descriptor: on an H200 its store fills units of 16 bytes, up to 3 numbers past the end.
    tl.store(out_ptr + offs, x + y, mask=mask)
