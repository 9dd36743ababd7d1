"""How the ranks' processes are started, spoken to and ended, and what one does with its jobs: without such processes."""

import contextlib
import datetime
import io
import os
import queue
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from checks.judge.source import define
from checks.paths import python_path
from checks.ranks import processes, worker
from checks.ranks.meeting import NotTogether
from checks.ranks.portable import pack
from checks.ranks.processes import Each, Ranks, receive, send


class Played:
    """A process that has its ends of the pipes and does nothing."""

    def __init__(self, command, **options):
        self.command, self.options, self.pid, self.waited = command, options, 1000 + len(PLAYED), 0
        ends = [os.dup(end) for end in options["pass_fds"]]
        self.jobs = [os.fdopen(end, "rb") for end in ends[::2]]
        self.said = [os.fdopen(end, "wb") for end in ends[1::2]]
        PLAYED.append(self)

    def wait(self):
        self.waited += 1

    def end(self):
        for pipe in self.jobs + self.said:
            with contextlib.suppress(OSError):
                pipe.close()


PLAYED: list[Played] = []


@pytest.fixture
def played(monkeypatch):
    """Processes are played, and what is done to them is noted."""
    killed, at_exit = [], []
    PLAYED.clear()

    def kill(pid, sign):
        killed.append((pid, sign))
        PLAYED[pid - 1000].end()
        if pid == 1000:
            raise ProcessLookupError

    monkeypatch.setattr(processes.subprocess, "Popen", Played)
    monkeypatch.setattr(processes.os, "killpg", kill)
    monkeypatch.setattr(processes.atexit, "register", lambda call: at_exit.append(call))
    monkeypatch.setattr(processes.atexit, "unregister", lambda call: at_exit.__delitem__(slice(at_exit.count(call))))
    yield types.SimpleNamespace(killed=killed, at_exit=at_exit)
    for one in PLAYED:
        one.end()


def in_ranks(group):
    raise AssertionError("it runs in the ranks alone")


@pytest.mark.parametrize(("backend", "together"), [("gloo", ["0,1,2"]), ("nccl", ["0", "1", "2"])])
def test_ranks_are_started_spoken_to_and_ended(monkeypatch, played, backend, together):
    """With Gloo they are forks of one process, with NCCL each is its own."""
    monkeypatch.setenv("SOME_SETTING", "of ours")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(sys, "path", ["", "/of the/notebook"])
    ranks = Ranks(3, backend, timeout_s=7.5)
    folder, loopback = Path(ranks._folder.name), Path("/sys/class/net/lo").exists()
    for one, mine in zip(PLAYED, together, strict=True):
        fds = one.options["pass_fds"]
        assert one.command == [sys.executable, "-P", "-m", "checks.ranks.worker", "3", backend, str(folder / "store"), "7.5",
                               mine, ",".join(map(str, fds))] and len(fds) == 2 * len(mine.split(","))
        assert one.options["stdin"] is subprocess.DEVNULL and one.options["start_new_session"], "Ctrl-C is not meant for it"
        assert one.options["stdout"] is one.options["stderr"] and one.options["stdout"].closed
        assert one.options["stdout"].name == str(folder / f"errors {mine[0]}")
        env = one.options["env"]
        assert env["PYTHONPATH"].split(os.pathsep) == [*python_path().split(os.pathsep), "/of the/notebook"]
        assert (env["SOME_SETTING"], env["OMP_NUM_THREADS"], env["TORCH_NCCL_ASYNC_ERROR_HANDLING"]) == ("of ours", "1", "1")
        assert env.get("GLOO_SOCKET_IFNAME") == ("lo" if loopback else os.environ.get("GLOO_SOCKET_IFNAME"))
    jobs, said = ([pipe for one in PLAYED for pipe in getattr(one, name)] for name in ("jobs", "said"))
    assert ranks.alive and played.at_exit == [ranks.stop] and all(reader.daemon for reader in ranks._readers)
    for rank, pipe in enumerate(said):
        send(pipe, {"ready": 70 + rank})
    ranks.wait()
    for rank, pipe in enumerate(said):
        send(pipe, {"result": rank})
    assert ranks.pids == [70, 71, 72] and ranks.run(in_ranks, Each("xyz")) == [0, 1, 2]
    assert [receive(pipe)["arguments"] for pipe in jobs] == [["x"], ["y"], ["z"]]
    for pipe in (*said, *jobs):
        pipe.close()
    for _ in range(3):
        ranks._said.get(timeout=5)
    assert not ranks.alive and ranks._ended == {0, 1, 2}, "the pipes have met their end: ours of the others are closed"
    ours = list(ranks._jobs)
    for _ in range(2):
        ranks.stop()
    assert len(ours) == 3 and all(pipe.closed for pipe in ours)
    assert played.killed == [(1000 + at, signal.SIGKILL) for at in range(len(together))]
    assert not folder.exists() and not played.at_exit and all(one.waited == 1 for one in PLAYED)
    assert not any(reader.is_alive() for reader in ranks._readers)


def test_a_rank_whose_pipe_is_closed_is_spoken_to_without_harm(played):
    ranks = Ranks(2)
    ranks.pids = [70, 71]
    (one,) = PLAYED
    one.jobs[1].close()
    one.said[1].close()
    with pytest.raises(processes.RankFailed, match="rank 1 has ended, without an answer"):
        send(one.said[0], {"result": 3})
        ranks.run(in_ranks)
    assert played.killed == [(1000, signal.SIGKILL)]


class NoMoreJobs(BaseException):
    """The pipe has been read to its end."""


class Jobs(queue.Queue):
    def get(self):
        if self.empty():
            raise NoMoreJobs
        return super().get()


@pytest.fixture
def serve(monkeypatch):
    """What a rank says to the jobs that it is given, and how it came to its process group."""
    def serve(*jobs, backend="gloo", rank=1):
        done = []
        monkeypatch.setattr(worker.queue, "Queue", Jobs)
        monkeypatch.setattr(worker.threading, "Thread", lambda target, args, daemon: types.SimpleNamespace(
            start=lambda: [args[1].put(job) for job in jobs]))
        monkeypatch.setattr(worker.dist, "init_process_group", lambda *given, **named: done.append((given, named)))
        monkeypatch.setattr(worker.torch.cuda, "set_device", lambda device: done.append(device))
        monkeypatch.setattr(worker, "Group", lambda: "the group")
        monkeypatch.setattr(worker.WatchedGroup, "__init__", lambda self, say, hear: setattr(self, "exchanged", 0))
        (jobs_end, unused), (said, said_end) = os.pipe(), os.pipe()
        with contextlib.suppress(NoMoreJobs):
            worker.serve(rank, 3, backend, "/tmp/store", 7.5, [jobs_end, said_end])
        os.set_blocking(said, False)
        for end in (jobs_end, unused, said_end):
            with contextlib.suppress(OSError):
                os.close(end)
        with os.fdopen(said, "rb") as stream:
            return done, list(iter(lambda: receive(stream), None))
    return serve


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_a_rank_comes_to_its_group(serve, backend):
    done, said = serve(backend=backend)
    device = torch.device("cuda", 1) if backend == "nccl" else None
    assert done == [device] * (backend == "nccl") + [((backend,), {
        "init_method": "file:///tmp/store", "rank": 1, "world_size": 3, "timeout": datetime.timedelta(seconds=7.5),
        "device_id": device})]
    assert said == [{"ready": os.getpid()}]


def library_job(group, *given):
    if given == ("exit",):
        raise SystemExit("it would end the rank")
    if given == ("long",):
        raise ValueError("x" * 5000)
    return group, given


def test_what_a_rank_says_to_its_jobs(serve):
    names = {"__name__": "__main__"}
    mine = pack(define("def mine(x, group):\n    group.exchanged += 8\n    return [4, 5][x]\n", "mine", names))
    _, (_, *said) = serve(*({"run": run, "arguments": arguments} for run, arguments in (
        (library_job, [1, "b"]), (library_job, ["exit"]), (mine, [{"x": 1}]), (mine, [{"x": 0}]), (mine, [{"x": 2}]),
        (library_job, ["long"]), (library_job, []))))
    assert said == [{"result": ("the group", (1, "b"))}, {"error": {"type": "SystemExit", "text": "it would end the rank"}},
                    {"result": (5, 8)}, {"result": (4, 8)},
                    {"error": {"type": "IndexError", "text": "list index out of range\n  at: return [4, 5][x]"}},
                    {"error": {"type": "ValueError", "text": "x" * 2000}}, {"result": ("the group", ())}]


def test_ranks_that_cannot_meet_are_told_no_line(serve):
    mine = pack(define("def mine(x, group):\n    raise x\n", "mine", {"__name__": "__main__"}))
    _, (_, said) = serve({"run": mine, "arguments": [{"x": NotTogether("rank 0 waits")}]})
    assert said == {"error": {"type": "NotTogether", "text": "rank 0 waits"}}


@pytest.mark.parametrize("go", [True, False])
def test_a_rank_enters_a_collective_when_it_may(monkeypatch, go):
    monkeypatch.setattr(worker.Group, "__init__", lambda self: None)
    entered, said = [], []
    monkeypatch.setattr(worker.Group, "_meet", lambda self, *given: entered.append(given))
    group = worker.WatchedGroup(said.append, lambda: {"go": go, "why": None if go else "rank 0 waits"})
    tensor = torch.zeros(2, 3, dtype=torch.float16)
    given = (print, "sum", tensor, "a part")
    for times in (1, 2):
        if go:
            group._meet(*given)
        else:
            with pytest.raises(NotTogether, match="rank 0 waits"):
                group._meet(*given)
        assert group.exchanged == 12 * times * go and entered == [given] * times * go
    assert said == [{"enter": "the sum of (2, 3) float16"}] * 2


def test_a_rank_ends_where_its_pipe_does(monkeypatch):
    ended, jobs, stream = [], queue.Queue(), io.BytesIO()
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    for job in ("one", "two"):
        send(stream, job)
    stream.seek(0)
    worker.read(stream, jobs)
    assert [jobs.get(timeout=1), jobs.get(timeout=1)] == ["one", "two"] and ended == [0]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_forks_share_out_the_ranks_and_the_pipes(monkeypatch, number):
    """The first process is the first of its ranks, each fork another; each closes the pipes of the others."""
    forks, closed, served = iter([1, 1]) if number == 0 else iter([1] * (number - 1) + [0]), [], []
    monkeypatch.setattr(worker.os, "fork", lambda: next(forks))
    monkeypatch.setattr(worker.os, "close", closed.append)
    monkeypatch.setattr(worker.torch, "set_num_threads", lambda n: served.append(n))
    monkeypatch.setattr(worker, "serve", lambda *given: served.append(given))
    monkeypatch.setattr(worker.sys, "argv", ["worker", "4", "gloo", "/tmp/store", "7.5", "1,2,3", "11,12,21,22,31,32"])
    worker.main()
    mine = [[11, 12], [21, 22], [31, 32]][number]
    assert served == [1, (1 + number, 4, "gloo", "/tmp/store", 7.5, mine)]
    assert closed == [end for end in (11, 12, 21, 22, 31, 32) if end not in mine]
