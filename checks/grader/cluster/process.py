"""The process in which a worker of a cluster grades: it reads a job, a submission with its settings, and writes the result.

    python -m checks.grader.cluster.process SOCKET PARENT

It ends with its worker. Nothing of a submission runs here: it goes into the sandbox's children, as on one machine.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from checks.grader.grader import Grader
from checks.grader.sandbox import wire
from checks.grader.sandbox.client import Fault
from checks.grader.selftest import Misjudged, check_canaries
from checks.grader.settings import settings_from_json
from checks.grader.units import grade_unit, unit_from_json

JOB_LIMIT = 64 << 20  # bytes


class Worker:
    """Keeps a grader as long as the settings stay the same."""

    def __init__(self):
        self._grader: Grader | None = None
        self._settings = ""
        self._folder = tempfile.TemporaryDirectory(prefix="grader-course-")

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """{"result", "levels", "host"}, or {"stop": why this worker cannot grade, "misjudged": whether it judges
        wrongly}."""
        try:
            grader = self._grader_for(job["settings"])
            unit = unit_from_json(job["unit"])
            if grader.key(unit.submission) != job["key"]:
                return {"stop": "its workshop, Python or libraries have other versions than those of the machine that "
                                "reads the submissions", "misjudged": False}
            return {"result": grade_unit(grader, unit), "levels": grader.server.levels, "host": socket.gethostname()}
        except Misjudged as error:
            return {"stop": str(error), "misjudged": True}
        except (Fault, OSError) as error:
            return {"stop": str(error), "misjudged": False}

    def _grader_for(self, settings: str) -> Grader:
        if self._grader is None or self._settings != settings:
            self.close()
            grader = Grader(settings_from_json(settings, Path(self._folder.name)))
            grader.start()
            check_canaries(grader)
            self._grader, self._settings = grader, settings
        return self._grader

    def close(self) -> None:
        if self._grader is not None:
            self._grader.stop_servers()
        self._grader = None


def main() -> None:
    sock, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no grading process outlives its worker
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker()
    while True:
        try:
            _, job = wire.receive(sock, JOB_LIMIT)
        except EOFError:
            worker.close()
            return
        wire.send(sock, {}, json.dumps(worker.answer(json.loads(job))).encode())


if __name__ == "__main__":
    main()
