"""The pictures of lesson 11 hold what was computed, counted, read and recorded."""

import pytest
import torch
from drawn import texts, ticks

from checks.bench.attention import ATTENTION
from checks.bench.workloads import BY_GROUPS, plan
from checks.pictures import stack
from kernels.group_w8a8 import group_w8a8_matmul
from kernels.kv_cache import attention_parts_int8
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import INTERPRETED, device
from kernels.schemes import clipped_scale, fold_smoothing, quantize_asymmetric
from kernels.serving import graph_bucket, int8_cache_bytes, paired_difference
from kernels.transformer import Config, Transformer


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_and_both_error_bars():
    before = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    left, right = stack.show_paired(paired_difference, before, before + torch.tensor([0.1, 0.2, 0.3])).axes
    assert left.lines[0].get_ydata().tolist() == [1, 2, 4] and right.get_title() == "mean difference +0.2000"
    assert labels(right)[0] == f"paired: ± {0.1 / 3 ** 0.5:.4f}"


def test_an_int8_cache_is_what_attention_sees():
    torch.manual_seed(0)
    model = Transformer(Config(vocabulary=16, layers=1, dim=16, heads=2, kv_heads=1, hidden=16)).to(device()).eval()
    rows = torch.randint(16, (2, 9), device=device())
    plain = stack.window_losses(model, rows)
    seen = []
    before = stack.kernels.transformer.mixed
    with stack.int8_cache():
        cached = stack.window_losses(model, rows)
        k = torch.randn(1, 1, 4, 8)
        stack.kernels.transformer.mixed(torch.randn(1, 2, 4, 8), k, k, False)
    assert stack.kernels.transformer.mixed is before and not seen
    assert plain.shape == (2,) and not torch.equal(plain, cached) and torch.allclose(plain, cached, atol=0.02)


def test_smoothing_levels_the_outlier():
    (axes,) = stack.show_smoothing(fold_smoothing).axes
    before, after = (line.get_ydata() for line in axes.lines)
    assert before[0] / before[5] > 30 and after[0] / after[5] < 3
    plain, smoothed = (float(label.split()[-4]) for label in labels(axes))
    assert smoothed > plain + 15


def test_buckets_and_their_padding():
    (axes,) = stack.show_buckets(graph_bucket, (1, 4)).axes
    assert axes.lines[0].get_ydata().tolist() == [1, 4, 4, 4] and axes.lines[2].get_xdata().tolist() == [5, 6, 7, 8]
    assert axes.get_title() == "graphs for [1, 4]: 23% padding on average"


def test_the_cache_beside_the_weights():
    (axes,) = stack.show_cache(int8_cache_bytes, 1000).axes
    fp16, int8 = (line.get_ydata() for line in axes.lines[:2])
    assert fp16[-1] == pytest.approx(32 * 128 * 1000 * 2 * 1024 * 2 / 1e9)
    assert int8[-1] / fp16[-1] == pytest.approx(132 / 256)


@pytest.mark.skipif(not INTERPRETED, reason="parts are longer on a GPU")
def test_who_reads_which_tokens():
    (axes,) = stack.show_parts(attention_parts_int8, **stack.cache_inputs((70, 10), heads=2, kv_heads=1)).axes
    assert texts(axes) == ["program\n(0, 0, 0)\n64 tokens", "program\n(0, 0, 1)\n6 tokens",
                           "program\n(1, 0, 0)\n10 tokens"]


def test_recorded_speeds_and_times(monkeypatch):
    panels = stack.show_speed().axes
    card = next(card for card in stack.recorded_cards() if card["random"])
    assert [texts(panel) for panel in panels] == [
        [f"{row['decode_tokens_per_s']:,.0f}" for row in card["speed"] if (row["batch"], row["mode"]) == place]
        for place in ((1, "eager"), (1, "reduce-overhead"), (16, "eager"), (16, "reduce-overhead"))]
    monkeypatch.setattr(stack, "recorded_cards", list)
    assert stack.show_speed() is None
    rows = [{"M": M, "K": K, "function": name, "median_us": float(M + K + i)} for M, K in stack.PLACES
            for i, name in enumerate(ATTENTION)]
    monkeypatch.setattr(stack, "figures_of", lambda *_, **__: (rows, "invented"))
    panels = stack.show_attention_times().axes
    assert texts(panels[0]) == ["2,049", "2,050", "2,051"] and [panel.get_title() for panel in panels] == [
        f"batch {M}, {K:,} tokens" for K in (2048, 8192) for M in (1, 16, 64)]


def test_formats_are_compared_by_what_is_left():
    (axes,) = stack.show_formats(quantize_asymmetric, clipped_scale).axes
    values = [float(text) for text in texts(axes)]
    assert ticks(axes, "x") == ["normal numbers", "after SiLU", "with one outlier"] and len(values) == 12
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 512, generator=g)
    assert values[0] == pytest.approx(stack.sqnr_db(x, stack.dequantized(*quantize_int8_perrow_torch(x))), abs=0.05)
    assert values[4] > values[1] + 5 and values[9] > values[6] + 1 and values[11] == values[8]


def test_an_outlier_makes_the_steps_of_its_group_coarse():
    (axes,) = stack.show_groups(K=512, outlier=200).axes
    row, groups = (line.get_ydata() for line in axes.lines[1:])
    assert set(row.tolist()) == {groups.max()} and row[0] == pytest.approx(40 / 127)
    assert (groups[128:256] == groups.max()).all() and groups[:128].max() < groups.max() / 8 > groups[256:].max()
    assert [label.rsplit(" ", 3)[0] for label in labels(axes)[1:]] == [
        "step, a scale for the row: ordinary numbers", "step, a scale for each 128 numbers: ordinary numbers"]
    by_row, by_groups = (int(label.split()[-2]) for label in labels(axes)[1:])
    assert by_groups - by_row == pytest.approx(6, abs=1)  # a quarter of the numbers has as much noise as before


def test_groups_beside_rows_in_bits_bytes_and_errors(capsys, monkeypatch):
    stack.compare_groups(group_w8a8_matmul, 4, 16, 256)
    lines = bits, size, _, plain, outlier = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 85  # what custom.css leaves room for, on a page of 1,000 pixels
    assert bits == "one group, K = 128: 100% of y has the bits of the product by rows"
    M, N, K = 16384, 6144, 2048
    few, many = (M * K + N * K + 4 * (M + N) * groups + 2 * M * N for groups in (1, 16))
    assert size.endswith(f"{few / 1e6:.1f} MB by rows, {many / 1e6:.1f} MB by groups, {many / few - 1:.1%} more")
    (rows, groups), (rows_50, groups_50) = ([float(word.rstrip("%")) for word in line.split() if word.endswith("%")]
                                            for line in (plain, outlier))
    assert 0.5 < groups <= rows < 2 and rows_50 > 5 * rows and groups < groups_50 < rows_50
    monkeypatch.setattr(stack, "ready_to_draw", lambda function: False)
    assert stack.compare_groups(None) is None


def test_times_of_groups_are_those_of_their_shapes(monkeypatch):
    shapes = [(16384, K, N) for K, N in stack.WORKSHOP]
    rows = [{"M": M, "K": K, "N": N, "function": name, "median_us": float(100 * place + i)}
            for place, (M, K, N) in enumerate(shapes) for i, name in enumerate(BY_GROUPS)]
    monkeypatch.setattr(stack, "figures_of", lambda *_, **__: (rows, "invented"))
    (axes,) = stack.show_group_times().axes
    assert texts(axes)[4:8] == ["1", "101", "201", "301"] and labels(axes) == BY_GROUPS
    assert ticks(axes, "x")[3] == "K = 11,008\nN = 2,048"
    monkeypatch.setattr(stack, "figures_of", lambda *_, **__: None)
    assert stack.show_group_times() is None
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    measured = {(*unit["shape"], name) for unit in plan()["groups"] for name in unit["functions"]}
    assert {(*shape, name) for shape in shapes for name in BY_GROUPS} <= measured
