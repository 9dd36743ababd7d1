"""Pictures of lesson 08 from rows alone, and what is said where there are none."""

import pytest

from checks import measure_decode, pictures_decode
from checks.measure_decode import EAGER_ROWS, FUNCTIONS, QUANTIZE, ROWS
from kernels.latency import break_even_m, compute_bound_from
from kernels.runtime import INTERPRETED


def rows(prefill_us):
    """Made-up rows of the test "decode": prefill's kernel takes prefill_us(M), the others 10 µs."""
    made = []
    for M in ROWS:
        names = [name for name, (_, most) in FUNCTIONS.items() if most >= M] + [QUANTIZE] * (M in EAGER_ROWS)
        for name in names:
            us = {measure_decode.PREFILL: prefill_us(M), QUANTIZE: 2.0}.get(name, 10.0)
            for mode in ("eager", "graph") if M in EAGER_ROWS else ("graph",):
                made.append({"test": "decode", "function": name, "M": M, "N": 4096, "K": 4096, "mode": mode,
                             "median_us": us * (3 if mode == "eager" else 1)})
    return made


def test_the_stack_shows_quantize_multiply_and_launches():
    figure = pictures_decode.latency_stack_figure(rows(lambda M: 12.0), "made up")
    (axes,) = figure.axes
    assert len(axes.get_yticklabels()) == 4 * len(EAGER_ROWS)
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[3:6] == [2.0, 8.0, 20.0]  # eager INT8: 10 µs as a graph, 2 of them to quantize, 30 in all


@pytest.mark.parametrize("prefill_us, said", [
    (lambda M: 9.0 if M >= 96 else 11.0, "from M = 96 on, quantize + perrow_w8a8_matmul wins"),
    (lambda M: 11.0, "up to M = 128, decode_w8a8 wins or draws"),
])
def test_the_break_even_point_is_what_the_student_s_function_finds(prefill_us, said):
    figure = pictures_decode.break_even_figure(rows(prefill_us), "made up", break_even_m, compute_bound_from)
    (axes,) = figure.axes
    assert said in axes.get_title()
    assert {line.get_label() for line in axes.get_lines()} >= set(FUNCTIONS)
    assert any("M = 207" in text.get_text() for text in axes.texts)


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_without_recorded_rows_a_sentence_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(pictures_decode, "recorded", lambda: {"gpu": "Some GPU", "rows": []})
    assert pictures_decode.show_latency_stack() is None
    assert "No times of decode are recorded yet for the Some GPU: `python3 workshop.py bench`" in capsys.readouterr().out


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it measures")
def test_interpreted_times_are_refused():
    with pytest.raises(RuntimeError, match="no speed to measure"):
        measure_decode.decode_rows()
