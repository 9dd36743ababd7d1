"""In a child: plays recordings back on real numbers, on the CPU or a GPU. No line of a student's runs here, only what they
made: operators that are named in the recording, and kernels as TTIR."""

import functools
import gc
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import CompileError, LimitExceeded, Unsupported
from checks.grader.sandbox import wire
from checks.grader.sandbox.answers import answer_for, decode_inputs, describe_error
from checks.grader.sandbox.values import decode
from checks.host.playback import play
from checks.host.steps import LaunchStep, Recording
from checks.host.transport import unpack
from checks.judge.attempt import Attempt, changed_inputs, deadline
from checks.judge.execution import FailedAssertion, Raced, run_compiled
from checks.judge.launches import Launch, OutOfBounds
from checks.judge.made import made_by_kernels
from checks.judge.memory import Arena, poison_, strided_copy
from kernels.runtime import INTERPRETED, device

INPUT_LIMIT = 1 << 30
MEMORY_FRACTION = 0.4  # of a GPU's memory, for one child


def warm_up() -> None:
    """In the fork server, before any child. CUDA starts in each child: no fork survives it."""
    torch.set_num_threads(1)


def serve(sock) -> None:
    """Answer each recording until the grader hangs up."""
    wire.receive(sock, 0)
    if not INTERPRETED:
        _prepare_cuda()
    wire.send(sock, {"nonce": None, "ready": True})
    while True:
        asked, data = wire.receive(sock, INPUT_LIMIT)
        if asked.get("afresh"):
            gc.collect()  # what is left of the last exercise's tensors, some of which reserve gigabytes
        answer: dict[str, Any]
        try:
            answer, payload = _times(asked, data) if "time" in asked else answer_for(_played(asked, data), asked["maps"])
        except Unsupported as error:
            answer, payload = {"unsupported": str(error)[:300]}, b""
        except BaseException as error:
            answer, payload = {"outputs": [], "error": describe_error(error, None)}, b""
        answer["nonce"] = asked["nonce"]
        wire.send(sock, answer, payload)


def _prepare_cuda() -> None:
    os.environ["TRITON_CACHE_DIR"] = str(Path.cwd() / "triton")
    # What NVML opened in the fork server is closed in this one; here CUDA itself may be asked.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    torch.cuda.device_count = lambda: 1  # torch would ask NVML
    torch.cuda.set_per_process_memory_fraction(MEMORY_FRACTION)


def _sent(asked: dict, data: bytes) -> tuple[Recording, dict[str, Any]]:
    split = asked["input_bytes"]
    return (unpack(asked["recording"], decode(asked["constants"], data[split:], strided=True)),
            decode_inputs(asked["inputs"], data[:split]))


def _played(asked: dict, data: bytes) -> Attempt:
    recording, inputs = _sent(asked, data)
    arena, texts = Arena(device()), iter(asked["texts"])
    tried = Attempt({name: value if not isinstance(value, torch.Tensor) else
                     strided_copy(value) if INTERPRETED else arena.place(value, name) for name, value in inputs.items()})

    def run(step: LaunchStep, arguments: dict[str, Any]) -> None:
        tried.launches.append(_launch(next(texts), step, arguments))

    with deadline(asked["timeout_s"]):
        try:
            tried.outputs = play(recording, tried.given, run, poison_, device())
            if not INTERPRETED:
                torch.cuda.synchronize()
        except (OutOfBounds, Raced, FailedAssertion, CompileError, LimitExceeded, MemoryError, TimeoutError) as error:
            tried.error = error.with_traceback(None)  # whose frames hold the tensors, and those the next case's memory
            error.__context__ = None
            return tried
        if INTERPRETED:
            made = made_by_kernels(recording, inputs, tried.launches)
            tried.made = made and tuple(made)  # within the time
    tried.broken, tried.changed = arena.broken_bands(), changed_inputs(inputs, tried.given)
    return tried


def _times(asked: dict, data: bytes) -> tuple[dict, bytes]:
    """Raw microseconds of the recordings by name, in turns, on this GPU."""
    from kernels.timing import CudaGPU, time_us

    def side(question: dict) -> Callable[[], Any]:
        recording, inputs = _sent(question, data)
        given = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}

        def call() -> Any:
            texts = iter(question["texts"])
            return play(recording, given, lambda step, arguments: run(next(texts), step, arguments), where=device())
        return call

    def run(said: dict[str, str], step: LaunchStep, arguments: dict[str, Any]) -> None:
        _launch(said, step, arguments)

    sides = {name: side(question) for name, question in asked["time"].items()}
    return {"times": time_us(sides, CudaGPU(), repeats=30, warmup=3)}, b""


def _launch(said: dict[str, str], step: LaunchStep, arguments: dict[str, Any]) -> Launch:
    if "error" in said:
        raise CompileError(said["error"])
    if INTERPRETED:
        return run_compiled(said["text"], step, arguments)
    given = [value for name, value in arguments.items() if name not in step.constexprs]
    if any(isinstance(value, TensorDescriptor) for value in given):
        raise Unsupported("a tensor descriptor", "made by host code")
    _compiled(said["text"], tuple(sorted(step.options.items())))[step.grid](*given)
    return Launch(step.name, arguments, list(step.constexprs), step.options)


@functools.cache
def _compiled(text: str, options: tuple[tuple[str, int], ...]) -> Any:
    """The kernel on this GPU."""
    path = Path.cwd() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.ttir"
    path.write_text(text)
    return triton.compile(str(path), options=dict(options))
