"""What a dask worker runs. It grades nothing itself: each of its threads has a grading process, and hands jobs on to it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from checks.grader.sandbox import wire
from checks.paths import python_path

ANSWER_LIMIT = 256 << 20  # bytes
_of_thread = threading.local()


class GradingProcess:
    """The thread's end of `process.py`."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": python_path()}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "checks.grader.cluster.process", str(theirs.fileno()), str(os.getpid())],
            pass_fds=[theirs.fileno()], env=environment, cwd="/", stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to a job. Raises EOFError or OSError where the process has died."""
        wire.send(self._socket, {}, json.dumps(job).encode())
        return json.loads(wire.receive(self._socket, ANSWER_LIMIT)[1])

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _worker() -> str:
    """The address of the dask worker that this is."""
    from distributed import get_worker

    return str(get_worker().address)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The answer of this thread's grading process; {"died": …} where it has ended. It serves one job after another."""
    process = getattr(_of_thread, "process", None)
    if process is None:
        process = _of_thread.process = GradingProcess()
    try:
        return process.ask(job) | {"worker": _worker()}
    except (EOFError, OSError, wire.ProtocolError) as error:
        with contextlib.suppress(OSError):
            process.close()
        _of_thread.process = None
        return {"died": f"{type(error).__name__}: {error}"}
