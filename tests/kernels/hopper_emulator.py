"""An emulated Hopper multiprocessor, to run `kernels.hopper_gemm` where there is none: what its warps do, never how fast.

One role (the producer or a consumer) runs at a time, until it waits at a barrier; then the first in `order` whose wait is
over. Whatever the hardware does on its own time is done as late as it may be: a product when it is waited for, the store
of a tile likewise. So a missing wait gives wrong numbers, and two roles that wait for each other raise `Deadlock`.
"""

import functools
import threading
from types import FunctionType, SimpleNamespace

import numpy as np
import torch
import triton.language as tl
from triton.experimental.gluon import language as gl

from checks.judge.source import python_function
from kernels import hopper_gemm

NUMPY = {gl.int8: np.int8, gl.int32: np.int32, gl.int64: np.int64, gl.float16: np.float16, gl.float32: np.float32}
GLUON = {torch.int8: gl.int8, torch.float16: gl.float16}


class Deadlock(RuntimeError):
    pass


class Roles:
    """Threads of which one runs at a time."""

    def __init__(self, order):
        self.order, self.changed, self.me = order, threading.Condition(), threading.local()
        self.waits, self.running, self.errors = {}, None, []

    def run(self, functions) -> None:
        self.waits = {role: lambda: True for role in range(len(functions))}
        threads = [threading.Thread(target=self._role, args=role) for role in enumerate(functions)]
        for thread in threads:
            thread.start()
        with self.changed:
            self._next()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def wait_until(self, over) -> None:
        role = self.me.role
        with self.changed:
            self.waits[role] = over
            self._next()
            self._until_it_runs(role)

    def _role(self, role, function) -> None:
        self.me.role, self.me.stores, self.me.written = role, [], []
        self.me.stored, self.me.fenced, self.me.polled, self.me.behind = [], [], None, False
        try:
            with self.changed:
                self._until_it_runs(role)
            function()
        except Exception as error:
            self.errors.append(error)
        with self.changed:
            self._next()

    def _until_it_runs(self, role) -> None:
        self.changed.wait_for(lambda: self.errors or self.running == role)
        if self.errors:
            raise Deadlock("another role ended")
        del self.waits[role]

    def _next(self) -> None:
        self.running = next((role for role in self.order if role in self.waits and self.waits[role]()), None)
        if self.running is None and self.waits:
            self.errors.append(Deadlock(f"roles {sorted(self.waits)} wait for each other"))
        self.changed.notify_all()


class Barrier:
    """PTX's mbarrier: a phase ends when `count` have arrived and all expected bytes have come."""

    def __init__(self):
        self.phase = self.bytes = 0

    def init(self, count) -> None:
        self.count = self.pending = count

    def arrive(self, count=1, num_bytes=0) -> None:
        self.pending -= count
        self.bytes += num_bytes
        if self.pending == 0 and self.bytes == 0:
            self.phase, self.pending = self.phase ^ 1, self.count
        if self.pending < 0:
            raise RuntimeError("more arrived at a barrier than it counts")


class Tile(np.ndarray):
    """A tensor in registers."""

    def to(self, dtype, bitcast=False):
        return (self.view(NUMPY[dtype]) if bitcast else self.astype(NUMPY[dtype])).view(Tile)


class Shared:
    """A tensor in shared memory, and views of it."""

    def __init__(self, memory, dtype, roles):
        self.memory, self.dtype, self.shape, self.roles = memory, dtype, list(memory.shape), roles

    def _view(self, memory):
        return Shared(memory, self.dtype, self.roles)

    def index(self, place):
        return self._view(self.memory[place])

    def slice(self, first, rows):
        return self._view(self.memory[first:first + rows])

    def permute(self, axes):
        return self._view(self.memory.transpose(axes))

    def store(self, value) -> None:
        """The copy engine sees it after the next fence."""
        self.roles.me.written.append((self.memory, np.array(value)))


class Sums:
    """An accumulator, and the products that are still under way."""

    def __init__(self, value, pending=()):
        self.value, self.pending = value, list(pending)

    def finish(self, but):
        while len(self.pending) > but:
            x, w, use_acc = self.pending.pop(0)
            product = (x.memory.astype(np.float64) @ w.memory.astype(np.float64)).astype(self.value.dtype)
            self.value = self.value + product if use_acc else product
        return self

    def to(self, dtype):
        return self.value.view(Tile).to(dtype)


class Descriptor:
    def __init__(self, descriptor):
        self.memory, self.block_shape = descriptor.base.numpy(), list(descriptor.block_shape)
        self.dtype, self.layout = GLUON[descriptor.base.dtype], descriptor.layout
        self.block_type = SimpleNamespace(nbytes=int(np.prod(self.block_shape)) * self.memory.itemsize)

    def part(self, first):
        """The block's part of the tensor: what lies outside does not exist."""
        return self.memory[first[0]:first[0] + self.block_shape[0], first[1]:first[1] + self.block_shape[1]]


class Pointer:
    def __init__(self, memory, element_ty, offsets=0):
        self.memory, self.offsets, self.dtype = memory, offsets, SimpleNamespace(element_ty=element_ty)

    def __add__(self, offsets):
        return Pointer(self.memory, self.dtype.element_ty, self.offsets + offsets)


def pointer(tensor):
    """To the tensor's memory; to a copy of it in FP32 where it is in BF16, which NumPy does not have."""
    extent = 1 + sum(stride * (size - 1) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    memory = tensor.as_strided((extent,), (1,))
    if tensor.dtype == torch.bfloat16:
        return Pointer(memory.float().numpy(), gl.bfloat16)
    return Pointer(memory.numpy(), GLUON.get(tensor.dtype))


class Multiprocessor:
    """Runs one program of the kernel; `language` is what its source finds under Gluon's names."""

    def __init__(self, program, programs, order):
        self.program, self.programs, self.roles = program, programs, Roles(order)

    def language(self) -> dict:
        roles = self.roles
        mbarrier = SimpleNamespace(
            init=lambda barrier, count: barrier.init(count), MBarrierLayout=lambda: None,
            wait=lambda barrier, phase: roles.wait_until(lambda: barrier.phase != phase),
            arrive=lambda barrier, count: barrier.arrive(count),
            expect=lambda barrier, num_bytes: barrier.arrive(num_bytes=num_bytes))
        tma = SimpleNamespace(async_copy_global_to_shared=self.fetch, store_wait=self.store_wait,
                              async_copy_shared_to_global=lambda *copy: roles.me.stores.append(copy))
        names = {
            **{name: getattr(gl, name) for name in ("int8", "int32", "int64", "float16", "bfloat16", "float32")},
            "program_id": lambda axis: self.program, "num_programs": lambda axis: self.programs,
            "cdiv": lambda a, b: -(-a // b), "where": where, "static_range": range, "expand_dims": np.expand_dims,
            "load": self.load, "constexpr": None,
            "arange": lambda first, last, layout: np.arange(first, last).view(Tile), "zeros_like": np.zeros_like,
            "min": lambda x, axis: np.min(x, axis), "maximum": lambda a, b, propagate_nan: np.maximum(a, b),
            "reduce": lambda x, axis, combine: functools.reduce(combine, np.moveaxis(x, axis, 0)),
            "div_rn": lambda a, b: np.divide(a, b, dtype=np.float32).view(Tile), "fma": fma,
            "store": self.store, "atomic_add": self.atomic_add, "BlockedLayout": lambda *_: None,
            "zeros": lambda shape, dtype, layout: Sums(np.zeros(shape, NUMPY[dtype])),
            "SliceLayout": lambda *_: None, "NVMMADistributedLayout": lambda **_: None,
            "allocate_shared_memory": self.allocate, "warp_specialize": self.specialize,
        }
        return {"gl": SimpleNamespace(**names), "tl": tl, "acquire": self.acquire, "seen_by_copy_engine": self.proxy_fence,
                "larger_magnitude": lambda a, x, BF16: np.maximum(a, np.abs(x)), "mbarrier": mbarrier, "tma": tma,
                "warpgroup_mma": multiply, "warpgroup_mma_wait": lambda but, deps: deps[0].finish(but),
                "barrier": lambda: None, "fence_async_shared": self.fence}

    def allocate(self, dtype, shape, layout):
        if dtype == gl.int64:
            barriers = [Barrier() for _ in range(shape[0])]
            return SimpleNamespace(index=barriers.__getitem__)
        return Shared(np.full(shape, 77, NUMPY[dtype]), dtype, self.roles)

    def specialize(self, roles, warps, registers) -> None:
        assert len(warps) == len(registers) == len(roles) - 1
        self.roles.run([lambda f=f, arguments=arguments: f(*arguments) for f, arguments in roles])

    def fence(self) -> None:
        for memory, value in getattr(self.roles.me, "written", ()):
            memory[...] = value
        self.roles.me.written = []

    def store_wait(self, but) -> None:
        while len(self.roles.me.stores) > but:
            descriptor, first, tile = self.roles.me.stores.pop(0)
            part = descriptor.part(first)
            part[...] = tile.memory[:part.shape[0], :part.shape[1]]


    def fetch(self, descriptor, first, barrier, stage) -> None:
        if self.roles.me.behind:
            raise RuntimeError("the copy engine may read what was there before")
        part = descriptor.part(first)
        stage.memory[...] = 0
        stage.memory[:part.shape[0], :part.shape[1]] = part
        barrier.arrive(0, -descriptor.block_type.nbytes)

    def load(self, pointer, mask=True, other=0, volatile=False, eviction_policy="") -> Tile:
        if volatile:  # a role that asks again lets others run until there is something new
            me, seen = self.roles.me, pointer.memory.copy()
            if me.polled is not None and np.array_equal(me.polled, seen):
                self.roles.wait_until(lambda: not np.array_equal(pointer.memory, seen))
            me.polled, me.behind = pointer.memory.copy(), {"acquire", "fence"}
        inside = np.where(mask, pointer.offsets, 0)
        return np.where(mask, pointer.memory[inside], other).astype(pointer.memory.dtype).view(Tile)

    def store(self, pointer, value, mask=True, eviction_policy="") -> None:
        """Others see it after a fence and a release, and never without."""
        value, offsets, mask = np.broadcast_arrays(value, pointer.offsets, mask)
        self.roles.me.stored.append((pointer.memory, offsets[mask], value[mask]))

    def acquire(self) -> None:
        self.roles.me.behind -= {"acquire"}

    def proxy_fence(self) -> None:
        me = self.roles.me
        me.fenced, me.stored = me.fenced + me.stored, []
        if me.behind and "acquire" not in me.behind:
            me.behind = False

    def atomic_add(self, pointer, value, sem, scope) -> int:
        if sem == "release":
            for memory, offsets, stored in self.roles.me.fenced:
                memory[offsets] = stored
            self.roles.me.fenced = []
        old = int(pointer.memory[pointer.offsets])
        pointer.memory[pointer.offsets] += value
        return old


def where(condition, a, b):
    if isinstance(condition, np.ndarray):
        made = np.where(condition, a, b)
        return (made.astype(np.float32) if made.dtype == np.float64 else made).view(Tile)
    return a if condition else b


def fma(a, b, c) -> Tile:
    return (np.float64(a) * b + c).astype(np.float32).view(Tile)


def multiply(x, w, sums, use_acc=True, is_async=False):
    made = Sums(sums.value, [*sums.pending, (x, w, use_acc)])
    return made if is_async else made.finish(0)


class Kernel:
    """Takes the place of a kernel in its module: launched like it, it runs one program after the other."""

    def __init__(self, module, order, name="hopper_gemm_kernel"):
        self.order, self.name = order, name
        found = {**vars(hopper_gemm), **vars(module)}
        self.functions = {name: python_function(found[name]) for name in found if is_gluon(found[name])}

    def __getitem__(self, grid):
        def launch(*arguments, num_warps, **constexprs):
            assert num_warps == 4  # a consumer's, as the other one's
            given = [Descriptor(a) if hasattr(a, "block_shape") else pointer(a) if isinstance(a, torch.Tensor) else a
                     for a in arguments]
            for program in range(grid[0]):
                self.bound(program, grid[0])[self.name](*given, **constexprs)
        return launch

    def bound(self, program=0, programs=1) -> dict:
        """The kernel's functions, which find a multiprocessor and each other under the names in their source."""
        names = {"__builtins__": __builtins__, "gdc_nothing": lambda: None}
        for name, function in self.functions.items():
            names[name] = FunctionType(function.__code__, names, name, function.__defaults__)
        names |= Multiprocessor(program, programs, self.order).language()
        return names


def is_gluon(value) -> bool:
    return getattr(value, "is_gluon", bool)()
