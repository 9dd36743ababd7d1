# honest: a wrapper that torch.library makes an operator of
import torch
import triton
import triton.language as tl


# exercise: vector_add_kernel
@triton.jit
def vector_add_kernel(a, b, c, n, TILE: tl.constexpr):
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(c + at, tl.load(a + at, mask=at < n) + tl.load(b + at, mask=at < n), mask=at < n)


@torch.library.custom_op("of_a_student::add", mutates_args=())
def added(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    vector_add_kernel[(triton.cdiv(x.numel(), 128),)](x, y, out, x.numel(), TILE=128)
    return out


@added.register_fake
def _(x, y):
    return torch.empty_like(x)


def vector_add(x, y, BLOCK=1024):
    return added(x, y)
