"""`grade class` in a process of its own, forked from one that has imported torch, and with the sandbox of the tests."""

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from notebook_kernels import FORKSERVER


class Command(FORKSERVER.Process):
    """The command's process. `stderr` is where what it says there goes."""

    def __init__(self, argv: list[str], server, stderr: Path):
        super().__init__()
        self.argv, self.control, self.levels, self.scratch = argv, server.control, server.levels, server.scratch
        self.stderr = str(stderr)

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the suite itself may be deaf to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(self.stderr, os.O_WRONLY | os.O_CREAT), 2)
        import checks  # noqa: F401  first: it decides whether Triton interprets
        from checks.grader import command, grader
        from checks.grader.sandbox.client import ForkServer

        server = ForkServer.__new__(ForkServer)
        server.kind, server.control, server.levels, server.scratch = "run", self.control, self.levels, self.scratch
        server.close = lambda: None

        def start(_, timeout_s: float) -> ForkServer:
            server.timeout_s = timeout_s
            return server

        grader.ForkServer = start
        forked = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda _: forked
        status = command.main(self.argv)
        threading._shutdown()  # as Python ends: a process of multiprocessing's would wait for the command's worker first
        sys.exit(status)
