"""The grader's end of the sandbox: fork servers, and the child that each job gets.

Everything that comes out of a child is bytes or JSON of limited size, read before a deadline, and never unpickled or run.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from checks.grader.sandbox import wire
from checks.paths import ROOT

FULL = ("namespaces", "files", "seccomp", "limits")
"""The levels that `--require-isolation` asks for."""
GIGABYTE = 2**30
START_S = 180  # for the imports of a fork server on a loaded machine
NOT_IN_TIME = "it did not finish in time. Does a loop never end?"
OUTPUT_LIMIT = 64 << 20  # bytes of results and maps in one answer


class Fault(Exception):
    """The grader or the machine failed, not the student."""


class ChildExited(Exception):
    """A child ended, was ended, or sent what is no answer, before it had answered; `reason` says it for the student."""

    def __init__(self, reason: str, kind: str = "crashed"):
        super().__init__(reason)
        self.reason, self.kind = reason, kind  # "crashed", "timeout" or "out of memory"


PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_HOME")
"""All that a child sees of the instructor's environment, which may hold keys and passwords."""
HUGE_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For memory in pages of 2 MB: a fork copies a table of all pages, and of small ones that is most of what a child costs."""


def environment(kind: str, scratch: str) -> dict[str, str]:
    """The variables of a fork server and its children."""
    variables = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    variables |= {"PYTHONHASHSEED": "0", "TRITON_CACHE_DIR": scratch, "TMPDIR": scratch} | HUGE_PAGES
    return variables | ({"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if kind == "run" else {})


class ForkServer:
    """A process that has torch and Triton imported and forks a child for each job: of kind "run" for
    students' cells and what they recorded, "gpu" for the latter on a GPU, or "compile"."""

    def __init__(self, kind: str, timeout_s: float, variables: dict[str, str] | None = None):
        """`timeout_s` is how long each child may take; `variables` are added to its environment."""
        self.kind, self.timeout_s, self.scratch = kind, timeout_s, tempfile.mkdtemp(prefix="grader-")
        ours, theirs = socket.socketpair()
        script = Path(__file__).with_name("forkserver.py")
        self.log = Path(self.scratch, "log").open("w+")  # noqa: SIM115  open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", script, kind, str(ROOT), str(theirs.fileno())], pass_fds=[theirs.fileno()],
            env=environment(kind, self.scratch) | (variables or {}), cwd=self.scratch,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        theirs.close()
        self.control = ours
        try:
            self.levels = wire.receive(ours, 0, time.monotonic() + START_S)[0]["levels"]
        except (EOFError, TimeoutError, wire.ProtocolError):
            said = self.said()
            self.close()
            raise Fault(f"the fork server did not start: {said}") from None

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-500:].strip()

    def child(self, job: dict, data_bytes: int = 3 * GIGABYTE, exercises: int = 1,
              serves: str | None = None) -> "Child":
        """A new child at work on `job`, for as many exercises. Raises Fault when none can be had.

        Where the kind leaves a choice, `serves` is "child" or "play_child", the module in this folder.
        """
        scratch = tempfile.mkdtemp(dir=self.scratch)
        ours, theirs = socket.socketpair()
        status, their_status = socket.socketpair()
        order = {"levels": self.levels, "timeout_s": self.timeout_s * exercises, "data_bytes": data_bytes,
                 "memory_bytes": (16 if self.kind == "gpu" else 2) * GIGABYTE,
                 "file_bytes": 64 << 20, "scratch": scratch, "serves": serves}
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], [theirs.fileno(), their_status.fileno()])
        except OSError as error:
            raise Fault(f"the fork server is gone: {error}; it said: {self.said()}") from None
        finally:
            theirs.close()
            their_status.close()
        return Child(self, ours, status, scratch, job)

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Child:
    """One child; use it in a `with` block, which ends it."""

    def __init__(self, server: ForkServer, sock: socket.socket, status: socket.socket, scratch: str, job: dict):
        self.kind, self.sock, self.status, self.scratch = server.kind, sock, status, scratch
        self.apart = "files" in server.levels  # it has a scratch folder of its own, in memory
        self.job = job
        self.deadline = time.monotonic() + server.timeout_s

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()
        if not self.apart:  # it may be writing into its scratch folder
            self.finish()
        self.status.close()  # for its supervisor the word to end it, which nobody waits for
        shutil.rmtree(self.scratch, ignore_errors=True)

    def finish(self) -> dict:
        """End the child and say how it ended, as its supervisor has it; empty when that is gone too."""
        with contextlib.suppress(OSError):
            self.status.send(b"x")
        try:
            return wire.receive(self.status, 0, time.monotonic() + 20)[0]
        except (EOFError, TimeoutError, wire.ProtocolError, OSError):
            return {}

    def begin(self) -> dict:
        """Hand over the job; the child's first message, or all that it has to say. Raises ChildExited, Fault."""
        answer, _ = self._exchange(self.job, b"", 0, self.deadline)
        if "fault" in answer:
            raise Fault(f"the child could not be sandboxed: {answer['fault']}")
        return answer

    def ask(self, question: dict, payload: bytes, timeout_s: float) -> tuple[dict, bytes]:
        """The answer to one case. Raises ChildExited, Fault."""
        nonce = secrets.token_hex(8)
        return self._exchange(question | {"nonce": nonce, "timeout_s": timeout_s}, payload, OUTPUT_LIMIT,
                              min(self.deadline, time.monotonic() + timeout_s + 5))

    def _exchange(self, question: dict, payload: bytes, limit: int, deadline: float) -> tuple[dict, bytes]:
        try:
            self.sock.settimeout(max(0.1, deadline - time.monotonic()))
            wire.send(self.sock, question, payload)
            answer, raw = wire.receive(self.sock, limit, deadline)
        except wire.ProtocolError as error:
            raise ChildExited(f"what came back is no result ({error})") from None
        except TimeoutError:
            raise ChildExited(NOT_IN_TIME, "timeout") from None
        except (EOFError, OSError):
            raise self._why() from None
        if answer.get("nonce") != question.get("nonce"):
            raise ChildExited("what came back answers another question")
        return answer, raw

    def _why(self) -> Exception:
        told = self.finish()
        if not told:
            return Fault("a child and its supervisor are both gone")
        if told["reason"] == "memory" or told["signal"] == 9 and told["reason"] == "ended":
            return ChildExited("it used too much memory.", "out of memory")
        if told["reason"] == "time" or told["signal"] == 24:
            return ChildExited(NOT_IN_TIME, "timeout")
        if told["signal"]:
            return ChildExited(f"its process died (signal {told['signal']}): memory outside the tensors was touched, or the "
                         "process ended itself.")
        if told["code"] == 91 and self.kind == "compile":
            return Fault("the compiling child broke down")
        if told["code"] == 91:
            return ChildExited("its process broke down while the results were read.")
        return ChildExited(f"its process ended itself with code {told['code']} before the result was there.")
