"""The kernels of lesson 00, what is said of slips in them, and their pictures."""

import pytest
import torch

from checks.exercises import EXERCISES
from checks.exercises.hello import exact_row_sum, exact_smooth, exact_sum
from checks.judge.source import define, rebind
from checks.judge.tracing import trace
from checks.judge.trial import try_case
from checks.judge.verdict import judge
from checks.pictures.hello import show_lanes, show_memory, show_programs
from kernels import copy_2d, row_sum, smooth, vector_add
from kernels.hello import first_wrong, programs_needed
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


@pytest.mark.parametrize(("wrong", "place"), [({}, (-1, -1)), ({0: 1.0}, (0, 0)), ({9: -1.0, 11: 1.0}, (2, 1)),
                                              ({4: float("nan")}, (1, 0))])
def test_the_first_wrong_element(wrong, place):
    exact = torch.zeros(12)
    out = exact.clone()
    for element, value in wrong.items():
        out[element] = value
    assert first_wrong(out, exact, BLOCK=4) == place


def test_smoothing_by_hand():
    x = torch.tensor([4.0, 0, 0, 8, 8], device=device())
    assert smooth(x).tolist() == [2, 1, 2, 6, 6]
    assert smooth(x[:1]).tolist() == [2]


@pytest.mark.parametrize(("M", "N"), SHAPES)
def test_row_sums_of_ragged_sizes_and_of_parts_of_a_matrix(M, N):
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
    (row_sum, [torch.ones(1, 65537)], ValueError, "row_sum takes a row as one block, so N must be at most 65536"),
    (copy_2d, [V], ValueError, "x must be (M, N) float32, got (4,) float32"),
    (copy_2d, [M[:0]], ValueError, "x must not be empty"),
]


@pytest.mark.parametrize(("function", "arguments", "error", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input_is_named(function, arguments, error, said):
    with pytest.raises(error) as caught:
        function(*arguments)
    assert str(caught.value).startswith(said)


EXERCISE = {name: EXERCISES[f"{name}_kernel"] for name in ("vector_add", "smooth", "row_sum", "copy_2d")}


def edited(name, *edits):
    return EXERCISE[name].edited(*edits)


SLIPS = [
    ("vector_add", ("    x = tl.load(x_ptr + offs, mask=mask)", "    if offs < N:\n        x = tl.load(x_ptr + offs)"),
     "An `if` decides for a whole program"),
    ("vector_add", ("tl.load(x_ptr + offs, mask=mask)", "tl.load(x_ptr, mask=mask)"), "add the offsets to it"),
    ("vector_add", ("x + y, mask", "x_ptr + offs + y_ptr, mask"), "read the values first"),
    ("vector_add", ("out_ptr + offs, x + y,", "x + y, out_ptr + offs,"), "The address comes first"),
    ("vector_add", ("out_ptr + offs,", "out_ptr,"), "or the offsets in the address?"),
    ("vector_add", ("tl.arange(0, BLOCK)", "tl.arange(0, N)"), "`tl.arange` takes numbers known at compile time"),
    ("smooth", ("mask & (offs > 0)", "mask & offs > 0"), "put each comparison in parentheses"),
    ("smooth", ("mask & (offs > 0)", "0 < offs < N"), "A chain such as"),
    ("row_sum", ("axis=0", "axis=1"), "has one axis only"),
]


@pytest.mark.skipif(not INTERPRETED, reason="the sentences answer what the interpreter says")
@pytest.mark.parametrize(("name", "edit", "sentence"), SLIPS, ids=[sentence for *_, sentence in SLIPS])
def test_a_slip_gets_its_sentence(name, edit, sentence):
    verdict = judge(EXERCISE[name], edited(name, edit))
    assert not verdict.passed
    assert sentence in verdict.message


@pytest.mark.parametrize(("name", "edits"), [
    ("vector_add", [("    offs = p * BLOCK + tl.arange(0, BLOCK)\n", "    x_ptr += p * BLOCK\n    y_ptr += p * BLOCK\n"
                     "    out_ptr += p * BLOCK\n    offs = tl.arange(0, BLOCK)\n"), ("offs < N", "offs < N - p * BLOCK")]),
    ("smooth", [("mask & (offs > 0)", "(0 <= offs - 1) & (offs <= N)"), ("offs + 1 < N", "offs < N - 1")]),
    ("row_sum", [("mask=mask_n, other=0.0)", "mask=mask_n)\n    x = tl.where(mask_n, x, 0.0)"), ("x, axis=0", "x")]),
    ("copy_2d", [(f"offs_m[:, None] * stride_{t}m + offs_n[None, :] * stride_{t}n",
                  f"(offs_n * stride_{t}n)[None, :] + (offs_m * stride_{t}m)[:, None]") for t in "xo"]),
], ids=list(EXERCISE))
def test_correct_kernels_in_other_styles_pass(name, edits):
    verdict = judge(EXERCISE[name], edited(name, *edits))
    assert verdict.passed, verdict.message


@pytest.mark.parametrize("case", [1, 5])
def test_unwritten_elements_of_a_column_major_output_are_named(case, monkeypatch):
    monkeypatch.undo()  # of what is unwritten the judge has a pattern of its own
    kernel = edited("copy_2d", ("x, mask=mask)", "x, mask=mask & (offs_n != 2)[None, :])"))
    exercise = EXERCISE["copy_2d"]
    outcome = try_case(exercise, kernel, exercise.cases[case], seed=0)
    assert "never written, all in out[:, 2]" in outcome.message


def fields(ax):
    return ax.images[0].get_array() >= 0


def test_pictures_of_vectors_show_what_was_touched():
    (ax,) = show_programs(vector_add, x=normal(21), y=normal(21), BLOCK=8).axes
    assert fields(ax).sum(axis=1).tolist() == [8, 8, 5] and fields(ax).sum(axis=0).tolist() == [1] * 21
    assert ax.get_title() == "load x · load y · store out"
    left, here, right = (fields(ax) for ax in show_lanes(smooth, x=normal(17), BLOCK=8).axes)
    assert left.tolist() == [[False] + [True] * 7, [True] * 8, [True] + [False] * 7]
    assert here.tolist() == [[True] * 8, [True] * 8, [True] + [False] * 7]
    assert right.tolist() == [[True] * 8, [True] * 8, [False] * 8]


def test_pictures_of_memory_show_gaps_and_layouts():
    x, out = show_memory(copy_2d, x=normal(4, 12)[:, ::3], column_major=True).axes
    assert fields(x).tolist() == [[True, False, False] * 4] * 4
    assert fields(out).tolist() == [[True] * 4] * 4
    x, out = show_memory(row_sum, x=normal(4, 12)[:, :10]).axes
    assert fields(x).sum(axis=1).tolist() == [10] * 4 and fields(out).shape == (4, 1)


def test_there_is_nothing_to_draw_of_a_stub(capsys):
    stub = define("@triton.jit\ndef row_sum_kernel():\n    tl.static_assert(False, 'TODO')\n", "row_sum_kernel",
                  dict(vars(EXERCISE["row_sum"].module)))
    for show in (show_lanes, show_memory, show_programs):
        assert show(rebind(row_sum, row_sum_kernel=stub), x=normal(4, 4)) is None
    assert capsys.readouterr().out.count("not attempted yet") == 3
