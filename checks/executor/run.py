"""A module of TTIR, and its execution for all programs of a grid at once.

A value is an array (x, y, z, *tile): the first three axes are the grid's, and an axis along which all is equal has size 1,
so that `mask_m[:, None] & mask_k[None, :]`, or a tile that depends on one axis of the grid, costs what it holds. Where
programs go different ways all go all ways, under a mask, `active`. Programs run in chunks whose arrays stay in the cache.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from checks.executor import memory
from checks.executor.access import Sum
from checks.executor.analysis import mark_dead, mark_steps, peak, roots_of_stores
from checks.executor.arguments import Tensor, flat
from checks.executor.errors import DEFAULT_LIMITS, LimitExceeded, Limits, Malformed
from checks.executor.ir import Block, Op, all_ops
from checks.executor.masks import Active, both, choose
from checks.executor.memory import SHIFT, View
from checks.executor.operations import prepare
from checks.executor.parse import Parser
from checks.executor.report import Fault, Print, Program, Race, Report
from checks.executor.types import HELD, Type
from checks.executor.verify import verify

LANES = 1 << 19
"""Elements of the largest tile over a chunk of programs: of 2**16 to 2**21, what was fastest for most kernels."""
MASKS = {"tt.load": 1, "tt.store": 2, "tt.atomic_rmw": 2}
"""Which operand is the mask."""
CONTRADICTIONS = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
"""What NumPy and Python raise when the text contradicts itself."""
Env = dict[str, Any]
Arguments = Mapping[str, Any] | Sequence[tuple[str, Any]]


class Module:
    """The text, parsed and made ready. Raises Malformed, Unsupported or LimitExceeded."""

    def __init__(self, text: str, limits: Limits = DEFAULT_LIMITS):
        parser = Parser(text, limits)
        self.functions, self.kernel, self.limits = parser.functions, parser.functions[parser.kernel], limits
        self.ops = [op for function in self.functions.values() for op in all_ops(function.blocks)]
        self.constants = {name for op in self.ops if op.name == "arith.constant" for name in op.results}
        op = None
        try:
            for function in self.functions.values():
                verify(function)
                mark_dead(function.blocks)
                mark_steps(function)
            for op in self.ops:
                prepare(op)
        except CONTRADICTIONS as error:
            raise _malformed(op, error) from error
        shapes = [kind.shape for op in self.ops for kind in [*op.types, *op.operand_types]]
        self.biggest = max([math.prod(shape) for shape in shapes], default=1)
        self.longest = max([shape[-1] for shape in shapes if shape], default=1)
        self.bytewise = any(op.name in ("tt.int_to_ptr", "tt.bitcast") and op.type.elem == "ptr" for op in self.ops)
        # A lock: who waits for it must not keep its holder waiting, so one program after the other.
        self.one_by_one = any(op.name == "scf.while" and any(inner.name.startswith("tt.atomic") for region in op.regions
                                                             for inner in all_ops(region)) for op in self.ops)
        programs = limits.memory // (8 * max(1, sum(peak(f.blocks) for f in self.functions.values())))
        if programs < 1:
            raise LimitExceeded("one program holds more values at a time than there is memory for")
        self.chunk = 1 if self.one_by_one else max(1, min(LANES // self.biggest, programs))

    def run(self, grid: Sequence[int], arguments: Arguments, *, undefined: Mapping[str, np.ndarray] | None = None,
            loaded: bool = False, trace: bool = False) -> Report:
        """Launch the kernel and write what it wrote into the arguments.

        arguments: torch tensors on the CPU, NumPy arrays, `Tensor`s, descriptors or numbers by name, for each argument that
        is not a constexpr, in order. undefined: by name which elements hold nothing yet, bool in the tensor's shape: to load
        one is a fault. loaded: report which elements were. trace: keep each access. Raises Unsupported or LimitExceeded,
        Malformed for types that contradict each other, TypeError for arguments that do not fit the kernel.
        """
        started = time.perf_counter()
        execution = Execution(self, grid, arguments, undefined or {})
        execution.loaded, execution.traced = loaded, trace
        try:
            with np.errstate(all="ignore"):
                execution.launch()
        except MemoryError:
            raise LimitExceeded("the kernel needs more memory than there is") from None
        except RecursionError:
            raise LimitExceeded("calls lie too deep in each other") from None
        except CONTRADICTIONS as error:
            raise _malformed(execution.at, error) from error
        execution.finish()
        execution.report.seconds = time.perf_counter() - started
        return execution.report


def _malformed(op: Op | None, error: Exception) -> Malformed:
    where = f"{op.name} ({op.place or 'unknown line'})" if op else "the text"
    return Malformed(f"{where}: {type(error).__name__}: {error}")


class Execution:
    """One launch."""

    def __init__(self, module: Module, grid: Sequence[int], arguments: Arguments,
                 undefined: Mapping[str, np.ndarray]):
        self.module, self.report = module, Report()
        self.deadline = time.perf_counter() + module.limits.seconds
        self.grid = _whole_grid(grid)
        self.loaded = self.traced = False
        self.traced_lanes = 0
        self.at: Op | None = None
        self.depth = 0
        function = module.kernel
        given = flat(arguments)
        if len(given) != len(function.args):
            given = flat(arguments, rounding=False)
        if len(given) != len(function.args):
            raise TypeError(f"the kernel takes {len(function.args)} arguments without its constexprs, not {len(given)}")
        self.tensors = [(name, value) for name, value in given if isinstance(value, Tensor)]
        self.views = memory.make_views(self.tensors, module.longest, module.bytewise)
        self.values = []
        which = 0
        pointers = {}
        for (name, value), kind, arg in zip(given, function.types, function.args, strict=True):
            if isinstance(value, Tensor) != (kind.elem == "ptr") or kind.shape:
                raise TypeError(f"the argument `{name}` cannot be {type(value).__name__}: the kernel takes {kind}")
            if isinstance(value, Tensor):
                if kind.pointed().itemsize != value.itemsize:
                    raise TypeError(f"`{name}` has elements of {value.itemsize} bytes; the kernel takes {kind}")
                pointers[arg] = self.views[which]
                which += 1
                value = which << SHIFT
            self.values.append(_number(name, value, kind))
        written = roots_of_stores(function, set(pointers)) if len(module.functions) == 1 else set(pointers)
        stored = {id(pointers[arg].buffer) for arg in written}
        for view in self.views:
            view.may_be_written = id(view.buffer) in stored
            if (mask := undefined.get(view.name)) is not None:
                if view.buffer.undefined is None:
                    view.buffer.undefined = np.zeros(view.buffer.cells.size, bool)
                view.of(view.buffer.undefined)[...] = mask[..., None] if view.bytewise else mask

    def launch(self) -> None:
        (gx, gy, gz), programs = self.grid, self.module.chunk
        if 0 in self.grid:
            return
        bz = min(gz, programs)
        by = min(gy, max(1, programs // bz))
        bx = min(gx, max(1, programs // (bz * by)))
        for x in range(0, gx, bx):
            for y in range(0, gy, by):
                for z in range(0, gz, bz):
                    self._start((x, min(x + bx, gx)), (y, min(y + by, gy)), (z, min(z + bz, gz)))
                    self.call(self.module.kernel.name, self.values, None)

    def _start(self, *ranges: tuple[int, int]) -> None:
        """A chunk of programs."""
        x, y, z = (np.arange(*ends, dtype=np.int32) for ends in ranges)
        self.ids = [x.reshape(-1, 1, 1), y.reshape(1, -1, 1), z.reshape(1, 1, -1)]
        self.box = (len(x), len(y), len(z))
        self.program = (self.ids[0] * self.grid[1] + self.ids[1]) * self.grid[2] + self.ids[2] + 1  # 0 is nobody
        self.waited: Active = None  # programs that have made an atomic operation
        self.check_time()

    def finish(self) -> None:
        """Results into the arguments, and which elements were touched into the report."""
        for view, (_, tensor) in zip(self.views, self.tensors, strict=True):
            memory.write_back(view, tensor)
            for found, cells in ((self.report.written, view.buffer.writer), (self.report.loaded, view.buffer.loaded)):
                if (elements := memory.written_elements(view, cells)) is not None:
                    found[view.name] = elements

    def call(self, name: str, values: Sequence[np.ndarray], active: Active) -> list[np.ndarray]:
        """Run a function; returns what it returns."""
        function = self.module.functions[name]
        self.depth += 1
        if self.depth > self.module.limits.depth:
            raise LimitExceeded(f"calls lie more than {self.module.limits.depth} deep in each other")
        env: Env = dict(zip(function.args, values, strict=True))
        if len(function.blocks) == 1:
            returned = self.block(function.blocks[0], env, active)
        else:
            returned = self._blocks(function.blocks, env, active)
        self.depth -= 1
        return returned

    def _blocks(self, blocks: list[Block], env: Env, active: Active) -> list[np.ndarray]:
        """Early returns: blocks in the order of the text, each for the programs that come to it. No way leads back."""
        arrived: dict[str, tuple[Active, list[np.ndarray]]] = {}
        arrived[blocks[0].label] = active, [env[name] for name in blocks[0].args]
        returned: list[np.ndarray] | None = None
        for block in blocks:
            if block.label not in arrived:
                continue
            here, given = arrived.pop(block.label)
            env |= zip(block.args, given, strict=True)
            out = self.block(block, env, here)
            last = block.ops[-1]
            if not last.edges:
                old_values = out if returned is None else returned
                returned = [choose(here, new, old) for new, old in zip(out, old_values, strict=True)]
                continue
            condition = self.get(env, last.operands[0]) if last.operands else None
            ways = [None] if condition is None else [condition, ~condition]
            for (label, passed), taken in zip(last.edges, ways, strict=True):
                mask = both(here, taken)
                if mask is not None and not mask.any():
                    continue
                values = [self.get(env, name) for name in passed]
                if label in arrived:
                    before, old = arrived[label]
                    values = [choose(mask, new, was) for new, was in zip(values, old, strict=True)]
                    mask = None if mask is None or before is None else mask | before
                arrived[label] = mask, values
        if arrived:
            raise Malformed("a jump back")
        return returned or []

    def block(self, block: Block, env: Env, active: Active) -> list[np.ndarray]:
        """Run; returns the values of its terminator's operands."""
        for op in block.ops[:-1]:
            self.at = op
            self.check_time()
            op.run(self, env, active)
            for name in op.dead:
                env.pop(name, None)
        last = block.ops[-1]
        return [] if last.edges else [self.get(env, name) for name in last.operands]

    def region(self, blocks: list[Block], env: Env, given: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a region of single lanes makes of `given`, each (lanes, 1, 1)."""
        env |= zip(blocks[0].args, given, strict=True)
        return self.block(blocks[0], env, None) if len(blocks) == 1 else self._blocks(blocks, env, None)

    def combine(self, body: Block, env: Env, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a reduction's region makes of two tuples of lanes."""
        env |= zip(body.args, [*a, *b], strict=True)
        return [np.broadcast_to(value, a[0].shape) for value in self.block(body, env, None)]

    @staticmethod
    def get(env: Env, name: str) -> np.ndarray:
        """A value; pointers added up."""
        value = env[name]
        if isinstance(value, Sum):
            value = env[name] = value.full()
        return value

    def values_of(self, op: Op, env: Env) -> list[np.ndarray]:
        return [self.get(env, name) for name in op.operands]

    def check_time(self) -> None:
        if time.perf_counter() > self.deadline:
            raise LimitExceeded(f"the kernel did not finish within {self.module.limits.seconds:g} s")

    @staticmethod
    def live(mask: np.ndarray | None, active: Active, rank: int) -> np.ndarray | None:
        """Lanes of a tile with `rank` axes that a mask lets through, of the programs that are active."""
        return both(mask, None if active is None else active.reshape(active.shape + (1,) * rank))

    def place(self, number: int) -> Program:
        """A program's index in the grid."""
        x, rest = divmod(number - 1, self.grid[1] * self.grid[2])
        return x, *divmod(rest, self.grid[2])

    def note(self, kind: str, found: Fault | Race | Print) -> None:
        """Put it into the report's list `kind`, unless that is full."""
        kept = getattr(self.report, kind)
        if len(kept) < self.module.limits.notes:
            kept.append(found)
        else:
            self.report.left_out[kind] += 1

    def fault(self, what: str, op: Op, bad: np.ndarray, view: View | None, offset: np.ndarray | None) -> None:
        """Lanes `bad`, (x, y, z, *tile) or to be broadcast to it, are at fault."""
        shape = self.box + op.operand_types[0].shape
        bad = np.broadcast_to(bad, shape)
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), shape))
        x, y, z = (int(np.broadcast_to(ids, self.box)[where[:3]]) for ids in self.ids)
        at = int(np.broadcast_to(offset, shape)[where]) if offset is not None and view is not None else None
        mask = op.operands[MASKS[op.name]:][:1] if op.name in MASKS else []
        masked = bool(mask) and mask[0] not in self.module.constants  # an atomic's is a constant where there is none
        name = view.name if view else None
        self.note("faults", Fault(what, name, (x, y, z), where[3:], at, int(bad.sum()), op.place, masked))


def _whole_grid(grid: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = whole = (*map(int, grid), 1, 1, 1)[:3]
    if len(grid) > 3 or not (0 <= x < 2**31 and 0 <= y < 2**16 and 0 <= z < 2**16):
        raise ValueError(f"a grid has up to three axes, (2**31 - 1, 65535, 65535) programs at most, not {tuple(grid)}")
    if x * y * z >= 2**31 - 1:
        raise LimitExceeded(f"the grid {whole} has more programs than can be told apart here")
    return x, y, z


def _number(name: str, value: Any, kind: Type) -> np.ndarray:
    dtype = HELD[kind.elem]
    if dtype.kind == "i":
        value = int(value)
        if not -(2 ** (8 * dtype.itemsize - 1)) <= value < 2 ** (8 * dtype.itemsize):
            raise TypeError(f"the argument `{name}`, {value}, does not fit the kernel's {kind}")
        value = (value + 2 ** (8 * dtype.itemsize - 1)) % 2 ** (8 * dtype.itemsize) - 2 ** (8 * dtype.itemsize - 1)
    return np.full((1, 1, 1), value, dtype)
