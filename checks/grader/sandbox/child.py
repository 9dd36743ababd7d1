"""In a child: defines the student's function from its text and calls it case by case, bytes in and bytes out.

Nothing here is trusted by the grader once a student's Python has run in the same process; what is reported beside the bytes
of the results is evidence (see checks/grader/intake/language.py for when it is more).
"""

import functools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import GridExecutor

from checks.grader.sandbox import wire
from checks.grader.sandbox.values import decode, encode
from checks.grader.sandbox.virtual import define, install
from checks.judge.attempt import attempt, loaded, stored, student_line
from checks.judge.compiler import signature
from checks.judge.launches import OutOfBounds
from kernels.runtime import INTERPRETED

INPUT_LIMIT = 1 << 30
MEMORY_FRACTION = 0.4  # of a GPU's memory, for one child


class _Case:
    """The case under way: whether a kernel is being launched, and what happens before or instead of a launch."""

    launching = False
    before_launch: Callable[[], None] | None = None
    without_launches = False



def warm_up() -> None:
    """In the fork server, before any child: the first launch of all costs a second, and every child shares it."""
    torch.set_num_threads(1)
    if not INTERPRETED:
        return  # CUDA must start in each child: no fork survives it
    namespace: dict[str, Any] = {"__name__": "first"}
    define("import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef first(x_ptr, N, BLOCK: tl.constexpr):\n"
           "    offs = tl.arange(0, BLOCK)\n    mask = offs < N\n    x = tl.load(x_ptr + offs, mask=mask, other=0.0)\n"
           "    tl.store(x_ptr + offs, x + tl.sum(x, axis=0), mask=mask)\n", "first", namespace)
    _follow_launches()
    _one_config_is_enough()

    def first(x):
        with _Operators():
            namespace["first"][1,](x, 3, BLOCK=4)
            return torch.empty_like(x).mul_(2) + x.double().amax()

    encode(attempt(first, {"x": torch.ones(3)}, 60).outputs)


def _follow_launches() -> None:
    """Launches can be told apart from what happens around them, and replaced."""
    call = GridExecutor.__call__

    def launch(self, *args, **kwargs):
        if _Case.before_launch is not None:
            _Case.before_launch()
        if _Case.without_launches:
            return None
        _Case.launching = True
        try:
            return call(self, *args, **kwargs)
        finally:
            _Case.launching = False

    GridExecutor.__call__ = launch


def _one_config_is_enough() -> None:
    """The interpreter has nothing to time, so an autotuned kernel takes its first configuration."""
    start = Autotuner.__init__

    def with_one(self, *args, **kwargs):
        start(self, *args, **kwargs)
        self.configs = self.configs[:1]

    Autotuner.__init__ = with_one


class _Operators(TorchDispatchMode):
    """Counts the torch operators that ran outside launches."""

    def __init__(self):
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not _Case.launching:
            self.ran[func.name()] += 1
        return func(*args, **(kwargs or {}))


def serve(sock) -> None:
    """Read the job, then answer each case until the grader hangs up."""
    job, _ = wire.receive(sock, 0)
    os.environ["TRITON_CACHE_DIR"] = os.path.join(os.getcwd(), "triton")  # noqa: PTH109, PTH118
    sys.dont_write_bytecode = True
    try:
        if not INTERPRETED:
            # What NVML opened in the fork server is closed in this one; here CUDA itself may be asked.
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
            torch.cuda.device_count = lambda: 1  # torch would ask NVML
            torch.cuda.set_per_process_memory_fraction(MEMORY_FRACTION)
        function = _function(job)
    except BaseException as error:
        wire.send(sock, {"nonce": None, "error": _error(error, student_line(error))})
        return
    wire.send(sock, {"nonce": None, "ready": True})
    while True:
        asked, data = wire.receive(sock, INPUT_LIMIT)
        try:
            answer, payload = (_times if asked["mode"] == "time" else _answer)(function, asked, data)
        except BaseException as error:  # such as SystemExit, or no memory for reading the results
            answer, payload = {"outputs": [], "error": _error(error, student_line(error))}, b""
        answer["nonce"] = asked["nonce"]
        wire.send(sock, answer, payload)


def _function(job: dict):
    """What to call: the student's function, or the entry that launches their kernel."""
    install(job["modules"])
    lesson = {"__name__": "lesson"}
    define(job["code"], "lesson", lesson)
    if job["through"]:
        define(job["entry_code"], job["through"], harness := {"__name__": job["through"]})
        return functools.partial(harness[job["through"]], lesson[job["name"]])
    if job["entry"] is None:
        return lesson[job["call"]]
    around = {"__name__": job["entry"], job["name"]: lesson[job["name"]]}
    define(job["entry_code"], job["entry"], around)
    return around[job["entry"]]


def _times(function, asked: dict, data: bytes) -> tuple[dict, bytes]:
    """Raw microseconds of the student's function and of the answer, in turns, on this GPU."""
    from kernels.timing import CudaGPU, time_us

    inputs = {name: value.cuda() if isinstance(value, torch.Tensor) else value
              for name, value in _inputs(asked, data).items()}
    define(asked["answer_code"], "answer", ours := {"__name__": "answer"})
    around = {"__name__": asked["entry"], asked["name"]: ours[asked["name"]]}
    define(asked["entry_code"], asked["entry"], around)
    sides = {"yours": lambda: function(**inputs), "answer": lambda: around[asked["entry"]](**inputs)}
    return {"times": time_us(sides, CudaGPU(), repeats=30, warmup=3)}, b""


def _answer(function, asked: dict, data: bytes) -> tuple[dict, bytes]:
    inputs, decoys = _inputs(asked, data), {}
    operators, files = _Operators(), set(os.listdir("."))  # noqa: PTH208
    if asked["mode"] == "decoys":  # the real numbers arrive only when a kernel is launched
        decoys = {name: torch.zeros_like(value) for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def call(**given):
        def make_real():
            for name in decoys:
                given[name].copy_(inputs[name])

        _Case.before_launch = make_real if decoys else None
        _Case.without_launches = asked["mode"] == "no launches"
        try:
            with operators:
                return function(**given)
        finally:
            _Case.before_launch, _Case.without_launches = None, False

    tried = attempt(call, inputs | decoys, asked["timeout_s"])
    outputs = tried.outputs if tried.error is None else ()
    maps = _maps(tried, outputs) if asked["maps"] and INTERPRETED and tried.launches else {}
    described, payload = encode([*outputs, *maps.values()])
    answer = {"outputs": described[:len(outputs)],
              "maps": [[*key, one] for key, one in zip(maps, described[len(outputs):], strict=True)],
              "broken": tried.broken, "changed": [] if decoys else tried.changed,
              "error": None if tried.error is None else _error(tried.error, tried.line),
              "launches": [_launch(launch) for launch in tried.launches],
              "operators": dict(operators.ran), "threads": threading.active_count() - 1,
              "files": sorted(set(os.listdir(".")) - files)[:5],  # noqa: PTH208
              "aliases": _aliases(tried)}
    return answer, payload


def _inputs(asked: dict, data: bytes) -> dict:
    return dict(zip(asked["inputs"], decode(list(asked["inputs"].values()), data, strided=True), strict=True))


def _maps(tried, outputs: tuple) -> dict[tuple, torch.Tensor]:
    """Which elements of each output were stored, and of each input loaded."""
    maps: dict[tuple, torch.Tensor] = {("stored", index): stored(tried.launches, value)
                                       for index, value in enumerate(outputs) if isinstance(value, torch.Tensor)}
    return maps | {("loaded", name): loaded(tried.launches, value)
                   for name, value in tried.given.items() if isinstance(value, torch.Tensor)}


def _launch(launch) -> dict:
    moved, touched = launch.traffic(), launch.footprint()
    try:
        specialized = signature(launch)
    except ValueError as error:
        specialized = {"unfit": str(error)[:300]}
    return {"kernel": launch.kernel.__name__, "traffic": [[*key, count] for key, count in moved.items()],
            "footprint": [[*key, count] for key, count in touched.items()], "accesses": len(launch.accesses) + launch.idle,
            "options": launch.options} | specialized


def _aliases(tried) -> list[str]:
    inputs = {value.untyped_storage().data_ptr(): name for name, value in tried.given.items()
              if isinstance(value, torch.Tensor)}
    return [inputs[value.untyped_storage().data_ptr()] for value in tried.outputs
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() in inputs]


def _error(error: BaseException, line: str | None) -> dict:
    while error.__cause__ is not None:
        error = error.__cause__
    said: dict[str, Any] = {"type": type(error).__name__[:80], "text": str(error)[:2000], "line": line and line[:300]}
    if isinstance(error, OutOfBounds):
        said["bounds"] = [error.kind, error.tensor, list(error.program), list(error.lane), error.offset,
                          list(error.shape), error.lanes, error.masked]
    return said

