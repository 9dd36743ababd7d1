"""INT8 product without scales: the kernel against INT64 sums, the models against counts, and what the checks say of it."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.bench.results import recorded, select
from checks.course.notebooks import LESSONS, read
from checks.exercises import EXERCISES
from checks.judge.source import answer_source, define
from checks.judge.verdict import judge
from checks.pictures.perrow_w8a8 import LAYOUTS, count_bytes
from kernels import cost, matmul_fp16_naive, perrow_w8a8_matmul_plain
from kernels.int_mm import MAX_K, int_mm, max_k
from kernels.runtime import INTERPRETED, Card, device

EXERCISE = EXERCISES["int_mm_kernel"]


def codes(rows, K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (rows, K), generator=generator, dtype=torch.int8).to(device())


def exact(x_q, w_q):
    return (x_q.double() @ w_q.double().T).int()  # float64 holds every sum below 2⁵³


@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (127, 129, 65), (128, 128, 128), (129, 136, 272)])
def test_both_layouts_of_w_are_exact(M, N, K):
    x, w = codes(M, K), codes(N, K, seed=1)
    for laid_out in (w, w.T.contiguous().T, w.repeat_interleave(2, dim=1)[:, ::2]):
        assert torch.equal(int_mm(x, laid_out), exact(x, w))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 140), st.integers(1, 140), st.integers(1, 300), st.integers(0, 2**16))
def test_any_shape(M, N, K, seed):
    x, w = codes(M, K, seed), codes(N, K, seed + 1)
    assert torch.equal(int_mm(x, w), exact(x, w))


@given(st.integers(2, 64), st.integers(1, 300))
def test_the_bound_on_k_is_tight(bits, code):
    K, largest = max_k(bits, code), 2 ** (bits - 1) - 1
    assert K * code * code <= largest < (K + 1) * code * code


def test_longest_row_is_exact_and_one_more_would_overflow():
    assert MAX_K == 133_144
    assert torch.full((MAX_K + 1,), 127**2).sum(dtype=torch.int32) < 0
    with pytest.raises(ValueError, match="at most 133144 columns, got 133145"):
        int_mm(codes(1, MAX_K + 1), codes(1, MAX_K + 1))


@pytest.mark.parametrize("x, w, words", [
    (torch.zeros(4, 8), codes(5, 8), r"x_q must be \(M, K\) int8, got \(4, 8\) float32"),
    (codes(4, 8), codes(5, 9), r"w_q must be \(N, 8\) int8, got \(5, 9\)"),
    (codes(8, 4).T, codes(5, 8), "x_q must be contiguous along its last dimension"),
])
def test_wrong_arguments_are_named(x, w, words):
    with pytest.raises((TypeError, ValueError), match=words):
        int_mm(x.to(device()), w)


def test_gpus_before_ampere_are_refused(monkeypatch):
    monkeypatch.setattr("kernels.int_mm.card", lambda where: Card((7, 5), 40, 65_536, 4 << 20, 320.0))  # a T4
    with pytest.raises(NotImplementedError, match=r"8.0 \(Ampere\) or later, this one has \(7, 5\)"):
        int_mm(codes(4, 8), codes(5, 8))


@pytest.mark.parametrize("M, N, K", [(128, 128, 256), (100, 7, 300)])
def test_models_are_the_bytes_that_one_tile_asks_for(M, N, K):
    x, w = torch.zeros(M, K), torch.zeros(N, K)
    assert count_bytes(matmul_fp16_naive, x=x.half(), w=w.half()).total() == cost.matmul_fp16_bytes(M, N, K)
    quantized = {"x_q": x.to(torch.int8), "x_scale": torch.ones(M), "w_q": w.to(torch.int8), "w_scale": torch.ones(N)}
    assert count_bytes(perrow_w8a8_matmul_plain, **quantized).total() == cost.perrow_w8a8_matmul_bytes(M, N, K)
    assert sum(value.nbytes for value in quantized.values()) + 2 * M * N == cost.perrow_w8a8_matmul_bytes(M, N, K)


def test_one_word_for_four_codes_means_no_byte_moves():
    """What lesson 05 says of the two layouts is what the compiler does."""
    import matplotlib

    matplotlib.use("Agg")
    from checks.pictures.perrow_w8a8 import show_layouts

    figure = show_layouts(int_mm)
    counts = {bars.get_label(): [bar.get_height() for bar in bars] for bars in figure.axes[0].containers}
    assert [counts[layout][1] == 0 for layout in LAYOUTS] == [True, False]
    assert [counts[layout][0] == 0 for layout in LAYOUTS] == [True, False]


def test_a_dot_that_says_nothing_of_its_sums_gets_a_sentence():
    verdict = judge(EXERCISE, EXERCISE.edited((", out_dtype=tl.int32", "")))
    assert "with `out_dtype=tl.int32`" in verdict.message


def test_wrong_integers_are_shown_whole():
    verdict = judge(EXERCISE, EXERCISE.edited(("dtype=tl.int32)\n", "dtype=tl.float32)\n"),
                                     ("acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)",
                                      "acc = tl.dot(x.to(tl.float16), w.to(tl.float16).T, acc)")))
    assert verdict.mistake == "FP32 accumulation"
    got, expected = (part.split()[-1].rstrip(".;") for part in verdict.message.split("First: ")[1].split("expected")[:2])
    assert got != expected.split("\n")[0] and "," in got


def test_correct_kernels_in_other_styles_pass():
    added = [("acc = tl.dot(x, w.T, acc, out_dtype=tl.int32)", "acc += tl.dot(x, w.T)")]
    pointers = [("x_rows + offs_k[None, :]", "x_rows + tl.arange(0, BLOCK_K)[None, :]"),
                ("        acc = tl.dot", "        x_rows += BLOCK_K\n        acc = tl.dot")]
    for edits in (added, pointers):
        verdict = judge(EXERCISE, EXERCISE.edited(*edits))
        assert verdict.passed, verdict.message


def test_the_scales_may_be_multiplied_first_in_fp32():
    exercise = EXERCISES["perrow_w8a8_matmul_plain_kernel"]
    source = answer_source(exercise.name).replace("acc.to(tl.float32) * x_scale[:, None] * w_scale[None, :]",
                                                    "acc * (x_scale[:, None] * w_scale[None, :])")
    verdict = judge(exercise, define(source, exercise.name, dict(vars(exercise.module))))
    assert verdict.passed, verdict.message


@pytest.mark.skipif(not INTERPRETED, reason="what was read is known in the interpreter")
def test_what_was_never_read_is_found_by_any_pointer_name():
    verdict = judge(EXERCISE, EXERCISE.edited(("mask_k = offs_k < K", "mask_k = (offs_k < K) & (offs_k != 2)")))
    assert verdict.mistake is None
    assert "elements of `x_q` are never read, all in x_q[:, 2]" in verdict.message


def test_the_wrapper_is_tried_on_a_gpu_machine_too(monkeypatch):
    monkeypatch.setattr("checks.judge.verdict.INTERPRETED", False)
    verdict = judge(EXERCISES["perrow_w8a8_matmul_plain_kernel"], perrow_w8a8_matmul_plain)
    assert verdict.passed and verdict.message.endswith("right on this GPU too")


def test_the_lesson_says_what_the_recorded_figures_say():
    times = {name: {row["N"]: row["median_us"] for row in select(recorded(), test="gemm", function=name, M=16384, K=2048)}
             for name in ("matmul_fp16_naive", "perrow_w8a8_matmul_plain")}
    gains = [times["matmul_fp16_naive"][N] / us for N, us in times["perrow_w8a8_matmul_plain"].items()]
    page = " ".join(cell.source for cell in read(LESSONS / "05_int8_gemm.ipynb").cells)
    low, high = re.search(r"in our figures of an H200 ([\d.]+) to ([\d.]+) times", page).groups()
    assert (low, high) == (f"{min(gains):.1f}", f"{max(gains):.1f}")
