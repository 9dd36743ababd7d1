"""One call of a function, watched: what it returns, touches, raises and leaves behind. It knows nothing of what is right."""

import contextlib
import linecache
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from checks.judge.launches import Launch, watch
from checks.judge.memory import Arena, bits
from checks.paths import ROOT
from kernels.runtime import INTERPRETED, device


@dataclass
class Attempt:
    """What one call came to."""

    given: dict[str, Any] = field(repr=False)  # the inputs as the function got them
    outputs: tuple[Any, ...] = ()
    launches: list[Launch] = field(default_factory=list, repr=False)
    error: BaseException | None = None
    line: str | None = None  # where the error was raised, outside libraries
    broken: list[str] = field(default_factory=list)  # tensors beside which something was written
    changed: list[str] = field(default_factory=list)  # inputs that are no longer what they were
    device: torch.device = field(default_factory=device)  # on which the outputs must lie
    interpreted: str = ""  # why Triton's interpreter ran the kernels
    made: Sequence[Any] | None = field(default=None, repr=False)  # as made.py says, where it is known
    operators: list[str] = field(default_factory=list)  # of torch that ran beside the kernels, where they were seen


def attempt(call: Callable[..., Any], inputs: dict[str, Any], timeout_s: float) -> Attempt:
    """Call `call(**inputs)`, tensors copied to the device between watched bands, what it allocates poisoned."""
    arena = Arena(device())
    tried = Attempt({name: arena.place(value, name) if isinstance(value, torch.Tensor) else value
                     for name, value in inputs.items()})
    try:
        with np.errstate(all="ignore"), deadline(timeout_s), watch() as tried.launches, arena.poisoning_empty():
            result = call(**tried.given)
            if not INTERPRETED:
                torch.cuda.synchronize()
    except (Exception, SystemExit) as error:  # sys.exit() would end the check, with status 0
        tried.line, tried.error = student_line(error), root_cause(error)
        return tried
    tried.outputs = as_outputs(result)
    tried.broken = arena.broken_bands()
    tried.changed = changed_inputs(inputs, tried.given)
    return tried


def as_outputs(result: Any) -> tuple[Any, ...]:
    """What a call returned, one by one: of a list as of a tuple, but one of one alone stays what it is."""
    return tuple(result) if isinstance(result, tuple | list) and len(result) != 1 else (result,)


def changed_inputs(inputs: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """The names of tensors among the inputs whose copies, as they were given, hold other numbers now."""
    return [name for name, value in inputs.items() if isinstance(value, torch.Tensor)
            and not torch.equal(bits(value), bits(given[name].cpu()))]


class _Expired(BaseException):
    """No Exception, which the code that is to end may catch."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """TimeoutError in what runs too long, and again, in a form that it cannot catch, where it goes on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    expired = iter((TimeoutError,))

    def expire(*_: Any) -> None:
        raise next(expired, _Expired)

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds, min(10 * seconds, 1.0))
    try:
        yield
    except _Expired:
        raise TimeoutError from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def root_cause(error: BaseException) -> BaseException:
    """The error at the start of a chain of causes: what Triton wrapped."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


LIBRARIES = ("site-packages", f"{ROOT / 'checks'}{os.sep}", f"{ROOT / 'kernels'}{os.sep}")


def student_line(error: BaseException | None) -> str | None:
    """The last line of code outside libraries, ours among them, that the error passed through."""
    found = None
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            filename = traceback.tb_frame.f_code.co_filename
            if not any(folder in filename for folder in LIBRARIES):
                found = linecache.getline(filename, traceback.tb_lineno).strip() or found
            traceback = traceback.tb_next
        error = error.__cause__
    return found


def stored(launches: list[Launch], tensor: torch.Tensor) -> torch.Tensor:
    """Bool, which elements of `tensor` (an argument of the interpreted launches) some program has stored."""
    written = torch.zeros(tensor.untyped_storage().nbytes() // tensor.element_size(), dtype=torch.bool)
    for offsets in _offsets(launches, "store", tensor):
        written[offsets] = True
    return written.as_strided(tensor.shape, tensor.stride())


def loaded(launches: list[Launch], tensor: torch.Tensor) -> torch.Tensor:
    """Bool, which elements of `tensor` (an argument of the interpreted launches) some program has loaded."""
    read = torch.zeros(tensor.shape, dtype=torch.bool)
    for offsets in _offsets(launches, "load", tensor):
        _mark(read, tensor.stride(), offsets)
    return read


def _offsets(launches: list[Launch], kind: str, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The elements of `tensor` that each access of this kind touched."""
    for launch in launches:
        arguments = {name: getattr(value, "base", value) for name, value in launch.arguments.items()}
        theirs = {name for name, value in arguments.items()
                  if isinstance(value, torch.Tensor) and value.data_ptr() == tensor.data_ptr()}
        for access in launch.accesses:
            if access.kind == kind and access.tensor in theirs:
                yield torch.from_numpy(access.offsets[access.live])


def _mark(read: torch.Tensor, strides: tuple[int, ...], offsets: torch.Tensor) -> None:
    index = [torch.zeros_like(offsets)] * read.ndim
    for axis in sorted(range(read.ndim), key=lambda axis: -strides[axis]):
        index[axis], offsets = offsets // strides[axis], offsets % strides[axis]
    read[tuple(index)] = True
