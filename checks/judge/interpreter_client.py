"""A second process in which Triton interprets, for machines on whose GPU this one runs kernels.

There, too, a student's kernel is first tried where every access is guarded and counted: on a GPU an access out of bounds
gives wrong numbers, or takes the notebook's process with it.
"""

import atexit
import os
import pickle
import select
import subprocess
import sys
import types
from typing import Any

import numpy
import triton

from checks.paths import python_path

TIMEOUT_S = 120
CONSTANTS = {"INTERPRETED": True, "ON_GPU": False}
"""What the globals of these names, which tell where a kernel runs, are in the other process."""
SERVER = """
from checks.exercises import EXERCISES
from checks.judge.interpreter_server import serve
serve(EXERCISES)
"""
_child: subprocess.Popen[bytes] | None = None


def available() -> bool:
    """Whether this machine's Triton interprets reliably: before 3.7 its loops fail with NumPy 2.4 and later."""
    return _version(triton) >= (3, 7) or _version(numpy) < (2, 4)


def _version(module: types.ModuleType) -> tuple[int, ...]:
    return tuple(map(int, module.__version__.split(".")[:2]))


def ask(what: str, *arguments: Any) -> Any:
    """What `trace` or `judge` of checks/judge/interpreter_server.py gives for the arguments, found in the other process.

    Raises RuntimeError with what went wrong there, TimeoutError when no answer comes.
    """
    global _child
    if not available():
        raise RuntimeError(f"Triton {triton.__version__} interprets loops only with NumPy before 2.4, and this is "
                           f"{numpy.__version__}: install the versions in requirements.txt")
    if _child is None or _child.poll() is not None:
        # A session of its own: Ctrl-C and a notebook's "interrupt" are meant for the caller. And what a kernel prints
        # there it will print again here.
        _child = subprocess.Popen([sys.executable, "-P", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, start_new_session=True,
                                  env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": python_path()})
        atexit.register(_child.kill)
    questions, answers = _child.stdin, _child.stdout
    assert questions and answers  # they are pipes
    pickle.dump((what, arguments), questions)
    questions.flush()
    if not select.select([answers], [], [], TIMEOUT_S)[0]:
        _child.kill()
        raise TimeoutError(f"the interpreter did not answer within {TIMEOUT_S} s")
    try:
        worked, result = pickle.load(answers)
    except EOFError:
        _child.kill()
        _child.wait()  # pipes close a moment before a process is gone, and the next question must find it gone
        raise RuntimeError("the interpreter's process ended without an answer") from None
    if not worked:
        raise RuntimeError(result)
    return result
