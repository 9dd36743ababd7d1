"""A class on many machines: the results are those of one, and nothing is lost or graded twice on the way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from grading import NEEDED, SOLVED, exercise_cell, graded_here, notebook
from standin_distributed import Client, Cluster

from checks.grader import results
from checks.grader.batch import Batch, write
from checks.grader.cluster import dask_batch, process, task
from checks.grader.cluster.dask_batch import DaskBatch
from checks.grader.command import main
from checks.grader.course import DEFAULT
from checks.grader.grader import Grader
from checks.grader.intake.folder import HandedIn, find_submissions
from checks.grader.sandbox import wire
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged
from checks.grader.settings import Settings, settings_from_json
from checks.grader.units import grade, read_unit, unit_from_json

SETTINGS = Settings(3, DEFAULT, ("programs_needed",), compiles=False)
WRONG = notebook(exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    return N"))


@pytest.fixture
def folder(tmp_path):
    for student, text in (("ada", SOLVED), ("bob", WRONG), ("eva", '{"cells": [')):
        (tmp_path / "sub" / student).mkdir(parents=True)
        (tmp_path / "sub" / student / "a.ipynb").write_text(text)
    return tmp_path / "sub"


@pytest.fixture(scope="module")
def worker():
    worker = process.Worker()
    yield worker
    worker.close()


@pytest.fixture
def on_a_cluster(folder, tmp_path, monkeypatch, worker):
    """Call it with what goes wrong: it grades the class, and gives the cluster, the run, and what it said."""
    def run(*events: str, answer=worker.answer):
        cluster, said = Cluster(*events), []
        monkeypatch.setitem(sys.modules, "distributed", cluster.module())
        monkeypatch.setattr(dask_batch, "needs_dask", lambda: None)
        monkeypatch.setattr(dask_batch, "work", lambda job: answer(json.loads(json.dumps(job))) | {"worker": "tcp://one"})
        batch = DaskBatch(tmp_path / "grades", SETTINGS, "tcp://scheduler:8786", said.append)
        batch.grade(folder)
        return cluster, batch, said

    return run


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_batch, "needs_dask", lambda: None)
    return DaskBatch(tmp_path, SETTINGS, "tcp://scheduler:8786", lambda _: None)


def as_bytes(grades: Path) -> dict[str, str]:
    """The files of the students, without what may differ between two runs that agree."""
    def stable(value):
        if isinstance(value, dict):
            return {k: stable(v) for k, v in value.items() if k not in results.VOLATILE}
        return [stable(v) for v in value] if isinstance(value, list) else value

    return {path.name: results.to_json(stable(json.loads(path.read_text()))) for path in (grades / "students").iterdir()}


def test_the_results_are_those_of_one_machine(on_a_cluster, folder, tmp_path, monkeypatch):
    cluster, batch, said = on_a_cluster()
    with Grader(SETTINGS) as grader:
        for handed_in in find_submissions(folder).students.values():
            write(tmp_path / "one", grade(grader, handed_in))
        levels = grader.server.levels
    assert as_bytes(tmp_path / "grades") == as_bytes(tmp_path / "one") and len(as_bytes(tmp_path / "one")) == 3
    assert (batch.tally.graded, batch.tally.faults, batch.tally.unread) == (3, 0, 1)
    assert len(set(cluster.keys)) == 3
    (about,) = json.loads((tmp_path / "grades" / "workers.json").read_text()).values()
    assert (about["graded"], about["isolation"]) == (3, levels) and any("tcp://one" in line for line in said)
    graded_here(monkeypatch, Grader.exercise_result)
    assert Batch(tmp_path / "grades", SETTINGS, say=said.append).grade(folder, resume=True).kept == 2, "as one machine's"


@pytest.mark.parametrize("events", [
    ("lost",), ("lost", "connect", "connect"), ("quiet", "lost", "connect", "lost"), ("killed",)], ids=" ".join)
def test_what_is_lost_on_the_way_is_graded_once(on_a_cluster, events):
    cluster, batch, _ = on_a_cluster(*events)
    assert not cluster.events and (batch.tally.graded, batch.tally.faults) == (3, 0)
    if "killed" not in events:
        assert len(set(cluster.keys)) == 3, "a task that the scheduler still has is not a second one"


def test_what_takes_down_its_workers_twice_is_no_zero(on_a_cluster, tmp_path):
    died = []

    def answer(job):
        died.append(json.loads(job["unit"])["submission"]["student"])
        return {"died": "EOFError"}

    cluster, batch, said = on_a_cluster(answer=answer)
    assert len(set(cluster.keys)) == 6, "or the scheduler would hand out the old answer"
    assert sorted(died) == ["ada", "ada", "bob", "bob", "eva", "eva"] and batch.tally.faults == 3
    assert {one["points"] for result in results.read_results(tmp_path / "grades") for one in result["exercises"]} == {None}


def test_a_scheduler_that_stays_away_ends_the_run(on_a_cluster, monkeypatch):
    with pytest.raises(Fault, match=r"scheduler:8786 cannot be reached .* --resume goes on"):
        on_a_cluster("connect")  # never there: no use to wait
    monkeypatch.setattr(dask_batch, "PATIENCE_S", -1)
    with pytest.raises(Fault, match=r"scheduler:8786 cannot be reached .* --resume goes on"):
        on_a_cluster("lost", "connect")


@pytest.mark.parametrize("losses, ends", [
    ([(0, 0), (600, 0)], False), ([(0, 0), (601, 0)], True), ([(0, 0), (400, 1), (900, 0)], False),
    ([(0, 0), (400, 1), (1001, 0)], True), ([(0, 1), (900, 1)], False), ([(0, 0), (400, 0), (700, 0)], True)])
@pytest.mark.parametrize("error", [CancelledError, TimeoutError, OSError, ConnectionError])
def test_patience_begins_anew_when_work_was_done(batch, monkeypatch, error, losses, ends):
    """At each loss: the time, and how many submissions were graded since the one before."""
    steps, clock, waiting = iter(losses), [], dict.fromkeys("abcdefgh")

    def through_a_client(batch, waiting):
        batch._was_there = True
        now, graded = next(steps, (None, len(waiting)))
        clock.append(now)
        for student in list(waiting)[:graded]:
            del waiting[student]
        if now is not None:
            raise error

    monkeypatch.setattr(dask_batch, "time", types.SimpleNamespace(monotonic=lambda: clock[-1]))
    monkeypatch.setattr(DaskBatch, "_through_a_client", through_a_client)
    with pytest.raises(Fault, match="cannot be reached") if ends else contextlib.nullcontext():
        batch._work(waiting, 1)
    assert bool(waiting) == ends


@pytest.mark.parametrize("error, misjudged", [
    (Misjudged("wrong"), True), (Fault("no seccomp"), False), (OSError(28, "full"), False)])
@pytest.mark.parametrize("where", ["start", "canaries"])
def test_a_worker_that_cannot_grade_does_not_begin(tmp_path, monkeypatch, error, misjudged, where):
    """Nor is it taken for one that can when it is asked again."""
    def fail(*_):
        raise error

    made = []

    class Started(Grader):
        def start(self):
            made.append(self)
            if where == "start":
                fail()

    monkeypatch.setattr(process, "Grader", Started)
    monkeypatch.setattr(process, "check_canaries", fail if where == "canaries" else None)
    worker, job = process.Worker(), {"settings": SETTINGS.to_json(), "unit": "", "key": ""}
    for count in (1, 2):
        assert worker.answer(job) == {"stop": str(error), "misjudged": misjudged} and len(made) == count


def test_a_worker_keeps_its_grader_while_the_settings_stay(monkeypatch):
    stopped, checked = [], []
    monkeypatch.setattr(process, "check_canaries", checked.append)
    monkeypatch.setattr(Grader, "start", lambda _: None)
    monkeypatch.setattr(Grader, "stop_servers", lambda grader: stopped.append(grader))
    worker, texts = process.Worker(), [SETTINGS.to_json(), replace(SETTINGS, seed=4).to_json()]
    first, same, other = (worker._grader_for(texts[number]) for number in (0, 0, 1))
    assert first is same is not other and other.settings.seed == 4
    assert (checked, stopped) == ([first, other], [first])
    worker.close()
    assert stopped == [first, other]


def test_a_worker_that_cannot_grade_ends_the_run(on_a_cluster, monkeypatch, worker):
    def other_version(job):
        return worker.answer(job | {"key": "of other libraries"})

    with pytest.raises(Fault, match=r"tcp://one cannot grade: its workshop, Python or libraries have other versions"):
        on_a_cluster(answer=other_version)
    monkeypatch.setattr("checks.grader.grader.FULL", ("a level that no system has",))
    fresh = process.Worker()
    job = {"settings": Settings(3, DEFAULT, ("programs_needed",), require_isolation=True).to_json(), "unit": "", "key": ""}
    assert "isolation asked for" in fresh.answer(job)["stop"], "--require-isolation holds for every worker"


def test_a_unit_and_its_settings_travel_whole(folder, tmp_path):
    for handed_in in find_submissions(folder).students.values():
        unit = read_unit(handed_in)
        assert unit_from_json(unit.to_json()) == unit
    travelled = settings_from_json(SETTINGS.to_json(), tmp_path)
    assert Grader(travelled).key(unit.submission) == Grader(SETTINGS).key(unit.submission)
    other = Settings(4, DEFAULT, ("a", "b"), compiles=False, require_isolation=True, timeout_s=1.5, student_timeout_s=2.5,
                     gpus=(0, 3))
    assert settings_from_json(other.to_json(), tmp_path) == replace(other, course=tmp_path / "course.toml")


def test_a_task_is_known_by_student_work_and_deaths(batch, folder, monkeypatch):
    """By which a scheduler tells one that it has already."""
    submitted = []
    client = types.SimpleNamespace(submit=lambda work, job, key, pure: submitted.append((key, pure, job["key"])))
    ada, bob = (HandedIn(student, [folder / "ada"]) for student in ("ada", "bob"))
    other = HandedIn("ada", [folder / "bob"])
    for grader, one in ((3, ada), (3, ada), (3, bob), (3, other), (4, ada)):
        batch._submit(client, Grader(replace(SETTINGS, seed=grader)), "{}", one)
    batch._deaths["ada"] = 1
    batch._submit(client, Grader(SETTINGS), "{}", ada)
    keys = [key for key, *_ in submitted]
    assert keys[0] == keys[1] and len(set(keys)) == 5 and not any(pure for _, pure, _ in submitted)
    assert submitted[0][2] == submitted[2][2] == Grader(SETTINGS).key(read_unit(ada).submission)
    monkeypatch.setattr(dask_batch, "read_unit", Mock(side_effect=OSError("the reader did not start")))
    with pytest.raises(Fault, match="did not start"):
        batch._submit(client, Grader(SETTINGS), "{}", ada)


@pytest.mark.parametrize("answer, raised, said", [
    ({"stop": "no seccomp", "misjudged": False, "worker": "w"}, Fault, "the worker w cannot grade: no seccomp"),
    ({"stop": "wrong", "misjudged": True, "worker": "w"}, Misjudged, "the worker w cannot grade: wrong"),
    (ImportError("checks"), Fault, "cannot import the workshop .*checks"),
    (OSError("connection lost"), OSError, "connection lost"), (CancelledError(), CancelledError, None)], ids=str)
def test_what_ends_a_run_on_a_cluster(batch, monkeypatch, answer, raised, said):
    def result():
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "distributed", Cluster().module())
    with pytest.raises(raised, match=said) as error:
        batch._take(types.SimpleNamespace(result=result), HandedIn("ada"))
    assert error.type is raised


def test_what_fails_on_this_machine_is_no_lost_connection(batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", Cluster().module())
    monkeypatch.setattr(dask_batch, "write_atomically", Mock(side_effect=OSError(28, "No space left")))
    answer = {"worker": "w", "host": "h", "levels": [], "result": {}}
    with pytest.raises(Fault, match="No space left"):
        batch._take(types.SimpleNamespace(result=lambda: answer), HandedIn("ada"))


@pytest.mark.parametrize("error, cancelled", [(Fault("a worker cannot grade"), True), (KeyboardInterrupt(), True),
                                              (CancelledError(), False), (OSError("lost"), False)], ids=repr)
def test_a_run_that_ends_takes_back_its_tasks(batch, monkeypatch, error, cancelled):
    def fail(client, waiting, running):
        running.update(dict.fromkeys(["a", "b"], "ada"))
        raise error

    cluster = Cluster()
    monkeypatch.setitem(sys.modules, "distributed", cluster.module())
    monkeypatch.setattr(batch, "_keep_busy", fail)
    with pytest.raises(type(error)):
        batch._through_a_client({})
    assert cluster.cancelled == (["a", "b"] if cancelled else [])


@pytest.mark.parametrize("threads", [{}, {"one": 1}], ids=str)
def test_a_cluster_without_workers_is_named(on_a_cluster, monkeypatch, threads):
    monkeypatch.setattr(Client, "nthreads", lambda _: threads)
    _, _, said = on_a_cluster("quiet", answer=lambda job: {"died": "at once"})
    assert any("has no worker; waiting for one" in line for line in said) == (not threads)


def test_gpus_are_those_of_this_machine(batch, tmp_path):
    with pytest.raises(ValueError, match="--gpus is for this machine's GPUs"):
        DaskBatch(tmp_path, replace(SETTINGS, gpus=(0,)), batch.address)


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError, ConnectionResetError, wire.ProtocolError])
def test_a_grading_process_that_dies_is_replaced(monkeypatch, error):
    started = []

    class Dying:
        def __init__(self):
            started.append(self)

        def ask(self, job):
            if len(started) == 1:
                raise error("the other side is gone")
            return {"result": job["n"]}

        def close(self):
            self.closed = True
            raise OSError("it is gone")

    monkeypatch.setattr(task, "GradingProcess", Dying)
    monkeypatch.setattr(task, "_worker", lambda: "tcp://one")
    monkeypatch.setattr(task._of_thread, "process", None, raising=False)
    assert task.work({"n": 1}) == {"died": f"{error.__name__}: the other side is gone"} and started[0].closed
    assert task.work({"n": 2}) == task.work({"n": 2}) == {"result": 2, "worker": "tcp://one"} and len(started) == 2


def test_a_grading_process_is_started_and_ended(monkeypatch):
    """With the interpreter, in no folder of the worker's, and with nothing to read but its jobs."""
    ends = []

    def start(command, **more):
        started.append((command, more))
        (fd,) = more["pass_fds"]
        ends.append(socket.socket(fileno=os.dup(fd)))
        return types.SimpleNamespace(kill=lambda: ends.append("killed"), wait=lambda: ends.append("waited"))

    started: list[tuple] = []
    monkeypatch.setattr(task.subprocess, "Popen", start)
    monkeypatch.setattr(task, "python_path", lambda: "/a:/b")
    mine = task.GradingProcess()
    ((command, more),) = started
    assert command == [sys.executable, "-P", "-m", process.__name__, str(more["pass_fds"][0]), str(os.getpid())]
    assert (more["cwd"], more["stdin"]) == ("/", subprocess.DEVNULL)
    assert {name: more["env"][name] for name in ("TRITON_INTERPRET", "PYTHONPATH")} == {
        "TRITON_INTERPRET": "1", "PYTHONPATH": "/a:/b"} and more["env"]["PATH"] == os.environ["PATH"]
    worker = threading.Thread(target=grade_one, args=(ends[0],))
    worker.start()
    assert mine.ask({"n": 1}) == {"result": {"n": 1}, "of": "é"}
    worker.join()
    mine.close()
    assert ends[1:] == ["killed", "waited"] and ends[0].recv(1) == b""


def grade_one(sock: socket.socket) -> None:
    _, job = wire.receive(sock, 1000)
    wire.send(sock, {}, json.dumps({"result": json.loads(job), "of": "é"}).encode())


@pytest.mark.parametrize("parent", ["own", "another"])
def test_a_grading_process_answers_until_its_worker_is_gone(monkeypatch, parent):
    """And does not begin where that is gone already."""
    asked, told, (ours, theirs) = [], [], socket.socketpair()

    class Worker:
        def answer(self, job):
            asked.append(job)
            return {"is": job["n"]}

        def close(self):
            asked.append("closed")

    monkeypatch.setattr(process, "Worker", Worker)
    monkeypatch.setattr(process.ctypes, "CDLL", lambda _: types.SimpleNamespace(prctl=lambda *given: told.append(given)))
    monkeypatch.setattr(process.signal, "signal", lambda *given: told.append(given))
    pid = os.getppid() if parent == "own" else os.getpid()
    monkeypatch.setattr(sys, "argv", ["process.py", str(theirs.detach()), str(pid)])
    for n in (1, 2):
        wire.send(ours, {}, json.dumps({"n": n}).encode())
    ours.shutdown(socket.SHUT_WR)
    process.main()
    assert told == [(1, signal.SIGKILL), (signal.SIGINT, signal.SIG_IGN)][:2 if parent == "own" else 1]
    assert asked == ([{"n": 1}, {"n": 2}, "closed"] if parent == "own" else [])
    if parent == "own":
        assert [json.loads(wire.receive(ours, 100)[1]) for _ in asked[1:]] == [{"is": 1}, {"is": 2}]


def test_without_dask_a_sentence_says_what_to_install(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["class", str(folder), "--out", str(tmp_path / "g"), "--cluster", "tcp://s:8786"]) == 2
    assert "pip install distributed" in capsys.readouterr().err and not (tmp_path / "g").exists()


def test_on_a_dask_cluster_with_a_worker_killed():
    pytest.importorskip("distributed")
    import cluster_class

    assert cluster_class.main(["--students", "2", "--exercise", "programs_needed", "--no-compile"]) == 0


def test_each_worker_is_named_once_and_counted(batch, tmp_path):
    said = batch.say = Mock()
    for worker in ("one", "two", "one"):
        batch._note_worker({"worker": worker, "host": f"host of {worker}", "levels": ["a", "b"]})
    assert [line.args[0] for line in said.call_args_list] == [f"worker {one} on host of {one}: isolation a, b"
                                                              for one in ("one", "two")]
    assert json.loads((batch.grades / "workers.json").read_text()) == {
        one: {"host": f"host of {one}", "isolation": ["a", "b"], "graded": graded}
        for one, graded in (("one", 2), ("two", 1))}
