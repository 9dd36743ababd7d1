"""One call of a wrapper on a machine without a GPU: host code on shapes, then played back on numbers, each kernel executed
from what Triton's front end made of it."""

import functools
from typing import Any

from checks.executor import Fault, Module, Unsupported, compile_kernel, specialize
from checks.host.playback import play
from checks.host.recorder import NeedsNumbers, record
from checks.host.steps import LaunchStep
from checks.judge.launches import Access, Launch, OutOfBounds

TRACED_LANES = 1 << 24


class Raced(RuntimeError):
    """Two programs of a launch touch one place in no order, and the result depends on it."""


class FailedAssertion(AssertionError):
    """A `tl.device_assert` that did not hold."""


@functools.lru_cache(maxsize=256)
def _module(text: str) -> Module:
    return Module(text)


def execute(step: LaunchStep, arguments: dict[str, Any]) -> Launch:
    """Run the launched kernel on `arguments`, tensors and numbers by name, and write into them. Returns its trace.

    Raises OutOfBounds, Raced or FailedAssertion for what the kernel does wrong, CompileError where Triton refuses it,
    Unsupported where the executor lacks an operation.
    """
    signature, constexprs = specialize(step.kernel, arguments)
    module = _module(compile_kernel(step.kernel, signature, constexprs))
    given = {name: value for name, value in arguments.items() if name not in constexprs}
    report = module.run(step.grid, given, trace=True)
    for fault in report.faults:
        raise _error(fault, arguments)
    for race in report.races:
        raise Raced(str(race))
    for printed in report.prints:
        for program, value in zip(printed.programs, printed.values, strict=True):
            print(f"{printed.text}: program {program}:", value)
    launch = Launch(step.kernel, arguments, [n for n, kind in signature.items() if kind == "constexpr"], step.options)
    launch.accesses = [Access(a.kind, a.tensor, a.program, a.offsets, a.live, a.itemsize) for a in report.accesses()]
    launch.idle = report.idle
    return launch


def _error(fault: Fault, arguments: dict[str, Any]) -> Exception:
    if fault.tensor is None or fault.offset is None:
        return FailedAssertion(str(fault))
    tensor = arguments.get(fault.tensor)
    shape = tuple(getattr(getattr(tensor, "base", tensor), "shape", ()))
    kind = "store" if "store" in fault.what else "load"
    return OutOfBounds(kind, fault.tensor, fault.program, fault.lane, fault.offset, shape, fault.count, fault.masked)


def call_on_shapes(function: Any, given: dict[str, Any], fresh: Any) -> tuple[tuple[Any, ...], list[Launch]]:
    """The outputs of `function(**given)` and its launches. Raises as `execute` and as the function does.

    NeedsNumbers and Unsupported mean that it must be interpreted instead.
    """
    launches: list[Launch] = []
    outputs = play(record(function, given), given, lambda step, arguments: launches.append(execute(step, arguments)), fresh)
    return outputs, launches


__all__ = ["FailedAssertion", "NeedsNumbers", "Raced", "Unsupported", "call_on_shapes", "execute"]
