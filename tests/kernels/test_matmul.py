"""FP16 matrix product: each rung against float64, on sizes around the tiles' edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.judge.source import define
from checks.pictures.matmul import show_tflops, trace_naive
from kernels import cost, matmul
from kernels.runtime import INTERPRETED, device
from kernels.tuning import descriptor_ready

RUNGS = {
    "naive": matmul.matmul_fp16_naive,
    "grouped": matmul.matmul_fp16_grouped,
    "tuned": matmul.matmul_fp16,
}


def whole(shape, seed=0, high=4):
    """Whole numbers from -high to high: sums of their products are exact in FP32, in any order, below 2²⁴."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-high, high + 1, shape, generator=generator).half().to(device())


def exact(x, w):
    return (x.double() @ w.double().T).half()


def tma(x, w):
    return matmul.matmul_fp16(x, w, config=matmul.TMA_CONFIGS[0])


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (127, 129, 65), (128, 128, 64), (129, 127, 63), (5, 300, 200)])
def test_ragged_shapes_are_exact(rung, M, N, K):
    x, w = whole((M, K)), whole((N, K), seed=1)
    assert torch.equal(RUNGS[rung](x, w), exact(x, w))


@pytest.mark.parametrize("M, N, K", [(1, 8, 8), (129, 264, 72), (300, 128, 64)])
def test_descriptors_are_exact(M, N, K):
    x, w = whole((M, K)), whole((N, K), seed=1)
    assert descriptor_ready(x, w, torch.empty((M, N), dtype=x.dtype, device=x.device))
    assert torch.equal(tma(x, w), exact(x, w))


@pytest.mark.parametrize("rung", RUNGS)
def test_random_numbers_stay_within_the_bound(rung):
    """FP32 sums of K terms err by at most K · 2⁻²⁴ · Σ|x·w|, and the rounding to FP16 by 2⁻¹¹ of the result."""
    K = 300
    x, w = (torch.randn(n, K, generator=torch.Generator().manual_seed(n)).half().to(device()) for n in (100, 90))
    want = x.double() @ w.double().T
    bound = K * 2**-24 * (x.double().abs() @ w.double().abs().T) + 2**-11 * want.abs() + 2**-25
    assert ((RUNGS[rung](x, w).double() - want).abs() <= bound).all()


@pytest.mark.parametrize("rung", RUNGS)
def test_views_with_wider_rows(rung):
    x, w = whole((40, 100))[::2, 3:80], whole((30, 77), seed=1)
    assert torch.equal(RUNGS[rung](x, w), exact(x, w))


def test_nan_stays_in_its_row():
    x, w = whole((6, 40)), whole((8, 40), seed=1)
    want = exact(x, w)
    x[2, 7] = float("nan")
    for rung in (*RUNGS.values(), tma):
        y = rung(x, w)
        assert y[2].isnan().all()
        assert torch.equal(y[[0, 1, 3, 4, 5]], want[[0, 1, 3, 4, 5]])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 140), st.integers(1, 140), st.integers(1, 140), st.integers(0, 2**16))
def test_any_shape(M, N, K, seed):
    x, w = whole((M, K), seed), whole((N, K), seed + 1)
    for rung in RUNGS.values():
        assert torch.equal(rung(x, w), exact(x, w))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_groups_go_down_their_columns_and_visit_every_tile(rows, columns, GROUP_M):
    assert matmul.grouped_order(rows, columns, GROUP_M).tolist() == [
        [m, n] for first in range(0, rows, GROUP_M) for n in range(columns)
        for m in range(first, min(first + GROUP_M, rows))]


@pytest.mark.parametrize("M, N, K", [(128, 256, 64), (200, 300, 100), (5, 130, 7)])
def test_tiled_matmul_bytes_is_what_the_naive_kernel_asks_for(M, N, K):
    launch = trace_naive(matmul.matmul_fp16_naive_kernel, M, N, K)
    assert launch.traffic().total() == cost.tiled_matmul_bytes(M, N, K, 128, 128)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("x, w, words", [
    (torch.zeros(4, 8), torch.zeros(4, 8).half(), r"x must be \(M, K\) float16, got \(4, 8\) float32"),
    (torch.zeros(4, 8).half(), torch.zeros(4, 9).half(), r"w must be \(N, 8\) float16, got \(4, 9\)"),
    (torch.zeros(8).half(), torch.zeros(4, 8).half(), r"x must be \(M, K\)"),
    (torch.zeros(0, 8).half(), torch.zeros(4, 8).half(), "x must not be empty"),
    (torch.zeros(8, 4).half().T, torch.zeros(4, 8).half(), "x must be contiguous along its last dimension"),
    (torch.zeros(4, 8).half(), torch.zeros(8, 4).half().T, "w must be contiguous along its last dimension"),
])
def test_wrong_arguments_are_named(rung, x, w, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RUNGS[rung](x.to(device()), w.to(device()))


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_the_speeds_are_drawn_as_recorded_and_of_a_stub_nothing(capsys):
    axes = show_tflops(matmul.matmul_fp16_naive).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2}
    assert set(lines) == {"cuBLAS FP16", "matmul_fp16_naive", "matmul_fp16_grouped", "matmul_fp16"}
    assert (lines["matmul_fp16_naive"] > 62 * 4.8).all(), "what the lesson says of the L2 cache"
    assert (lines["matmul_fp16_grouped"] < 1.1 * lines["matmul_fp16_naive"]).all(), "what it says of the order"
    stub = define('def matmul_fp16_naive_kernel(x_ptr):\n    tl.static_assert(False, "TODO: 14 lines")\n',
                  "matmul_fp16_naive_kernel", {})
    assert show_tflops(stub) is None
    assert "not attempted yet" in capsys.readouterr().out
