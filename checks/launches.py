"""Watching kernels: each launch and, in Triton's interpreter, each load and store and whether it lies in a tensor.

This reaches into `triton.runtime`, whose insides are not promised: requirements.txt pins Triton, and
tests/test_launches.py fails when a new version moves what is used here.
"""

import contextlib
import functools
import inspect
from collections import Counter
from dataclasses import dataclass, field

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

from kernels.launch import watchers
from kernels.runtime import INTERPRETED

COMPILER_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")


@dataclass
class Access:
    """One load or store of one program."""

    kind: str  # "load" or "store"
    tensor: str  # the kernel's own name for it, such as "w_ptr"
    program: tuple[int, int, int]
    offsets: np.ndarray  # elements from the tensor's start, one per lane
    live: np.ndarray  # bool, the lanes that its mask lets through
    itemsize: int


@dataclass
class Launch:
    """One kernel launch, with what it was given and what it touched."""

    kernel: object  # the plain Python function of the kernel
    arguments: dict
    constexprs: list[str]
    options: dict  # num_warps, num_stages
    accesses: list[Access] = field(default_factory=list)
    idle: int = 0  # loads and stores with all lanes off, which touch nothing

    def traffic(self) -> Counter:
        """Bytes by (kind, tensor) that the launch's live lanes asked for, repeats counted."""
        count = Counter()
        for a in self.accesses:
            count[a.kind, a.tensor] += int(a.live.sum()) * a.itemsize
        return count

    def footprint(self) -> Counter:
        """Bytes by (kind, tensor) that the launch touched, each counted once."""
        touched = {}
        for a in self.accesses:
            touched.setdefault((a.kind, a.tensor, a.itemsize), []).append(a.offsets[a.live])
        count = Counter()
        for (kind, tensor, itemsize), offsets in touched.items():
            count[kind, tensor] += np.unique(np.concatenate(offsets)).size * itemsize
        return count


class OutOfBounds(IndexError):
    """A program touched memory outside the tensors it was given; the access did not happen."""

    def __init__(self, kind, tensor, program, lane, offset, shape, lanes, masked):
        self.kind, self.tensor, self.program, self.lane = kind, tensor, program, lane
        self.offset, self.shape, self.lanes, self.masked = offset, tuple(shape), lanes, masked
        super().__init__(str(self))

    def same_as(self, other) -> bool:
        """Whether `other` went out at the same place, which two kernels with the same mistake do."""
        def place(e):
            return e.kind, e.tensor, e.program, e.offset, e.lanes
        return isinstance(other, OutOfBounds) and place(self) == place(other)

    def __str__(self):
        lane = ", ".join(map(str, self.lane))
        question = ("Its mask lets this lane through: is it the right mask, or is the address wrong?" if self.masked
                    else "It has no mask: is a mask missing? Or is the address wrong?")
        return (f"out-of-bounds {self.kind} on `{self.tensor}`, which has shape {self.shape}: program {self.program}, "
                f"lane ({lane}) touches offset {self.offset}, and {self.lanes} lane(s) of this {self.kind} are outside. "
                f"{question}")


class _Region:
    """The addresses of one tensor argument."""

    def __init__(self, name: str, tensor: torch.Tensor):
        self.name, self.base, self.itemsize = name, tensor.data_ptr(), tensor.element_size()
        self.shape = tuple(tensor.shape)
        self.strides = tuple(tensor.stride())
        self.contiguous = tensor.is_contiguous()
        self.numel = tensor.numel()

    def offsets(self, address: np.ndarray) -> np.ndarray:
        return (address - self.base) // self.itemsize

    def holds(self, offset: np.ndarray) -> np.ndarray:
        if self.contiguous:
            return (offset >= 0) & (offset < self.numel)
        inside, rest = offset >= 0, offset.copy()
        for stride, size in sorted(zip(self.strides, self.shape, strict=True), reverse=True):
            if stride:
                inside &= rest // stride < size
                rest %= stride
        return inside & (rest == 0)


_regions: list[_Region] = []  # of the launch under way
_recordings: list[list[Launch]] = watchers  # those of the `watch` blocks we are in


@contextlib.contextmanager
def watch():
    """Record every launch inside the block; yields the list of `Launch`es. Only interpreted ones have accesses."""
    launches = []
    _recordings.append(launches)
    try:
        yield launches
    finally:
        _recordings.pop()


def _start(executor: GridExecutor, args: tuple, kwargs: dict) -> None:
    named = {k: v for k, v in kwargs.items() if k in executor.arg_names}
    arguments = inspect.getcallargs(executor.fn, *args, **named)
    _regions[:] = [_Region(name, value.base if isinstance(value, TensorDescriptor) else value)
                   for name, value in arguments.items() if isinstance(value, torch.Tensor | TensorDescriptor)]
    if _recordings:
        # Triton runs a rewritten copy; the function as written is the one with the source.
        kernel = next(f for f, rewritten in InterpretedFunction.rewritten_fn.items() if rewritten is executor.fn)
        options = {k: kwargs[k] for k in COMPILER_OPTIONS if kwargs.get(k) is not None}
        launch = Launch(kernel, arguments, executor.constexprs, options)
        for launches in _recordings:
            launches.append(launch)


def _record(builder, kind: str, ptrs, mask, masked: bool) -> None:
    address = np.asarray(ptrs.data).astype(np.int64)
    live = np.broadcast_to(np.asarray(mask.data, dtype=bool), address.shape)
    if not live.any() or not _regions:
        if _recordings and _regions:
            _recordings[-1][-1].idle += 1
        return
    some = address[live]
    # The tensor meant is the one that most lanes fall in, else the nearest one.
    region = max(_regions, key=lambda r: (r.holds(r.offsets(some)).sum(), -np.abs(some - r.base).min()))
    offset = region.offsets(address)
    program = tuple(map(int, builder.grid_idx))
    bad = live & ~region.holds(offset)
    if bad.any():
        lane = tuple(int(i) for i in np.argwhere(bad)[0])
        raise OutOfBounds(kind, region.name, program, lane, int(offset[lane]), region.shape, int(bad.sum()), masked)
    if _recordings:
        _recordings[-1][-1].accesses.append(Access(kind, region.name, program, offset, live, region.itemsize))


def _undefined(ptrs) -> TensorHandle:
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


def _install() -> None:
    """Put the guard and the recorder around the interpreter's loads, stores and launches, for good.

    From then on an access outside every tensor argument raises `OutOfBounds` before it happens (Triton wraps it in an
    `InterpreterError`), and lanes that a load masks off without `other=` come back as NaN or the lowest integer.
    """
    load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
    atomic_rmw, atomic_cas = InterpreterBuilder.create_atomic_rmw, InterpreterBuilder.create_atomic_cas
    call, rewrite = GridExecutor.__call__, FunctionRewriter._compile_and_exec

    def all_lanes(ptr):
        return TensorHandle(np.ones_like(ptr.data, dtype=bool), tl.int1)

    def masked_load(self, ptrs, mask, other, cache_modifier, eviction_policy, is_volatile):
        _record(self, "load", ptrs, mask, masked=True)
        other = _undefined(ptrs) if other is None else other
        return load(self, ptrs, mask, other, cache_modifier, eviction_policy, is_volatile)

    def masked_store(self, ptrs, value, mask, cache_modifier, eviction_policy):
        _record(self, "store", ptrs, mask, masked=True)
        return store(self, ptrs, value, mask, cache_modifier, eviction_policy)

    def full_load(self, ptr, cache_modifier, eviction_policy, is_volatile):
        _record(self, "load", ptr, all_lanes(ptr), masked=False)
        return load(self, ptr, all_lanes(ptr), None, cache_modifier, eviction_policy, is_volatile)

    def full_store(self, ptr, value, cache_modifier, eviction_policy):
        _record(self, "store", ptr, all_lanes(ptr), masked=False)
        return store(self, ptr, value, all_lanes(ptr), cache_modifier, eviction_policy)

    def rmw(self, op, ptr, value, mask, sem, scope):
        for kind in ("load", "store"):
            _record(self, kind, ptr, mask, masked=True)
        return atomic_rmw(self, op, ptr, value, mask, sem, scope)

    def cas(self, ptr, expected, value, sem, scope):
        for kind in ("load", "store"):
            _record(self, kind, ptr, all_lanes(ptr), masked=False)
        return atomic_cas(self, ptr, expected, value, sem, scope)

    def launch(self, *args, **kwargs):
        _start(self, args, kwargs)
        try:
            return call(self, *args, **kwargs)
        finally:
            _regions.clear()

    def keep_globals_clean(self, tree):
        # Triton adds its own 57 globals to the kernel's module, `np` and `math` among them; in a notebook they hide a
        # missing import until it is restarted. The rewritten kernel needs one of them.
        names = self.fn.__globals__
        before = set(names)
        rewritten = rewrite(self, tree)
        for name in set(names) - before - {"interpreter_semantic"}:
            del names[name]
        return rewritten

    @functools.cache
    def builtins_of(package):
        return [(name, member) for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]

    def patch_builtins(package, *rest):
        # Triton looks through its whole language at each launch and each call of a helper: a third of a check's time.
        for name, member in builtins_of(package):
            if getattr(package, name) is member:
                triton_interpreter._patch_attr(package, name, member, *rest)

    def greatest(self, a, b):
        return self.binary_op(a, b, np.fmax)  # as a GPU's, and as `tl.max` does here: a number and NaN give the number

    def least(self, a, b):
        return self.binary_op(a, b, np.fmin)

    triton_interpreter._patch_builtin = patch_builtins
    InterpreterBuilder.create_maxnumf, InterpreterBuilder.create_minnumf = greatest, least
    InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = masked_load, masked_store
    InterpreterBuilder.create_load, InterpreterBuilder.create_store = full_load, full_store
    InterpreterBuilder.create_atomic_rmw, InterpreterBuilder.create_atomic_cas = rmw, cas
    GridExecutor.__call__, FunctionRewriter._compile_and_exec = launch, keep_globals_clean
    # Integer overflow checks are computed and their result dropped: without them it runs 1.3 to 1.7 times faster.
    triton_interpreter.interpreter_builder.options = triton_interpreter.InterpreterOptions(sanitize_overflow=False)


def _install_on_gpu() -> None:
    """Record launches, but not the thousands by which an autotuner times; what a kernel does on a GPU cannot be seen."""
    run, bench = JITFunction.run, Autotuner._bench

    def recorded_run(self, *args, grid, warmup, **kwargs):
        if _recordings and not warmup:
            named = {k: v for k, v in kwargs.items() if k in self.arg_names}
            options = {k: kwargs[k] for k in COMPILER_OPTIONS if kwargs.get(k) is not None}
            constexprs = [parameter.name for parameter in self.params if parameter.is_constexpr]
            launch = Launch(self.fn, inspect.getcallargs(self.fn, *args, **named), constexprs, options)
            for launches in _recordings:
                launches.append(launch)
        return run(self, *args, grid=grid, warmup=warmup, **kwargs)

    def unrecorded_bench(self, *args, **kwargs):
        paused, _recordings[:] = _recordings[:], []
        try:
            return bench(self, *args, **kwargs)
        finally:
            _recordings[:] = paused

    JITFunction.run, Autotuner._bench = recorded_run, unrecorded_bench


_install() if INTERPRETED else _install_on_gpu()
