"""One function tried on one case: is it in bounds, of the right shape, wholly written, and right?"""

import contextlib
import linecache
import signal
import threading
import zlib
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import torch

from checks.exercise import Case, Exercise, Expected, WrongAnswer
from checks.launches import Launch, OutOfBounds, watch
from checks.memory import Arena, is_poison
from kernels.runtime import INTERPRETED, device

TIMEOUT_S = 20  # for one case; an honest kernel takes well under one second

PASSED, FAILED, CRASHED, TIMEOUT, OUT_OF_MEMORY = "passed", "failed", "crashed", "timeout", "out of memory"


@dataclass
class Outcome:
    """What one case came to."""

    case: Case
    inputs: dict = field(repr=False)
    expected: tuple[Expected, ...] = field(repr=False)
    given: dict = field(default_factory=dict, repr=False)  # the same inputs as the function got them, on the device
    outputs: tuple = ()
    launches: list[Launch] = field(default_factory=list, repr=False)
    status: str = PASSED
    message: str = ""
    error: Exception | None = None  # OutOfBounds, or what the function raised
    wrong: torch.Tensor | None = None  # bool map of the first wrong output
    output: int = 0  # its index

    def fail(self, message: str, status: str = FAILED) -> None:
        self.status, self.message = status, message


def try_case(exercise: Exercise, function, case: Case, seed: int) -> Outcome:
    """Steps 2 to 5 on one case. The same seed gives the same inputs."""
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(case.name.encode()))
    inputs = case.inputs(generator)
    outcome = Outcome(case, inputs, exercise.oracle(**inputs))
    arena = Arena(device())
    given = {name: arena.place(value, name) if isinstance(value, torch.Tensor) else value
             for name, value in inputs.items()}
    outcome.given = given
    call = exercise.callable_for(function)
    try:
        with np.errstate(all="ignore"), _deadline(TIMEOUT_S), watch() as outcome.launches, arena.poisoning_empty():
            result = call(**given)
            if not INTERPRETED:
                torch.cuda.synchronize()
    except Exception as error:
        _explain_exception(outcome, error)
        return outcome
    outcome.outputs = result if isinstance(result, tuple) else (result,)
    broken = arena.broken_bands()
    if broken:
        outcome.fail(f"{_on(case)} it writes outside `{broken[0]}`: is a mask missing?")
    changed = [name for name, value in inputs.items() if isinstance(value, torch.Tensor)
               and not torch.equal(*(tensor.cpu().nan_to_num(0.5) for tensor in (value, given[name])))]
    if changed and outcome.status == PASSED:
        outcome.fail(f"{_on(case)} it changes its input `{changed[0]}`, which must stay as it was.")
    if outcome.status == PASSED:
        _compare(exercise, outcome)
    return outcome


@contextlib.contextmanager
def _deadline(seconds: int):
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def expire(*_):
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _explain_exception(outcome: Outcome, error: Exception) -> None:
    line, error = student_line(error), root_cause(error)
    outcome.error = error
    at = f"\n  at: {line}" if line else ""
    match error:
        case OutOfBounds():
            outcome.fail(f"{_on(outcome.case)} {error}{at}")
        case WrongAnswer():
            outcome.fail(f"{_on(outcome.case)} {error}")
        case TimeoutError():
            outcome.fail(f"{_on(outcome.case)} it did not finish within {TIMEOUT_S} s. Does a loop never end?", TIMEOUT)
        case MemoryError() | torch.OutOfMemoryError():
            outcome.fail(f"{_on(outcome.case)} it ran out of memory.{at}", OUT_OF_MEMORY)
        case _:
            outcome.fail(f"{_on(outcome.case)} it raised {type(error).__name__}: {str(error).strip()[:400]}{at}", CRASHED)


def root_cause(error: BaseException) -> BaseException:
    """The error at the start of a chain of causes: what Triton wrapped."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def student_line(error: BaseException | None) -> str | None:
    """The last line of code outside libraries that the error passed through."""
    found = None
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            filename = traceback.tb_frame.f_code.co_filename
            if "site-packages" not in filename and f"checks{'/'}" not in filename:
                found = linecache.getline(filename, traceback.tb_lineno).strip() or found
            traceback = traceback.tb_next
        error = error.__cause__
    return found


def _compare(exercise: Exercise, outcome: Outcome) -> None:
    if len(outcome.outputs) != len(outcome.expected):
        outcome.fail(f"{_on(outcome.case)} it returns {len(outcome.outputs)} value(s), "
                     f"and {len(outcome.expected)} are wanted: {', '.join(exercise.outputs)}.")
        return
    for index, (got, want) in enumerate(zip(outcome.outputs, outcome.expected, strict=True)):
        outcome.output = index
        name = exercise.outputs[index]
        _compare_number(outcome, name, got, want) if want.dtype is None else _compare_tensor(outcome, name, got, want)
        if outcome.status != PASSED:
            return


def _compare_number(outcome: Outcome, name: str, got, want: Expected) -> None:
    on = _on(outcome.case)
    what = "it returns" if len(outcome.expected) == 1 else f"{name} is"
    if all(isinstance(value, Real) for value in outcome.inputs.values()):
        on = "With " + ", ".join(f"{k}={v:,}" for k, v in outcome.inputs.items())
    if isinstance(got, bool) or not isinstance(got, Real):
        hint = (" Is a `return` missing?" if got is None else
                " `.item()` makes a number of it." if isinstance(got, torch.Tensor) and got.numel() == 1 else "")
        outcome.fail(f"{on} {what} {got!r}, and a number is wanted.{hint}")
    elif not abs(got - want.value) <= want.tolerance:
        outcome.fail(f"{on} {what} {got:,.10g}; expected {want.value:,.10g}.")


def _compare_tensor(outcome: Outcome, name: str, got, want: Expected) -> None:
    on = _on(outcome.case)
    if not isinstance(got, torch.Tensor):
        return outcome.fail(f"{on} `{name}` is a {type(got).__name__}, and a tensor is wanted.")
    if got.shape != want.value.shape:
        return outcome.fail(f"{on} `{name}` has shape {tuple(got.shape)}; expected {tuple(want.value.shape)}.")
    if got.dtype != want.dtype:
        return outcome.fail(f"{on} `{name}` is {got.dtype}; expected {want.dtype}.".replace("torch.", ""))
    if got.device.type != device().type:
        return outcome.fail(f"{on} `{name}` is on {got.device}; expected {device()}.")
    unwritten = _unwritten(outcome, got)
    if unwritten.any():
        outcome.wrong = unwritten
        if INTERPRETED and not any(a.kind == "store" for launch in outcome.launches for a in launch.accesses):
            return outcome.fail(f"{on} nothing is ever written to `{name}`: no `tl.store` ran, and what a kernel returns "
                                "is lost.")
        return outcome.fail(f"{on} {int(unwritten.sum())} of {got.numel()} elements of `{name}` are never written"
                            f"{where(unwritten, name)}.")
    exact = got.detach().cpu().to(want.value.dtype)
    same_nan = exact.isnan() & want.value.isnan() if exact.is_floating_point() else torch.zeros_like(exact, dtype=bool)
    outcome.wrong = ~((exact == want.value) | ((exact - want.value).abs() <= want.tolerance) | same_nan)
    if outcome.wrong.any():
        first = tuple(int(i) for i in outcome.wrong.nonzero()[0])
        place = f"{name}[{', '.join(map(str, first))}]"
        outcome.fail(f"{on} {int(outcome.wrong.sum())} of {got.numel()} elements are wrong"
                     f"{where(outcome.wrong, name)}. First: {place} is {_shown(exact[first])}; "
                     f"expected {_shown(want.value[first])}.")
    return None


def _unwritten(outcome: Outcome, got: torch.Tensor) -> torch.Tensor:
    poisoned = is_poison(got).cpu()
    if INTERPRETED and poisoned.any():  # a wrong kernel may compute -128: ask the trace what was stored
        stored = torch.zeros(got.untyped_storage().nbytes() // got.element_size(), dtype=torch.bool)
        for launch in outcome.launches:
            for access in launch.accesses:
                target = launch.arguments.get(access.tensor)
                if access.kind == "store" and isinstance(target, torch.Tensor) and target.data_ptr() == got.data_ptr():
                    stored[torch.from_numpy(access.offsets[access.live])] = True
        poisoned &= ~stored.as_strided(got.shape, got.stride())
    return poisoned


def _shown(value: torch.Tensor) -> str:
    return f"{value.item():.6g}" if value.is_floating_point() else f"{value.item():,}"


def _on(case: Case) -> str:
    return f"On the case '{case.name}'"


def where(wrong: torch.Tensor, name: str) -> str:
    """A phrase that says where the True elements lie, or nothing when they are all over the tensor."""
    phrases = []
    for axis, size in enumerate(wrong.shape):
        rest = [d for d in range(wrong.ndim) if d != axis]
        hit = wrong.any(dim=rest) if rest else wrong
        first, last = int(hit.nonzero()[0]), int(hit.nonzero()[-1])
        if first > 0 or last < size - 1:
            index = [":"] * wrong.ndim
            index[axis] = str(first) if first == last else f"{first}:{last + 1}"
            phrases.append(f"{name}[{', '.join(index)}]")
    return f", all in {' and '.join(phrases)}" if phrases else ""
