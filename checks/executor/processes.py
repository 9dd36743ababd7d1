"""A process that answers questions, and is started again after it has died."""

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from checks.executor import frames
from checks.executor.errors import ExecutorError, LimitExceeded

HERE = Path(__file__).resolve().parent
START = f"""
import importlib, sys, types
for name, folder in (("checks", {str(HERE.parent)!r}), ("checks.executor", {str(HERE)!r})):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
importlib.import_module("checks.executor." + sys.argv[1]).serve()
"""
"""The packages' own imports are left out: they would bring torch, and Triton's interpreter."""


class Server:
    """One question at a time; the process, which starts with the first, runs `serve()` of `module` in this package."""

    def __init__(self, module: str, environment: dict[str, str] | None = None):
        self._module, self._environment = module, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)

    def start(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            # A session of its own: Ctrl-C is meant for the caller.
            command = [sys.executable, "-P", "-c", START, self._module]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL, env=self._environment, start_new_session=True)
        return self._process

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()

    def ask(self, question: Any, timeout_s: float) -> Any:
        """The answer. Raises LimitExceeded when none comes in time, ExecutorError when the process dies over it."""
        with self._lock:
            process = self.start()
            assert process.stdin and process.stdout
            try:
                frames.write(process.stdin.fileno(), question)
                return frames.read(process.stdout.fileno(), time.monotonic() + timeout_s)
            except TimeoutError:
                self.stop()
                raise LimitExceeded(f"no answer within {timeout_s:g} s") from None
            except (OSError, EOFError, ValueError):
                self.stop()
                raise ExecutorError("the process ended without an answer") from None

    def _forget(self) -> None:
        """A fork is to have no way to the process of its parent."""
        self._process, self._lock = None, threading.Lock()

