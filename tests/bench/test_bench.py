"""The benchmark as a whole: workers that crash or hang, runs that go on, and what it says without a GPU."""

import json
import os
import time

import pytest
from synthetic_figures import row

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
            os.system("sleep 300 & echo $! > " + os.environ["GRANDCHILD"])
            time.sleep(300)
        if function == "wrong":
            send(left_out=function, kind="wrong", reason="wrong is wrong at M=1")
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
        run(units, kept, lambda group, done: told.append((group, done)) if told is not None else None, 3, "fake_worker")
        return kept
    return start


def measured(kept):
    return [(row["unit"], row["function"]) for row in kept.rows]


def test_a_crash_costs_the_rows_of_one_function_alone(start):
    kept = start({"one": [["good", "crashes", "fine"], ["good"]], "two": [["good"]]})
    assert measured(kept) == [(1, "good"), (1, "fine"), (2, "good"), (1, "good")]
    note, = kept.notes
    assert note["what"] == "crashes" and "SIGABRT: an illegal memory access" in note["reason"]


def test_a_hang_costs_the_rows_of_one_function_alone_and_nothing_runs_on(start, tmp_path):
    kept = start({"one": [["good", "hangs"], ["good"]]})
    assert measured(kept) == [(1, "good"), (2, "good")]
    assert [note["reason"] for note in kept.notes] == ["it hung: nothing for 3 s"]
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


def test_a_run_goes_on_where_it_ended_and_tries_what_crashed_again(start, tmp_path):
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
def test_the_real_worker_measures_a_unit_and_reports_what_is_wrong(tmp_path):
    kept = Kept(tmp_path / "progress.jsonl", HEADER)
    unit = workloads.unit("quant_prefill", ["copy", "quantize_int8_perrow", "gemv_fp16"], (3, 40))
    run({"one": [unit]}, kept)
    assert [row["function"] for row in kept.rows] == ["copy", "quantize_int8_perrow"]
    note, = kept.notes
    assert note["what"] == "gemv_fp16" and note["kind"] == "wrong"


@pytest.mark.skipif(not INTERPRETED, reason="there is a GPU")
def test_without_a_gpu_it_checks_and_says_that_its_times_are_no_speeds(tmp_path, monkeypatch, capsys):
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


def test_roofs_are_the_best_of_their_rows_and_faster_than_memory_is_refused(tmp_path):
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
                        "gemm.png", "quantize_prefill.png", "quantize_decode.png", "roofline.png", "decode_4096x4096.png",
                        "decode_2048x22016.png", "decode_11008x2048.png"}
    assert json.loads((tmp_path / "nvidia_synthetic.json").read_text())["conditions"]["decode"] == {"seconds": 1.0}


def test_the_silence_that_counts_as_a_hang_is_longer_than_any_step():
    assert runner.SILENCE_S >= 60
