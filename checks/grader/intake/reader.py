"""The grader's end of `reading.py`: one process for as long as the grader runs, started anew where a submission ended it."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from checks.grader.intake.reading import MEMORY_BYTES, SECONDS
from checks.grader.sandbox import wire
from checks.paths import ROOT

ANSWER_LIMIT = 64 << 20  # bytes
START_S = 60  # on a loaded machine


class CannotBeRead(Exception):
    """A submission took more time or memory than there is for reading one; the message says which."""


class Reader:
    """Reads one submission after another."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS):
        self.memory_bytes, self.seconds = memory_bytes, seconds
        self._process: subprocess.Popen | None = None
        self._socket: socket.socket | None = None

    def read(self, paths: list[Path]) -> dict:
        """What `reading.read` says of these files and folders. Raises CannotBeRead, and OSError where no process starts."""
        asked = {"paths": [os.fsencode(path.absolute()).hex() for path in paths]}
        for _ in range(2):  # a process may have ended for another reason
            sock = self._started()
            try:
                wire.send(sock, asked)
                answer = json.loads(wire.receive(sock, ANSWER_LIMIT, time.monotonic() + self.seconds + 10)[1])
            except (OSError, EOFError, TimeoutError, wire.ProtocolError, ValueError):
                self.close()
                continue
            if "failed" in answer:
                self.close()  # with all its memory
                break
            return answer
        raise CannotBeRead(f"reading it takes more than {self.seconds:g} s or {self.memory_bytes >> 20} MB of memory")

    def _started(self) -> socket.socket:
        if self._socket is None:
            ours, theirs = socket.socketpair()
            script = Path(__file__).with_name("reading.py")
            limits = [str(self.memory_bytes), str(self.seconds)]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", script, str(ROOT), str(theirs.fileno()), *limits],
                pass_fds=[theirs.fileno()], env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
            theirs.close()
            self._socket = ours
            try:
                wire.receive(ours, 0, time.monotonic() + START_S)
            except (EOFError, TimeoutError, wire.ProtocolError) as error:
                self.close()
                raise OSError(f"the process that reads submissions did not start: {error}") from None
        return self._socket

    def close(self) -> None:
        """End the process; the next submission starts another."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._socket = None


READER = Reader()
