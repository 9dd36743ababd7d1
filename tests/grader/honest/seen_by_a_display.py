# honest: rich output, warnings and time around it
import torch
import triton
import triton.language as tl

# exercise: vector_add_kernel
import time
import warnings

from IPython.display import HTML, display

warnings.simplefilter("ignore")
started = time.perf_counter()


@triton.jit
def vector_add_kernel(x_ptr, y_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < N
    tl.store(out_ptr + offs, tl.load(x_ptr + offs, mask=mask) + tl.load(y_ptr + offs, mask=mask), mask=mask)


display(HTML(f"<b>{time.perf_counter() - started:.1f}</b>"))
