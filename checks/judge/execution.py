"""One call without a GPU, also where there is one: host code runs on shapes, then what it asked for is played back on
numbers, each kernel executed from what Triton's front end made of it.

Where host code reads a number, or the executor lacks an operation, the call is left to Triton's interpreter or the GPU. The
tests hold interpreter and executor against each other: the latter knows races, and the arithmetic of real types.
"""

import functools
import linecache
from collections.abc import Callable
from typing import Any

import torch

from checks.executor import CompileError, Fault, LimitExceeded, Module, Unsupported, compile_kernel
from checks.host.playback import play
from checks.host.recorder import NeedsNumbers
from checks.host.steps import LaunchStep
from checks.judge.attempt import Attempt, attempt, changed_inputs, deadline, root_cause, student_line
from checks.judge.launches import Access, Launch, OutOfBounds, lies_between
from checks.judge.made import made_by_kernels
from checks.judge.memory import poison_, strided_copy
from checks.judge.recorded import recorded


class Raced(RuntimeError):
    """Two programs of a launch touch one place in no order, and the result depends on it."""


class FailedAssertion(AssertionError):
    """A `tl.device_assert` that did not hold."""


def attempt_kernel(call: Callable[..., Any], inputs: dict[str, Any], timeout_s: float) -> Attempt:
    """The attempt at a kernel's exercise: executed where that is possible, otherwise interpreted or run on the GPU."""
    try:
        return attempt_executed(call, inputs, timeout_s)
    except (NeedsNumbers, Unsupported) as reason:
        tried = attempt(call, inputs, timeout_s)
        tried.interpreted = (f"the code around the kernel looks at numbers, {reason}" if isinstance(reason, NeedsNumbers)
                             else str(reason))
        return tried


def attempt_executed(call: Callable[..., Any], inputs: dict[str, Any], timeout_s: float) -> Attempt:
    """As `checks.judge.attempt.attempt`. What goes wrong in a kernel is the attempt's error: OutOfBounds, Raced, ...

    Raises NeedsNumbers where host code reads a number, and Unsupported where the executor lacks an operation: such a call
    must be interpreted.
    """
    tried = Attempt({name: strided_copy(value) if isinstance(value, torch.Tensor) else value
                     for name, value in inputs.items()}, device=torch.device("cpu"))

    def run(step: LaunchStep, arguments: dict[str, Any]) -> None:
        tried.launches.append(execute(step, arguments))

    try:
        with deadline(timeout_s):
            try:
                recording = recorded(call, tried.given)
            except NeedsNumbers:
                raise
            except (Exception, SystemExit) as error:
                tried.line, tried.error = student_line(error), root_cause(error)
                return tried
            try:
                tried.outputs = play(recording, tried.given, run, poison_)
            except (OutOfBounds, Raced, FailedAssertion, CompileError, LimitExceeded, MemoryError, TimeoutError) as error:
                tried.error, tried.line = error, getattr(error, "line", None)
                return tried
    except TimeoutError as error:  # of code that catches every Exception
        tried.error = error
        return tried
    tried.operators = recording.operators
    tried.made = made_by_kernels(recording, tried.given, tried.launches)
    tried.changed = changed_inputs(inputs, tried.given)
    return tried


def execute(step: LaunchStep, arguments: dict[str, Any]) -> Launch:
    """Run the launched kernel on `arguments`, tensors and numbers by name, and write into them. Returns its trace.

    Raises OutOfBounds, Raced or FailedAssertion for what the kernel does wrong, CompileError where Triton refuses it,
    Unsupported where the executor lacks an operation.
    """
    return run_compiled(compile_kernel(step.kernel, step.signature, step.constexprs), step, arguments)


def run_compiled(text: str, step: LaunchStep, arguments: dict[str, Any]) -> Launch:
    """As `execute`, of a kernel whose TTIR is `text`."""
    given = {name: value for name, value in arguments.items() if name not in step.constexprs}
    report = _module(text).run(step.grid, given, trace=True)
    if report.faults:
        raise _error(report.faults, arguments)
    for race in report.races:
        raise Raced(str(race))
    launch = Launch(step.kernel, arguments, list(step.constexprs), step.options, idle=report.idle, atomics=report.atomics)
    launch.accesses = sorted((Access(a.kind, a.tensor, a.program, a.offsets, a.live, a.itemsize)
                              for a in report.accesses()), key=lambda access: access.program)
    return launch


@functools.lru_cache(maxsize=256)
def _module(text: str) -> Module:
    return Module(text)


def _error(faults: list[Fault], arguments: dict[str, Any]) -> Exception:
    """For the first fault, with the places of the others."""
    first, *others = (_out_of_bounds(fault, arguments) for fault in faults)
    if first is None:
        return FailedAssertion(str(faults[0]))
    first.others = tuple(other.place() for other in others if other is not None)
    return first


def _out_of_bounds(fault: Fault, arguments: dict[str, Any]) -> OutOfBounds | None:
    if fault.tensor is None or fault.offset is None:
        return None
    argument = arguments.get(fault.tensor)
    tensor = getattr(argument, "base", argument)
    shape = tuple(getattr(tensor, "shape", ()))
    gap = isinstance(tensor, torch.Tensor) and lies_between(tensor, fault.offset)
    kind = "store" if "store" in fault.what else "load"
    error = OutOfBounds(kind, fault.tensor, fault.program, fault.lane, fault.offset, shape, fault.count, fault.masked, gap)
    if fault.place is not None:
        error.line = linecache.getline(fault.place.file, fault.place.line).strip() or None
    return error
