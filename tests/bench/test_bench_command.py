"""The command from its options to what it prints and writes, and the units that it plans."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from synthetic_figures import ROOFS, row

from checks.bench import baselines, command, ranks, results, workloads
from checks.bench.results import BadResults, arithmetic, of_roof
from checks.bench.runner import Kept
from checks.bench.workloads import unit

HEADER = {"schema": 1, "gpu": "GPU X", "capability": [9, 0], "torch": "2", "triton": "3", "shapes": "workshop"}


@pytest.mark.parametrize(("options", "out"), [([], ranks.FOLDER), (["--out", "there"], Path("there"))])
@pytest.mark.parametrize(("notes", "status"), [([], 0), ([{"kind": "refused"}], 1)])
def test_ranks_are_measured_instead(monkeypatch, options, out, notes, status):
    asked = []
    monkeypatch.setattr(ranks, "measure", lambda *given: asked.append(given) or {"notes": notes})
    monkeypatch.setattr(command, "run_checks_and_report", lambda *_: pytest.fail("it was measured"))
    assert command.main(["--ranks", "3", *options]) == status and asked == [(3, out)]
    assert command.main(["--ranks", "0", *options]) == status and asked[1] == (0, out), "which is refused there"


def test_ranks_that_cannot_be_are_an_error(capsys):
    assert command.main(["--ranks", "1"]) == 2 and capsys.readouterr().err == "bench: --ranks takes 2 or more, got 1\n"


def test_two_files_are_compared_in_their_order(monkeypatch):
    shown = []
    monkeypatch.setattr(command, "load", lambda path: f"figures of {path}")
    monkeypatch.setattr(command.report, "compare", lambda *given: given)
    monkeypatch.setattr(command, "show", lambda table, console: shown.append(table))
    assert command.main(["--compare", "a.json", "b.json"]) == 0
    assert shown == [("figures of a.json", "figures of b.json")]


def test_each_file_is_drawn_again(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(command, "redraw", lambda path, console: drawn.append(path.name))
    for name in ("b.json", "a.json", "tables.md"):
        (tmp_path / name).write_text("{}")
    assert command.main(["--redraw", "--out", str(tmp_path)]) == 0 and drawn == ["a.json", "b.json"]


@pytest.mark.parametrize("options", [["--baselines", "cuBLAS FP16"], ["--only"], ["--compare", "a.json"], ["--ranks", "two"],
                                     ["--resume", "yes"], ["--shape", "x", "y"]])
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(SystemExit) as ended:
        command.main(options)
    assert ended.value.code == 2


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A function that runs as on a GPU, or without, with what a run keeps, and gives what it printed."""
    def go(rows, notes=(), gpu=True, **options):
        groups = {"first": [unit("gemm", ["f"], (n, 2, 3)) for n in (1, 2)], "second": [unit("gemv", ["g"], (4, 5))]}

        def run(asked, kept, done):
            ran.append((list(asked), kept.path))
            for name, units in asked.items():
                done(name, 0)
                for _ in units:
                    done(name, 1)
                kept.add_conditions(name, {"seconds": 1})
            kept.add("u", list(rows), list(notes))

        console = Console(width=120)
        for module in (command, workloads):
            monkeypatch.setattr(module, "INTERPRETED", not gpu)
        monkeypatch.setattr(command.torch.cuda, "get_device_name", lambda: "GPU X")
        monkeypatch.setattr(command, "capability", lambda: (9, 0) if gpu else None)
        monkeypatch.setattr(command, "run", run)
        monkeypatch.setattr(command, "missing", lambda name: "")
        monkeypatch.setattr(command, "plan", lambda shapes, baselines: groups)
        monkeypatch.setattr(command, "_console", lambda: console)
        monkeypatch.setattr(command, "show", lambda table, console: shown.append(table))
        monkeypatch.setattr(command, "redraw", lambda path, console: drawn.append(path))
        monkeypatch.setattr(command.report, "tables", lambda figures: [("a table of", len(figures["rows"]))])
        return command.run_checks_and_report(out=tmp_path, **options)

    ran, shown, drawn = [], [], []
    go.ran, go.shown, go.drawn = ran, shown, drawn
    return go


def test_a_run_on_a_gpu_from_end_to_end(measured, tmp_path, capsys):
    figures = measured([row("gemm", "cuBLAS FP16", 8, 8, 8)])
    said = capsys.readouterr().out
    path = tmp_path / "gpu_x.json"
    assert measured.ran == [(["first", "second"], tmp_path / command.PROGRESS)]
    assert [line for line in said.splitlines() if line.startswith("measuring")] == ["measuring: first", "measuring: second"]
    assert "3/3" in said and f"written to {path}" in said.replace("\n", "") and "Every function that ran is right." in said
    assert measured.shown == [("a table of", 1)] and measured.drawn == [path]
    assert json.loads(path.read_text()) == figures
    assert figures["conditions"] == {"first": {"seconds": 1}, "second": {"seconds": 1}}
    measured([], pictures=False, only=["second"])
    assert measured.ran[1][0] == ["second"] and measured.drawn == [path] and measured.shown[1] == ("a table of", 1)
    with pytest.raises(BadResults, match="there is no group third; there are first, second"):
        measured([], only=["third"])
    assert len(measured.ran) == 2


def test_only_a_part_measured_again_keeps_the_rest(measured, tmp_path):
    one, other = row("gemm", "cuBLAS FP16", 8, 8, 8), row("gemv", "gemv_fp16", 1, 8, 8)
    whole = measured([one, other], pictures=False)
    again = measured([{**other, "median_us": 7.0, "low_us": 7.0, "high_us": 7.0}], only=["second"])
    assert [(r["test"], r["median_us"]) for r in again["rows"]] == [("gemm", one["median_us"]), ("gemv", 7.0)]
    assert again["added"] == {"second": again["date"]} and "added" not in whole
    assert results.load(tmp_path / "gpu_x.json") == again and measured.drawn == [tmp_path / "gpu_x.json"]


def test_without_a_gpu_nothing_is_written(measured, tmp_path, capsys):
    rows = [{**row("gemm", name, 8, 8, 8), "gb_per_s": None} for name in ("f", "g", "f")]
    figures = measured(rows, gpu=False)
    assert not list(tmp_path.iterdir()) and measured.ran[0][1].parent != tmp_path and not measured.ran[0][1].exists()
    assert figures["rows"] == rows and (figures["gpu"], figures["capability"], measured.drawn) == (None, [], [])
    assert measured.shown == [("Checked in Triton's interpreter, whose time is not a speed", ["function", "shapes"],
                               [["f", "2"], ["g", "1"]])]
    assert command.NOT_SPEEDS in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize(("copy", "read", "refused"), [
    (100.0, None, [111.0, 150.0, 219.0, 221.0]), (100.0, 200.0, [221.0]), (200.0, 100.0, [221.0]), (None, 100.0, []),
    (None, None, [])])
def test_nothing_is_faster_than_memory(monkeypatch, tmp_path, copy, read, refused):
    """Neither than a copy nor than reading; where there is no copy nothing is known."""
    roofs = {"copy_gb_per_s": copy, "read_gb_per_s": read, "fp16_tflops": 500.0, "int8_tops": 900.0}
    monkeypatch.setattr(command, "find_roofs", lambda rows: roofs if [r["test"] for r in rows] == ["roof"] else None)
    monkeypatch.setattr(command, "INTERPRETED", False)
    kept = Kept(tmp_path / "p", HEADER)
    speeds = (None, 109.0, 111.0, 150.0, 219.0, 221.0)
    rows = [row("gemm", "cuBLAS FP16", 8, 6, 4) | {"gb_per_s": speed} for speed in speeds]
    kept.add("u", [row("roof", "copy", 8, 1, 8) | {"gb_per_s": 1.0}, *rows], [{"kind": "wrong"}])
    kept.add_conditions("g", {"seconds": 2})
    figures = command.assemble(HEADER, kept)
    assert {name: figures[name] for name in HEADER} == HEADER and figures["conditions"] == {"g": {"seconds": 2}}
    assert [r["gb_per_s"] for r in figures["rows"][1:]] == [speed for speed in speeds if speed not in refused]
    assert all(r["of_roof"] == of_roof(r, roofs) for r in figures["rows"]) and figures["roofs"] == roofs
    assert figures["notes"] == [{"kind": "wrong"}, *(
        {"unit": "gemm", "kind": "refused", "what": "cuBLAS FP16", "reason": f"{speed:,.0f} GB/s at M=8 K=4 N=6 are more "
         "than memory gives: it read from the cache, or did not do its work"} for speed in refused)]


@pytest.mark.parametrize(("jupyter", "terminal", "interpreted", "width"), [
    (True, False, True, 85), (True, False, False, 100), (True, True, False, 100), (False, True, True, None),
    (False, False, True, 120), (False, False, False, 120)])
def test_how_wide_a_page_is(monkeypatch, jupyter, terminal, interpreted, width):
    monkeypatch.setattr(command, "INTERPRETED", interpreted)
    monkeypatch.setattr(command, "Console", lambda width=None: SimpleNamespace(
        is_jupyter=jupyter, is_terminal=terminal, width=width))
    assert command._console().width == width


def test_a_table_is_printed_as_it_is(capsys):
    command.show(("a title", ["name", "[red]"], [["[bold]x[/]", "1"], ["yyyy", "22"]]), Console(width=60))
    said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said[0].strip() == "a title" and "[red]" in said[2]
    assert any(line.replace("│", "").split() == ["[bold]x[/]", "1"] for line in said)
    line = next(line for line in said if "yyyy" in line)
    assert line.index("yyyy") == 2 and line.endswith("22 │"), "names to the left, numbers to the right"


@pytest.mark.parametrize("there", [True, False])
def test_a_file_is_drawn_beside_itself(monkeypatch, tmp_path, capsys, there):
    updated, figures = [], {**HEADER, "date": "2026-01-02", "roofs": ROOFS, "rows": []}
    (tmp_path / "x.json").write_text(json.dumps(figures))
    monkeypatch.setattr(command, "update_pages", updated.append)
    monkeypatch.setattr(command.importlib.util, "find_spec", {"matplotlib": "there" if there else None}.__getitem__)
    monkeypatch.setitem(sys.modules, "checks.bench.gallery", SimpleNamespace(draw=lambda given, folder: [given, folder, 3]))
    monkeypatch.setattr(command.report, "tables", lambda given: ["one", "two"])
    monkeypatch.setattr(command.report, "markdown", lambda table: f"table {table}")
    for _ in range(2):  # and again, where it was drawn before
        capsys.readouterr()
        command.redraw(tmp_path / "x.json", Console(width=300))
    assert (tmp_path / "x" / "tables.md").read_text() == "table one\ntable two" and updated == []
    said = capsys.readouterr().out
    assert (f"3 pictures in {tmp_path / 'x'}" in said) == there == ("matplotlib is not installed" not in said)


@pytest.mark.parametrize(("path", "recorded"), [("x.json", True), ("other.json", False)])
def test_the_recorded_file_goes_into_the_pages(monkeypatch, tmp_path, path, recorded):
    updated, figures = [], {**HEADER, "date": "2026-01-02", "roofs": ROOFS, "rows": []}
    (tmp_path / path).write_text(json.dumps(figures))
    monkeypatch.chdir(tmp_path)
    for name, value in (("RESULTS", tmp_path), ("RECORDED", "x.json"), ("update_pages", updated.append)):
        monkeypatch.setattr(command, name, value)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    command.redraw(Path(path), Console(width=300))
    assert updated == [figures] * recorded


def test_what_stands_on_the_pages(monkeypatch):
    asked = []
    for name, table in (("ladder", ["a", "none"]), ("totals", "b"), ("summary", "c"), ("host", "none")):
        monkeypatch.setattr(command.report, name, lambda *given, table=table: asked.append(given[1:]) or (
            [(one, [], [] if one == "none" else [1]) for one in table] if isinstance(table, list) else
            (table, [], [] if table == "none" else [1])))
    monkeypatch.setattr(command.report, "markdown", lambda table: f"{table[0]}.\n")
    figures = {**HEADER, "date": "2026-01-02"}
    head = ("Measured on an GPU X with torch 2 and Triton 3, 2026-01-02: medians, caches flushed, both sides of each ratio "
            "in turns.\n\n")
    assert command.page_block(figures) == head + "a.\n\nb.\n\nc.\n" and asked == [(), ((1, 16, 64, 16384),), (), ()]
    assert command.short_block(figures) == head + "c.\n"


# what is planned


@pytest.mark.parametrize(("made", "sizes"), [
    (unit("gemv", [], (4096, 300)), (1, 4096, 300)), (unit("gemm", [], (5, 6, 7)), (5, 6, 7)),
    (unit("quant_decode", [], (5, 6)), (5, 6, 1)), (unit("quant_prefill", [], (5, 6)), (5, 6, 1)),
    (unit("attention", [], (5, 6)), (5, 6, 1)), (unit("gemv", [], (8, 9), name="roof"), (1, 8, 9))])
def test_the_sizes_of_a_unit(made, sizes):
    assert workloads._mkn(made) == sizes


@pytest.mark.parametrize("interpreted", [True, False])
def test_what_is_checked_is_timed_on_no_gpu(monkeypatch, interpreted):
    monkeypatch.setattr(workloads, "INTERPRETED", interpreted)
    monkeypatch.setattr(workloads, "missing", lambda name: "")
    groups = workloads.plan("no such file" if interpreted else "workshop")
    assert {one["mode"] for one in groups["right"]} == {"eager" if interpreted else "check"}
    assert (list(groups) == ["right"]) == interpreted
    for one in groups["right"]:  # ragged: no size of a product is a multiple of its tiles, or all sizes would be
        M, K, N = workloads._mkn(one)
        assert M * K * N <= 2**23 and (one["test"] != "gemm" or "groups" in one["name"] or {M % 64, K % 64, N % 64} != {0})
    tested = {name for one in groups["right"] for name in one["functions"]}
    assert tested >= {*baselines.PLANS, *baselines.PLACES, *baselines.SILU_PLANS, *workloads.GEMV, *workloads.QUANTIZE,
                      *workloads.RMSNORM, *workloads.SILU_MUL, *workloads.HOST, *baselines.GROUPS, *workloads.LAYOUT}


@pytest.mark.parametrize(("function", "test", "kind"), [
    ("cuBLAS FP16", "gemm", "fp16"), ("matmul_fp16", "roof", "fp16"), ("gemv_fp16_row", "gemv", "fp16"),
    ("F.linear", "host", "fp16"), ("gemv_w8a16_row", "gemv", "int8"), ("torch._int_mm", "gemm", "int8"),
    ("int_mm, w N-major", "layout", "int8"), ("decode_w8a8", "launches", "int8"), ("unfused INT8", "plans", "int8"),
    ("matmul_int8", "others", "int8"), ("torch._scaled_mm FP8", "gemm", "fp8"), ("persistent rows", "places", "int8"),
    ("SiLU·mul apart", "gate_up", "int8"), ("128 x 128 x 64, 4 warps, 3 stages", "config", "int8"),
    ("quantizer apart", "elsewhere", "fp16")])
def test_what_a_function_multiplies_in(function, test, kind):
    assert arithmetic(function, test) == kind
    one = row(test, function, 512, 64, 32) | {"test": test, "flops": 10**12, "bytes": 8, "median_us": 1000.0}
    roofs = {"copy_gb_per_s": 3000.0, "fp16_tflops": 1000.0, "int8_tops": 2000.0}
    assert of_roof(one, roofs) == pytest.approx(1.0 if kind == "fp16" else 0.5)
    assert of_roof(one, {**roofs, "fp16_tflops" if kind == "fp16" else "int8_tops": None}) is None
    assert of_roof(one, {**roofs, "copy_gb_per_s": None}) is None
    assert of_roof({**one, "bytes": 6 * 10**9}, roofs) == pytest.approx(2.0), "of memory's time, if that is longer"


ROW = row("gemm", "cuBLAS FP16", 8, 6, 4)


@pytest.mark.parametrize(("changes", "fine"), [
    ({}, True), ({"low_us": 5.0, "median_us": 5.0, "high_us": 5.0}, True), ({"tflops": None}, True), ({"tflops": 3}, True),
    ({"low_us": 0}, False), ({"low_us": -1}, False), ({"low_us": 5, "median_us": 4, "high_us": 6}, False),
    ({"low_us": 4, "median_us": 6, "high_us": 5}, False), ({"mode": "host"}, True), ({"mode": "check"}, False),
    ({"tflops": True}, False), ({"tflops": "3"}, False), ({"gb_per_s": None}, False), ({"gb_per_s": 4}, True),
    ({"M": 8.0}, False), ({"function": None}, False), ({"more": object}, True)])
def test_which_rows_a_file_may_hold(tmp_path, changes, fine):
    figures = {**HEADER, "date": "2026-01-02", "roofs": {}, "rows": [ROW, {**ROW, **changes} | (
        {"more": [1]} if "more" in changes else {})]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(figures))
    if fine:
        assert results.load(path) == figures
    else:
        with pytest.raises(BadResults, match=f"^{path}: row 1[: ]"):
            results.load(path)


@pytest.mark.parametrize("name", [*results.FILE, "schema"])
def test_a_file_lacks_none_of_its_fields(tmp_path, name):
    figures = {**HEADER, "date": "2026-01-02", "roofs": {"copy_gb_per_s": None}, "rows": []}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(figures))
    assert results.load(str(path)) == figures
    for changed in ({key: value for key, value in figures.items() if key != name}, figures | {name: None}):
        path.write_text(json.dumps(changed))
        with pytest.raises(BadResults, match=name):
            results.load(path)


def test_rows_are_chosen_paired_and_named():
    rows = [row("gemm", name, M, 6, 4) | {"test": test} for name in "ab" for M in (1, 2) for test in ("s", "t")]
    other = {**rows[0], "mode": "graph"}
    assert results.unit_of(rows[0]) == ("s", rows[0]["mode"], 1, 4, 6)
    assert [(ours["function"], theirs["function"]) for ours, theirs in results.pairs(rows, "a", "b")] == [("a", "b")] * 4
    assert all(results.unit_of(ours) == results.unit_of(theirs) for ours, theirs in results.pairs(rows, "a", "b"))
    assert results.pairs([other, *rows[4:]], "a", "b") == []
    assert results.select(rows, M=[2], test="t") == [r for r in rows if r["M"] == 2 and r["test"] == "t"]
    assert results.select(rows, function="ab") == [] and len(results.select(rows, function=("a", "b"))) == 8
    with pytest.raises(BadResults, match="^there is no group c; there are a, b$"):
        results.chosen(iter("ab"), ["a", "c"], "group")
    assert results.chosen("ab", [], "group") == [] and results.chosen("ab", None, "group") == ["a", "b"]
    named = [results.file_name("A-B 1", shapes) for shapes in ("workshop", "own shapes")]
    assert named == ["a_b_1.json", "a_b_1_own_shapes.json"]
