import pytest
import torch

from checks.exercises.gemv import exact_gemv, integers, least_bytes, normal, rows_of_a_wider_matrix, swelling
from checks.judge.tracing import trace
from checks.pictures.gemv import ROWS, show_bytes
from kernels import cost, gemv_fp16, gemv_fp16_row
from kernels.gemv import gemv_fp16_kernel
from kernels.runtime import INTERPRETED, device

RUNGS = [gemv_fp16_row, gemv_fp16]
SHAPES = [(1, 1), (3, 5), (127, 128), (64, 129), (129, 127)]


def run(rung, inputs):
    placed = {name: value.to(device()) for name, value in inputs.items()}
    return rung(**placed).cpu()


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("make", [integers, normal, rows_of_a_wider_matrix, swelling])
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_right_within_the_bound(rung, make, N, K):
    inputs = make(N, K)(torch.Generator().manual_seed(N * 1000 + K))
    (want,) = exact_gemv(**inputs)
    got = run(rung, inputs)
    assert got.dtype == torch.float16 and got.shape == (N,)
    assert ((got.double() - want.value).abs() <= want.tolerance).all()


@pytest.mark.parametrize("rung", RUNGS)
def test_nan_and_infinity_stay_in_their_row(rung):
    w, x = torch.ones(5, 40).half(), torch.ones(40).half()
    w[1, 3], w[3, 39] = float("nan"), float("inf")
    y = run(rung, {"x": x, "w": w})
    assert y[1].isnan() and y[3].isinf()
    assert (y[[0, 2, 4]] == 40).all()


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(("x", "w", "error", "said"), [
    ([1.0], torch.ones(2, 2).half(), TypeError, "x must be a (2,) float16 tensor, got list"),
    (torch.ones(3).half(), torch.ones(2, 2).half(), ValueError, "x must be (2,) float16, got (3,) float16"),
    (torch.ones(2), torch.ones(2, 2).half(), TypeError, "x must be (2,) float16, got (2,) float32"),
    (torch.ones(2, 1).half(), torch.ones(2, 2).half(), ValueError, "x must be (2,) float16, got (2, 1) float16"),
    (torch.ones(2).half(), torch.ones(2).half(), ValueError, "w must be (N, K) float16, got (2,) float16"),
    (torch.ones(0).half(), torch.ones(2, 0).half(), ValueError, "w must not be empty, got (2, 0) float16"),
    (torch.ones(3).half(), torch.ones(3, 2).half().t(), ValueError, "w must be contiguous along its last dimension"),
    (torch.ones(6).half()[::2], torch.ones(2, 3).half(), ValueError, "x must be contiguous"),
    (torch.ones(2, device="meta").half(), torch.ones(2, 2).half(), ValueError, "x must be on cpu"),
])
def test_bad_input_is_named(rung, x, w, error, said):
    with pytest.raises(error) as caught:
        rung(x, w)
    assert str(caught.value).startswith(said[:20]) and said in str(caught.value)


def test_rows_too_long_for_registers_are_refused():
    with pytest.raises(ValueError, match="at most 65536.*use gemv_fp16"):
        gemv_fp16_row(torch.ones(65537).half(), torch.ones(1, 65537).half())


@pytest.mark.skipif(not INTERPRETED, reason="bytes are counted in the interpreter")
@pytest.mark.parametrize(("N", "K"), SHAPES)
def test_the_cost_model_is_the_counted_footprint(N, K):
    inputs = integers(N, K)(torch.Generator().manual_seed(0))
    for rung in RUNGS:
        (launch,) = trace(rung, **inputs)
        assert launch.footprint().total() == cost.gemv_bytes(N, K) == least_bytes(**inputs)


@pytest.mark.skipif(not INTERPRETED, reason="bytes are counted in the interpreter")
def test_drawn_bytes_of_x_halve_when_rows_per_program_double():
    N, K = 128, 256
    axes = show_bytes(gemv_fp16_kernel, N, K).axes[0]
    w, x, y = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert w == pytest.approx([2 * N * K / 1e3] * len(ROWS)) and y == pytest.approx([2 * N / 1e3] * len(ROWS))
    assert x == pytest.approx([2 * N * K / rows / 1e3 for rows in ROWS])


def test_the_roofline_takes_the_slower_of_the_two():
    assert cost.roofline_us(flops=2e12, num_bytes=1, tflops=1, gb_per_s=1) == pytest.approx(2e6)
    assert cost.roofline_us(flops=1, num_bytes=3e9, tflops=1, gb_per_s=1) == pytest.approx(3e6)
