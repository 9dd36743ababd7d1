"""What the compiler makes of a kernel on real GPUs, found on a machine that has none."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from checks.executor import CompileError, specialize
from checks.executor.compile import plain_values
from checks.executor.source import describe
from checks.judge import kept_reports
from checks.judge.launches import Launch

TIMEOUT_S = 60
TARGETS = {80: "sm_80 (A100)", 90: "sm_90 (H100, H200)"}


@dataclass(frozen=True)
class Compiled:
    """One kernel on one GPU architecture; `error` is the compiler's last word where it refused."""

    registers: int | None = None  # per thread
    spills: int = 0  # bytes of registers that went to memory
    stack: int = 0  # bytes of memory per thread, spilled registers among them
    shared: int = 0  # bytes of shared memory per program
    tensor_cores: str | None = None  # "mma", "wgmma" or None
    multiplies: str | None = None  # the numbers that the tensor cores take, "f16", "tf32" or "s8"
    pending: int = 0  # products of Hopper's tensor cores that the loop leaves unfinished when it starts the next
    tma: bool = False  # whether Hopper's copy engine moves tiles
    overlap: bool = False  # whether it waits for the kernel before it (programmatic dependent launch)
    byte_moves: int = 0  # instructions that move single bytes in shared memory
    error: str | None = None


def start(jobs: list[dict[str, Any]], processes: int = 1, timeout_s: int = TIMEOUT_S) -> Callable[[], list[Compiled]]:
    """Start compiling `jobs` (checks/judge/compile_worker.py) in other processes, while this one goes on.

    Returns a function that waits for the report on each. It raises TimeoutError, or RuntimeError when a process fails.
    """
    texts = [json.dumps(job) for job in jobs]
    missing = [text for text in dict.fromkeys(texts) if not _known(text)]
    shares = [share for share in (missing[i::processes] for i in range(processes)) if share]
    requests = [_Request(share, timeout_s) for share in shares]

    def reports() -> list[Compiled]:
        while requests:
            answer = requests[-1].answer()
            requests.pop()
            for text, report in zip(shares.pop(), answer, strict=True):
                _cache[text] = Compiled(**report)
                kept_reports.keep(text, {**vars(_cache[text])})
        return [_cache[text] for text in texts]

    return reports


_cache: dict[str, Compiled] = {}


def _known(job: str) -> bool:
    """Whether the report on a job is in `_cache`, also from a file."""
    if job not in _cache and (kept := kept_reports.find(job)) is not None:
        _cache[job] = Compiled(**kept)
    return job in _cache


class _Server(NamedTuple):
    """The compiling process."""

    process: subprocess.Popen[bytes]
    socket: socket.socket  # takes requests
    printed: BinaryIO


_server: _Server | None = None


def warm_up() -> _Server:
    """Have the compiling process ready, unless it is: its start takes half a second, in which this one can go on."""
    global _server
    if _server and _server.process.poll() is None:
        return _server
    ours, theirs = socket.socketpair()
    printed = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
    with theirs:
        command = [sys.executable, "-P", str(Path(__file__).with_name("compile_worker.py"))]
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=printed, stderr=printed,
                                   start_new_session=True)  # Ctrl-C is not meant for it
    _server = _Server(process, ours, printed)
    return _server


def _forget_server() -> None:
    global _server
    if _server:
        _server.socket.close()
        _server = None


os.register_at_fork(after_in_child=_forget_server)  # the grader's children, for one, are to have no way out


class _Request:
    """Jobs sent to the compiling process."""

    def __init__(self, jobs: list[str], timeout_s: int):
        self.server = warm_up()
        self.timeout_s, self.printed = timeout_s, tempfile.TemporaryFile()  # noqa: SIM115  open until the answer
        self.socket, theirs = socket.socketpair()
        with theirs, contextlib.suppress(ConnectionError):  # of a process that has just ended: answer() will see it
            socket.send_fds(self.server.socket, [b"r"], [theirs.fileno(), self.printed.fileno()])
            theirs.close()
            self.socket.sendall(f'{{"timeout_s": {timeout_s + 1}, "jobs": [{", ".join(jobs)}]}}'.encode())
            self.socket.shutdown(socket.SHUT_WR)

    def answer(self) -> list[dict[str, Any]]:
        if not select.select([self.socket], [], [], self.timeout_s)[0]:
            raise TimeoutError(f"the compiler did not finish within {self.timeout_s} s.")
        with contextlib.suppress(ConnectionError, ValueError), self.socket.makefile() as answer:
            reports: list[dict[str, Any]] = json.load(answer)
            return reports
        said = os.pread(self.printed.fileno(), 10**6, 0) or os.pread(self.server.printed.fileno(), 10**6, 0)
        raise RuntimeError(f"the compiling process failed: {said.decode(errors='replace').strip()[-500:]}")


class Compilation:
    """Launches' kernels being compiled for each of TARGETS."""

    def __init__(self, launches: list[Launch]):
        self._launches = len(launches)
        jobs, self._errors = _jobs(launches)
        self._compiling, self._finish = list(jobs), start(list(jobs.values()), processes=2)

    def reports(self) -> list[dict[int, Compiled]]:
        """For each launch, by compute capability. Raises as `start` says."""
        found = self._errors | dict(zip(self._compiling, self._finish(), strict=True))
        return [{capability: found[index, capability] for capability in TARGETS} for index in range(self._launches)]


def one_of_each(kernels: Sequence[Any], launches: Sequence[Launch]) -> list[int]:
    """The number of one launch of each kernel, that of the kernel which moves the most bytes last. `kernels` are the
    launches' kernels, as whoever asks tells them apart."""
    moved: Counter[Any] = Counter()
    for kernel, launch in zip(kernels, launches, strict=False):
        moved[kernel] += launch.traffic().total()
    return [kernels.index(kernel) for kernel, _ in reversed(moved.most_common())]


def worst(reports: Sequence[dict[int, Compiled]]) -> dict[int, Compiled]:
    """Of the reports on the kernels of one call the first with an error, else the last, that of the main kernel."""
    return next((one for one in reports if any(compiled.error for compiled in one.values())), reports[-1])


def slower_numbers(mine: dict[int, Compiled], answer: dict[int, Compiled]) -> str | None:
    """What to say of a kernel, by compute capability, that does not multiply the answer's numbers on the tensor cores."""
    for capability, theirs in answer.items():
        found = mine[capability].multiplies
        if theirs.multiplies and not mine[capability].error and found != theirs.multiplies:
            what = (f"its tensor cores multiply {found} numbers, the answer's {theirs.multiplies}" if found else
                    f"it does not use the tensor cores, which multiply {theirs.multiplies} numbers for the answer")
            return (f"it is right, but compiled for {TARGETS[capability]} {what}: give `tl.dot` the blocks in the type that "
                    "they are loaded in.")
    return None


def warm_up_for(launches: list[Launch]) -> None:
    """Have the compiling process ready, unless the reports on these launches are known."""
    jobs, _ = _jobs(launches)
    if not all(_known(json.dumps(job)) for job in jobs.values()):
        warm_up()


def _jobs(launches: list[Launch]) -> tuple[dict[tuple[int, int], dict[str, Any]], dict[tuple[int, int], Compiled]]:
    """By the launch's number and the capability, what is to be compiled, and the report where that cannot be."""
    jobs, errors = {}, {}
    for index, launch in enumerate(launches):
        for capability in TARGETS:
            try:
                jobs[index, capability] = _job(launch, capability)
            except CompileError as error:
                errors[index, capability] = Compiled(error=str(error))
    return jobs, errors


def _job(launch: Launch, capability: int) -> dict[str, Any]:
    """What checks/judge/compile_worker.py is asked for a launch. Raises CompileError for what it cannot be given."""
    signature, constexprs = specialize(launch.kernel, launch.arguments)
    return {"description": describe(launch.kernel, placed=False), "signature": signature,
            "constexprs": plain_values(constexprs), "aligned": aligned(signature), "options": launch.options,
            "capability": capability}


def aligned(signature: dict[str, str]) -> list[str]:
    """The arguments that are taken to be multiples of 16: pointers and sizes, as for the shapes of real models."""
    return [name for name, type_ in signature.items() if type_.startswith(("*", "i32", "i64"))]
