"""The report card: what it accepts, what it says of a file that is none, its sums, and its picture."""

import json

import matplotlib.pyplot as plt
import pytest
import torch

from checks.capstone import accuracy, block, command
from checks.capstone.accuracy import Scheme
from checks.capstone.command import main
from checks.capstone.report_card import (
    BEGIN,
    END,
    FIELDS,
    RECORDED,
    ROW,
    BadCard,
    check_card,
    page_block,
    parse_card,
    read_card,
    report_card,
    speedups,
    summary,
    time_now,
    write_card,
)
from checks.capstone.training import FOLDER, load, tokens_of, windows
from checks.course.notebooks import LESSONS, read
from checks.paths import ROOT
from checks.pictures import transformer
from kernels.block_cost import (
    LLAMA_3_8B_DIMS,
    amdahl_speedup,
    block_products,
    products_fp16_us,
    products_int8_us,
)
from kernels.linear import Int8Linear
from kernels.runtime import INTERPRETED, device
from kernels.transformer import Config, perplexity

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
    ({"rows": [3]}, "row 0 must be an object, got int"),
    ({"schema": None}, "schema 1, got None"),
    ({"bytes": True}, "bytes must be"), ({"bytes": "1"}, "bytes must be"),
    ({"date": 3}, "date must be"), ({"gpu": 3}, "gpu must be"),
    ({"perplexity": {"FP16": True}}, "finite number, got True"),
    ({"sqnr_db": {"q": -float("inf")}}, "finite number, got -inf"),
    ({"cost_percent": {"FP16": 0.0, "INT8": 0.500002}}, "how far each perplexity lies above"),
    ({"cost_percent": {"FP16": 0.0, "INT8": 0.5, "INT4": 1.0}}, "how far each perplexity lies above"),
])
def test_what_is_no_card_is_refused(card, change, said):
    with pytest.raises(BadCard, match=said):
        check_card({**card, **change})


def test_a_card_may_be_on_the_bounds(card):
    row = {**card["rows"][0], "low_us": 10, "median_us": 10, "high_us": 10}
    check_card({**card, "perplexity": {"FP16": 1, "INT8": 1.0}, "cost_percent": {"FP16": 0, "INT8": 5e-7}, "rows": [row]})
    check_card({**card, "rows": [], "gpu": None, "sqnr_db": {}})


@pytest.mark.parametrize("name", [*FIELDS, *ROW])
def test_no_field_may_be_missing(card, name):
    if name in FIELDS:
        del card[name]
    else:
        del card["rows"][1][name]
    with pytest.raises(BadCard, match=f"schema 1, got None|the card has no '{name}'|row 1 has no '{name}'"):
        check_card(card)


@pytest.mark.parametrize("change", [{"low_us": 0.0}, {"low_us": -1}, {"low_us": 6.1}, {"median_us": 5.9}, {"median_us": 6.1},
                                    {"high_us": 5.9}, {"median_us": "6"}, {"batch": 1.0}, {"M": True}])
def test_a_row_that_cannot_be_is_refused(card, change):
    card["rows"][1] |= change
    with pytest.raises(BadCard, match="the card: row 1"):
        check_card(card)


@pytest.mark.parametrize("data, said", [
    (b"", "f is not whole JSON"), (b"\xff\xfe{", "f is not whole JSON"), (b"[" * 100_000, "f is not whole JSON"),
    (b"3", "f must be an object, got int"), (b'{"schema": 2}', "f must have schema 1"),
    (json.dumps({"schema": 1, "date": "", "torch": "", "triton": "", "accuracy_on": "", "bytes": 1, "gpu": None, "rows": [],
                 "cost_percent": {"FP16": 0, "a": 0}, "sqnr_db": {}, "perplexity": {"FP16": 1, "a": 10**400}}).encode(),
     "f has a number that is too large"),
])
def test_bytes_that_are_no_card_raise_that_alone(data, said):
    with pytest.raises(BadCard, match=f"^{said}"):
        parse_card(data, "f")


def test_a_card_in_a_sentence(card):
    assert summary(card) == "perplexity 4.000 in FP16 on 127 bytes; INT8 +0.50 %; 68 times from an A synthetic GPU"
    assert summary(report_card({"FP16": 4.0}, {}, 1234, [], None)) == (
        "perplexity 4.000 in FP16 on 1,234 bytes; no INT8; no times")


def test_measurements_that_make_no_card_are_refused():
    with pytest.raises(BadCard, match="has times but no gpu"):
        report_card({"FP16": 2.0}, {}, 10, synthetic_rows(), None)
    with pytest.raises(BadCard, match="none below 1"):
        report_card({"FP16": 2.0, "INT8": 0.5}, {}, 10, [], None)


def test_a_card_needs_fp16_to_compare_with():
    with pytest.raises(BadCard, match="FP16's, which the others are compared with, got .'INT8'"):
        report_card({"INT8": 4.0}, {}, 1, [], None)


def test_a_card_is_written_without_a_picture_too(card, tmp_path):
    assert write_card(card, tmp_path / "card.json") is None and [path.name for path in tmp_path.iterdir()] == ["card.json"]
    with pytest.raises(BadCard):
        write_card({**card, "gpu": None}, tmp_path / "bad.json")
    assert not (tmp_path / "bad.json").exists()


def test_only_the_recorded_card_goes_onto_the_page(card, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{BEGIN}\nold\n{END}\nb\n")
    command.write_and_show(card, tmp_path / "other.json", None, readme)
    assert "old" in readme.read_text()
    command.write_and_show(card, tmp_path / RECORDED, None, readme)
    assert readme.read_text() == f"a\n{BEGIN}\n{page_block(card)}{END}\nb\n"


def test_the_command_writes_a_card_and_draws_it_again(card, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "INTERPRETED", False)
    monkeypatch.setattr(command, "measure_card", lambda: card)
    assert main(["--out", str(tmp_path)], draw=None) == 0
    path = tmp_path / "a_synthetic_gpu.json"
    said = " ".join(capsys.readouterr().out.split())
    assert read_card(path) == card and "no picture: matplotlib is not installed" in said
    assert "INT8 perplexity 4.0200 +0.500 %" in said and "prefill batch 1 x 100 graph INT8 fused 1.67 x FP16" in said
    assert main(["--redraw", str(path)], draw=transformer.card_figure) == 0 and path.with_suffix(".png").exists()


def test_the_card_of_the_workshop_s_own_kernels(monkeypatch):
    """What is measured by which variant, the measuring itself taken out."""
    monkeypatch.setattr(command, "load", lambda: torch.nn.Sequential(torch.nn.Linear(16, 16, bias=False).half()))
    monkeypatch.setattr(command, "tokens_of", lambda name: torch.arange(128 + 127) if name == "held_out" else None)
    kinds = {torch.nn.Linear: 4.0, Int8Linear: 4.5}
    monkeypatch.setattr(command, "perplexity_of", lambda model, rows: kinds.get(type(model[0])) or (
        5.0 if model[0].scheme == command.Scheme(truncate=True) else 6.0))
    monkeypatch.setattr(command, "layer_sqnr_db", lambda model, scheme, rows: {scheme.name: 40.0})
    times = synthetic_rows()
    monkeypatch.setattr(command, "block_rows", lambda: times[:3])
    monkeypatch.setattr(command, "product_rows", lambda: times[3:5])
    monkeypatch.setattr(command.torch.cuda, "get_device_name", lambda: "Some GPU")
    made = command.measure_card()
    assert made["perplexity"] == {"FP16": 4.0, "INT8 per row": 4.5, "INT8 per row, truncated": 5.0, "INT8 per tensor": 6.0}
    assert (made["sqnr_db"], made["bytes"], made["rows"], made["gpu"]) == (
        {"INT8 per row": 40.0}, 2 * 127, times[:5], "Some GPU")


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
    prefill, decode = (time_now(card["rows"], "INT8", *place) for place in (("prefill", 1), ("decode", 4)))
    assert decode["quantization"] == 0 < prefill["quantization"], "in decode the products' kernels quantize x"
    assert decode["products"] / sum(decode.values()) == pytest.approx(42 / 72)
    with pytest.raises(LookupError, match="prefill with batch 2"):
        time_now(card["rows"], "FP16", "prefill", 2)
    without = [row for row in card["rows"] if (row.get("layer"), row["function"]) != ("down", "INT8")]
    with pytest.raises(LookupError, match="'down', 'INT8'"):
        time_now(without, "INT8", "decode", 4)


def test_speedups_compare_what_was_timed_in_the_same_place(card):
    assert speedups(card["rows"], "INT8 fused")["decode", 4, 50, "graph"] == pytest.approx(100 / 60)
    assert set(speedups(card["rows"], "INT8")) == {(*place, mode) for place in (("prefill", 1, 100), ("decode", 4, 50))
                                                   for mode in block.MODES}


def test_the_page_of_results_shows_the_recorded_card():
    block = (FOLDER.parent / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    path = FOLDER / RECORDED
    assert block == f"\n{page_block(read_card(path))}", f"run `python3 workshop.py card --redraw {path.relative_to(ROOT)}`"
    assert (FOLDER.parent / block.rpartition("](")[2].rpartition(")")[0]).read_bytes()[:4] == b"\x89PNG"


def test_the_readme_s_card_keeps_the_bad_news(card):
    eager = [row | {"median_us": 50.0} if row["test"] == "block" and (row["mode"], row["function"]) == ("eager", "FP16")
             else row for row in card["rows"]]
    text = page_block(card | {"rows": eager})
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
            ("decode", 64, "products", "attention", "With a batch of 64 either: the products are {0:.0%} and give {3:.2f}, "
             "attention is {4:.0%} and gives {5:.2f}.")):
        times = time_now(rows, "INT8", phase, batch)
        a, b = (times[part] / sum(times.values()) for part in (first, second))
        said = sentence.format(a, 1 - a, a, amdahl_speedup(a, 2), b, amdahl_speedup(b, 2)).replace("%", " %")
        assert said in page
    apart = []
    for place, measured in speedups(rows, "INT8").items():
        if place[-1] == "graph":
            phase, batch = place[:2]
            before, after = (time_now(rows, name, phase, batch) for name in ("FP16", "INT8"))
            gain = before["products"] / (after["products"] + after["quantization"])
            predicted = amdahl_speedup(before["products"] / sum(before.values()), gain)
            off = measured / predicted - 1
            if phase == "prefill":
                assert f"In prefill the block is {off:.0%} faster than predicted".replace("%", " %") in page
            else:
                apart.append(abs(off))
    assert f"prediction and measurement differ in decode by up to {max(apart):.0%}.".replace("%", " %") in page
    assert f"even eager it takes {us['INT8 fused', 'decode', 1, 'eager']:,.0f} µs" in page


def test_a_card_with_times_of_another_run_says_whose(card, tmp_path):
    mine = report_card({"FP16": 4.0, "INT8": 4.02}, {"a.q": 44.0}, 127, card["rows"], card["gpu"],
                       card | {"date": "2001-02-03", "torch": "1.2", "triton": "0.1"})
    assert mine["timed"] == {"date": "2001-02-03", "torch": "1.2", "triton": "0.1"} and mine["date"] != "2001-02-03"
    assert "2 times".join(summary(mine).split(f"{len(card['rows'])} times")).endswith(
        "2 times from an A synthetic GPU, recorded on 2001-02-03 with torch 1.2")
    figure = write_card(mine, tmp_path / "card.json", transformer.card_figure)
    assert "times recorded on an A synthetic GPU on 2001-02-03, torch 1.2, Triton 0.1" in figure.get_suptitle()
    assert read_card(tmp_path / "card.json") == mine
    with pytest.raises(BadCard, match="timed has no 'torch'"):
        check_card(mine | {"timed": {"date": "2001-02-03", "triton": "0.1"}})


def test_products_are_predicted_beside_their_times(card, capsys):
    transformer.print_products(card)
    lines = capsys.readouterr().out.splitlines()
    least = [f(100, **LLAMA_3_8B_DIMS, gb_per_s=4800, **peak) for f, peak in (
        (products_fp16_us, {"tflops": 989}), (products_int8_us, {"tops": 1979}))]
    assert lines[1].split()[-8:] == [f"{least[0]:.0f}", "us", "70", "us", f"{least[1]:.0f}", "us", "42", "us"]
    assert transformer.print_products(None) is None


def test_the_lesson_says_how_far_the_bound_is():
    rows, page = read_card(FOLDER / RECORDED)["rows"], " ".join(
        " ".join(cell.source for cell in read(LESSONS / "10_transformer.ipynb").cells).split())
    us = {(row["function"], row["mode"]): row["median_us"] for row in rows
          if (row["test"], row["phase"]) == ("block", "prefill")}
    eager, compiled, graph = (f"{us['INT8', mode]:,.0f}" for mode in ("eager", "compile", "graph"))
    assert f"even there INT8 takes {eager} µs eager and {compiled} compiled, and {graph} in a graph" in page
    assert f"FP16 takes {us['FP16', 'eager']:,.0f}, {us['FP16', 'compile']:,.0f} and {us['FP16', 'graph']:,.0f}." in page

    def met(name, phase, batch, M):
        parts = time_now(rows, name, phase, batch)
        least = (products_fp16_us(M, **LLAMA_3_8B_DIMS, tflops=989, gb_per_s=4800) if name == "FP16" else
                 products_int8_us(M, **LLAMA_3_8B_DIMS, tops=1979, gb_per_s=4800))
        return parts["products"] + parts["quantization"], least

    (fp16, fp16_least), (int8, int8_least) = (met(name, "decode", 1, 1) for name in ("FP16", "INT8"))
    assert (f"{fp16:.0f} µs and not {fp16_least:.0f} in FP16 for one token, and {int8:.0f} µs and not {int8_least:.0f} in "
            "INT8.") in page
    prefill = {f"{measured / least:.1f}" for measured, least in (met(name, "prefill", 1, 8192) for name in ("FP16", "INT8"))}
    assert f"Timed alone, in prefill they take {' to '.join(sorted(prefill))} times" in page
    decode = [met(name, "decode", batch, batch) for name in ("FP16", "INT8") for batch in (1, 16, 64)]
    assert all(measured > 1.99 * least for measured, least in decode)


def test_the_lesson_says_what_launches_cost():
    page = " ".join(" ".join(cell.source for cell in read(LESSONS / "10_transformer.ipynb").cells).split())
    us = {(row["function"], row["phase"], row["batch"], row["mode"]): row["median_us"]
          for row in read_card(FOLDER / RECORDED)["rows"] if row["test"] == "block"}
    alone = [f"{us[name, 'decode', 1, 'reduce-overhead']:.0f}" for name in ("FP16", "INT8")]
    assert f"one block takes {alone[0]} µs in FP16 and {alone[1]} in INT8" in page
    many = [f"{us[name, 'decode', 16, 'eager']:,.0f}" for name in ("INT8", "FP16")]
    assert f"With 16 tokens INT8 takes {many[0]} µs eager in place of {many[1]}." in page
    saved = [us[name, "prefill", 1, "compile"] - us[name, "prefill", 1, "graph"] for name in ("FP16", "INT8")]
    assert f"only launch overhead disappears: {saved[0]:.0f} µs in FP16 and {saved[1]:.0f} in INT8, by the medians" in page
    assert f"how much of the {saved[1]:.0f} µs is left for each?" in page
    assert f"A quarter: {saved[1] / 4:.0f} µs in INT8, and {saved[0] / 4:.0f} in FP16." in page and block.IN_A_ROW == 4


def test_the_lesson_says_what_is_left_of_launches_in_a_row():
    page = " ".join(" ".join(cell.source for cell in read(LESSONS / "10_transformer.ipynb").cells).split())
    rows = {(row["function"], row["mode"]): row for row in read_card(FOLDER / RECORDED)["rows"]
            if row["test"] == "block" and row["phase"] == "prefill"}
    compiled, graph = ({name: rows[name, block.label(mode, block.IN_A_ROW)] for name in ("FP16", "INT8")}
                       for mode in ("compile", "graph"))
    pairs = {name: [f"{mode[name]['median_us']:,.0f}" for mode in (compiled, graph)] for name in ("FP16", "INT8")}
    assert (f"each of four takes {pairs['INT8'][0]} µs compiled and {pairs['INT8'][1]} in a graph in INT8, and "
            f"{' and '.join(pairs['FP16'])} in FP16.") in page
    spreads = [row["high_us"] - row["low_us"] for mode in (compiled, graph) for row in mode.values()]
    assert "The calls spread by 170 µs and more" in page and 170 <= min(spreads) < 180
    gains = [f"{mode['FP16']['median_us'] / mode['INT8']['median_us']:.2f}" for mode in (compiled, graph)]
    assert f"compiled INT8 gains {gains[0]}, in a graph {gains[1]}." in page



def test_the_lesson_s_error_bars_are_those_of_its_text():
    model, pieces = load(), windows(tokens_of("held_out"))
    page = " ".join(" ".join(cell.source for cell in read(LESSONS / "10_transformer.ipynb").cells).split())
    with torch.no_grad():
        fp16, int8 = ([perplexity(logits[None], row[None]) for rows in pieces.to(device()).split(64)
                       for logits, row in zip(made(rows), rows, strict=True)]
                      for made in (model, accuracy.simulated(model, Scheme())))
    for step, sentence in ((1, "On all 233 pieces of the held-out text it is {:.3f} ± {:.3f} %"),
                           (7, "On these 34 pieces the rise is {:.2f} ± {:.2f} %")):
        losses = [torch.tensor(found[::step]).double().log().mean() for found in (int8, fp16)]
        cost, error = 100 * (losses[0] - losses[1]).expm1(), accuracy.standard_error_percent(int8[::step], fp16[::step])
        if INTERPRETED:  # a GPU adds up in another order
            assert sentence.format(cost, error) in page
        assert len(int8[::step]) == (233 if step == 1 else 34)
