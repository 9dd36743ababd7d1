"""The report card: what it accepts, what it says of a file that is none, its sums, and its picture."""

import json

import matplotlib.pyplot as plt
import pytest

from checks.capstone import block
from checks.capstone.accuracy import linears
from checks.capstone.command import main
from checks.capstone.report_card import (
    BEGIN,
    END,
    RECORDED,
    BadCard,
    check_card,
    read_card,
    readme_block,
    report_card,
    speedups,
    time_now,
    write_card,
)
from checks.capstone.training import FOLDER
from checks.course.notebooks import LESSONS, read
from checks.paths import ROOT
from checks.pictures import transformer
from kernels.block_cost import amdahl_speedup, block_products
from kernels.runtime import INTERPRETED
from kernels.transformer import Config

TINY = Config(vocabulary=256, layers=1, dim=32, heads=2, kv_heads=1, hidden=48)


def synthetic_rows() -> list[dict]:
    """Two places; each product takes 10 µs in FP16, in INT8 4 and 2 to quantize; attention 20, the rest 10."""
    rows = []
    for phase, batch, context in (("prefill", 1, 100), ("decode", 4, 50)):
        place = {"phase": phase, "batch": batch, "context": context, "M": 100 if phase == "prefill" else 4}

        def add(test, function, us, mode="eager", place=place, **more):
            rows.append({"test": test, "function": function, **more, **place, "mode": mode, "median_us": us, "low_us": us,
                         "high_us": us})

        for layer in block_products(1, 1, 1):
            for function, us in (("FP16", 10.0), ("INT8", 6.0), ("quantize", 2.0)):
                add("block_product", function, us, layer=layer)
        add("block_product", "FP16", 20.0, layer="attention")
        for function, us in (("FP16", 100.0), ("INT8", 72.0), ("INT8 fused", 60.0)):
            for mode in block.MODES:
                add("block", function, us if mode == "graph" else 2 * us, mode=mode)
    return rows


@pytest.fixture
def card():
    return report_card({"FP16": 4.0, "INT8": 4.02}, {"a.q": 44.0, "lm_head": 48.0}, 127, synthetic_rows(), "A synthetic GPU")


def test_a_card_says_what_quantization_cost(card):
    assert card["cost_percent"] == pytest.approx({"FP16": 0.0, "INT8": 0.5})
    assert card["accuracy_on"] == "CPU" or not INTERPRETED


def test_a_card_survives_writing_and_reading(card, tmp_path):
    figure = write_card(card, tmp_path / "card.json", transformer.card_figure)
    plt.close(figure)
    assert read_card(tmp_path / "card.json") == card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "card.png"]
    assert (tmp_path / "card.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("change, said", [
    ({"schema": 2}, "schema 1, got 2"),
    ({"rows": None}, "rows must be"),
    ({"perplexity": {"INT8": 4.0}}, "perplexity must have FP16's"),
    ({"perplexity": {"FP16": 0.5}}, "none below 1"),
    ({"perplexity": {"FP16": float("nan")}}, "finite number, got nan"),
    ({"cost_percent": {"FP16": "0"}}, "finite number, got '0'"),
    ({"cost_percent": {"FP16": 0.0, "INT8": 0.1}}, "how far each perplexity lies above"),
    ({"cost_percent": {"FP16": 0.0}}, "how far each perplexity lies above"),
    ({"sqnr_db": {"a.q": float("inf")}}, "finite number, got inf"),
    ({"gpu": None}, "name the GPU"),
    ({"rows": [{"test": "block"}]}, "row 0 has no 'function'"),
])
def test_what_is_no_card_is_refused(card, change, said):
    with pytest.raises(BadCard, match=said):
        check_card({**card, **change})


def test_a_file_that_is_no_card_is_refused(card, tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(card)[:100])
    with pytest.raises(BadCard, match="not whole JSON"):
        read_card(path)
    path.write_text("[]")
    with pytest.raises(BadCard, match="must be an object, got list"):
        read_card(path)
    row = {**card["rows"][0], "low_us": 11.0}
    path.write_text(json.dumps({**card, "rows": [row]}))
    with pytest.raises(BadCard, match="row 0 needs 0 < low_us <= median_us"):
        read_card(path)


def test_times_add_up_to_the_whole(card):
    fp16, int8 = (time_now(card["rows"], function, "prefill", 1) for function in ("FP16", "INT8"))
    assert list(fp16.values()) == [70.0, 0.0, 20.0, 10.0]
    assert list(int8.values()) == [28.0, 14.0, 20.0, 10.0]
    with pytest.raises(LookupError, match="prefill with batch 2"):
        time_now(card["rows"], "FP16", "prefill", 2)
    without = [row for row in card["rows"] if (row.get("layer"), row["function"]) != ("down", "INT8")]
    with pytest.raises(LookupError, match="'down', 'INT8'"):
        time_now(without, "INT8", "decode", 4)


def test_speedups_compare_what_was_timed_in_the_same_place(card):
    assert speedups(card["rows"], "INT8 fused")["decode", 4, 50, "graph"] == pytest.approx(100 / 60)
    assert set(speedups(card["rows"], "INT8")) == {(*place, mode) for place in (("prefill", 1, 100), ("decode", 4, 50))
                                                   for mode in block.MODES}


def test_the_readme_shows_the_recorded_card():
    block = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    path = FOLDER / RECORDED
    assert block == f"\n{readme_block(read_card(path))}", f"run `python3 workshop.py card --redraw {path.relative_to(ROOT)}`"
    assert (ROOT / block.rpartition("](")[2].rpartition(")")[0]).read_bytes()[:4] == b"\x89PNG"


def test_the_readme_s_card_keeps_the_bad_news(card):
    eager = [row | {"median_us": 50.0} if row["test"] == "block" and (row["mode"], row["function"]) == ("eager", "FP16")
             else row for row in card["rows"]]
    text = readme_block(card | {"rows": eager})
    assert "| INT8 | 4.0200 | +0.50 % |" in text
    assert "| prefill, 100 tokens | eager | 50 µs | 144 µs, 0.35× | 120 µs, 0.42× |" in text


def test_amdahl_s_law_is_printed_beside_what_was_measured(card, capsys):
    transformer.print_amdahl(amdahl_speedup, card)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[-4:] == ["70%", "1.67", "1.39", "1.39"]  # 1 / (0.3 + 0.7 · 42 / 70), and 100 / 72


def test_without_times_the_lesson_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    if not INTERPRETED:
        pytest.skip("with a GPU the times are measured")
    monkeypatch.setattr(transformer, "FOLDER", tmp_path)
    assert transformer.block_card() is None
    assert "no times recorded" in capsys.readouterr().out
    assert transformer.show_block(None) is transformer.show_time_now(None) is None


def test_the_command_needs_a_gpu(capsys):
    if not INTERPRETED:
        pytest.skip("this machine has one")
    assert main([], draw=None) == 1
    assert "There is no GPU here" in capsys.readouterr().out


@pytest.mark.parametrize("phase, batch, length, M", [("prefill", 1, 5, 5), ("decode", 3, 4, 3)])
def test_each_variant_of_a_block_takes_each_workload(phase, batch, length, M):
    blocks = block.make_blocks(TINY)
    x, _, past = arguments = block.workload(TINY, phase, batch, length)
    assert x.shape[0] * x.shape[1] == M and (past is None) == (phase == "prefill")
    want = blocks["FP16"](*arguments) - x
    for made in blocks.values():
        assert ((made(*arguments) - x - want).float().norm() / want.float().norm()).item() < block.WORST
    assert block.scaled_dot_products(TINY, x, past)().shape == (batch, TINY.heads, x.shape[1], TINY.head_dim)
    weights = sum(linear.weight.numel() for linear in linears(blocks["FP16"]).values())
    work = block.block_work(TINY, "INT8", phase, batch, length)
    assert work["bytes"] == weights + (0 if past is None else sum(kept.nbytes for kept in past))
    assert work["flops"] >= 2 * M * weights


def test_times_that_mean_nothing_are_left_out(monkeypatch):
    kept, said = {"good": block.Timing(1.0, 1.0, 1.0)}, []

    def refuse(sides, mode):
        raise block.Refused({"bad": "it took no time"}, kept)

    monkeypatch.setattr(block, "time_us", refuse)
    assert block.timed({"good": None, "bad": None}, "eager", said.append) == kept
    assert said == ["left out: bad, it took no time"]


def test_the_lesson_says_what_the_recorded_card_says():
    rows = read_card(FOLDER / RECORDED)["rows"]
    page = " ".join(" ".join(cell.source for cell in read(LESSONS / "10_transformer.ipynb").cells).split())
    us = {(row["function"], row["phase"], row["batch"], row["mode"]): row["median_us"] for row in rows
          if row["test"] == "block"}
    pairs = [f"{us['INT8', 'decode', 1, mode]:,.0f}{unit} in place of {us['FP16', 'decode', 1, mode]:,.0f}"
             for mode, unit in (("eager", " µs"), ("compile", ""), ("graph", ""))]
    assert (f"With one token the recorded H200 takes {pairs[0]} eager, and {pairs[1]} compiled; "
            f"in a graph it takes {pairs[2]}.") in page
    parts = sum(time_now(rows, "FP16", "decode", 1).values())
    assert f"with one token in FP16 {parts:,.0f} µs, not {us['FP16', 'decode', 1, 'graph']:,.0f})" in page
    for phase, batch, first, second, sentence in (
            ("prefill", 1, "products", "attention", "For prefill the products: they are {:.0%}, so the whole becomes "
             "1 / ({:.2f} + {:.2f} / 2) = {:.2f} times as fast; attention, {:.0%}, would give {:.2f}."),
            ("decode", 64, "attention", "products", "With a batch of 64 attention: it is {0:.0%} and gives {3:.2f}, "
             "the products' {4:.0%} give {5:.2f}.")):
        times = time_now(rows, "INT8", phase, batch)
        a, b = (times[part] / sum(times.values()) for part in (first, second))
        said = sentence.format(a, 1 - a, a, amdahl_speedup(a, 2), b, amdahl_speedup(b, 2)).replace("%", " %")
        assert said in page
    for place, measured in speedups(rows, "INT8").items():
        if place[-1] == "graph":
            phase, batch = place[:2]
            before, after = (time_now(rows, name, phase, batch) for name in ("FP16", "INT8"))
            gain = before["products"] / (after["products"] + after["quantization"])
            predicted = amdahl_speedup(before["products"] / sum(before.values()), gain)
            assert abs(measured / predicted - 1) < (0.01 if phase == "prefill" else 0.06), "it says how far they differ"
