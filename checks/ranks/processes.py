"""Ranks as processes that are kept: each runs the functions that it is sent, in a process group with the others.

They meet at a file, so no port is opened for that, and talk through Gloo on the loopback interface, or through NCCL. With
Gloo one process imports what all need, and the other ranks are its forks; a fork could not use CUDA. A rank ends when
whoever started it does, for then the pipe that it reads is closed.
"""

import atexit
import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from checks.paths import python_path
from checks.ranks.meeting import mismatch

START_S = 120  # for the imports on a loaded machine
ANSWER_S = 60
AFTER_LOSS_S = 3  # in which the others may say what they wait for, once a rank has ended
AFTER_ERROR_S = 10  # which a rank has to answer once another has failed


class RankFailed(RuntimeError):
    """A rank raised, ended or hung; the message says which one, and what the others waited for.

    `errors`: of each rank that raised, the name of the error's type and its text.
    """

    def __init__(self, message: str, errors: dict[int, tuple[str, str]] | None = None):
        super().__init__(message)
        self.errors = errors or {}


class RankHung(RankFailed):
    """A rank did not answer in time."""


class Ranks:
    """So many processes, rank 0 to size - 1. Starting takes about two seconds, and is awaited at the first `run`.

    `timeout_s` is how long a rank waits for another in one collective.
    """

    def __init__(self, size: int = 2, backend: str = "gloo", timeout_s: float = 20):
        self.size, self.backend = size, backend
        self._folder = tempfile.TemporaryDirectory(prefix="ranks-")
        self._said: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._jobs: list[Any] = []
        self._ended: set[int] = set()
        self._readers: list[threading.Thread] = []
        self.pids: list[int] = []
        together = [range(size)] if backend == "gloo" else [[rank] for rank in range(size)]
        self._processes = [self._start(ranks, timeout_s) for ranks in together]
        atexit.register(self.stop)

    def _start(self, ranks: Sequence[int], timeout_s: float) -> subprocess.Popen:
        """A process that becomes these ranks."""
        theirs = []
        for rank in ranks:
            (job_end, jobs), (said, said_end) = os.pipe(), os.pipe()
            theirs += [job_end, said_end]
            self._jobs.append(os.fdopen(jobs, "wb"))
            self._readers.append(threading.Thread(target=self._read, args=(rank, os.fdopen(said, "rb")), daemon=True))
            self._readers[-1].start()
        store = str(Path(self._folder.name) / "store")
        command = [sys.executable, "-P", "-m", "checks.ranks.worker", str(self.size), self.backend, store, str(timeout_s),
                   ",".join(map(str, ranks)), ",".join(map(str, theirs))]
        errors = (Path(self._folder.name) / f"errors {ranks[0]}").open("wb")
        variables = {"PYTHONPATH": os.pathsep.join([python_path(), *filter(None, sys.path)]),
                     "OMP_NUM_THREADS": "1", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
        if Path("/sys/class/net/lo").exists():
            variables["GLOO_SOCKET_IFNAME"] = "lo"  # a machine's own name may lead nowhere
        with errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=theirs,
                                       env={**os.environ, **variables}, start_new_session=True)
        for end in theirs:
            os.close(end)
        return process

    def _read(self, rank: int, stream: Any) -> None:
        with stream:
            while (message := receive(stream)) is not None:
                self._said.put((rank, message))
        self._ended.add(rank)
        self._said.put((rank, {"ended": True}))

    @property
    def alive(self) -> bool:
        """Whether all of them are there, as far as is known."""
        return bool(self._processes) and not self._ended

    def wait(self) -> None:
        """Wait until all have started; `pids` are then their numbers. Raises RankFailed where one does not."""
        if not self.pids:
            ready = self._collect(START_S, "its imports")
            self.pids = [ready[rank]["ready"] for rank in range(self.size)]

    def run(self, function: Callable[..., Any] | bytes, *arguments: Any, timeout_s: float = ANSWER_S) -> list[Any]:
        """What `function(group, *arguments)` gives in each rank, `group` a `kernels.exchange.Group` of them all.

        The function is found by its name in its module. Bytes that `checks.ranks.portable.pack` gave are a function of a
        notebook: it is called with the first argument's names and values and `group`, and each rank gives what it returned
        and the bytes that it exchanged. Of an argument that is `Each`, every rank gets its own value.

        Raises RankFailed where a rank raises, ends, or takes longer than `timeout_s`; after the last two all are stopped.
        """
        self.wait()
        for rank, jobs in enumerate(self._jobs):
            mine = [argument[rank] if isinstance(argument, Each) else argument for argument in arguments]
            with contextlib.suppress(BrokenPipeError):
                send(jobs, {"run": function, "arguments": mine})
        name = getattr(function, "__name__", "the function")
        answers = self._collect(timeout_s, name)
        failed = {rank: answer["error"] for rank, answer in answers.items() if "error" in answer}
        if failed:
            if any(error["type"] == "RankLost" for error in failed.values()):  # then the process group is of no more use
                self.stop()
            said = "; ".join(f"rank {rank}: {error['type']}: {error['text']}" for rank, error in failed.items())
            raise RankFailed(said, {rank: (error["type"], error["text"]) for rank, error in failed.items()})
        return [answers[rank]["result"] for rank in range(self.size)]

    def _collect(self, timeout_s: float, what: str) -> dict[int, dict]:
        """An answer of each rank. Meanwhile a rank enters a collective when all have come to the same one."""
        answers: dict[int, dict] = {}
        entered: dict[int, str] = {}
        deadline = time.monotonic() + timeout_s
        while len(answers) < self.size:
            try:
                rank, said = self._said.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                self._late(answers, entered, what, timeout_s)
            if "ended" in said:
                self._lost(rank, answers, entered)
            if "enter" in said:
                entered[rank] = said["enter"]
            else:
                answers[rank] = said
                if "error" in said:  # what the others wait for will not come
                    deadline = min(deadline, time.monotonic() + AFTER_ERROR_S)
            self._let_in(entered, answers)
        return answers

    def _late(self, answers: dict[int, dict], entered: dict[int, str], what: str, timeout_s: float) -> None:
        """Ranks did not answer in time: all are stopped, and the error says what each of them did."""
        said = []
        for rank in range(self.size):
            if rank not in answers:
                place = f"waits in {entered[rank]}" if rank in entered else f"is in {what}"
                said.append(f"rank {rank} {place}, and no answer came within {timeout_s:.0f} s")
            elif "error" in answers[rank]:
                said.insert(0, f"rank {rank}: {answers[rank]['error']['type']}: {answers[rank]['error']['text']}")
        self.stop()
        kind = RankFailed if any("error" in answer for answer in answers.values()) else RankHung
        raise kind("; ".join(said) + ". The ranks were stopped")

    def _let_in(self, entered: dict[int, str], answers: dict[int, dict]) -> None:
        """Where every rank has entered a collective, or can no more: they go on, or hear why not."""
        if not entered or len(entered) + len(answers) < self.size:
            return
        wrong = mismatch(entered, self.size)
        for rank in entered:
            with contextlib.suppress(BrokenPipeError):
                send(self._jobs[rank], {"go": wrong is None, "why": wrong})
        entered.clear()

    def _lost(self, rank: int, answers: dict[int, dict], entered: dict[int, str]) -> None:
        """A rank has ended: the others are given a moment to say what they wait for, and are stopped."""
        end = time.monotonic() + AFTER_LOSS_S
        while time.monotonic() < end and len(answers) + len(entered) < self.size - 1:
            with contextlib.suppress(queue.Empty):
                other, said = self._said.get(timeout=0.1)
                if "enter" in said:
                    entered[other] = said["enter"]
                elif "ended" not in said:
                    answers[other] = said
        others = [f"rank {other} waits in {place}" for other, place in entered.items() if other != rank]
        others += [f"rank {other}: {said['error']['text']}" for other, said in answers.items() if "error" in said]
        wrote = self._errors()
        self.stop()
        raise RankFailed(". ".join([f"rank {rank} has ended, without an answer", *others,
                                    *([f"The last line of its errors: {wrote}"] if wrote else [])]))

    def _errors(self) -> str:
        """The last line that the ranks wrote to standard error."""
        lines: list[str] = []
        for path in sorted(Path(self._folder.name).glob("errors *")):
            lines += path.read_text(errors="replace").strip().splitlines()[-1:]
        return lines[-1][:400] if lines else ""

    def stop(self) -> None:
        """End all of them, at once. They may have been stopped before."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for jobs in self._jobs:
            with contextlib.suppress(BrokenPipeError):
                jobs.close()
        for reader in self._readers:
            reader.join(1)  # it has met the end of its pipe
        self._processes, self._jobs = [], []
        self._folder.cleanup()
        atexit.unregister(self.stop)


class Each(list):
    """An argument of which every rank gets its own: the values in the order of the ranks."""


def send(stream: Any, message: Any) -> None:
    """A message with its length before it."""
    data = pickle.dumps(message)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def receive(stream: Any) -> Any:
    """The next message, or None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    return pickle.loads(stream.read(struct.unpack("<Q", head)[0]))
