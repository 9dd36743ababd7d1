"""Pictures of lesson 10, read back from their axes: a small model's perplexities, recorded ones, and a card's times."""

import json

import pytest
import torch
from drawn import bars, colour_of, lines, rectangles, texts, ticks
from invented import card_rows

from checks.bench.figures import COLOURS
from checks.capstone import accuracy
from checks.capstone.accuracy import Scheme
from checks.pictures import transformer
from kernels.linear import int8_linear_torch
from kernels.runtime import INTERPRETED, device
from kernels.transformer import Config, Transformer, layers_to_skip, pareto_front, perplexity

CARD = {"gpu": "Some GPU"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = Config(vocabulary=256, layers=1, dim=32, heads=2, kv_heads=1, hidden=48)
    return Transformer(config).half().to(device()).eval().requires_grad_(False)


@pytest.fixture
def sample(monkeypatch):
    rows = torch.arange(36).reshape(3, 12) * 7 % 256
    monkeypatch.setattr(transformer, "sample_rows", lambda: rows)
    return rows.to(device())


def test_the_cost_of_bits_is_drawn_as_recorded(monkeypatch):
    schemes = [{"per": per, "truncate": truncate, "bits": bits, "cost_percent": bits * factor}
               for per, truncate, factor in (("row", False, 1.0), ("row", True, 2.0), ("tensor", False, 3.0))
               for bits in (8, 4)]
    monkeypatch.setattr(transformer, "recorded_accuracy", lambda: {
        "schemes": schemes, "bytes": 12345, "fp16_perplexity": 3.25})
    (axes,) = transformer.show_bits().axes
    assert lines(axes) == {"a scale per row, rounded": {8: 8, 4: 4}, "per row, truncated": {8: 16, 4: 8},
                           "a scale per tensor, rounded": {8: 24, 4: 12}}
    assert axes.get_title() == "Held-out text, 12,345 bytes, FP16 perplexity 3.250" and axes.get_yscale() == "log"
    assert len(axes.lines) == 3 and texts(axes) == [], "nothing that the lesson does not speak of"
    assert axes.yaxis.get_major_formatter()(2.5, 0) == "2.5 %"


def test_outliers_are_drawn_as_recorded(monkeypatch):
    outliers = [{"name": name, "factor": factor, "cost_percent": factor * cost} for factor in (1, 16)
                for name, cost in (("FP16", 0.0), ("INT8 per row", 0.5), ("INT8 per tensor", 2.0))]
    monkeypatch.setattr(transformer, "recorded_accuracy", lambda: {"outliers": outliers})
    (axes,) = transformer.show_outliers().axes
    assert lines(axes) == {"FP16": {1: 0, 16: 0}, "INT8 per row": {1: 0.5, 16: 8}, "INT8 per tensor": {1: 2, 16: 32}}
    assert list(axes.get_xticks()) == [1, 16] and axes.xaxis.get_major_formatter()(16.0, 0) == "16"


def test_layers_stand_in_the_order_of_the_model():
    names = ["blocks.0.attention.q", "blocks.0.mlp.down", "blocks.1.attention.q", "lm_head"]
    (axes,) = transformer.show_layers(per_row=dict(zip(names, (40.0, 41.0, 42.0, 43.0), strict=True)),
                                      per_tensor=dict(zip(reversed(names), (23.0, 22.0, 21.0, 20.0), strict=True))).axes
    assert lines(axes) == {"per row": {0: 40, 1: 41, 2: 42, 3: 43}, "per tensor": {0: 20, 1: 21, 2: 22, 3: 23}}
    assert ticks(axes) == ["q", "down", "q", "head"] and texts(axes) == ["block 0", "block 1"]
    assert [line.get_xdata()[0] for line in axes.lines[2:]] == [-0.5, 1.5]


def test_a_sample_is_every_seventh_row_of_the_held_out_text():
    rows = transformer.sample_rows()
    text = transformer.tokens_of("held_out")
    assert rows.dtype == torch.int64 and rows.shape == (34, 128)
    assert torch.equal(rows[0], text[:128]) and torch.equal(rows[2], text[14 * 127:14 * 127 + 128])


def test_your_linear_computes_with_your_function():
    linear = torch.nn.Linear(4, 3)
    yours = transformer.YourLinear(linear, lambda x, w_q, w_scale, bias: (x, w_q, w_scale, bias))
    x, w_q, w_scale, bias = yours(torch.ones(2, 4))
    assert torch.allclose(w_q * w_scale[:, None], linear.weight, atol=0.01) and w_q.dtype is torch.int8
    assert bias is linear.bias and torch.equal(x, torch.ones(2, 4))


def test_the_cost_of_int8_by_piece(model, sample):
    (axes,) = transformer.show_cost(model, int8_linear_torch, perplexity).axes
    logits = model(sample)
    fp16 = [perplexity(logits[i:i + 1], sample[i:i + 1]) for i in range(3)]
    yours = accuracy.with_linears(model, lambda linear: transformer.YourLinear(linear, int8_linear_torch))(sample)
    int8 = [perplexity(yours[i:i + 1], sample[i:i + 1]) for i in range(3)]
    diagonal, points = axes.lines
    assert points.get_xydata().tolist() == [list(pair) for pair in zip(fp16, int8, strict=True)] and fp16 != int8
    assert diagonal.get_xydata().tolist() == [[min(fp16) * 0.9] * 2, [max(fp16) * 1.1] * 2]
    whole, quantized = perplexity(logits, sample), perplexity(yours, sample)
    error = accuracy.standard_error_percent(int8, fp16)
    assert axes.get_title() == (f"3 pieces of 11 bytes, perplexity {whole:.4f} in FP16,\n{quantized:.4f} in INT8 "
                                f"({100 * (quantized / whole - 1):+.3f} ± {error:.3f} %)")


def test_the_frontier_s_points_are_bytes_and_perplexities(model, sample, monkeypatch):
    names = accuracy.linears(model)
    weights = torch.tensor([linear.weight.numel() for linear in names.values()])
    monkeypatch.setattr(transformer, "recorded_accuracy", lambda: {"layers": [
        {"name": name, "cost_percent": float(1 + at)} for at, name in enumerate(names)]})
    asked = []

    def skip(cost, counts, budget):
        asked.append((cost.tolist(), counts.tolist(), budget))
        return torch.arange(len(names)) == round(budget * 20)  # layer 2, 5 or, beyond the last, none

    points = transformer.frontier_points(model, skip)
    assert asked == [([float(1 + at) for at in range(len(names))], weights.tolist(), budget) for budget in (0.1, 0.25, 0.5)]
    us = (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) / 4.8e12 * 1e6
    share = {layer: float(weights[layer] / weights.sum()) for layer in (2, 5)}
    found = {name: x / us for name, (x, _) in points.items()}
    assert found == {name: pytest.approx(size) for name, size in {
        "FP16": 2, "INT8 per row": 1, "INT8 per row, truncated": 1, "INT8 per tensor": 1, "INT6 per row": 0.75,
        "INT4 per row": 0.5, "INT4 per tensor": 0.5, f"INT4, {share[2]:.0%} in INT8": 0.5 + share[2] / 2,
        f"INT4, {share[5]:.0%} in INT8": 0.5 + share[5] / 2, "INT4, 0% in INT8": 0.5}.items()}
    baseline = accuracy.perplexity_of(model, sample)

    def cost(quantized):
        return accuracy.cost_percent(accuracy.perplexity_of(quantized, sample), baseline)

    assert points["FP16"][1] == 0
    assert points["INT4 per row"][1] == pytest.approx(cost(accuracy.simulated(model, Scheme(4))))
    assert points["INT8 per tensor"][1] == pytest.approx(cost(accuracy.simulated(model, Scheme(per="tensor"))))
    rest = [name for at, name in enumerate(names) if at != 2]
    mixed = accuracy.simulated(accuracy.simulated(model, Scheme(4), rest), Scheme(), [list(names)[2]])
    assert points[f"INT4, {share[2]:.0%} in INT8"][1] == pytest.approx(cost(mixed))


def test_the_front_is_what_the_function_finds(monkeypatch):
    points = {"a": (4.0, 0.0), "b": (2.0, 0.3), "c": (3.0, 0.5), "d": (1.0, 9.0)}
    monkeypatch.setattr(transformer, "frontier_points", lambda model, skip: points)
    (axes,) = transformer.show_frontier(None, layers_to_skip, pareto_front).axes
    front, *marks = axes.lines
    assert front.get_xydata().tolist() == [[1, 9], [2, 0.3], [4, 0]]
    assert [(mark.get_marker(), mark.get_xydata().tolist()) for mark in marks] == [
        ("x" if name == "c" else "o", [list(point)]) for name, point in points.items()]
    assert axes.get_yscale() == "symlog" and axes.get_xlabel().startswith("predicted µs to read the weights")
    assert axes.get_ylabel() == "small model's perplexity above FP16's" and "●  nothing is better" in axes.get_title()
    assert texts(axes) == list("abcd") and [text.xy for text in axes.texts] == list(points.values())


# ---- times


def test_the_times_of_a_block_in_every_place_and_mode():
    figure = transformer.show_block(CARD | {"rows": card_rows()})
    prefill, decode = figure.axes
    assert bars(prefill) == {"FP16": [300, 200, 100], "INT8": [216, 144, 72], "INT8 fused": [180, 120, 60]}
    assert bars(decode) == {"FP16": [600, 400, 200], "INT8": [432, 288, 144], "INT8 fused": [360, 240, 120]}
    assert [round(x + width / 2, 6) for x, _, width, _ in rectangles(prefill)] == [
        -0.27, 0.73, 1.73, 0, 1, 2, 0.27, 1.27, 2.27]
    assert texts(prefill) == ["300", "200", "100", "216", "144", "72", "180", "120", "60"]
    assert prefill.texts[4].xy == (1, 144) and ticks(prefill) == ["eager", "compile", "graph"]
    assert (prefill.get_title(), decode.get_title()) == ("prefill, 100 tokens", "decode of 4, at 50")
    where = "recorded on an Some GPU" if INTERPRETED else "measured now on this Some GPU"
    assert where in figure.get_suptitle() and prefill.get_ylabel() == "µs"


def test_a_variant_that_was_left_out_has_no_height():
    rows = [row for row in card_rows() if (row["function"], row["mode"]) != ("INT8", "compile")]
    assert bars(transformer.show_block(CARD | {"rows": rows}).axes[0])["INT8"] == [216, 0, 72]


def test_where_the_time_goes_now():
    (axes,) = transformer.show_time_now(CARD | {"rows": card_rows()}).axes
    assert [round(width, 6) for _, _, width, _ in rectangles(axes)] == pytest.approx([
        0.7, 0, 0.2, 0.1, *(part / 72 for part in (28, 14, 20, 10)),
        0.7, 0, 0.2, 0.1, *(part / 72 for part in (42, 0, 20, 10))], abs=1e-6)
    assert [x for x, *_ in rectangles(axes)][:4] == pytest.approx([0, 0.7, 0.7, 0.9])
    assert [y + height / 2 for _, y, _, height in rectangles(axes)][::4] == pytest.approx([0, 1, 2, 3])
    assert texts(axes) == ["70%", "20%", "10%", "100 µs", "39%", "19%", "28%", "14%", "72 µs",
                           "70%", "20%", "10%", "200 µs", "58%", "28%", "14%", "144 µs"]
    assert axes.texts[1].get_position() == (pytest.approx(0.8), 0)
    assert ticks(axes, "y") == ["prefill, 100 tokens: FP16", "prefill, 100 tokens: INT8", "decode of 4, at 50: FP16",
                                "decode of 4, at 50: INT8"]
    assert list(bars(axes, horizontal=True)) == list(transformer.PARTS) and colour_of(axes)[:4] == COLOURS[:4]


def test_the_page_of_a_card():
    card = CARD | {"rows": card_rows(), "cost_percent": {"FP16": 0.0, "INT8": 0.5, "INT4": -0.25},
                   "perplexity": {"FP16": 4.0, "INT8": 4.02, "INT4": 3.99}, "bytes": 12345, "accuracy_on": "CPU",
                   "sqnr_db": {"blocks.0.attention.q": 44.0, "blocks.1.mlp.up": 48.0}, "date": "2026-01-01", "torch": "2.11"}
    figure = transformer.card_figure(card)
    costs, sqnr, times, parts = figure.axes
    assert [bar.get_width() for bar in costs.patches] == [0.5, -0.25] and texts(costs) == ["+0.50 %", "-0.25 %"]
    assert [text.xy for text in costs.texts] == [(0.5, 0), (0, 1)] and ticks(costs, "y") == ["INT8", "INT4"]
    assert costs.get_title() == "Perplexity above FP16's 4.000\n(12,345 bytes held out, on CPU)"
    assert sqnr.lines[0].get_xydata().tolist() == [[0, 44], [1, 48]] and ticks(sqnr) == ["0.q", "1.up"]
    assert bars(times) == {"FP16": [100, 200], "INT8": [72, 144], "INT8 fused": [60, 120]}
    assert ticks(times) == ["prefill\n100 tokens", "decode of 4\nat 50"] and "Some GPU" in times.get_title()
    assert len(parts.patches) == 16
    assert figure.get_suptitle() == "Report card: a transformer in INT8 · 2026-01-01 · torch 2.11"
    without = transformer.card_figure(card | {"rows": []})
    assert len(without.axes) == 2 and without.get_suptitle().endswith(" · no times: there was no GPU")


def test_a_student_s_card_holds_what_their_functions_measured(model, sample, tmp_path, capsys):
    path = tmp_path / "card.json"
    figure = transformer.show_card(model, int8_linear_torch, perplexity, None, path)
    card = json.loads(path.read_text())
    assert card["perplexity"]["FP16"] == perplexity(model(sample), sample) and card["bytes"] == 33
    yours = accuracy.with_linears(model, lambda linear: transformer.YourLinear(linear, int8_linear_torch))
    want = {"INT8 per row": yours} | {scheme.name: accuracy.simulated(model, scheme) for scheme in (
        Scheme(truncate=True), Scheme(per="tensor"))}
    assert {name: value for name, value in card["perplexity"].items() if name != "FP16"} == {
        name: perplexity(made(sample), sample) for name, made in want.items()}
    assert card["sqnr_db"] == accuracy.layer_sqnr_db(model, Scheme(), sample)
    assert (card["gpu"], card["rows"]) == (None, []) and f"written to {path}" in capsys.readouterr().out
    assert path.with_suffix(".png").exists() and len(figure.axes) == 2


@pytest.mark.skipif(not INTERPRETED, reason="a GPU measures")
def test_the_recorded_times_stand_in_where_there_is_no_gpu():
    card = transformer.block_card()
    assert card["gpu"] and {row["test"] for row in card["rows"]} == {"block", "block_product"}


def test_on_a_gpu_two_places_are_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(transformer, "INTERPRETED", False)
    monkeypatch.setattr(transformer.torch.cuda, "get_device_name", lambda: "Live GPU")
    for name in ("block_rows", "product_rows"):
        monkeypatch.setattr(transformer.block, name, lambda places, say, name=name: asked.append(places) or [name])
    assert transformer.block_card() == {"gpu": "Live GPU", "rows": ["block_rows", "product_rows"]}
    assert asked == [[("prefill", 1, 8192), ("decode", 16, 2048)]] * 2
