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

import numpy
import torch
import triton

TIMEOUT_S = 120
CONSTANTS = {"INTERPRETED": True, "ON_GPU": False}
"""What the globals of these names, which tell where a kernel runs, are in the other process."""
_child: subprocess.Popen | None = None


def available() -> bool:
    """Whether this machine's Triton interprets reliably: before 3.7 its loops fail with NumPy 2.4 and later."""
    return _version(triton) >= (3, 7) or _version(numpy) < (2, 4)


def _version(module) -> tuple[int, ...]:
    return tuple(map(int, module.__version__.split(".")[:2]))


def ask(what: str, *arguments):
    """What `trace` or `judge` of this module gives for the arguments, found in the other process.

    Raises RuntimeError with what went wrong there, TimeoutError when no answer comes.
    """
    global _child
    if not available():
        raise RuntimeError(f"Triton {triton.__version__} interprets loops only with NumPy before 2.4, and this is "
                           f"{numpy.__version__}: install the versions in requirements.txt")
    if _child is None or _child.poll() is not None:
        # A session of its own: Ctrl-C and a notebook's "interrupt" are meant for the caller. And what a kernel prints
        # there it will print again here.
        _child = subprocess.Popen([sys.executable, "-c", "from checks.judge.interpreter_client import serve; serve()"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  start_new_session=True, env=os.environ | {"TRITON_INTERPRET": "1"})
        atexit.register(_child.kill)
    pickle.dump((what, arguments), _child.stdin)
    _child.stdin.flush()
    if not select.select([_child.stdout], [], [], TIMEOUT_S)[0]:
        _child.kill()
        raise TimeoutError(f"the interpreter did not answer within {TIMEOUT_S} s")
    try:
        worked, result = pickle.load(_child.stdout)
    except EOFError:
        _child.kill()
        _child.wait()  # pipes close a moment before a process is gone, and the next question must find it gone
        raise RuntimeError("the interpreter's process ended without an answer") from None
    if not worked:
        raise RuntimeError(result)
    return result


def trace(source: str, name: str, inputs: dict) -> list:
    """The launches of `name(**inputs)`, defined by `source`, without their kernels; of tensors, only shape and strides."""
    from checks.judge.source import define
    from checks.judge.tracing import trace

    launches = trace(define(source, name, {"__name__": name}), **inputs)
    for launch in launches:
        launch.kernel, launch.arguments = None, {name: _outline(value) for name, value in launch.arguments.items()}
    return launches


def _outline(value):
    if not isinstance(value, torch.Tensor):
        return None
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def judge(exercise_name: str, source: str, name: str, seed: int) -> dict:
    """The verdict on `name`, defined by `source`: its fields, and of its outcome what a picture needs."""
    from checks.exercises import EXERCISES
    from checks.judge.source import define
    from checks.judge.verdict import judge

    exercise = EXERCISES[exercise_name]
    verdict = judge(exercise, define(source, name, {"__name__": name}), seed)
    case = verdict.outcome and [case.name for case in exercise.cases].index(verdict.outcome.case.name)
    return {"status": verdict.status, "message": verdict.message, "mistake": verdict.mistake, "traffic": verdict.traffic,
            "compiled": verdict.compiled, "case": case, "wrong": verdict.outcome and verdict.outcome.wrong}


def serve() -> None:
    """Answer questions from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a kernel prints must not mix with the answers
    while True:
        try:
            what, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, {"trace": trace, "judge": judge}[what](*arguments)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()
