"""One function tried on one case: is it in bounds, of the right shape, wholly written, and right?"""

import functools
import linecache
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

import torch

from checks.executor import CompileError, LimitExceeded
from checks.judge.attempt import Attempt, attempt, loaded, stored
from checks.judge.execution import Raced, attempt_kernel
from checks.judge.exercise import Case, Exercise, Expected, WrongAnswer
from checks.judge.launches import Launch, OutOfBounds, Traffic
from checks.judge.memory import is_poison
from checks.judge.source import Function
from kernels.runtime import device

Runner: TypeAlias = Callable[[Callable[..., Any], dict[str, Any], float], Attempt]
TIMEOUT_S = 20  # for one case; an honest kernel takes well under one second

PASSED, FAILED, CRASHED, TIMEOUT, OUT_OF_MEMORY = "passed", "failed", "crashed", "timeout", "out of memory"


@dataclass
class Outcome:
    """What came of one case."""

    case: Case
    inputs: dict[str, Any] = field(repr=False)
    expected: tuple[Expected, ...] = field(repr=False)
    given: dict[str, Any] = field(default_factory=dict, repr=False)  # the inputs as the function got them, on the device
    device: torch.device = field(default_factory=device)  # on which the outputs must lie
    outputs: tuple[Any, ...] = ()
    launches: list[Launch] = field(default_factory=list, repr=False)
    status: str = PASSED
    message: str = ""
    error: BaseException | None = None  # OutOfBounds, or what the function raised
    wrong: torch.Tensor | None = None  # bool map of the first wrong output
    output: int = 0  # its index
    unwritten: bool = False  # whether it is wrong for want of a store
    interpreted: str = ""  # why Triton's interpreter ran the kernels
    made: Sequence[Any] | None = field(default=None, repr=False)  # which elements of outputs kernels made, if it is known
    operators: list[str] = field(default_factory=list)  # of torch that did a part of the kernel's work, where they were seen

    def traffic(self) -> Traffic:
        """Bytes by (kind, tensor) that the launches moved."""
        return sum((launch.traffic() for launch in self.launches), Traffic())

    @property
    def traced(self) -> bool:
        """Whether there were launches, and what they touched was looked at."""
        return bool(self.launches) and all(launch.traced for launch in self.launches)

    def stored(self, index: int) -> torch.Tensor:
        """Bool, which elements of output `index` the launches have stored, as the trace has it."""
        return stored(self.launches, self.outputs[index]) if self.made is None else self.made[index]

    def loaded(self, name: str) -> torch.Tensor | None:
        """Bool, which elements of input `name` the launches have loaded; None for a number, and where there is no trace."""
        given = self.given[name]
        return loaded(self.launches, given) if isinstance(given, torch.Tensor) and self.traced and self.traffic() else None

    def fail(self, message: str, status: str = FAILED) -> None:
        self.status, self.message = status, message


def try_case(exercise: Exercise, function: Function, case: Case, seed: int, run: Runner | None = None) -> Outcome:
    """Steps 2 to 5 on one case. The same seed gives the same inputs. `run` makes the attempt, where the way matters."""
    return try_again(exercise, function, prepare(exercise, case, seed), run)


def try_again(exercise: Exercise, function: Function, seen: Outcome, run: Runner | None = None) -> Outcome:
    """The same with the inputs of another function's outcome."""
    outcome = Outcome(seen.case, seen.inputs, seen.expected)
    run = run or (attempt_kernel if exercise.is_kernel else attempt)
    assess(exercise, outcome, run(exercise.callable_for(function), outcome.inputs, TIMEOUT_S))
    return outcome


def prepare(exercise: Exercise, case: Case, seed: int) -> Outcome:
    """A case's inputs and what the outputs must be, before anything is tried. Nobody may write into the tensors."""
    return Outcome(case, *_made(exercise, case, seed))


@functools.lru_cache(maxsize=32)
def _made(exercise: Exercise, case: Case, seed: int) -> tuple[dict[str, Any], tuple[Expected, ...]]:
    inputs = drawn(case, seed)
    return inputs, exercise.oracle(**inputs)


def drawn(case: Case, seed: int) -> dict[str, Any]:
    """A case's inputs, new each time."""
    return case.inputs(torch.Generator().manual_seed(seed ^ zlib.crc32(case.name.encode())))


def assess(exercise: Exercise, outcome: Outcome, tried: Attempt) -> None:
    """Write into `outcome` whether the attempt at its case was right."""
    outcome.launches, outcome.given = tried.launches, tried.given
    outcome.interpreted = tried.interpreted
    outcome.operators, outcome.made = exercise.work_of(tried.operators), tried.made
    if tried.error is not None:
        _explain_exception(outcome, tried.error, tried.line)
        return
    outcome.outputs, outcome.device = tried.outputs, tried.device
    if tried.broken:
        outcome.fail(f"{_on(outcome.case)} it writes outside `{tried.broken[0]}`: is a mask missing?")
    elif tried.changed:
        outcome.fail(f"{_on(outcome.case)} it changes its input `{tried.changed[0]}`, which must stay as it was.")
    else:
        _compare(exercise, outcome)


def _explain_exception(outcome: Outcome, error: BaseException, line: str | None) -> None:
    outcome.error = error
    at = f"\n  at: {line}" if line else ""
    match error:
        case OutOfBounds():
            outcome.fail(f"{_on(outcome.case)} {error}{at}")
        case Raced():
            outcome.fail(f"{_on(outcome.case)} {_with_line(str(error))}")
        case CompileError():
            outcome.fail(f"{_on(outcome.case)} Triton refuses the kernel: {error}", CRASHED)
        case WrongAnswer():
            outcome.fail(f"{_on(outcome.case)} {error}")
        case NotImplementedError() if "not supported in interpreter mode" in str(error):
            outcome.fail(f"{_on(outcome.case)} it uses {str(error).split()[0]}, which only a GPU runs, and a check needs "
                         f"none: write it with Triton's other operations.{at}", CRASHED)
        case TimeoutError() | LimitExceeded():
            outcome.fail(f"{_on(outcome.case)} it did not finish within {TIMEOUT_S} s. Does a loop never end?", TIMEOUT)
        case MemoryError() | torch.OutOfMemoryError():
            outcome.fail(f"{_on(outcome.case)} it ran out of memory.{at}", OUT_OF_MEMORY)
        case _:
            outcome.fail(f"{_on(outcome.case)} it raised {type(error).__name__}: {str(error).strip()[:400]}{at}"
                         f"{_with_shapes(error, line)}", CRASHED)


def _with_shapes(error: BaseException, line: str | None) -> str:
    """The shapes of the tensors that the line with the error names, where its variables are still known."""
    frame, traceback = None, error.__traceback__
    while traceback is not None:
        inside = traceback.tb_frame
        if line and linecache.getline(inside.f_code.co_filename, traceback.tb_lineno).strip() == line:
            frame = inside
        traceback = traceback.tb_next
    known = {name: value for name, value in (frame.f_locals if frame else {}).items()
             if isinstance(value, torch.Tensor) and re.search(rf"\b{name}\b", line or "")}
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(known.items())[:6])
    return f"\n  where: {shapes}" if shapes else ""


def _with_line(message: str) -> str:
    """With the text of the line in place of where it is, such as `<cell 3>:7`."""
    place = re.search(r",? *(<[^>]*>|/\S+\.py):(\d+)", message)
    if place is None:
        return message
    line = linecache.getline(place[1], int(place[2])).strip()
    return message.replace(place[0], "", 1) + (f"\n  at: {line}" if line else "")


def _compare(exercise: Exercise, outcome: Outcome) -> None:
    if len(outcome.outputs) == 1 and outcome.outputs[0] is None and len(outcome.expected) > 1:
        outcome.fail(f"{_on(outcome.case)} it returns None; expected {', '.join(exercise.outputs)}. Is a `return` missing?")
        return
    if len(outcome.outputs) != len(outcome.expected):
        outcome.fail(f"{_on(outcome.case)} it returns {len(outcome.outputs)} value(s); "
                     f"expected {len(outcome.expected)}: {', '.join(exercise.outputs)}.")
        return
    pairs = list(zip(outcome.outputs, outcome.expected, strict=True))
    for index in sorted(range(len(pairs)), key=lambda i: not _of_another_shape(*pairs[i])):  # it says more than numbers do
        got, want = pairs[index]
        outcome.output = index
        name = exercise.outputs[index]
        if want.dtype is None:
            _compare_number(outcome, name, got, want)
        else:
            _compare_tensor(outcome, name, got, want, exercise.is_kernel)
        if outcome.status != PASSED:
            return


def _of_another_shape(got: Any, want: Expected) -> bool:
    return (isinstance(got, torch.Tensor) and isinstance(want.value, torch.Tensor) and want.dtype is not None
            and got.shape != want.value.shape)


def _compare_number(outcome: Outcome, name: str, got: Any, want: Expected) -> None:
    on = _on(outcome.case)
    what = "it returns" if len(outcome.expected) == 1 else f"{name} is"
    if all(isinstance(value, Real) for value in outcome.inputs.values()):
        on = "With " + ", ".join(f"{k}={v:,}" for k, v in outcome.inputs.items())
    is_number = isinstance(got, Real) and not isinstance(got, bool)
    if not is_number:
        hint = (" Is a `return` missing?" if got is None else
                " Text is no number: leave the quotes away." if isinstance(got, str) else
                " A comma behind a value makes a tuple of it." if isinstance(got, tuple) else
                " `.item()` makes a number of it." if isinstance(got, torch.Tensor) and got.numel() == 1 else "")
        outcome.fail(f"{on} {what} {got!r}; expected a number.{hint}")
    elif not abs(got - want.value) <= want.tolerance:
        outcome.fail(f"{on} {what} {got:,.10g}; expected {want.value:,.10g}.")


def _compare_tensor(outcome: Outcome, name: str, got: Any, want: Expected, stored: bool) -> None:
    on, value = _on(outcome.case), want.value
    assert isinstance(value, torch.Tensor)  # as every output with a dtype is
    if not isinstance(got, torch.Tensor):
        return outcome.fail(f"{on} `{name}`: expected a tensor, got {type(got).__name__}."
                            + (" A comma behind a value makes a tuple of it." if isinstance(got, tuple) else
                               " Is a `return` missing?" if got is None else ""))
    if got.shape != value.shape:
        return outcome.fail(f"{on} `{name}` has shape {tuple(got.shape)}; expected {tuple(value.shape)}.")
    if got.dtype != want.dtype:
        return outcome.fail(f"{on} `{name}` is {got.dtype}; expected {want.dtype}.".replace("torch.", ""))
    if got.device.type != outcome.device.type:
        return outcome.fail(f"{on} `{name}` is on {got.device}; expected {outcome.device}.")
    if stored:  # torch alone may well compute the pattern of an empty tensor
        unwritten = _unwritten(outcome, got)
        if unwritten.any():
            return _fail_unwritten(outcome, name, unwritten)
    exact = got.detach().cpu().to(value.dtype)
    right = (exact - value).abs() <= want.tolerance
    if not right.all():  # infinity is right where it is wanted, and NaN
        right |= (exact == value) | (exact.isnan() & value.isnan())
    wrong = outcome.wrong = ~right
    if wrong.any():
        first = tuple(int(i) for i in wrong.nonzero()[0])
        place = f"{name}[{', '.join(map(str, first))}]"
        outcome.fail(f"{on} {int(wrong.sum())} of {got.numel()} elements are wrong{where(wrong, name)}. First: {place} is "
                     f"{_shown(exact[first])}; expected {_shown(value[first])}.")
    return None


def _unwritten(outcome: Outcome, got: torch.Tensor) -> torch.Tensor:
    poisoned = is_poison(got).cpu()
    if outcome.traced and poisoned.any():  # a wrong kernel may compute -128: ask the trace what was stored
        poisoned &= ~outcome.stored(outcome.output)
    return poisoned


def _fail_unwritten(outcome: Outcome, name: str, unwritten: torch.Tensor) -> None:
    on = _on(outcome.case)
    outcome.wrong, outcome.unwritten = unwritten, True
    if outcome.traced and not any(kind == "store" for launch in outcome.launches for kind, _ in launch.traffic()):
        outcome.fail(f"{on} nothing is ever written to `{name}`: no `tl.store` ran, and what a kernel returns is lost.")
    else:
        outcome.fail(f"{on} {int(unwritten.sum())} of {unwritten.numel()} elements of `{name}` are never written"
                     f"{where(unwritten, name)}.")


def _shown(value: torch.Tensor) -> str:
    return f"{value.item():.6g}" if value.is_floating_point() else f"{value.item():,}"


def _on(case: Case) -> str:
    return f"On the case '{case.name}'"


def where(wrong: torch.Tensor, name: str) -> str:
    """A phrase that says where the True elements lie, or nothing when they are all over the tensor."""
    index = [":"] * wrong.ndim
    for axis, size in enumerate(wrong.shape):
        rest = [d for d in range(wrong.ndim) if d != axis]
        hit = wrong.any(dim=rest) if rest else wrong
        first, last = int(hit.nonzero()[0]), int(hit.nonzero()[-1])
        if first > 0 or last < size - 1:
            index[axis] = str(first) if first == last else f"{first}:{last + 1}"
    return f", all in {name}[{', '.join(index)}]" if any(part != ":" for part in index) else ""
