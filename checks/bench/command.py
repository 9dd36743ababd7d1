"""`python3 workshop.py bench`: every kernel checked, then measured beside its baselines; tables, one JSON file, pictures.

In a lesson: `recorded()` are the figures in `results/`, `select()` picks rows of them, and `test_perf_gemv` and its like
measure functions of your own.
"""

import argparse
import datetime
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from checks.bench import report
from checks.bench.baselines import OPTIONAL, missing
from checks.bench.perf import (
    test_perf_gemm,
    test_perf_gemv,
    test_perf_matmul_int8,
    test_perf_quant_decode,
    test_perf_quant_prefill,
)
from checks.bench.results import (
    RECORDED,
    RESULTS,
    SCHEMA,
    BadResults,
    chosen,
    expect_same,
    file_name,
    load,
    of_roof,
    recorded,
    save,
    select,
)
from checks.bench.runner import Kept, WorkerFailed, run
from checks.bench.workloads import BadShapes, plan
from checks.paths import ROOT
from kernels.runtime import INTERPRETED, capability

__all__ = ["recorded", "run_checks_and_report", "select", "test_perf_gemm", "test_perf_gemv", "test_perf_matmul_int8",
           "test_perf_quant_decode", "test_perf_quant_prefill"]

PROGRESS = "bench_progress.jsonl"
NOT_SPEEDS = ("There is no GPU here: kernels run in Triton's interpreter, which shows that they are right. Its times are "
              "not speeds, so nothing is written.")
ON_PAGE = (1, 16, 64, 16384)
"""The numbers of rows M that the table of totals in results/README.md shows; the whole table is beside the pictures."""
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHORT_BEGIN, SHORT_END = "<!-- short: begin -->", "<!-- short: end -->"


def run_checks_and_report(shapes: str = "workshop", baselines: list[str] | None = None, out: Path = RESULTS,
                          resume: bool = False, pictures: bool = True, only: list[str] | None = None) -> dict:
    """Check every kernel, measure it beside its baselines, print tables; on a GPU, write the figures and pictures to `out`.

    `shapes`: workshop, llama-3-8b, llama-3-70b, or a JSON file with a list of [M, K, N]. `baselines`: some of
    `checks.bench.baselines.OPTIONAL`; left out, all that are installed. `resume`: go on where an earlier run ended. `only`:
    the groups to measure; their rows take the place of those in the file of an earlier run on such a GPU.

    Gives the figures as `checks.bench.results` describes them; without a GPU their rows have no speeds. Raises BadShapes for
    shapes that cannot be used, BadResults where there is another run to resume, or none to add to.
    """
    console = _console()
    planned = plan(shapes, baselines)
    groups = {name: planned[name] for name in chosen(planned, only, "group")}
    for name in OPTIONAL:
        if (baselines is None or name in baselines) and missing(name):
            console.print(f"left out: {name}: {missing(name)}", highlight=False, markup=False)
    header = {"schema": SCHEMA, "gpu": None if INTERPRETED else torch.cuda.get_device_name(),
              "capability": list(capability() or ()), "torch": torch.__version__, "triton": triton.__version__,
              "shapes": Path(shapes).stem}
    path = Path(out) / file_name(header["gpu"] or "", header["shapes"])
    old = load(path) if only is not None and not INTERPRETED else None
    if old:
        expect_same(header, old, ("gpu", "capability", "torch", "triton"))
    with tempfile.TemporaryDirectory() as nowhere:
        kept = Kept((Path(nowhere) if INTERPRETED else Path(out)) / PROGRESS, header, resume)
        with _progress(console) as progress:
            task = progress.add_task("", total=sum(map(len, groups.values())))

            def done(group: str, units: int) -> None:
                if not console.is_terminal and group != progress.tasks[task].description:
                    console.print(f"measuring: {group}")  # a bar would show at the end only
                progress.update(task, advance=units, description=group)

            run(groups, kept, done)
        figures = assemble(header, kept)
        show_notes(figures, console)
        if INTERPRETED:
            show_interpreted(figures, console)
            return figures
    if old:
        figures = added(figures, old)
    save(figures, path)
    for table in report.tables(figures):
        show(table, console)
    console.print(f"written to {path}", highlight=False, soft_wrap=True)
    if not failures(figures):
        kept.path.unlink()  # nothing is left to resume
    if pictures:
        redraw(path, console)
    return figures


def added(new: dict, old: dict) -> dict:
    """The figures `old` of a whole run with those of some groups in `new` in their place, under the old roofs."""
    measured = {(row["test"], row["mode"]) for row in new["rows"]}
    kept = [row for row in old["rows"] if (row["test"], row["mode"]) not in measured]
    rows = [{**row, "of_roof": of_roof(row, old["roofs"])} for row in new["rows"]]
    again = {test for test, _ in measured}
    notes = [note for note in old.get("notes", []) if note["unit"].split()[0] not in again]
    dates = {**old.get("added", {}), **dict.fromkeys(new["conditions"], new["date"])}
    return {**old, "added": dates, "conditions": {**old.get("conditions", {}), **new["conditions"]},
            "notes": [*notes, *new["notes"]], "rows": [*kept, *rows]}


def assemble(header: dict, kept: Kept) -> dict:
    """The figures of a results file: roofs from their rows, each row's part of the roof, and what is missing and why."""
    roofs = find_roofs([row for row in kept.rows if row["test"] == "roof"])
    rows, notes = [], list(kept.notes)
    fastest = 1.1 * max(roofs["copy_gb_per_s"] or float("inf"), roofs["read_gb_per_s"] or 0)
    for row in kept.rows:
        if row["gb_per_s"] and row["gb_per_s"] > fastest:
            notes.append({"unit": row["test"], "kind": "refused", "what": row["function"], "reason":
                          f"{row['gb_per_s']:,.0f} GB/s at M={row['M']} K={row['K']} N={row['N']} are more than memory "
                          "gives: it read from the cache, or did not do its work"})
        else:
            rows.append(row if INTERPRETED else {**row, "of_roof": of_roof(row, roofs)})
    return {**header, "date": datetime.date.today().isoformat(), "roofs": roofs, "conditions": kept.conditions,
            "notes": notes, "rows": rows}


def find_roofs(rows: list[dict]) -> dict:
    """The most that this GPU was seen to do: copy, read, multiply in FP16 and in INT8, and by which function."""
    roofs: dict[str, Any] = {}
    for name, by, field, functions in (
            ("copy_gb_per_s", "copy_by", "gb_per_s", ("copy",)),
            ("read_gb_per_s", "read_by", "gb_per_s", ("cuBLAS FP16", "gemv_fp16")),
            ("fp16_tflops", "fp16_by", "tflops", ("cuBLAS FP16", "matmul_fp16")),
            ("int8_tops", "int8_by", "tflops", ("torch._int_mm", "perrow_w8a8_matmul"))):
        found = [row for row in select(rows, function=functions) if row[field] and (row["M"] == 1) == (by == "read_by")]
        best = max(found, key=lambda row: row[field], default=None)
        roofs |= {name: best and best[field], by: best and best["function"]}
    return roofs


def failures(figures: dict) -> list[dict]:
    """The notes on functions that were wrong, or crashed."""
    return [note for note in figures["notes"] if note["kind"] in ("wrong", "crashed")]


def show_notes(figures: dict, console: Console) -> None:
    for note in figures["notes"]:
        console.print(f"{note['kind']}: {note['what']}, in {note['unit'].partition(' |')[0]}: {note['reason']}",
                      highlight=False, markup=False, soft_wrap=True)
    wrong = failures(figures)
    console.print("Every function that ran is right." if not wrong else f"[red]{len(wrong)} failed, see above.[/]")


def show_interpreted(figures: dict, console: Console) -> None:
    rows = figures["rows"]
    by_function = {name: select(rows, function=name) for name in dict.fromkeys(row["function"] for row in rows)}
    show(("Checked in Triton's interpreter, whose time is not a speed", ["function", "shapes"], [
        [name, str(len(mine))] for name, mine in by_function.items()]),
        console)
    console.print(NOT_SPEEDS, highlight=False)


def show(table: report.Table, console: Console) -> None:
    title, headings, rows = table
    made = Table(*(escape(heading) for heading in headings), title=title, title_justify="left")
    for column in made.columns[1:]:
        column.justify = "right"
    for row in rows:
        made.add_row(*map(escape, row))
    console.print(made)


def redraw(path: Path, console: Console) -> None:
    """Draw the pictures and tables of a results file again, beside it; those of RECORDED go into results/README.md too, and
    in short into the README."""
    figures = load(path)
    folder = path.parent / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text("\n".join(map(report.markdown, report.tables(figures))))
    if importlib.util.find_spec("matplotlib") is None:
        console.print("no pictures: matplotlib is not installed; `python3 workshop.py bench --redraw` draws them later")
    else:
        from checks.bench.gallery import draw

        console.print(f"{len(draw(figures, folder))} pictures in {folder}", highlight=False, soft_wrap=True)
    if path.resolve() == (RESULTS / RECORDED).resolve():
        update_pages(figures)


def page_block(figures: dict) -> str:
    """What stands between the markers of results/README.md."""
    made = [*report.ladder(figures), report.totals(figures, ON_PAGE), report.summary(figures), report.host(figures)]
    return _measured(figures) + "\n".join(report.markdown(table) for table in made if table[2])


def short_block(figures: dict) -> str:
    """What stands between the README's markers: the speed-ups alone."""
    return _measured(figures) + report.markdown(report.summary(figures))


def _measured(figures: dict) -> str:
    return (f"Measured on an {figures['gpu']} with torch {figures['torch']} and Triton {figures['triton']}, "
            f"{figures['date']}: medians, caches flushed, both sides of each ratio in turns.\n\n")


def update_pages(figures: dict, page: Path = RESULTS / "README.md", readme: Path = ROOT / "README.md") -> None:
    """Put the figures between the markers of both pages. Raises ValueError where there are none."""
    report.put_between(page, BEGIN, END, page_block(figures))
    report.put_between(readme, SHORT_BEGIN, SHORT_END, short_block(figures))


def _console() -> Console:
    """The terminal; of a notebook, whose page cuts longer lines, as many columns as the tables need, 100 with speeds and 85
    without; or 120 of a file or a pipe, where Rich would take 80, too few for the tables."""
    console = Console()
    if console.is_jupyter:
        return Console(width=85 if INTERPRETED else 100)
    return console if console.is_terminal else Console(width=120)


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                    TextColumn("left"), TimeRemainingColumn(), console=console, transient=console.is_terminal,
                    disable=console.is_jupyter)  # there it would need ipywidgets


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="workshop.py bench", description="Check every kernel, then measure it beside its "
                                     "baselines on this machine's GPU. Without a GPU: check it on small shapes.")
    parser.add_argument("--shapes", default="workshop", help="workshop (default), llama-3-8b, llama-3-70b, or a JSON file "
                        "with a list of [M, K, N]")
    parser.add_argument("--baselines", nargs="*", choices=OPTIONAL, help="of the optional ones, these alone (default: all "
                        "that are installed)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the figures and pictures (default: results/)")
    parser.add_argument("--resume", action="store_true", help="keep what an interrupted run in --out has measured")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="measure these groups alone, and put them into the file "
                        "of an earlier run on such a GPU")
    parser.add_argument("--ranks", type=int, metavar="P", help="measure the products, the MLP and a block of Llama 3 8B on "
                        "one GPU and on P of them, into results/ranks/. Without GPUs: check them on P processes")
    parser.add_argument("--no-pictures", action="store_true", help="write the JSON file alone")
    parser.add_argument("--redraw", action="store_true", help="measure nothing: draw what lies in --out again")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="measure nothing: what is faster or "
                        "slower in B than in A, beyond the noise")
    args = parser.parse_args(argv)
    console = _console()
    try:
        if args.ranks is not None:
            from checks.bench import ranks

            figures = ranks.measure(args.ranks, args.out if args.out != RESULTS else ranks.FOLDER)
            return 1 if figures["notes"] else 0
        if args.compare:
            show(report.compare(*map(load, args.compare)), console)
        elif args.redraw:
            paths = sorted(args.out.glob("*.json"))
            if not paths:
                raise BadResults(f"there are no figures to draw in {args.out}")
            for path in paths:
                redraw(path, console)
        else:
            figures = run_checks_and_report(args.shapes, args.baselines, args.out, args.resume, not args.no_pictures,
                                            args.only)
            return 1 if failures(figures) else 0
    except (BadResults, BadShapes, WorkerFailed, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0
