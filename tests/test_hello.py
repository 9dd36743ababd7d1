import pytest
import torch

from checks.exercises.hello import exact_row_sum, exact_smooth, exact_sum
from checks.tracing import trace
from kernels import copy_2d, row_sum, smooth, vector_add
from kernels.hello import programs_needed
from kernels.runtime import INTERPRETED, device

SIZES = [1, 2, 127, 128, 129, 300]
SHAPES = [(1, 1), (3, 5), (16, 64), (17, 65), (15, 129), (33, 1)]


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(got, want):
    (want,) = want
    got = got.cpu()
    return got.dtype == want.dtype and ((got.double() - want.value).abs() <= want.tolerance).all()


@pytest.mark.parametrize("BLOCK", [16, 128, 1024])
@pytest.mark.parametrize("N", SIZES)
def test_vectors_of_ragged_sizes(N, BLOCK):
    x, y = normal(N), normal(N) + 1
    assert close(vector_add(x.to(device()), y.to(device()), BLOCK), exact_sum(x, y, BLOCK))
    assert close(smooth(x.to(device()), BLOCK), exact_smooth(x, BLOCK))


def test_smoothing_by_hand():
    x = torch.tensor([4.0, 0, 0, 8, 8], device=device())
    assert smooth(x).tolist() == [2, 1, 2, 6, 6]
    assert smooth(x[:1]).tolist() == [2]


@pytest.mark.parametrize(("M", "N"), SHAPES)
def test_row_sums_of_ragged_sizes_and_of_parts_of_a_wider_matrix(M, N):
    wide = normal(M, N + 7)
    for x in (wide[:, :N].clone(), wide[:, :N], wide[:, 3:3 + N]):
        assert close(row_sum(x.to(device())), exact_row_sum(x))


def test_a_row_sum_is_spoilt_by_its_own_row_alone():
    x = torch.ones(3, 40, device=device())
    x[1, 39] = float("nan")
    assert row_sum(x).cpu().nan_to_num(-1).tolist() == [40, -1, 40]


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize(("M", "N"), SHAPES)
def test_copies_of_any_view(M, N, column_major):
    wide = normal(2 * M, 3 * N).to(device())
    tall = normal(N, M).to(device())
    for x in (wide[:M, :N], wide[::2, ::3], wide[M:, N:2 * N], tall.t(), tall.t().contiguous(),
              normal(N).to(device()).expand(M, N)):
        copy = copy_2d(x, column_major)
        assert torch.equal(copy, x)
        assert (copy.t() if column_major else copy).is_contiguous()


@pytest.mark.parametrize(("N", "BLOCK", "programs"), [(50, 16, 4), (48, 16, 3), (1, 1024, 1), (2**40, 1, 2**40)])
def test_programs_needed(N, BLOCK, programs):
    assert programs_needed(N, BLOCK) == programs


@pytest.mark.skipif(not INTERPRETED, reason="programs are counted in the interpreter")
@pytest.mark.parametrize(("N", "BLOCK"), [(50, 16), (64, 16), (3, 16)])
def test_programs_needed_is_what_is_launched(N, BLOCK):
    (launch,) = trace(vector_add, x=normal(N), y=normal(N), BLOCK=BLOCK)
    assert len({access.program for access in launch.accesses}) == programs_needed(N, BLOCK)


V, M = torch.ones(4), torch.ones(4, 6)
BAD = [
    (vector_add, [V, [1.0]], TypeError, "y must be a (4,) float32 tensor, got list"),
    (vector_add, [V, V[:3]], ValueError, "y must be (4,) float32, got (3,) float32"),
    (vector_add, [V.half(), V], TypeError, "x must be (N,) float32, got (4,) float16"),
    (vector_add, [V, V.double()], TypeError, "y must be (4,) float32, got (4,) float64"),
    (vector_add, [M, V], ValueError, "x must be (N,) float32, got (4, 6) float32"),
    (vector_add, [V[:0], V], ValueError, "x must not be empty"),
    (vector_add, [M[:, 0], V], ValueError, "x must be contiguous"),
    (vector_add, [V, M[:, 0]], ValueError, "y must be contiguous"),
    (vector_add, [V, V.to("meta")], ValueError, "y must be on cpu"),
    (smooth, [M], ValueError, "x must be (N,) float32, got (4, 6) float32"),
    (smooth, [M[:, 0]], ValueError, "x must be contiguous"),
    (row_sum, [V], ValueError, "x must be (M, N) float32, got (4,) float32"),
    (row_sum, [M.int()], TypeError, "x must be (M, N) float32, got (4, 6) int32"),
    (row_sum, [M.t()], ValueError, "x must be contiguous along its last dimension"),
    (row_sum, [torch.ones(1, 65537)], ValueError, "row_sum holds a whole row in registers"),
    (copy_2d, [V], ValueError, "x must be (M, N) float32, got (4,) float32"),
    (copy_2d, [M[:0]], ValueError, "x must not be empty"),
]


@pytest.mark.parametrize(("function", "arguments", "error", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input_is_named(function, arguments, error, said):
    with pytest.raises(error) as caught:
        function(*arguments)
    assert str(caught.value).startswith(said)
