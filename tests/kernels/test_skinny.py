"""The product of few rows, whole and in parts of K, against exact integer sums."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.gemv_int8 import gemv_w8a8_row
from kernels.perrow_w8a8 import perrow_w8a8_matmul_plain
from kernels.runtime import device
from kernels.skinny import MAX_M, skinny_w8a8, split_k, split_k_reduce, split_k_w8a8


def inputs(M, N, K, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x_q, w_q = (torch.randint(-127, 128, shape, generator=rng, dtype=torch.int8) for shape in ((M, K), (N, K)))
    x_scale, w_scale = (torch.rand(size, generator=rng) * 1e-2 + 1e-4 for size in (M, N))
    return [t.to(device()) for t in (x_q, x_scale, w_q, w_scale)]


def definition(x_q, x_scale, w_q, w_scale):
    return ((x_q.double() @ w_q.double().T).float() * x_scale[:, None] * w_scale).half()


@settings(max_examples=12, deadline=None)
@given(st.integers(1, MAX_M), st.integers(1, 140), st.integers(1, 1500), st.integers(1, 6), st.integers(0, 2**31))
def test_any_shape_and_any_number_of_parts_give_the_same_bits(M, N, K, splits, seed):
    x_q, x_scale, w_q, w_scale = inputs(M, N, K, seed)
    want = definition(x_q, x_scale, w_q, w_scale)
    assert torch.equal(skinny_w8a8(x_q, x_scale, w_q, w_scale), want)
    assert torch.equal(split_k_w8a8(x_q, x_scale, w_q, w_scale, splits), want)
    assert torch.equal(gemv_w8a8_row(x_q[0], x_scale[:1], w_q, w_scale), want[0])
    assert torch.equal(perrow_w8a8_matmul_plain(x_q, x_scale, w_q, w_scale), want)


def test_parts_are_whole_cache_lines_and_none_is_empty():
    x_q, _, w_q, _ = inputs(2, 5, 600)
    partial = split_k(x_q, w_q, splits=50)
    assert partial.shape == (5, 2, 5)  # 600 columns are five lines of 128
    assert torch.equal(partial[4].double(), x_q[:, 512:].double() @ w_q[:, 512:].double().T)


def test_refusals_name_the_argument():
    x_q, x_scale, w_q, w_scale = inputs(4, 32, 64)
    with pytest.raises(ValueError, match="^x_q must have at most 16 rows, got 17: use perrow_w8a8_matmul"):
        skinny_w8a8(x_q[:1].expand(17, 64), x_scale[:1].expand(17).contiguous(), w_q, w_scale)
    with pytest.raises(TypeError, match="^x_q must be .* int8, got .* float16"):
        split_k_w8a8(x_q.half(), x_scale, w_q, w_scale)
    with pytest.raises(ValueError, match=r"^x_scale must be \(4,\)"):
        skinny_w8a8(x_q, x_scale[:3], w_q, w_scale)
    with pytest.raises(ValueError, match=r"^w_q must be \(N, 64\)"):
        split_k(x_q, w_q[:, :63], 2)
    with pytest.raises(TypeError, match="^partial must be .* int32"):
        split_k_reduce(torch.zeros(2, 4, 32, device=device()), x_scale, w_scale)
    partial = torch.zeros(2, 4, 32, dtype=torch.int32, device=device())
    with pytest.raises(ValueError, match=r"^x_scale must be \(4,\)"):
        split_k_reduce(partial, x_scale[:3], w_scale)
    with pytest.raises(TypeError, match="^w_scale must be .* float32"):
        split_k_reduce(partial, x_scale, w_scale.half())
    with pytest.raises(ValueError, match=r"^x_scale must be \(1,\)"):
        gemv_w8a8_row(x_q[0], x_scale, w_q, w_scale)
    with pytest.raises(ValueError, match="K must be at most 65536, got 65537: use decode_w8a8"):
        gemv_w8a8_row(*[t.view(-1) if i == 0 else t for i, t in enumerate(inputs(1, 1, 65537))])
