"""The pictures of the MLP's lesson hold what ran, what was counted and what was recorded."""

import pytest
import torch
from drawn import image, rectangles, texts, ticks
from picture_cases import an_mlp, mlp_apart

from checks.bench.baselines import FASTEST_PRODUCT, PLACES, SILU_PLANS
from checks.bench.workloads import plan
from checks.pictures import mlp
from kernels import cost
from kernels.gate_up import gate_up_silu_mul_plain
from kernels.mlp import mlp_int8
from kernels.runtime import INTERPRETED, device


@pytest.mark.skipif(not INTERPRETED, reason="blocks differ on a GPU")
def test_who_has_a_row_and_what_each_sees():
    top, bottom = mlp.show_row_owners(gate_up_silu_mul_plain, M=140, N=100, K=32, row=130).axes
    owner = image(top)
    assert owner.shape == (140, 100) and [sorted({*map(int, row)}) for row in (owner[0], owner[127], owner[130])] == [
        [1, 2], [1, 2], [3, 4]]
    assert (owner[130, :64] == 3).all() and (owner[130, 64:] == 4).all()
    assert texts(top) == ["program (0, 0)", "program (0, 1)", "program (1, 0)", "program (1, 1)"]
    assert top.get_title() == "the line is row 130 of y: 2 programs have a part of it"
    y = gate_up_silu_mul_plain(**mlp.mlp_inputs(140, 100, 32))[130].abs()
    seen = [float(y[:64].max()), float(y[64:].max())]
    assert [height for *_, height in rectangles(bottom)] == pytest.approx(seen)
    assert bottom.get_legend().get_texts()[0].get_text() == f"amax of the row, {max(seen):.1f}"


def test_the_bytes_of_each_plan_for_silu_mul():
    models = cost.silu_apart_bytes, cost.silu_in_quantizer_bytes, cost.silu_in_epilogue_bytes
    (axes,) = mlp.show_silu_bytes(*models[1:], M=1000, N=2000, K=3000).axes
    assert ticks(axes, "y") == list(SILU_PLANS)
    assert [width for _, _, width, _ in rectangles(axes)] == pytest.approx([m(1000, 2000, 3000) / 1e6 for m in models])


def test_recorded_times_are_drawn_each(monkeypatch):
    rows = [{"function": name, "M": 16384, "K": 2048, "N": 22016, "median_us": 100.0 + 7 * number}
            for number, name in enumerate([*SILU_PLANS, FASTEST_PRODUCT])]
    monkeypatch.setattr(mlp, "figures_of", lambda *_, **__: (rows, "invented"))
    (axes,) = mlp.show_silu_times().axes
    assert (ticks(axes, "y"), axes.get_title()) == (
        [row["function"].replace(", ", ",\n") for row in rows], "invented")
    assert texts(axes) == ["100", "107", "114", "121"]
    rows = [{"function": name, "M": M, "K": K, "N": N, "median_us": 100.0 * place + number}
            for place, (M, K, N) in enumerate(mlp.PLACED, 1) for number, name in enumerate(PLACES)]
    (axes,) = mlp.show_places().axes
    assert set(texts(axes)) == {f"{row['median_us']:,.0f}" for row in rows}
    assert ticks(axes) == [f"K = {K:,}\nN = {N:,}" for _, K, N in mlp.PLACED]
    assert {(round(x + width / 2), height) for x, _, width, height in rectangles(axes)} == {
        (mlp.PLACED.index((row["M"], row["K"], row["N"])), row["median_us"]) for row in rows}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(PLACES)
    monkeypatch.setattr(mlp, "figures_of", lambda *_, **__: None)
    assert mlp.show_places() is None and mlp.show_silu_times() is None


def test_the_bench_measures_what_these_pictures_draw(monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    measured = {(tuple(u["shape"]), name) for group in ("gate and up", "places") for u in plan()[group]
                for name in u["functions"]}
    M, K, N = mlp.GATE_UP_SHAPE
    assert {((M, K, N), name) for name in [*SILU_PLANS, FASTEST_PRODUCT]} <= measured
    assert {(shape, name) for shape in mlp.PLACED for name in PLACES} <= measured


@pytest.mark.skipif(not INTERPRETED, reason="the trace needs no GPU, and has none here")
def test_launches_are_counted_and_named(capsys):
    M, D, N = 64, 128, 64
    mlp.compare_launches(mlp_apart, mlp_int8, **an_mlp(M, D, N))
    *lines, saved = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-5:]] == [
        "rmsnorm_quantize_int8_plain_kernel", "gate_up_silu_mul_plain_kernel", "quantize_int8_perrow_plain_kernel",
        "perrow_w8a8_matmul_plain_kernel", "mlp_int8"]
    assert len(lines) == 7 + 5 and [line.split()[0] for line in lines[6:7]] == ["mlp_apart"]
    model = 4 * M * D + cost.silu_apart_bytes(M, N, D) - cost.silu_in_epilogue_bytes(M, N, D)
    assert saved == f"saved: {model:,} bytes"


def test_two_mlps_are_compared(capsys):
    mlp.compare_mlps(mlp_int8, mlp_int8, **an_mlp(16, 64, 32))
    same, first, second, both = capsys.readouterr().out.splitlines()
    assert (same, both) == ("the same bits: 100% of y", "the two against each other: relative error 0.00%")
    assert first == second and 0.5 < float(first.rpartition(" ")[2].rstrip("%")) < 4


def test_the_bits_of_one_kernel_and_of_two(capsys):
    mlp.compare_bits(gate_up_silu_mul_plain, 16, 64, 64)
    same, errors, bound = capsys.readouterr().out.splitlines()
    assert same.startswith("the same bits: ") and 20 < int(same.split()[3].rstrip("%")) < 95
    assert float(errors.split()[4]) > float(errors.split()[8])  # one rounding is nearer than three
    assert 0.2 < float(bound.split()[4]) < 1.01


def test_nothing_is_compared_before_it_is_written(monkeypatch):
    monkeypatch.setattr(mlp, "ready_to_draw", lambda function: False)
    assert mlp.compare_bits(None) is mlp.compare_mlps(None, None) is mlp.compare_launches(None, None) is None


@pytest.mark.skipif(not INTERPRETED, reason="the trace needs no GPU, and has none here")
def test_the_bytes_of_each_place_to_quantize(capsys):
    M, N, K = 128, 256, 128
    mlp.count_places(M, N, K)
    found = {line[2:30].strip(): [int(word.replace(",", "").rstrip(",")) for word in line[30:].split() if word[0].isdigit()]
             for line in capsys.readouterr().out.splitlines()[1:]}
    rest = N * K + 4 * N + 2 * M * N  # w, its scales, y
    quantizer, codes = cost.quantize_int8_perrow_bytes(M, K), M * K + 4 * M
    assert found["quantizer apart"][:2] == [2, quantizer + codes + rest]
    assert found["in the loop, scales given"] == [1, 2 * M * K + 4 * M + rest, 2 * (2 * M * K + 4 * M) + rest]
    assert found["in the loop, amax too"] == [1, 2 * M * K + rest, 4 * 2 * M * K + rest]
    assert found["persistent rows"] == [1, 4 * M * K + rest, 2 * 2 * M * K + M * K + 2 * M * K + rest]


def test_inputs_have_gates_of_a_few_units():
    given = mlp.mlp_inputs(32, 64, 256)
    gate = (given["x_q"].double() @ given["w_q"].double().T * given["x_scale"].double()[:, None] * given["w_scale"].double())
    assert 1 < gate.std() < 10 and given["w_q"].shape == (128, 256) and device() and torch.equal(
        given["x_q"], mlp.mlp_inputs(32, 64, 256)["x_q"])
