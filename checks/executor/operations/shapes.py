"""What moves lanes without computing. A tile that is the same along an axis may have size 1 there."""

import math
from typing import TYPE_CHECKING

import numpy as np

from checks.executor.access import Sum
from checks.executor.errors import Malformed
from checks.executor.ir import Op
from checks.executor.masks import Active
from checks.executor.operations.table import Array, Function, Handler, effect, pure, spread

if TYPE_CHECKING:
    from checks.executor.run import Env, Execution


@effect("tt.get_program_id")
def program_id(op: Op) -> Handler:
    axis = "xyz".index(op.words)
    return lambda run, env, active: env.__setitem__(op.results[0], run.ids[axis])


@effect("tt.get_num_programs")
def num_programs(op: Op) -> Handler:
    axis = "xyz".index(op.words)
    return lambda run, env, active: env.__setitem__(op.results[0], np.full((1, 1, 1), run.grid[axis], np.int32))


@pure("tt.make_range")
def make_range(op: Op) -> Function:
    if (op.attribute("end") - op.attribute("start"),) != op.type.shape:
        raise Malformed(f"a range from {op.attribute('start')} to {op.attribute('end')} for {op.type}")
    lanes = np.arange(op.attribute("start"), op.attribute("end"), dtype=np.int32).reshape(1, 1, 1, -1)
    return lambda: lanes


@pure("tt.splat")
def splat(op: Op) -> Function:
    rank = len(op.type.shape)
    return lambda x: x.reshape(x.shape[:3] + (1,) * rank)


@pure("tt.unsplat")
def unsplat(op: Op) -> Function:
    return lambda x: x.reshape(x.shape[:3])


@pure("tt.expand_dims")
def expand_dims(op: Op) -> Function:
    axis = 3 + op.attribute("axis")
    return lambda x: np.expand_dims(x, axis)


@pure("tt.broadcast")
def broadcast(op: Op) -> Function:
    return lambda x: x  # an axis of size 1 serves any size


@pure("tt.reshape")
def reshape(op: Op) -> Function:
    before, after = op.operand_types[0].shape, op.type.shape

    def reshaped(x: Array) -> Array:
        if x.size == math.prod(x.shape[:3]):
            return x.reshape(x.shape[:3] + (1,) * len(after))
        return spread(x, before).reshape(x.shape[:3] + after)

    return reshaped


@pure("tt.trans")
def transpose(op: Op) -> Function:
    axes = (0, 1, 2, *(3 + axis for axis in op.attribute("order")))
    return lambda x: x.transpose(axes)


@pure("tt.join")
def join(op: Op) -> Function:
    return lambda a, b: np.stack(np.broadcast_arrays(a, b), axis=-1)


@pure("tt.split")
def split(op: Op) -> Function:
    return lambda x: (x[..., 0], x[..., 0 if x.shape[-1] == 1 else 1])


@pure("tt.cat")
def cat(op: Op) -> Function:
    half = op.operand_types[0].shape if op.operand_types else (op.type.shape[0] // 2, *op.type.shape[1:])
    return lambda a, b: np.concatenate(np.broadcast_arrays(spread(a, half), spread(b, half)), axis=3)


@pure("tt.gather")
def gather(op: Op) -> Function:
    axis, source = 3 + op.attribute("axis"), op.operand_types[0].shape
    axes = source[axis - 3]

    def gathered(x: Array, index: Array) -> Array:
        programs = np.broadcast_shapes(x.shape[:3], index.shape[:3])
        x, index = np.broadcast_to(x, programs + source), np.broadcast_to(index, programs + op.type.shape)
        return np.take_along_axis(x, index.astype(np.int64) % axes, axis=axis)

    return gathered


@pure("tt.histogram")
def histogram(op: Op) -> Function:
    lanes, (bins,) = op.operand_types[0].shape, op.type.shape

    def count(x: Array, mask: Array | None = None) -> Array:
        x = spread(x, lanes).astype(np.int64)
        keep = (x >= 0) & (x < bins) & (True if mask is None else mask)
        programs = keep.shape[:3]
        flat = np.arange(math.prod(programs)).reshape(*programs, 1) * bins + np.broadcast_to(x, keep.shape)
        counted = np.bincount(flat[keep], minlength=math.prod(programs) * bins)
        return counted.reshape(*programs, bins).astype(np.int32)

    return count


@effect("tt.addptr")
def add_offset(op: Op) -> Handler:
    pointer, offset = op.operands
    lazily = bool(op.type.shape)

    def run(execution: "Execution", env: "Env", active: "Active") -> None:
        steps = execution.get(env, offset)
        env[op.results[0]] = Sum(env[pointer], steps) if lazily else execution.get(env, pointer) + steps

    return run
