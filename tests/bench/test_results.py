"""Results files, the figures and tables made of them, and the README that shows them."""

import json

import pytest
from synthetic_figures import ROOFS, row

from checks.bench import command, figures, report, results
from checks.bench.command import BEGIN, END, SHORT_BEGIN, SHORT_END, page_block, short_block, update_pages
from checks.bench.results import BadResults, arithmetic, file_name, load, of_roof, pairs, recorded, save, select
from checks.paths import ROOT

MADE = {"schema": 1, "gpu": "NVIDIA Synthetic", "capability": [9, 0], "torch": "2", "triton": "3", "date": "2026-01-01",
        "shapes": "workshop", "roofs": ROOFS, "conditions": {}, "notes": [],
        "rows": [row("gemm", name, M, N, 2048) for name in ("cuBLAS FP16", "perrow_w8a8_matmul") for M in (64, 16384)
                 for N in (2048, 6144)]
        + [row("matmul_int8", name, 16384, 6144, 2048) for name in (
            "cuBLAS FP16", "matmul_int8", "quantize_int8_perrow", "perrow_w8a8_matmul")]
        + [row("matmul_int8", name, M, 4096, 4096, "graph", M / 40 if "int8" in name else 0)
           for name in ("cuBLAS FP16", "matmul_int8") for M in (1, 16, 64, 128, 256)]}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "new" / "a.json"
    save(MADE, path)
    assert load(path) == MADE
    with pytest.raises(ValueError):
        save({**MADE, "roofs": {"copy_gb_per_s": float("nan")}}, path)
    assert load(path) == MADE and [p.name for p in path.parent.iterdir()] == ["a.json"]


def changed(**fields):
    return json.dumps({**MADE, "rows": [{**MADE["rows"][0], **fields}]})


@pytest.mark.parametrize("text, said", [
    (json.dumps(MADE)[:-200], "is not whole JSON"),
    ("", "is not whole JSON"),
    ("\x00\xff", "is not whole JSON"),
    ("[1, 2]", 'no figures of this workshop: it has no "schema"'),
    ('{"gpu": "x", "gemv_fp16": []}', 'it has no "schema"'),
    ('{"schema": 2}', "has schema 2, and this version of the workshop reads schema 1"),
    ('{"schema": 1, "gpu": "x"}', "has no 'capability'"),
    (json.dumps({**MADE, "rows": {}}), "rows must be list"),
    (json.dumps({**MADE, "rows": [3]}), "row 0 must be an object"),
    (json.dumps({**MADE, "roofs": {"copy_gb_per_s": "fast"}}), "roof copy_gb_per_s must be a number"),
    (changed(median_us=None), "row 0: median_us must be int or float, got None"),
    (changed(M=True), "row 0: M must be int, got True"),
    (changed(low_us=1e9), "needs 0 < low_us <= median_us <= high_us"),
    (changed(mode="interpreter"), "a mode of"),
])
def test_a_file_that_cannot_be_used_says_why(text, said, tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadResults, match=said):
        load(path)
    for arguments in (["--redraw", "--out", str(tmp_path)], ["--compare", str(path), str(path)]):
        assert command.main(arguments) == 2
        assert capsys.readouterr().err.startswith("bench: ")


def refusal(path, figures):
    """What is said of a file with these figures, without its name; nothing where it is taken, whole."""
    path.write_text(json.dumps(figures))
    try:
        assert load(path) == figures
    except BadResults as error:
        return str(error).removeprefix(f"{path}")
    return ""


EVEN = {**MADE["rows"][0], "low_us": 2.0, "median_us": 2.0, "high_us": 2.0}


@pytest.mark.parametrize(("times", "taken"), [
    ((2.0, 2.0, 2.0), True), ((1, 2, 3), True), ((1e-9, 2.0, 2.0), True), ((2.0, 2.0, 1e9), True),
    ((0, 2.0, 3.0), False), ((0.0, 0.0, 0.0), False), ((-0.0, 2.0, 3.0), False), ((-1e-9, 2.0, 3.0), False),
    ((-3.0, -2.0, -1.0), False), ((2.001, 2.0, 3.0), False), ((1.0, 3.001, 3.0), False), ((3.0, 2.0, 1.0), False),
    ((2.0, 2.0, 1.999), False), ((float("nan"), 2.0, 3.0), False), ((1.0, float("nan"), 3.0), False),
    ((1.0, 2.0, float("nan")), False)], ids=str)
def test_a_row_s_times_are_above_0_and_in_order(tmp_path, times, taken):
    row = EVEN | dict(zip(("low_us", "median_us", "high_us"), times, strict=True))
    assert refusal(tmp_path / "a", {**MADE, "rows": [EVEN, EVEN]}) == ""
    said = refusal(tmp_path / "a", {**MADE, "rows": [EVEN, row]})
    assert said == "" if taken else said.startswith(": row 1 needs 0 < low_us <= median_us <= high_us and a mode of")


@pytest.mark.parametrize("mode", ["eager", "idle", "graph", "host", "", "Eager", "graph ", "check"])
def test_a_row_s_mode_is_one_of_four(tmp_path, mode):
    assert (refusal(tmp_path / "a", {**MADE, "rows": [EVEN | {"mode": mode}]}) == "") == (mode in results.MODES)
    assert len(results.MODES) == 4


VALUES = {"str": "x", "int": 3, "float": 2.0, "NoneType": None, "bool": True, "list": [], "dict": {}}
KINDS = dict.fromkeys(("test", "function", "mode", "gpu", "torch", "triton", "date"), ("str",)) | dict.fromkeys(
    ("M", "N", "K", "bytes", "flops"), ("int",)) | dict.fromkeys(
    ("median_us", "low_us", "high_us", "gb_per_s"), ("int", "float")) | {
    "tflops": ("int", "float", "NoneType"), "capability": ("list",), "roofs": ("dict",), "rows": ("list",)}


@pytest.mark.parametrize("name", [*results.FILE, *results.ROW])
def test_each_field_must_be_there_and_of_its_kind(tmp_path, name):
    """Of the file and of each of its rows. True is no number."""
    def put(value):
        """The figures with this value of the field; without the field where there is no value."""
        fields = {**(EVEN if name in results.ROW else MADE), name: value}
        fields = {key: one for key, one in fields.items() if one != "nothing"}
        return {**MADE, "rows": [EVEN, fields]} if name in results.ROW else fields

    where = ": row 1" if name in results.ROW else ""
    assert refusal(tmp_path / "a", put("nothing")) == f"{where} has no {name!r}"
    for kind, value in VALUES.items():
        said = refusal(tmp_path / "a", put(value))
        if kind not in KINDS[name]:
            assert said == f"{where}: {name} must be {' or '.join(KINDS[name])}, got {value!r}"
        else:
            assert "must be" not in said and (said == "" or name in ("mode", "low_us", "high_us", "median_us"))


@pytest.mark.parametrize("name", results.ROOFS)
def test_a_roof_is_a_number_or_was_not_measured(tmp_path, name):
    for value, taken in ((1, True), (0.5, True), (None, True), ("1", False), ([1], False), ({}, False)):
        said = refusal(tmp_path / "a", {**MADE, "roofs": {**ROOFS, name: value}})
        assert said == ("" if taken else f": roof {name} must be a number, got {value!r}")
    assert refusal(tmp_path / "a", {**MADE, "roofs": {key: value for key, value in ROOFS.items() if key != name}}) == ""


def test_missing_figures_say_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="workshop.py bench"):
        recorded()
    assert command.main(["--redraw", "--out", str(tmp_path)]) == 2
    assert "no figures to draw" in capsys.readouterr().err


def test_rows_are_selected_by_what_they_hold():
    assert len(select(MADE, test="gemm")) == 8 == len(select(MADE["rows"], test=("gemm",)))
    assert {r["N"] for r in select(MADE, test="gemm", M=64, function="cuBLAS FP16")} == {2048, 6144}
    assert select(MADE, test="none") == []
    with pytest.raises(KeyError, match="no field 'kernel'"):
        select(MADE, kernel="x")
    assert select([{"wave": 1, "M": 2}, {"M": 2}], wave=1, M=2) == [{"wave": 1, "M": 2}], "a field that some rows have"
    assert file_name("NVIDIA H200") == "nvidia_h200.json" and file_name("A", "llama-3-8b") == "a_llama_3_8b.json"


def test_rows_are_paired_within_their_test_and_mode():
    found = pairs(MADE["rows"], "perrow_w8a8_matmul", "cuBLAS FP16")
    assert len(found) == 5 and all(a["test"] == b["test"] and (a["M"], a["N"]) == (b["M"], b["N"]) for a, b in found)


def test_the_roof_is_that_of_the_inputs_type():
    assert [arithmetic(name) for name in ("cuBLAS FP16", "matmul_int8", "gemv_w8a16", "torch._scaled_mm FP8")] == [
        "fp16", "int8", "int8", "fp8"]
    large = {**row("gemm", "perrow_w8a8_matmul", 16384, 6144, 2048), "median_us": 1e6}
    assert of_roof(large, ROOFS) == pytest.approx(large["flops"] / 1400e12)
    assert of_roof({**large, "test": "gate_up", "function": "SiLU·mul apart"}, ROOFS) == of_roof(large, ROOFS)
    assert of_roof({**large, "function": "matmul_fp16"}, ROOFS) == pytest.approx(large["flops"] / 700e12)
    assert of_roof({**large, "flops": 0}, ROOFS) == pytest.approx(large["bytes"] / 4000e9)
    assert of_roof({**large, "flops": 0}, {"copy_gb_per_s": 4000.0}) == pytest.approx(large["bytes"] / 4000e9)
    assert of_roof(large, {**ROOFS, "int8_tops": None}) is None


# ---- figures


def lines(figure):
    drawn = figure.axes[0].lines
    return {line.get_label(): list(line.get_ydata()) for line in drawn if not line.get_label().startswith("_")}


def test_figures_draw_the_rows_values():
    rows = select(MADE, test="gemm", M=16384)
    drawn = lines(figures.tflops_figure(rows, ROOFS, "title"))
    assert drawn["perrow_w8a8_matmul"] == [r["tflops"] for r in select(rows, function="perrow_w8a8_matmul")]
    drawn = lines(figures.bandwidth_figure(rows, ROOFS, "title"))
    assert drawn["cuBLAS FP16"] == [r["gb_per_s"] for r in select(rows, function="cuBLAS FP16")]
    figure = figures.speedup_figure(rows, "cuBLAS FP16", "title")
    assert lines(figure) == {"perrow_w8a8_matmul": [b["median_us"] / a["median_us"] for a, b in pairs(
        rows, "perrow_w8a8_matmul", "cuBLAS FP16")]}
    assert figure.axes[0].get_xlabel() == "N, rows of w (M = 16,384, K = 2,048)"
    drawn = lines(figures.roofline_figure(select(MADE, test="gemm"), ROOFS, "title"))
    assert sorted(drawn["cuBLAS FP16"]) == sorted(r["tflops"] for r in select(MADE, test="gemm", function="cuBLAS FP16"))


def test_a_break_even_is_where_the_times_cross():
    rows = select(MADE, mode="graph")
    (M, us), = figures.break_evens(rows, "matmul_int8", "cuBLAS FP16")
    assert 128 < M < 256
    below, above = (select(rows, function="matmul_int8", M=m)[0]["median_us"] for m in (128, 256))
    assert below < us < above
    assert figures.break_evens(rows, "cuBLAS FP16", "cuBLAS FP16") == []
    assert set(lines(figures.latency_figure(rows, "title"))) == {"cuBLAS FP16", "matmul_int8"}


def test_a_breakdown_stacks_the_parts_of_the_whole():
    rows = select(MADE, test="matmul_int8", M=16384)
    bars = figures.breakdown_figure(rows, "title").axes[0].patches
    us = {r["function"]: r["median_us"] for r in rows}
    assert [bar.get_height() for bar in bars][:3] == [
        us["cuBLAS FP16"], us["perrow_w8a8_matmul"], us["quantize_int8_perrow"]]


@pytest.mark.parametrize("draw", [
    lambda rows: figures.bandwidth_figure(rows, ROOFS, ""), lambda rows: figures.roofline_figure(rows, ROOFS, ""),
    lambda rows: figures.breakdown_figure(rows, ""), lambda rows: figures.speedup_figure(rows, "cuBLAS FP16", "")])
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(ValueError):
        draw([])


# ---- tables


def test_totals_summary_and_wants_are_ratios_of_the_rows():
    rows = select(MADE, test="matmul_int8", M=16384)
    us = {r["function"]: r["median_us"] for r in rows}
    _, _, totals = report.totals(MADE)
    assert totals[0] == ["(16,384, 2,048, 6,144)", "eager", f"{us['cuBLAS FP16']:,.0f} µs", f"{us['matmul_int8']:,.0f} µs",
                         f"{us['cuBLAS FP16'] / us['matmul_int8']:.2f}×",
                         f"{us['quantize_int8_perrow'] / us['matmul_int8']:.0%}"]
    _, _, summary = report.summary(MADE)
    assert [(kind, number) for kind, number, *_ in summary] == [("large, M ≥ 1,024", "1"), ("small, in a CUDA graph", "5")]
    _, _, wanted = report.wanted(MADE)
    gemm = next(line for line in wanted if line[0] == "INT8 GEMM over cuBLAS FP16" and line[1].endswith("N=6,144"))
    (a, b), = pairs(select(MADE, test="gemm", M=16384, N=6144), "perrow_w8a8_matmul", "cuBLAS FP16")
    assert gemm[2:] == ["1.60", "1.90", f"{b['median_us'] / a['median_us']:.2f}", "aim reached", ""]


@pytest.mark.parametrize("quantizing, why", [(0.2, "25%"), (0.4, "50% by itself, 38% beside the product")])
def test_a_missed_aim_says_what_takes_the_time(quantizing, why):
    slow = {**MADE, "rows": [dict(r) for r in MADE["rows"]]}
    base = {r["function"]: r for r in select(slow, test="matmul_int8", M=16384)}["cuBLAS FP16"]["median_us"]
    for name, part in (("matmul_int8", 0.8), ("quantize_int8_perrow", quantizing), ("perrow_w8a8_matmul", 0.5)):
        for r in select(slow, function=name, test="matmul_int8", M=16384):
            r.update(median_us=part * base, low_us=part * base, high_us=part * base)
    for r in select(slow, function="perrow_w8a8_matmul", test="gemm", M=16384, N=6144):
        r.update(median_us=2 * r["median_us"])
    lines = {(what, shape): line for what, shape, *line in report.wanted(slow)[2]}
    assert lines["matmul_int8 over cuBLAS FP16", "M=16,384 K=2,048 N=6,144"][2:] == [
        "1.25", "MISSED", f"34.2% of its time: quantizing x takes {why}; the product alone reaches 2.00"]
    assert lines["INT8 GEMM over cuBLAS FP16", "M=16,384 K=2,048 N=6,144"][-1].endswith(
        "of this GPU's best speed of arithmetic")
    decode = lines["INT8 decode over cuBLAS FP16, CUDA graph, cold", "M=16 K=4,096 N=4,096"]
    assert decode[3] == "MISSED" and "reading w at a copy's speed takes" in decode[-1]


def test_a_step_to_the_next_bucket_is_shown_beside_cublas():
    assert report.steps(MADE)[2] == []
    more = [{**r, "M": r["M"] + 1, "median_us": 1.5 * r["median_us"]} for r in select(MADE, M=64, mode="graph")]
    (shape, times, ours, cublas), = report.steps({**MADE, "rows": MADE["rows"] + more})[2]
    assert (shape, ours, cublas) == ("M=64 to 65 K=4,096 N=4,096", "1.50×", "1.50×") and " to " in times


def test_a_comparison_lists_what_changed_beyond_the_noise_alone():
    def scaled(factors):
        rows = [dict(r) for r in MADE["rows"]]
        for number, factor in factors.items():
            for name in ("median_us", "low_us", "high_us"):
                rows[number][name] *= factor
        return {**MADE, "rows": rows}

    assert report.compare(MADE, MADE)[2] == []
    warm = report.compare(MADE, scaled(dict.fromkeys(range(22), 1.2)))  # a slower clock slows all of them
    assert warm[2] == [] and "on the whole, times are 1.20× those before" in warm[0]
    title, _, changes = report.compare(MADE, scaled({4: 1.2, 5: 1.07, 6: 0.5}))  # 1.07 is no more than run to run
    assert [line[-1] for line in changes] == ["0.83× slower", "2.00× faster"] and title.startswith("2 of 22 figures")
    baseline, ours = report.compare(MADE, scaled({0: 1.2}))[2]  # of two timed in turns one moved: both show it
    assert (baseline[0], baseline[-1]) == ("cuBLAS FP16", "0.83× slower") and ours[-2:] == ["1.20×", "1.20× faster"]


def test_two_runs_on_the_recorded_gpu_agree_within_the_noise():
    """Two of the same kernels, and against them the one that is shown: since then a kernel may only have become faster."""
    one, other = (load(path) for path in sorted((results.RESULTS / "another_run").glob("*.json")))
    title, _, changes = report.compare(one, other)
    assert changes == [] and int(title.split()[2]) > 300, title
    for before in (one, other):
        assert all("faster" in change[-1] for change in report.compare(before, recorded())[2])


# ---- the README


def test_the_readme_shows_the_recorded_figures():
    for page, begin, end, wanted in ((results.RESULTS / "README.md", BEGIN, END, page_block),
                                     (ROOT / "README.md", SHORT_BEGIN, SHORT_END, short_block)):
        block = page.read_text().partition(begin)[2].partition(end)[0]
        assert block == f"\n{wanted(recorded())}", "run `python3 workshop.py bench --redraw`"


def test_the_tables_beside_the_pictures_are_the_figures():
    path = results.RESULTS / results.RECORDED
    tables = (path.parent / path.stem / "tables.md").read_text()
    assert tables == "\n".join(map(report.markdown, report.tables(load(path)))), "run `python3 workshop.py bench --redraw`"


def test_the_readme_is_rewritten_between_its_markers_alone(tmp_path):
    page, readme = tmp_path / "page.md", tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    readme.write_text(f"before\n{SHORT_BEGIN}\nold\n{SHORT_END}\nafter\n")
    update_pages(MADE, page, readme)
    update_pages(MADE, page, readme)
    text = page.read_text()
    assert text == f"before\n{BEGIN}\n{page_block(MADE)}{END}\nafter\n" and "old" not in text
    assert readme.read_text() == f"before\n{SHORT_BEGIN}\n{short_block(MADE)}{SHORT_END}\nafter\n"
    best = select(MADE, test="gemm", M=16384, N=6144, function="perrow_w8a8_matmul")[0]
    assert f"| `perrow_w8a8_matmul` | {best['median_us']:,.0f} µs | {best['tflops']:,.0f} TOPS |" in text
    page.write_text("no markers")
    with pytest.raises(ValueError, match="must have the lines"):
        update_pages(MADE, page, readme)


def test_recorded_rows_are_consistent():
    found = recorded()
    roofs = found["roofs"]
    for r in found["rows"]:
        assert r["gb_per_s"] == pytest.approx(r["bytes"] / r["median_us"] / 1e3)
        assert r["flops"] in (0, 2 * r["M"] * r["N"] * r["K"])
        assert r["tflops"] == (pytest.approx(r["flops"] / r["median_us"] / 1e6) if r["flops"] else None)
        assert r["gb_per_s"] < 1.1 * max(roofs["copy_gb_per_s"], roofs["read_gb_per_s"] or 0), "faster than memory"
