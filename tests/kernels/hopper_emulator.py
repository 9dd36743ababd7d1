"""An emulated Hopper multiprocessor, to run `kernels.hopper_gemm` where there is none: what its warps do, never how fast.

One role (the producer or a consumer) runs at a time, until it waits at a barrier; then the first in `order` whose wait is
over. Whatever the hardware does on its own time is done as late as it may be: a product when it is waited for, the store
of a tile likewise. So a missing wait gives wrong numbers, and two roles that wait for each other raise `Deadlock`.
"""

import threading
from types import FunctionType, SimpleNamespace

import numpy as np
import torch
from triton.experimental.gluon import language as gl

from checks.judge.source import python_function

NUMPY = {gl.int8: np.int8, gl.int32: np.int32, gl.float16: np.float16, gl.float32: np.float32}
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

    def to(self, dtype):
        return self.astype(NUMPY[dtype]).view(Tile)


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
    def __init__(self, memory, offsets=None):
        self.memory, self.offsets = memory, offsets

    def __add__(self, offsets):
        return Pointer(self.memory, offsets)


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
        tma = SimpleNamespace(async_copy_global_to_shared=fetch, store_wait=self.store_wait,
                              async_copy_shared_to_global=lambda *copy: roles.me.stores.append(copy))
        names = {
            **{name: getattr(gl, name) for name in ("int8", "int32", "int64", "float16", "float32")},
            "program_id": lambda axis: self.program, "num_programs": lambda axis: self.programs,
            "cdiv": lambda a, b: -(-a // b), "where": lambda condition, a, b: a if condition else b,
            "static_range": range, "expand_dims": np.expand_dims, "load": load, "constexpr": None,
            "arange": lambda first, last, layout: np.arange(first, last),
            "zeros": lambda shape, dtype, layout: Sums(np.zeros(shape, NUMPY[dtype])),
            "SliceLayout": lambda *_: None, "NVMMADistributedLayout": lambda **_: None,
            "allocate_shared_memory": self.allocate, "warp_specialize": self.specialize,
        }
        return {"gl": SimpleNamespace(**names), "mbarrier": mbarrier, "tma": tma, "warpgroup_mma": multiply,
                "warpgroup_mma_wait": lambda but, deps: deps[0].finish(but), "barrier": lambda: None,
                "fence_async_shared": self.fence}

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


def fetch(descriptor, first, barrier, stage) -> None:
    part = descriptor.part(first)
    stage.memory[...] = 0
    stage.memory[:part.shape[0], :part.shape[1]] = part
    barrier.arrive(0, -descriptor.block_type.nbytes)


def multiply(x, w, sums, use_acc=True, is_async=False):
    made = Sums(sums.value, [*sums.pending, (x, w, use_acc)])
    return made if is_async else made.finish(0)


def load(pointer, mask, other):
    inside = np.where(mask, pointer.offsets, 0)
    return np.where(mask, pointer.memory[inside], other).astype(pointer.memory.dtype).view(Tile)


class Kernel:
    """Takes the place of the module's `hopper_gemm_kernel`: launched like it, it runs one program after the other."""

    def __init__(self, module, order):
        self.order = order
        self.functions = {name: python_function(getattr(module, name)) for name in (
            "next_stage", "grouped_tile_gluon", "producer", "scaled", "consumer", "hopper_gemm_kernel")}

    def __getitem__(self, grid):
        def launch(*arguments, num_warps, **constexprs):
            assert num_warps == 4  # a consumer's, as the other one's
            given = [Descriptor(a) if hasattr(a, "block_shape") else Pointer(a.numpy()) if isinstance(a, torch.Tensor) else a
                     for a in arguments]
            for program in range(grid[0]):
                # The kernel's functions, which find a multiprocessor and each other under the names in their source.
                names = Multiprocessor(program, grid[0], self.order).language() | {"__builtins__": __builtins__}
                for name, function in self.functions.items():
                    names[name] = FunctionType(function.__code__, names, name, function.__defaults__)
                names["hopper_gemm_kernel"](*given, **constexprs)
        return launch
