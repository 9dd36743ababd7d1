"""The second process of checks/judge/interpreter_client.py, in which Triton interprets: it answers until nobody asks."""

import os
import pickle
import sys
from typing import Any

import torch

from checks.judge import tracing, verdict
from checks.judge.exercise import Exercise
from checks.judge.launches import Launch
from checks.judge.source import define


def serve(exercises: dict[str, Exercise]) -> None:
    """Answer questions about `exercises`, by name, from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a kernel prints must not mix with the answers
    while True:
        try:
            what, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            answer = True, trace(*arguments) if what == "trace" else judge(exercises, *arguments)
        except Exception as error:
            answer = False, f"{type(error).__name__}: {error}"
        pickle.dump(answer, answers)
        answers.flush()


def trace(source: str, name: str, inputs: dict[str, Any]) -> list[Launch]:
    """The launches of `name(**inputs)`, defined by `source`, without their kernels; of tensors, only shape and strides."""
    launches = tracing.trace(define(source, name, {"__name__": name}), **inputs)
    for launch in launches:
        launch.kernel, launch.arguments = None, {name: _outline(value) for name, value in launch.arguments.items()}
    return launches


def _outline(value: Any) -> torch.Tensor | None:
    if not isinstance(value, torch.Tensor):
        return None
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def judge(exercises: dict[str, Exercise], exercise_name: str, source: str, name: str, seed: int) -> dict[str, Any]:
    """The verdict on `name`, defined by `source`: its fields, and of its outcome what a picture needs."""
    exercise = exercises[exercise_name]
    found = verdict.judge(exercise, define(source, name, {"__name__": name}), seed)
    case = found.outcome and [case.name for case in exercise.cases].index(found.outcome.case.name)
    return {"status": found.status, "message": found.message, "mistake": found.mistake, "traffic": found.traffic,
            "compiled": found.compiled, "case": case, "wrong": found.outcome and found.outcome.wrong}
