"""What lanes hold that lie beyond a tensor, or are off."""

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def beyond_kernel(x_desc, out_ptr, BM: tl.constexpr, BN: tl.constexpr):
    tile = tl.arange(0, BM)[:, None] * BN + tl.arange(0, BN)[None, :]
    tl.store(out_ptr + tile, x_desc.load([0, 0]))


@pytest.mark.parametrize("padding", ["zero", "nan"])
def test_what_a_descriptor_gives_beyond_its_tensor(padding):
    x, out = torch.randn(3, 12), torch.zeros(4, 16)
    given = {"x_desc": TensorDescriptor.from_tensor(x, [4, 16], padding), "out_ptr": out, "BM": 4, "BN": 16}
    assert execute(beyond_kernel, (1,), given).fine
    want = torch.full((4, 16), 0.0 if padding == "zero" else torch.nan)
    want[:3, :12] = x
    assert torch.equal(out.nan_to_num(7), want.nan_to_num(7))


@triton.jit
def masked_histogram_kernel(x_ptr, out_ptr, M, N: tl.constexpr, BINS: tl.constexpr):
    lanes = tl.arange(0, N)
    tl.store(out_ptr + tl.arange(0, BINS), tl.histogram(tl.load(x_ptr + lanes), BINS, mask=lanes < M))


def test_a_histogram_counts_the_lanes_that_are_on():
    x, out = torch.randint(0, 8, (64,), dtype=torch.int32), torch.zeros(8, dtype=torch.int32)
    assert execute(masked_histogram_kernel, (1,), {"x_ptr": x, "out_ptr": out, "M": 50, "N": 64, "BINS": 8}).fine
    assert torch.equal(out, x[:50].bincount(minlength=8).int())
