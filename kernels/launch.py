"""A call that comes again costs the host little: what was decided for it is kept, its kernels are launched as compiled.

Triton's `kernel[grid](...)` looks at every argument to find the compiled kernel for it, 15 to 23 µs of a host's time. A
function that has decided everything by the shapes, strides, dtypes, alignment and device of its tensors knows the kernel
as soon as they have come once, and the compiled kernel's own `run` costs 6.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import triton

from kernels.runtime import INTERPRETED, Card, capturing, launching_at

watchers: list[Any] = []
"""While anything is in this list, every launch goes through `kernel[grid](...)`, where one who watches launches sees it."""

MOST = 4096
"""Calls that a `Plans` keeps. It forgets them all when there are more: a server sees many lengths, most of them once."""


_traced = contextvars.ContextVar("_traced", default=False)


@contextlib.contextmanager
def traced() -> Iterator[None]:
    """In this block a new `Launch` and `room` are for a compiler that traces their calls, to launch and allocate itself."""
    token = _traced.set(True)
    try:
        yield
    finally:
        _traced.reset(token)


def is_traced() -> bool:
    """Whether we are in a `traced` block."""
    return _traced.get()


def overlapping(gpu: Card) -> tuple[dict[str, int], dict[str, int]]:
    """The constexpr and the option of programmatic dependent launch, which Hopper (9.0) and later GPUs have.

    Inductor launches no kernel of ours with it.
    """
    supported = (gpu.capability or (0, 0)) >= (9, 0) and not _traced.get()
    return {"OVERLAP": supported}, {"launch_pdl": True} if supported else {}


def room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Callable[[], torch.Tensor]:
    """The call that makes an uninitialised tensor on the current GPU. `torch.empty` costs the host 3 µs, this 1."""
    quick = getattr(torch._C._dynamo.guards, "_empty_strided_cuda", None)  # what Inductor's code calls, so no documented one
    if quick is None or device.type != "cuda" or _traced.get():
        return partial(torch.empty, shape, dtype=dtype, device=device)
    return partial(quick, shape, torch.empty(shape, device="meta").stride(), dtype)


class Launch:
    """A kernel, its grid, and the arguments that do not change from call to call: all but the pointers, which come first.

    `scalars` follow the pointers, `constants` are the constexprs by name, `options` those of the compiler. The pointers,
    tensors or tensor descriptors, must agree in all calls in dtype, device and whether they are multiples of 16, or be
    None in all. Where kernels are compiled, the device is the current one.
    """

    def __init__(
        self, kernel: Any, grid: tuple[int, ...], scalars: tuple[float, ...], constants: dict[str, int], **options: int,
    ):
        self._kernel, self._grid = kernel, (*grid, 1, 1)[:3]
        self._scalars, self._constants, self._options = scalars, constants, options
        self._again: Callable[[tuple[Any, ...]], None] | None = None
        if _traced.get():
            self._kernel = torch.library.wrap_triton(kernel)

    def __call__(self, *pointers: Any) -> None:
        if self._again is None or watchers or getattr(triton.knobs.runtime.launch_enter_hook, "calls", True):
            compiled = self._kernel[self._grid](*pointers, *self._scalars, **self._constants, **self._options)
            if compiled is not None and self._again is None:  # None where it was interpreted
                self._again = self._prepare(compiled)
        else:
            self._again(pointers)

    def _prepare(self, compiled: Any) -> Callable[[tuple[Any, ...]], None]:
        """The launch of the compiled kernel through its `run`, which is no documented interface: see `TypeError`."""
        names = [name for name in self._kernel.arg_names if name in self._constants]
        rest = *self._scalars, *(self._constants[name] for name in names)
        driver, grid = triton.runtime.driver.active, self._grid
        stream, device, run = driver.get_current_stream, driver.get_current_device(), compiled.run
        fixed = compiled.function, compiled.packed_metadata, None, None, None  # no hooks: whoever has some is not here

        def again(pointers: tuple[Any, ...]) -> None:
            try:
                # A tensor's address, for Triton would ask the driver for it.
                run(*grid, stream(device), *fixed,
                    *[p.data_ptr() if isinstance(p, torch.Tensor) else p for p in pointers], *rest)
            except TypeError:  # this Triton's `run` takes other arguments
                self._again = lambda pointers: compiled[grid](*pointers, *rest)
                compiled[grid](*pointers, *rest)

        return again


def like(descriptor: Any) -> Callable[[torch.Tensor], Any]:
    """The function that makes such a tensor descriptor of another tensor of the same shape, strides, dtype and alignment.

    Triton's own looks at all of these once more.
    """
    kind, fields = type(descriptor), vars(descriptor)

    def make(tensor: torch.Tensor) -> Any:
        made: Any = object.__new__(kind)
        vars(made).update(fields, base=tensor)
        return made

    return make


class Plans:
    """The calls that `make` made, one for each combination of its tensors' shapes, strides, dtypes, devices, alignment.

    `make(*arguments)` raises what is wrong with them, or gives the function to call with these and with all like them.
    Numbers, dtypes and None among the arguments are part of the combination by value. The first argument is a tensor, and
    its GPU the current one during the call.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]]):
        self._make = make
        self._calls: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        try:
            key = tuple([
                (a.shape, a.stride(), a.dtype, a.device, a.data_ptr() % 16 == 0) if isinstance(a, torch.Tensor) else a
                for a in arguments])
            call = self._calls.get(key)
        except (TypeError, RuntimeError):  # a list cannot be looked up, a sparse tensor has no strides
            key, call = (), None
        first = arguments[0]
        if call is not None and not INTERPRETED and first.device.index == torch.cuda.current_device():
            return call(*arguments)
        if not isinstance(first, torch.Tensor):
            return self._make(*arguments)(*arguments)  # it says what is wrong
        with launching_at(first):
            return (call or self._add(key, arguments))(*arguments)

    def _add(self, key: tuple[Any, ...], arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """The call for these arguments, kept where they have a key."""
        call = self._make(*arguments)
        # A configuration is not timed inside a CUDA graph, but taken as it comes: for this graph alone.
        if key and not capturing():
            if len(self._calls) >= MOST:
                self._calls.clear()
            self._calls[key] = call
        return call
