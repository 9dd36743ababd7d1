"""The benchmark's processes: what is kept of a worker's units, how it ends, and what the worker itself does with a job."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from checks.bench import runner, worker, workloads
from checks.bench.runner import Kept, WorkerFailed

UNIT = workloads.unit("gemm", ["f", "g", "h"], (1, 2, 3))
OTHER = workloads.unit("gemm", ["f"], (4, 5, 6))
ONE, TWO = map(workloads.key, (UNIT, OTHER))
BEGINS = {"unit": ONE}


def tries(name):
    return {"trying": name}


def wrong(name, kind="wrong"):
    return {"left_out": name, "kind": kind, "reason": f"{name} is bad"}


def note(kind, what, reason, unit=ONE):
    return {"unit": unit, "kind": kind, "what": what, "reason": reason}


TIMED, ROWS = tries(""), {"rows": [{"function": "f"}]}
DIED = "it died of 9"
RUNS = {  # what each worker in turn says before it ends; the rows that are kept, and the notes
    "all is well": ([[BEGINS, tries("f"), tries("g"), TIMED, ROWS]], 1, []),
    "two are left out": ([[BEGINS, tries("f"), wrong("f"), tries("g"), wrong("g", "refused"), TIMED, ROWS]], 1,
                         [note("wrong", "f", "f is bad"), note("refused", "g", "g is bad")]),
    "two crash": ([[BEGINS, tries("f")], [BEGINS, tries("g")], [BEGINS, tries("h"), TIMED, ROWS]], 1,
                  [note("crashed", "f", DIED), note("crashed", "g", DIED)]),
    "one is wrong, the next crashes": (
        [[BEGINS, tries("f"), wrong("f"), tries("g")], [BEGINS, tries("f"), wrong("f"), tries("h"), TIMED, ROWS]], 1,
        [note("crashed", "g", DIED), note("wrong", "f", "f is bad")]),
    "one crashes by its message": ([[BEGINS, tries("f"), wrong("f"), tries("g"), wrong("g")], [BEGINS, TIMED, ROWS]], 1,
                                   [note("crashed", "g", "g is bad")]),
    "a crash in turns": ([[BEGINS, tries("f"), wrong("f"), tries("g"), TIMED]], 0,
                         [note("wrong", "f", "f is bad"), note("crashed", "all", f"while timed in turns, {DIED}")]),
    "a crash, then one in turns": ([[BEGINS, tries("f")], [BEGINS, tries("g"), TIMED]], 0, [
        note("crashed", "f", DIED), note("crashed", "all", f"while timed in turns, {DIED}")]),
}


class Watching:
    """In the place of nvidia-smi."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def since(self, began):
        return {"sm_mhz": began}


@pytest.mark.parametrize("case", RUNS)
def test_what_is_kept_of_what_workers_say(monkeypatch, tmp_path, case):
    said, rows, notes = RUNS[case]
    last = [{"unit": TWO}, tries("f"), TIMED, {"rows": [{"function": "f", "M": 4}]}]
    said = [*said, last] if "in turns" in case else [*said[:-1], [*said[-1], *last]]
    asked, told, left = [], [], iter(said)

    class Says:
        failure = DIED

        def __init__(self, job, silence_s, module):
            asked.append(([workloads.key(unit) for unit in job["units"]], job["without"], silence_s, module))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def events(self):
            yield from next(left)

    clock = iter([100.0, 107.26])
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(runner, "Worker", Says)
    monkeypatch.setattr(runner, "Monitor", Watching)
    kept = Kept(tmp_path / "p", {"schema": 1})
    runner.run({"one": [UNIT, OTHER]}, kept, lambda group, units: told.append((group, units)), 7, "a.module")
    assert kept.rows == [*ROWS["rows"] * rows, {"function": "f", "M": 4}] and kept.notes == notes
    assert list(kept.units) == [ONE, TWO] and kept.conditions == {"one": {"seconds": 7.3, "sm_mhz": 100.0}}
    assert told == [("one", 0), ("one", 1), ("one", 1)]
    crashed = [one["what"] for one in notes if one["kind"] == "crashed" and one["what"] != "all"]
    without = [{ONE: crashed[:count]} if count else {} for count in range(len(crashed) + 1)]
    wanted = [([ONE, TWO], each, 7, "a.module") for each in without]
    assert asked == wanted + [([TWO], without[-1], 7, "a.module")] * ("in turns" in case)


def test_a_worker_that_ends_between_units_is_an_error(monkeypatch, tmp_path):
    class Ends(runner.Worker):
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def events(self):
            self.failure = DIED
            yield from [BEGINS, TIMED, ROWS]

    monkeypatch.setattr(runner, "Worker", Ends)
    kept = Kept(tmp_path / "p", {"schema": 1})
    with pytest.raises(WorkerFailed, match=f"before it measured {TWO.split(' |')[0]} .*: {DIED}"):
        runner.run({"one": [UNIT, OTHER]}, kept)
    assert list(kept.units) == [ONE]


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_s_process_is_ended_and_its_pipes_closed(tmp_path, monkeypatch, fails):
    """One that ends before it has read its job, of more than a pipe holds; or one that goes on while ours fails."""
    (tmp_path / "ends.py").write_text("import time\ntime.sleep(30)\n" if fails else "raise SystemExit('too early')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = {} if fails else {"pad": "x" * 1_000_000}
    try:
        with runner.Worker(job, 60, "ends") as made:
            if fails:
                raise KeyboardInterrupt
            assert list(made.events()) == [] and made.failure == "its process ended with 1: too early"
    except KeyboardInterrupt:
        assert fails
    assert made._process.returncode == (-9 if fails else 1) and made._stdout.closed and made._errors.closed
    assert os.path.exists(f"/proc/{made._process.pid}") is False  # noqa: PTH110


STARTS = """
import json, subprocess, sys, time
with open("FIFO", "w") as held:
    child = subprocess.Popen(["sleep", "30"], stdin=held, stdout=OUT, stderr=subprocess.DEVNULL)
print(json.dumps({"child": child.pid}), flush=True)
END
"""


@pytest.mark.parametrize(("out", "end", "failure"), [
    ("None", "time.sleep(30)", ""), ("subprocess.DEVNULL", "time.sleep(30)", ""),
    ("subprocess.DEVNULL", "sys.exit(3)", "its process ended with 3")], ids=["hangs, with our pipe", "hangs", "has ended"])
def test_what_a_worker_started_ends_with_it(tmp_path, monkeypatch, out, end, failure):
    """As compilers and ranks do, whether it hangs or has ended itself; the pipe to its child says when that is gone."""
    os.mkfifo(tmp_path / "fifo")
    text = STARTS.replace("FIFO", str(tmp_path / "fifo")).replace("OUT", out).replace("END", end)
    (tmp_path / "starts.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pipe = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    made = runner.Worker({}, 60, "starts").__enter__()
    events = made.events()
    child = next(events)["child"]
    if failure:
        assert list(events) == [] and made.failure == failure
    ended = ThreadPoolExecutor(1).submit(made.__exit__, None, None, None)  # it may wait for what it has not ended
    try:
        ended.result(6)
        assert select.select([pipe], [], [], 5)[0] and os.read(pipe, 1) == b"", "what it started still runs"
    finally:
        os.close(pipe)
        for left in (child, made._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)


def test_a_worker_runs_by_itself_in_the_workshop_s_folder(monkeypatch):
    started = []

    def start(command, **options):
        started.append((command, options))
        raise OSError("that is enough")

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(OSError, match="enough"), runner.Worker({}, 5, "a.module"):
        pass
    (command, options), = started
    assert command[1:] == ["-P", "-m", "a.module"] and options["start_new_session"] and options["text"]
    assert options["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(runner.python_path()).split(os.pathsep)[0]
    assert options["env"]["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("interpreted", [True, False])
def test_the_worker_measures_each_unit_without_what_crashed(monkeypatch, interpreted):
    did = []
    stream = SimpleNamespace(write=lambda text: did.append(json.loads(text)), flush=lambda: did.append("sent"))
    monkeypatch.setattr(worker, "os", SimpleNamespace(
        dup=lambda number: did.append(("dup", number)) or 9, dup2=lambda *numbers: did.append(("dup2", *numbers)),
        fdopen=lambda number, mode: stream if (number, mode) == (9, "w") else None))
    monkeypatch.setattr(worker, "INTERPRETED", interpreted)
    monkeypatch.setattr(worker.torch.cuda, "empty_cache", lambda: did.append("empty"))
    monkeypatch.setattr(worker.torch.cuda, "synchronize", lambda: did.append("wait"))

    def measure(unit, watcher, without):
        watcher.trying("f")
        watcher.left_out("f", OSError("no"))
        return [{"unit": unit["shape"], "without": list(without)}]

    monkeypatch.setattr(worker.workloads, "measure", measure)
    monkeypatch.setattr(worker.sys, "stdin", io.StringIO(json.dumps({"units": [UNIT, OTHER], "without": {TWO: ["g", "h"]}})))
    worker.main()
    each = [[{"unit": key}, "sent", {"trying": "f"}, "sent", {"left_out": "f", "kind": "wrong", "reason": "f: OSError: no"},
             "sent", *([] if interpreted else ["wait"]), {"rows": [{"unit": unit["shape"], "without": without}]}, "sent",
             *([] if interpreted else ["empty"])] for key, unit, without in ((ONE, UNIT, []), (TWO, OTHER, ["g", "h"]))]
    assert did == [("dup", 1), ("dup2", 2, 1), *each[0], *each[1]]


def test_a_unit_is_measured_as_it_says(monkeypatch):
    asked = []
    monkeypatch.setitem(workloads.TESTS, "gemm", lambda functions, shapes, mode, watcher: asked.append(
        (functions, shapes, mode, watcher)) or [{"test": "gemm", "function": name} for name in functions])
    monkeypatch.setattr(workloads, "find", lambda name: f"the function {name}")
    made = workloads.unit("gemm", ["f", "g"], (1, 2, 3), "graph", "roof")
    assert workloads.measure(made, "watcher", ("g",)) == [{"test": "roof", "function": "f"}]
    assert asked == [({"f": "the function f"}, [[1, 2, 3]], "graph", "watcher")]


def test_what_was_kept_stays_kept_however_often_a_run_goes_on(tmp_path):
    kept = Kept(tmp_path / "p", {"schema": 1})
    kept.add("u", [{"a": 1}], [note("refused", "f", "no")])
    kept.add_conditions("g", {"seconds": 2})
    for _ in range(2):
        again = Kept(tmp_path / "p", {"schema": 1}, resume=True)
        assert (again.units, again.conditions) == (kept.units, kept.conditions)


def test_a_group_that_is_done_keeps_no_other_from_running(monkeypatch, tmp_path):
    kept, told, ran = Kept(tmp_path / "kept", {}), [], []
    kept.add(ONE, [], [])

    def run_worker(left, crashes, kept, done, silence_s, module):
        ran.append((left, crashes, silence_s, module))
        return []

    monkeypatch.setattr(runner, "Monitor", Watching)
    monkeypatch.setattr(runner, "_run_worker", run_worker)
    groups = {"done": [UNIT], "next": [OTHER], "half": [OTHER, UNIT]}
    runner.run(groups, kept, lambda *group: told.append(group), 7.0, "a.module")
    assert ran == [([OTHER], {}, 7.0, "a.module")] * 2 and told == [("done", 1), ("next", 0), ("half", 1)]
    assert list(kept.conditions) == ["next", "half"]
