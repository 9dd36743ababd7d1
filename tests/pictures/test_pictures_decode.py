"""Pictures of lesson 08 from rows alone, and what is said where there are none."""

import pytest

from checks.bench.workloads import BREAK_EVEN_M, FEW_OR_MANY, plan
from checks.pictures import common, decode
from checks.pictures.decode import DECODE, FP16, PREFILL
from kernels.decode import MAX_M
from kernels.latency import break_even_m, compute_bound_from
from kernels.runtime import INTERPRETED


def row(test, function, M, mode, us):
    return {"test": test, "function": function, "M": M, "N": 4096, "K": 4096, "mode": mode, "median_us": us,
            "low_us": us - 1, "high_us": us + 2}


def test_the_stack_shows_kernels_and_launches():
    us = {FP16: 13.0, DECODE: 8.0}
    rows = [row("launches", name, M, mode, us[name] + (20.0 if mode == "idle" else 0.0))
            for name in us for M in (1, 16) for mode in ("idle", "graph")]
    alone, graph = decode.latency_stack_figure(rows, "synthetic").axes
    assert len(alone.get_yticklabels()) == 4
    assert [bar.get_width() for bar in alone.patches[2:4]] == [8.0, 20.0]  # INT8
    assert [bar.get_width() for bar in graph.patches[2:4]] == [8.0, 0.0]
    (whisker,) = alone.collections[1].get_segments()
    assert whisker.tolist() == [[27.0, 1.0], [30.0, 1.0]]
    assert graph.get_xlim()[1] < alone.get_xlim()[1]


@pytest.mark.parametrize("prefill_us, said", [
    (lambda M: 9.0 if M >= 96 else 11.0, "from M = 96 on, prefill's kernels win"),
    (lambda M: 11.0, "up to M = 128, decode's kernel wins or draws"),
])
def test_the_break_even_point_is_the_function_s(prefill_us, said):
    rows = [row("few or many", name, M, "graph", prefill_us(M) if name == PREFILL else 10.0)
            for M in BREAK_EVEN_M for name in FEW_OR_MANY if name != DECODE or M <= MAX_M]
    (axes,) = decode.break_even_figure(rows, "synthetic", break_even_m, compute_bound_from).axes
    assert said in axes.get_title()
    assert {line.get_label() for line in axes.get_lines()} >= set(FEW_OR_MANY)
    assert any("M = 207" in text.get_text() for text in axes.texts)


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_without_recorded_rows_a_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(common, "recorded", lambda: {"gpu": "Some GPU", "rows": []})
    assert decode.show_latency_stack() is None
    assert "Nothing is recorded yet for this picture on the Some GPU" in capsys.readouterr().out


def test_bench_measures_what_the_pictures_draw(monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    units = [unit for units in plan().values() for unit in units]
    assert {(u["shape"][0], u["mode"]) for u in units if u["name"] == "launches"} == {
        (M, mode) for M in (1, 16) for mode in ("idle", "graph")}
    few_or_many = {u["shape"][0]: u["functions"] for u in units if u["name"] == "few or many"}
    assert list(few_or_many) == BREAK_EVEN_M
    assert all((DECODE in functions) == (M <= MAX_M) for M, functions in few_or_many.items())
