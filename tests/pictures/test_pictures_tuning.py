"""Pictures of lesson 09 from rows made by a formula, and what is said where nothing is recorded."""

import pytest
import torch
from synthetic_figures import ROOFS, row

from checks.bench.baselines import CONFIGS
from checks.bench.results import of_roof
from checks.bench.workloads import CONFIG_SHAPES, plan
from checks.judge.compiler import Compiled
from checks.pictures import tuning
from checks.pictures.tuning import BESIDE, BIG
from kernels.configs import accumulator_registers, stage_bytes
from kernels.runtime import INTERPRETED
from kernels.tuning import bucket_m


def config_rows():
    """At shape number `at` the best is configuration number `at`, and takes (at + 1) · 100 µs."""
    return [row("config", name, M, N, K) | {"median_us": (at + 1) * (100.0 + 10 * ((place - at) % len(CONFIGS)))}
            for at, (M, K, N) in enumerate(CONFIG_SHAPES) for place, name in enumerate(CONFIGS)]


def test_the_map_frames_the_best_configuration_of_each_shape():
    axes = tuning.config_map_figure(config_rows(), "synthetic").axes[0]
    frames = {(round(patch.get_x() + 0.48), round(patch.get_y() + 0.46)) for patch in axes.patches}
    assert frames == {(at, at) for at in range(len(CONFIG_SHAPES))}
    best = [axes.texts[at * len(CONFIG_SHAPES) + at].get_text() for at in range(len(CONFIG_SHAPES))]
    assert best == [f"1.00×\n{(at + 1) * 100:,} µs" for at in range(len(CONFIG_SHAPES))]


def test_a_configuration_that_does_not_fit_is_left_empty():
    rows = [row for row in config_rows() if not (row["function"] == CONFIGS[1] and row["M"] == CONFIG_SHAPES[0][0])]
    axes = tuning.config_map_figure(rows, "synthetic").axes[0]
    assert axes.texts[len(CONFIG_SHAPES)].get_text() == ""


def test_bars_are_parts_of_the_roof():
    rows = [row("gemm", name, M, N, K) for M, K, N in BIG for name in BESIDE]
    axes = tuning.roof_figure(rows, ROOFS, "synthetic").axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([100 * of_roof(next(r for r in rows if r["function"] == name and (
        r["M"], r["K"], r["N"]) == shape), ROOFS) for name in BESIDE for shape in BIG])


def test_what_was_not_measured_has_no_bar_of_its_own():
    rows = [row("gemm", name, M, N, K) for M, K, N in BIG for name in BESIDE]
    kept = [r for r in rows if r["function"] != BESIDE[0] or r["N"] != BIG[0][2]]
    axes = tuning.roof_figure(kept, ROOFS, "synthetic").axes[0]
    assert sum(bar.get_height() > 0 for bar in axes.patches) == len(axes.texts) < len(rows)


def test_resources_show_the_formula_and_the_report():
    sizes = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 128, "num_warps": 8, "num_stages": 3}
    report = Compiled(registers=127, shared=98304, spills=8)
    figure = tuning.show_resources(stage_bytes, accumulator_registers, [("one", sizes, report)])
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [96, 96]
    assert [bar.get_width() for bar in right.patches] == [64, 127]
    assert "8 bytes spilled" in right.texts[0].get_text()


def test_spills_are_named_only_where_there_are_some():
    sizes = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 2}
    left, right = tuning.show_resources(stage_bytes, accumulator_registers, [
        ("one", sizes, Compiled(registers=90, shared=2048)), ("two", sizes, Compiled(registers=None, shared=0))]).axes
    assert [text.get_text() for text in left.texts] == ["2 KiB", "0 KiB", "most: 227"]
    assert [text.get_text() for text in right.texts] == ["90", "0", "most: 255"]
    assert [line.get_xdata()[0] for axes in (left, right) for line in axes.lines] == [227, 255]


def test_buckets_are_counted():
    top, bottom = tuning.show_buckets(bucket_m, torch.tensor([3, 4, 5, 7, 8, 100])).axes
    assert (top.get_title(), bottom.get_title()) == ("6 different M", "3 buckets")


def test_calls_are_counted_by_m_and_by_bucket_of_the_limit():
    def bucket_m(M, largest):
        return min(M, largest) // 100

    top, bottom = tuning.show_buckets(bucket_m, torch.tensor([9000, 9000, 8200, 150, 120])).axes
    counts = [{int(path[0, 0]): path[1, 1] for path in axes.collections[0].get_segments()} for axes in (top, bottom)]
    assert counts == [{120: 1, 150: 1, 8200: 1, 9000: 2}, {1: 2, 81: 3}]


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_which_recorded_rows_are_drawn(monkeypatch):
    """Of all products recorded: those of BIG under their roofs, and those of one K against N."""
    shapes = [*BIG, (16384, 2048, 4096)]
    rows = [row("gemm", name, M, N, K) for M, K, N in shapes for name in BESIDE]
    monkeypatch.setattr("checks.pictures.common.recorded", lambda: {"gpu": "Some GPU", "rows": rows})
    monkeypatch.setattr(tuning, "recorded", lambda: {"roofs": ROOFS})
    drawn = []
    for name in ("roof_figure", "tflops_figure"):
        monkeypatch.setattr(tuning, name, lambda found, roofs, title: drawn.append(found))
    monkeypatch.setattr(tuning, "show_figure", lambda figure: figure)
    tuning.show_roofs()
    tuning.show_baselines()
    under_roofs, against_n = ({(row["M"], row["K"], row["N"]) for row in found} for found in drawn)
    assert under_roofs == set(BIG) and against_n == {shape for shape in shapes if shape[1] == 2048}


def test_the_roofs_measured_here_are_those_of_one_large_product(monkeypatch):
    asked = []

    def measured(functions, shapes):
        asked.append((list(functions), shapes))
        return [{"tflops": 600.0}, {"tflops": 1100.0}]

    monkeypatch.setattr(tuning, "test_perf_gemm", measured)
    monkeypatch.setattr(tuning, "copy_roof", lambda: {"copy_gb_per_s": 4000.0})
    monkeypatch.setattr(tuning, "_measured", {})
    assert tuning._roofs() == tuning._roofs() == {"copy_gb_per_s": 4000.0, "fp16_tflops": 600.0, "int8_tops": 1100.0}
    assert asked == [(["cuBLAS FP16", "perrow_w8a8_matmul"], [(8192, 8192, 8192)])], "measured once"


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_without_recorded_rows_a_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("checks.pictures.common.recorded", lambda: {"gpu": "Some GPU", "rows": []})
    for show in (tuning.show_config_map, tuning.show_roofs, tuning.show_baselines):
        assert show() is None
        assert "Nothing is recorded yet for this picture on the Some GPU" in capsys.readouterr().out


def test_bench_measures_what_the_pictures_draw(monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    units = [unit for units in plan().values() for unit in units]
    configs = [unit for unit in units if unit["name"] == "config"]
    assert [tuple(unit["shape"]) for unit in configs] == CONFIG_SHAPES
    assert all(unit["functions"] == CONFIGS for unit in configs)
    gemm = {tuple(unit["shape"]): unit["functions"] for unit in units if unit["name"] == "gemm"}
    assert all(set(BESIDE) <= set(gemm[shape]) for shape in BIG)
