"""Watching kernels: each launch and, in Triton's interpreter, each load and store and whether it lies in a tensor.

This reaches into `triton.runtime`, whose insides are not promised: requirements.txt pins Triton, and
tests/judge/test_launches.py fails when a new version moves what is used here.
"""

import contextlib
import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import Autotuner, JITFunction
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import (
    FunctionRewriter,
    GridExecutor,
    InterpretedFunction,
    InterpreterBuilder,
    TensorHandle,
)
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.host.recorder import OPTIONS
from checks.judge.faster import make_faster
from kernels.launch import watchers
from kernels.runtime import INTERPRETED

Traffic = Counter[tuple[str, str]]
"""Bytes by (kind, tensor), such as ("load", "w_ptr")."""


@dataclass
class Access:
    """One load or store of one program."""

    kind: str  # "load" or "store"
    tensor: str  # the kernel's own name for it, such as "w_ptr"
    program: tuple[int, ...]
    offsets: np.ndarray  # elements from the tensor's start, one per lane
    live: np.ndarray  # bool, the lanes that its mask lets through
    itemsize: int


@dataclass
class Launch:
    """One kernel launch, with what it was given and what it touched."""

    kernel: Any  # the plain Python function of the kernel
    arguments: dict[str, Any]
    constexprs: list[str]
    options: dict[str, Any]  # num_warps, num_stages
    accesses: list[Access] = field(default_factory=list)
    idle: int = 0  # loads and stores that are fully masked, which touch nothing
    atomics: int = 0  # of the accesses, those that are an atomic's second half, its store
    traced: bool = True  # whether accesses were looked at: not on a GPU

    def instructions(self) -> int:
        """Loads, stores and atomics of all programs, those that are fully masked too."""
        return len(self.accesses) + self.idle - self.atomics

    def traffic(self) -> Traffic:
        """Bytes by (kind, tensor) that the launch's live lanes asked for, repeats counted."""
        count: Traffic = Counter()
        for a in self.accesses:
            count[a.kind, a.tensor] += int(a.live.sum()) * a.itemsize
        return count

    def footprint(self) -> Traffic:
        """Bytes by (kind, tensor) that the launch touched, each counted once."""
        touched: dict[tuple[str, str, int], list[np.ndarray]] = {}
        for a in self.accesses:
            touched.setdefault((a.kind, a.tensor, a.itemsize), []).append(a.offsets[a.live])
        count: Traffic = Counter()
        for (kind, tensor, itemsize), offsets in touched.items():
            count[kind, tensor] += _different(np.concatenate(offsets)) * itemsize
        return count


def _different(numbers: np.ndarray) -> int:
    """How many different ones there are."""
    if not numbers.size:
        return 0
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > 64 * numbers.size:  # far between
        return int(np.unique(numbers).size)
    seen = np.zeros(high - low + 1, dtype=bool)
    seen[numbers - low] = True
    return int(np.count_nonzero(seen))


@dataclass(eq=False, repr=False)
class OutOfBounds(IndexError):
    """A program touched memory outside the tensors it was given; the access did not happen."""

    kind: str  # "load" or "store"
    tensor: str
    program: tuple[int, ...]
    lane: tuple[int, ...]  # the first one outside
    offset: int
    shape: tuple[int, ...]
    lanes: int  # that are outside
    masked: bool  # whether the access has a mask
    gap: bool = False  # whether the first one lies between elements of the tensor, a view
    others: tuple[tuple[Any, ...], ...] = ()  # places of further accesses outside, where the launch went on after this one

    line: str | None = None  # of the kernel, where it is known

    def same_as(self, other: BaseException | None) -> bool:
        """Whether `other` went out at the same place, which two kernels with the same mistake do."""
        return isinstance(other, OutOfBounds) and self.place() == other.place() and self.others == other.others

    def place(self) -> tuple[Any, ...]:
        """What tells this access from others."""
        return self.kind, self.tensor, self.program, self.offset, self.lanes

    def __str__(self) -> str:
        lane = ", ".join(map(str, self.lane))
        gap = ", in a gap between its elements" if self.gap else ""
        question = ("Its mask lets this lane through: is it the right mask, or is the address wrong?" if self.masked
                    else "It has no mask: is a mask missing? Or is the address wrong?")
        return (f"out-of-bounds {self.kind} on `{self.tensor}`, which has shape {self.shape}: program {self.program}, "
                f"lane ({lane}) touches offset {self.offset}{gap}, and {self.lanes} lane(s) of this {self.kind} are "
                f"outside. {question}")


def lies_between(tensor: torch.Tensor, offset: int) -> bool:
    """Whether `offset`, which is none of the tensor's elements, comes after its first one and before its last one."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return 0 < offset < last


class _Region:
    """The addresses of one tensor argument."""

    def __init__(self, name: str, tensor: torch.Tensor):
        self.name, self.base, self.itemsize = name, tensor.data_ptr(), tensor.element_size()
        self.tensor = tensor
        self.shape = tuple(tensor.shape)
        self.strides = tuple(tensor.stride())
        self.contiguous = tensor.is_contiguous()
        self.numel = tensor.numel()
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        self.end = self.base + (last + 1) * self.itemsize if self.numel else self.base

    def offsets(self, address: np.ndarray) -> np.ndarray:
        return np.asarray((address - self.base) // self.itemsize)

    def holds(self, offset: np.ndarray) -> np.ndarray:
        if self.contiguous:
            return (offset >= 0) & (offset < self.numel)
        inside, rest = offset >= 0, offset.copy()
        for stride, size in sorted(zip(self.strides, self.shape, strict=True), reverse=True):
            if stride:
                inside &= rest // stride < size
                rest %= stride
        return np.asarray(inside & (rest == 0))


_regions: list[_Region] = []  # of the launch under way
_apart = False  # whether no two of them lie across each other
_recordings: list[list[Launch]] = watchers  # those of the `watch` blocks we are in


@contextlib.contextmanager
def watch() -> Iterator[list[Launch]]:
    """Record every launch inside the block; yields the list of `Launch`es. Only interpreted ones have accesses."""
    launches: list[Launch] = []
    _recordings.append(launches)
    try:
        yield launches
    finally:
        _recordings.pop()


def _start(executor: GridExecutor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    named = {k: v for k, v in kwargs.items() if k in executor.arg_names}
    arguments = inspect.getcallargs(executor.fn, *args, **named)
    _regions[:] = [_Region(name, value.base if isinstance(value, TensorDescriptor) else value)
                   for name, value in arguments.items() if isinstance(value, torch.Tensor | TensorDescriptor)]
    global _apart
    by_base = sorted(_regions, key=lambda region: region.base)
    _apart = all(one.end <= next_one.base for one, next_one in itertools.pairwise(by_base))
    if _recordings:
        # Triton runs a rewritten copy; the function as written is the one with the source.
        kernel = next(f for f, rewritten in InterpretedFunction.rewritten_fn.items() if rewritten is executor.fn)
        options = {k: kwargs[k] for k in OPTIONS if kwargs.get(k) is not None}
        launch = Launch(kernel, arguments, executor.constexprs, options)
        for launches in _recordings:
            launches.append(launch)


def _record(builder: Any, kind: str, ptrs: Any, mask: Any, masked: bool) -> None:
    address = np.asarray(ptrs.data).astype(np.int64)
    live = np.broadcast_to(np.asarray(mask.data, dtype=bool), address.shape)
    if not live.any() or not _regions:
        if _recordings and _regions:
            _recordings[-1][-1].idle += 1
        return
    some = address[live]
    region = _region_of_all(some)
    inside = region is not None
    if region is None:  # the tensor meant is the one that most lanes fall in, else the nearest one
        region = max(_regions, key=lambda r: (r.holds(r.offsets(some)).sum(), -np.abs(some - r.base).min()))
    offset = region.offsets(address)
    program = tuple(map(int, builder.grid_idx))
    if not inside and (bad := live & ~region.holds(offset)).any():
        lane = tuple(int(i) for i in np.argwhere(bad)[0])
        first = int(offset[lane])
        raise OutOfBounds(kind, region.name, program, lane, first, region.shape, int(bad.sum()), masked,
                          lies_between(region.tensor, first))
    if _recordings:
        _recordings[-1][-1].accesses.append(Access(kind, region.name, program, offset, live, region.itemsize))


def _region_of_all(addresses: np.ndarray) -> _Region | None:
    """The one contiguous tensor that all addresses lie in, where their ends tell."""
    if not _apart:
        return None
    low, high = addresses.min(), addresses.max()
    return next((r for r in _regions if r.contiguous and r.base <= low and high < r.end), None)


def _record_atomic(builder: Any, ptrs: Any, mask: Any, masked: bool) -> None:
    _record(builder, "load", ptrs, mask, masked)
    _record(builder, "store", ptrs, mask, masked)
    if _recordings:
        _recordings[-1][-1].atomics += 1


def _undefined(ptrs: Any) -> TensorHandle:
    """What masked-off lanes of a load without `other=` hold: anything on a GPU, so here what is sure to be noticed."""
    dtype = ptrs.get_element_ty()
    np_dtype = triton_interpreter._get_np_dtype(dtype)
    if np_dtype.kind == "f":
        poison = np.nan
    elif dtype.is_floating():  # bfloat16 and FP8 are kept as bits: all ones but the sign is a NaN
        poison = np.iinfo(np_dtype).max >> 1
    else:
        poison = np.iinfo(np_dtype).min if np_dtype.kind == "i" else 0
    return TensorHandle(np.full(np.shape(ptrs.data), poison, dtype=np_dtype), dtype)


def _guard_and_record() -> None:
    """Put the guard and the recorder around the interpreter's loads, stores and launches, for good.

    From then on an access outside every tensor argument raises `OutOfBounds` before it happens (Triton wraps it in an
    `InterpreterError`), and lanes that a load masks off without `other=` come back as NaN or the lowest integer.
    """
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    atomic_rmw, atomic_cas = InterpreterBuilder.create_atomic_rmw, InterpreterBuilder.create_atomic_cas
    call = GridExecutor.__call__

    def all_lanes(ptr: Any) -> Any:
        return TensorHandle(np.ones_like(ptr.data, dtype=bool), tl.int1)

    def masked_load(self: Any, ptrs: Any, mask: Any, other: Any, *caching: Any, **named: Any) -> Any:
        _record(self, "load", ptrs, mask, masked=True)
        return load(self, ptrs, mask, _undefined(ptrs) if other is None else other, *caching, **named)

    def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *caching: Any, **named: Any) -> Any:
        _record(self, "store", ptrs, mask, masked=True)
        return store(self, ptrs, value, mask, *caching, **named)

    def full_load(self: Any, ptr: Any, *caching: Any, **named: Any) -> Any:
        _record(self, "load", ptr, all_lanes(ptr), masked=False)
        return load(self, ptr, all_lanes(ptr), None, *caching, **named)

    def full_store(self: Any, ptr: Any, value: Any, *caching: Any, **named: Any) -> Any:
        _record(self, "store", ptr, all_lanes(ptr), masked=False)
        return store(self, ptr, value, all_lanes(ptr), *caching, **named)

    def rmw(self: Any, op: Any, ptr: Any, value: Any, mask: Any, *order: Any) -> Any:
        _record_atomic(self, ptr, mask, masked=True)
        return atomic_rmw(self, op, ptr, value, mask, *order)

    def cas(self: Any, ptr: Any, *values_and_order: Any) -> Any:
        _record_atomic(self, ptr, all_lanes(ptr), masked=False)
        return atomic_cas(self, ptr, *values_and_order)

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        _start(self, args, kwargs)
        try:
            return call(self, *args, **kwargs)
        finally:
            _regions.clear()

    InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = masked_load, masked_store
    InterpreterBuilder.create_load, InterpreterBuilder.create_store = full_load, full_store
    InterpreterBuilder.create_atomic_rmw, InterpreterBuilder.create_atomic_cas = rmw, cas
    GridExecutor.__call__ = launch


def _amend_interpreter() -> None:
    """Let the interpreter work as a GPU does with NaN, leave a kernel's module as it was, and run faster, for good."""
    rewrite = FunctionRewriter._compile_and_exec

    def keep_globals_clean(self: Any, tree: Any) -> Any:
        # Triton adds its own 57 globals to the kernel's module, `np` and `math` among them; in a notebook they hide a
        # missing import until it is restarted. The rewritten kernel needs one of them.
        names = self.fn.__globals__
        before = set(names)
        rewritten = rewrite(self, tree)
        for name in set(names) - before - {"interpreter_semantic"}:
            del names[name]
        return rewritten

    @functools.cache
    def builtins_of(package: Any) -> list[tuple[str, Any]]:
        return [(name, member) for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]

    def patch_builtins(package: Any, *rest: Any) -> None:
        # Triton looks through its whole language at each launch and each call of a helper: a third of a check's time.
        for name, member in builtins_of(package):
            if getattr(package, name) is member:
                triton_interpreter._patch_attr(package, name, member, *rest)

    def greatest(self: Any, a: Any, b: Any) -> Any:
        return self.binary_op(a, b, np.fmax)  # as a GPU's, and as `tl.max` does here: a number and NaN give the number

    def least(self: Any, a: Any, b: Any) -> Any:
        return self.binary_op(a, b, np.fmin)

    triton_interpreter._patch_builtin = patch_builtins
    InterpreterBuilder.create_maxnumf, InterpreterBuilder.create_minnumf = greatest, least
    FunctionRewriter._compile_and_exec = keep_globals_clean
    # Integer overflow checks are computed and their result dropped: without them it runs 1.3 to 1.7 times faster.
    triton_interpreter.interpreter_builder.options = triton_interpreter.InterpreterOptions(sanitize_overflow=False)
    make_faster()


def _record_on_gpu() -> None:
    """Record launches, but not the thousands by which an autotuner times; what a kernel does on a GPU cannot be seen."""
    run, bench = JITFunction.run, Autotuner._bench

    def recorded_run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        if _recordings and not warmup:
            named = {k: v for k, v in kwargs.items() if k in self.arg_names}
            options = {k: kwargs[k] for k in OPTIONS if kwargs.get(k) is not None}
            constexprs = [parameter.name for parameter in self.params if parameter.is_constexpr]
            launch = Launch(self.fn, inspect.getcallargs(self.fn, *args, **named), constexprs, options, traced=False)
            for launches in _recordings:
                launches.append(launch)
        return run(self, *args, grid=grid, warmup=warmup, **kwargs)

    def unrecorded_bench(self: Any, *args: Any, **kwargs: Any) -> Any:
        paused, _recordings[:] = _recordings[:], []
        try:
            return bench(self, *args, **kwargs)
        finally:
            _recordings[:] = paused

    JITFunction.run, Autotuner._bench = recorded_run, unrecorded_bench


if INTERPRETED:
    _guard_and_record()
    _amend_interpreter()
else:
    _record_on_gpu()
