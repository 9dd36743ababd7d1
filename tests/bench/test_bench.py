"""The benchmark as a whole: workers that crash or hang, runs that go on, and what it says without a GPU."""

import json
import os
import queue
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from synthetic_figures import ROOFS, row

from checks.bench import command, runner, workloads
from checks.bench.command import find_roofs
from checks.bench.results import BadResults, load, of_roof
from checks.bench.runner import Kept, WorkerFailed, run
from kernels.runtime import INTERPRETED

HEADER = {"schema": 1, "gpu": "a GPU"}

# Stands in for checks.bench.worker: what a function is called says what it does.
WORKER = '''
import json, os, sys, time
job = json.load(sys.stdin)
def send(**event):
    print(json.dumps(event), flush=True)
if "no start" in str(job):
    sys.exit("ImportError: no module named torch")
for unit in job["units"]:
    name = unit["name"] + " " + "x".join(map(str, unit["shape"])) + " " + unit["mode"] + " | " + ", ".join(unit["functions"])
    send(unit=name)
    functions = [f for f in unit["functions"] if f not in job["without"].get(name, ())]
    for function in functions:
        send(trying=function)
        if function == "crashes":
            print("an illegal memory access was encountered", file=sys.stderr)
            os.abort()
        if function == "hangs":
            os.system("sleep 30 > /dev/null 2>&1 & echo $! > " + os.environ["GRANDCHILD"])
            time.sleep(30)
        if function in ("wrong", "breaks"):
            send(left_out=function, kind="wrong", reason=function + " is wrong at M=1")
        if function == "breaks":  # as after an illegal access, when nothing works any more
            os.abort()
    send(trying="")
    if "crashes when timed" in functions:
        sys.exit("RuntimeError: CUDA error")
    send(rows=[{"function": f, "unit": unit["shape"][0]} for f in functions if f != "wrong"])
'''


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that runs groups of lists of function names with the worker above, and gives what was kept."""
    (tmp_path / "fake_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("GRANDCHILD", str(tmp_path / "grandchild"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    def start(groups, resume=False, header=HEADER, told=None):
        kept = Kept(tmp_path / "progress.jsonl", header, resume)
        units = {group: [workloads.unit("gemm", functions, (number + 1, 2, 3)) for number, functions in enumerate(found)]
                 for group, found in groups.items()}
        run(units, kept, lambda group, done: told.append((group, done)) if told is not None else None, 30, "fake_worker")
        return kept
    return start


def measured(kept):
    return [(row["unit"], row["function"]) for row in kept.rows]


def test_a_crash_costs_the_rows_of_one_function_alone(start):
    kept = start({"one": [["good", "crashes", "fine"], ["good"]], "two": [["good"]]})
    assert measured(kept) == [(1, "good"), (1, "fine"), (2, "good"), (1, "good")]
    note, = kept.notes
    assert note["what"] == "crashes" and "SIGABRT: an illegal memory access" in note["reason"]


def test_a_crash_after_a_message_is_told_by_the_message(start):
    kept = start({"one": [["breaks", "good"]]})
    assert measured(kept) == [(1, "good")]
    assert [(note["kind"], note["reason"]) for note in kept.notes] == [("crashed", "breaks is wrong at M=1")]


def test_a_group_s_seconds_are_kept(start, monkeypatch):
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=iter([100.0, 107.26]).__next__))
    assert start({"one": [["good"]]}).conditions["one"]["seconds"] == 7.3


class Impatient(queue.Queue):
    """Times out as soon as the worker hangs, in place of after so many seconds."""

    last, asked = "", set()

    def get(self, timeout):
        self.asked.add(timeout)
        if '"hangs"' in self.last and "trying" in self.last:
            started = Path(os.environ["GRANDCHILD"])
            while not (started.exists() and started.read_text().endswith("\n")):
                time.sleep(0.01)
            raise queue.Empty
        self.last = super().get(timeout=60) or ""
        return self.last or None


def test_a_hang_costs_one_function_and_nothing_runs_on(start, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.queue, "Queue", Impatient)
    kept = start({"one": [["good", "hangs"], ["good"]]})
    assert measured(kept) == [(1, "good"), (2, "good")]
    assert [note["reason"] for note in kept.notes] == ["it hung: nothing for 30 s"] and Impatient.asked == {30}
    grandchild = int((tmp_path / "grandchild").read_text())
    for _ in range(100):
        try:
            if os.waitpid(grandchild, os.WNOHANG):
                break
        except ChildProcessError:
            pass
        stat = f"/proc/{grandchild}/stat"
        if not os.path.exists(stat) or open(stat).read().rpartition(")")[2].split()[0] == "Z":  # noqa: PTH110, PTH123, SIM115
            break
        time.sleep(0.02)
    else:
        pytest.fail("what the worker started still runs")


def test_a_crash_while_timed_together_costs_that_unit_alone(start):
    kept = start({"one": [["good", "crashes when timed"], ["good"]]})
    assert measured(kept) == [(2, "good")]
    note, = kept.notes
    assert note["what"] == "all" and "RuntimeError: CUDA error" in note["reason"]


def test_a_wrong_function_is_noted(start):
    kept = start({"one": [["good", "wrong"]]})
    assert measured(kept) == [(1, "good")] and kept.notes[0]["kind"] == "wrong"


def test_a_worker_that_cannot_start_stops_the_run(start):
    with pytest.raises(WorkerFailed, match="no module named torch"):
        start({"no start": [["no start"]]})


def test_a_run_goes_on_and_tries_what_crashed_again(start, tmp_path):
    kept = start({"one": [["good"], ["crashes", "good"]], "two": [["fine"]]})
    path = tmp_path / "progress.jsonl"
    kept.path.write_text(path.read_text() + '{"unit": "cut off in the mid')
    told = []
    again = start({"one": [["good"], ["crashes", "good"]], "two": [["fine"]]}, resume=True, told=told)
    assert sorted(measured(again)) == sorted(measured(kept))
    assert told == [("one", 1), ("one", 1), ("two", 1)]  # one kept; one anew, for a function of it had crashed; one kept
    assert set(again.conditions) == {"one", "two"} and again.conditions["two"] == kept.conditions["two"]
    assert len(start({"one": [["good"]]}).units) == 1  # without --resume, anew


def test_another_run_is_not_resumed(start):
    start({"one": [["good"]]})
    with pytest.raises(BadResults, match="was begun with .*a GPU.*another.*leave out --resume"):
        start({"one": [["good"]]}, resume=True, header={**HEADER, "gpu": "another"})


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_the_real_worker_reports_what_is_wrong(tmp_path):
    kept = Kept(tmp_path / "progress.jsonl", HEADER)
    unit = workloads.unit("quant_prefill", ["copy", "quantize_int8_perrow", "gemv_fp16"], (3, 40))
    run({"one": [unit]}, kept)
    assert [row["function"] for row in kept.rows] == ["copy", "quantize_int8_perrow"]
    note, = kept.notes
    assert note["what"] == "gemv_fp16" and note["kind"] == "wrong"


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_its_times_are_no_speeds(tmp_path, monkeypatch, capsys):
    unit = workloads.unit("quant_decode", ["quantize_int8_perrow"], (2, 40))
    monkeypatch.setattr(command, "plan", lambda shapes, baselines: {"right": [unit]})
    assert command.main(["--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Every function that ran is right" in said and "not speeds" in said and "not a speed" in said
    assert "GB/s" not in said and "µs" not in said and not (tmp_path / "out").exists()


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_a_wrong_kernel_makes_the_command_fail(tmp_path, monkeypatch, capsys):
    unit = workloads.unit("quant_decode", ["gemv_fp16"], (2, 40))
    monkeypatch.setattr(command, "plan", lambda shapes, baselines: {"right": [unit]})
    assert command.main(["--out", str(tmp_path)]) == 1
    assert "1 failed" in capsys.readouterr().out


def test_roofs_are_the_best_of_their_rows(tmp_path):
    rows = [row("roof", "cuBLAS FP16", 8192, 8192, 8192), row("roof", "matmul_fp16", 8192, 8192, 8192),
            row("roof", "torch._int_mm", 8192, 8192, 8192), row("roof", "cuBLAS FP16", 1, 65536, 8192),
            row("quant_prefill", "copy", 32768, 1, 21845) | {"test": "roof"}]
    roofs = find_roofs(rows)
    assert roofs["fp16_by"] == "matmul_fp16" and roofs["fp16_tflops"] == rows[1]["tflops"]
    assert (roofs["copy_gb_per_s"], roofs["read_gb_per_s"]) == (rows[4]["gb_per_s"], rows[3]["gb_per_s"])
    kept = Kept(tmp_path / "progress.jsonl", HEADER)
    warm = row("gemv", "gemv_fp16", 1, 4096, 4096)
    warm["gb_per_s"] = 1.2 * roofs["read_gb_per_s"]
    kept.add("a unit", [*rows, warm], [])
    figures = command.assemble(HEADER, kept)
    assert len(figures["rows"]) == len(rows) and "more than memory gives" in figures["notes"][0]["reason"]


def test_a_whole_run_on_a_gpu_is_written_whole(tmp_path, monkeypatch):
    """Everything but the GPU: rows computed from a formula take the place of measured ones."""
    def synthetic_run(groups, kept, done):
        for group, units in groups.items():
            for unit in units:
                M, K, N = workloads._mkn(unit)
                kept.add(workloads.key(unit), [row(unit["test"], name, M, N, K, unit["mode"]) | {"test": unit["name"]}
                                               for name in unit["functions"] if unit["mode"] != "check"], [])
                done(group, 1)
            kept.add_conditions(group, {"seconds": 1.0})

    for module in (command, workloads):
        monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.setattr(command.torch.cuda, "get_device_name", lambda: "NVIDIA Synthetic")
    monkeypatch.setattr(command, "capability", lambda: (9, 0))
    monkeypatch.setattr(command, "run", synthetic_run)
    command.run_checks_and_report(out=tmp_path)
    figures = load(tmp_path / "nvidia_synthetic.json")
    assert len(figures["rows"]) > 300 and figures["capability"] == [9, 0]
    assert all(0 < row["of_roof"] == of_roof(row, figures["roofs"]) for row in figures["rows"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nvidia_synthetic", "nvidia_synthetic.json"]
    pictures = {path.name for path in (tmp_path / "nvidia_synthetic").iterdir()}
    assert pictures == {"tables.md", "speedup.png", "tflops.png", "breakdown.png", "gemv_bandwidth.png", "gemv_time.png",
                        "gemm.png", "host.png", "quantize_prefill.png", "quantize_decode.png", "roofline.png",
                        "decode_4096x4096.png", "decode_2048x22016.png", "decode_11008x2048.png"}
    assert json.loads((tmp_path / "nvidia_synthetic.json").read_text())["conditions"]["decode"] == {"seconds": 1.0}


def test_a_hang_is_longer_than_any_step():
    assert runner.SILENCE_S >= 60


# ---- what a run keeps


def kept_at(path, resume=False, header=HEADER):
    return Kept(path, header, resume)


def test_what_is_kept_is_in_the_file_at_once_and_read_again(tmp_path):
    path = tmp_path / "new" / "progress.jsonl"
    kept = kept_at(path)
    kept.add("one", [{"a": 1}], [{"kind": "wrong"}])
    kept.add_conditions("group", {"seconds": 2.0})
    kept.add("two", [{"a": 2}, {"a": 3}], [])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        HEADER, {"unit": "one", "rows": [{"a": 1}], "notes": [{"kind": "wrong"}]},
        {"group": "group", "conditions": {"seconds": 2.0}}, {"unit": "two", "rows": [{"a": 2}, {"a": 3}], "notes": []}]
    again = kept_at(path, resume=True)
    assert (again.rows, again.notes, again.conditions) == (kept.rows, kept.notes, kept.conditions)
    assert again.rows == [{"a": 1}, {"a": 2}, {"a": 3}] and list(again.units) == ["one", "two"]
    assert kept_at(path).units == {} and path.read_text() == json.dumps(HEADER) + "\n"


def test_broken_lines_and_crashed_units_are_not_kept(tmp_path):
    path = tmp_path / "progress.jsonl"
    whole = {"unit": "good", "rows": [], "notes": [{"kind": "refused"}]}
    path.write_text("\n".join([json.dumps(HEADER), "3", "{", '{"unit": "no rows", "notes": []}', "[]", json.dumps(
        {"unit": "crashed", "rows": [], "notes": [{"kind": "crashed"}]}), json.dumps(whole)]))
    assert list(kept_at(path, resume=True).units) == ["good"]
    assert path.read_text() == "".join(json.dumps(entry) + "\n" for entry in (HEADER, whole))
    path.write_text("")
    with pytest.raises(BadResults, match="was begun with nothing, and this run is"):
        kept_at(path, resume=True)


# ---- a run's figures


def test_each_roof_is_of_its_own_functions(monkeypatch):
    rows = [row("roof", "copy", 2, 1, 4) | {"gb_per_s": 10.0, "tflops": None},
            row("roof", "cuBLAS FP16", 1, 8, 8) | {"gb_per_s": 30.0, "tflops": 900.0},
            row("roof", "gemv_fp16", 1, 8, 8) | {"gb_per_s": 40.0, "tflops": 1.0},
            row("roof", "matmul_fp16", 8, 8, 8) | {"gb_per_s": 99.0, "tflops": 600.0},
            row("roof", "torch._int_mm", 8, 8, 8) | {"gb_per_s": 99.0, "tflops": 1300.0},
            row("roof", "perrow_w8a8_matmul", 8, 8, 8) | {"gb_per_s": 99.0, "tflops": 1200.0}]
    assert find_roofs(rows) == {
        "copy_gb_per_s": 10.0, "copy_by": "copy", "read_gb_per_s": 40.0, "read_by": "gemv_fp16", "fp16_tflops": 600.0,
        "fp16_by": "matmul_fp16", "int8_tops": 1300.0, "int8_by": "torch._int_mm"}
    assert set(find_roofs([]).values()) == {None}


@pytest.mark.parametrize("speed, kept_rows", [(1.09, 2), (1.11, 1)])
def test_a_row_a_tenth_faster_than_memory_is_refused(tmp_path, speed, kept_rows):
    kept = kept_at(tmp_path / "p")
    copy = row("roof", "copy", 2, 1, 4) | {"gb_per_s": 100.0}
    kept.add("u", [copy, row("gemv", "gemv_fp16", 1, 8, 16) | {"gb_per_s": 100.0 * speed}], [{"kind": "wrong"}])
    figures = command.assemble(HEADER, kept)
    assert len(figures["rows"]) == kept_rows and figures["notes"][0] == {"kind": "wrong"}
    assert [note["kind"] for note in figures["notes"][1:]] == ["refused"] * (2 - kept_rows)
    if kept_rows == 1:
        assert "111 GB/s at M=1 K=16 N=8" in figures["notes"][1]["reason"] and figures["notes"][1]["what"] == "gemv_fp16"


def test_wrong_and_crashed_are_failures_and_refused_is_none(capsys):
    notes = [{"kind": kind, "what": "f", "unit": "gemm 1x2x3 eager | f, g", "reason": "why"} for kind in (
        "wrong", "crashed", "refused")]
    assert command.failures({"notes": notes}) == notes[:2]
    console = Console(width=120)
    command.show_notes({"notes": notes}, console)
    said = capsys.readouterr().out
    assert "wrong: f, in gemm 1x2x3 eager: why" in said and "2 failed, see above" in said
    command.show_notes({"notes": notes[2:]}, console)
    assert "Every function that ran is right" in capsys.readouterr().out


# ---- the command


def test_every_option_reaches_the_run(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(command, "run_checks_and_report", lambda *arguments: asked.append(arguments) or {"notes": []})
    assert command.main([]) == 0
    assert command.main(["--shapes", "llama-3-8b", "--baselines", "torchao", "gemlite", "--out", str(tmp_path), "--resume",
                         "--no-pictures", "--only", "gemm", "plans"]) == 0
    assert command.main(["--baselines"]) == 0
    assert asked == [("workshop", None, command.RESULTS, False, True, None),
                     ("llama-3-8b", ["torchao", "gemlite"], tmp_path, True, False, ["gemm", "plans"]),
                     ("workshop", [], command.RESULTS, False, True, None)]


@pytest.mark.parametrize("kind, status", [("wrong", 1), ("crashed", 1), ("refused", 0)])
def test_the_exit_code_is_that_of_the_notes(monkeypatch, kind, status):
    monkeypatch.setattr(command, "run_checks_and_report", lambda *_: {"notes": [{"kind": kind}]})
    assert command.main([]) == status


@pytest.mark.parametrize("error", [BadResults("no"), workloads.BadShapes("no"), WorkerFailed("no"), OSError("no")])
def test_what_cannot_be_done_ends_with_2_and_a_sentence(monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(command, "run_checks_and_report", fail)
    assert command.main([]) == 2 and capsys.readouterr().err == "bench: no\n"


def on_a_gpu(monkeypatch, run):
    for module in (command, workloads):
        monkeypatch.setattr(module, "INTERPRETED", False)
    monkeypatch.setattr(command.torch.cuda, "get_device_name", lambda: "GPU X")
    monkeypatch.setattr(command, "capability", lambda: (9, 0))
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "plan", lambda shapes, baselines: {"g": [{"name": "u"}]})


@pytest.mark.parametrize("kind, left", [("wrong", True), ("refused", False)])
def test_only_what_failed_can_be_resumed(monkeypatch, tmp_path, kind, left):
    note = {"kind": kind, "what": "f", "unit": "u", "reason": "why"}
    on_a_gpu(monkeypatch, lambda groups, kept, done: kept.add("u", [row("gemm", "cuBLAS FP16", 8, 8, 8)], [note]))
    figures = command.run_checks_and_report(out=tmp_path, pictures=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [command.PROGRESS] * left + ["gpu_x.json"]
    assert load(tmp_path / "gpu_x.json") == figures and (figures["gpu"], figures["shapes"]) == ("GPU X", "workshop")
    resumed = []
    monkeypatch.setattr(command, "run", lambda groups, kept, done: resumed.append(list(kept.units)))
    command.run_checks_and_report(out=tmp_path, resume=True, pictures=False)
    assert resumed == [["u"] * left]


def test_a_run_of_other_shapes_has_a_file_of_its_own(monkeypatch, tmp_path):
    on_a_gpu(monkeypatch, lambda groups, kept, done: None)
    command.run_checks_and_report("some/llama-3-8b.json", out=tmp_path, pictures=False)
    assert [path.name for path in tmp_path.iterdir()] == ["gpu_x_llama_3_8b.json"]


def test_a_missing_baseline_is_named_where_it_was_asked_for(monkeypatch, tmp_path, capsys):
    on_a_gpu(monkeypatch, lambda groups, kept, done: None)
    monkeypatch.setattr(command, "missing", lambda name: "not here" if name in ("torchao", "gemlite") else "")
    for asked, named in ((None, ["gemlite", "torchao"]), (["torchao"], ["torchao"]), ([], [])):
        command.run_checks_and_report(baselines=asked, out=tmp_path, pictures=False)
        said = capsys.readouterr().out
        assert [name for name in ("gemlite", "torchao") if f"left out: {name}: not here" in said] == named


def test_only_the_recorded_file_goes_into_the_readme(monkeypatch, tmp_path):
    updated = []
    monkeypatch.setattr(command, "update_pages", updated.append)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)  # no matplotlib: tables alone
    figures = {"schema": 1, "gpu": "X", "capability": [], "torch": "", "triton": "", "date": "", "roofs": ROOFS, "rows": []}
    for name in ("other.json", command.RECORDED):
        (tmp_path / name).write_text(json.dumps(figures))
        command.redraw(tmp_path / name, Console(width=120))
    assert updated == [figures] and (tmp_path / "other" / "tables.md").read_text().startswith("**Roofs of this X**")


# ---- the worker


def test_how_a_worker_ended_is_described(tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text("import json, os, sys\njob = json.load(sys.stdin)\n"
                                      "print(json.dumps(job), flush=True)\n"
                                      "sys.stderr.write('first\\nlast' + 400 * '!' + '   \\n\\n')\n"
                                      "os.kill(os.getpid(), 9) if job['kill'] else sys.exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for kill, code in ((True, "SIGKILL"), (False, "7")):
        with runner.Worker({"kill": kill}, 60, "ends") as worker:
            assert list(worker.events()) == [{"kill": kill}]
        assert worker.failure == f"its process ended with {code}: last" + 396 * "!", "the last line, not all of a long one"


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_what_the_worker_reports(monkeypatch):
    from checks.bench import worker

    sent = []
    reporter = worker.Reporter(SimpleNamespace(write=lambda text: sent.append(json.loads(text)), flush=lambda: None))
    for error in (worker.Refused({"f": "too wide"}, {}), worker.Wrong("f is wrong\nmore"), OSError("x" * 600)):
        reporter.left_out("f", error)
    reporter.trying("g")
    assert sent[:2] == [{"left_out": "f", "kind": "refused", "reason": "f: too wide"},
                        {"left_out": "f", "kind": "wrong", "reason": "f is wrong"}]
    assert sent[2]["kind"] == "wrong" and sent[2]["reason"].startswith("f: OSError: xxx") and len(sent[2]["reason"]) == 500
    assert sent[3] == {"trying": "g"}
