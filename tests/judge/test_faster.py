"""The interpreter made faster computes and refuses what Triton's own does."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterError, TensorHandle, interpreter_builder

from checks.judge.launches import Launch, _different


@triton.jit
def doubled(x):
    return x + x


@triton.jit
def helped_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs)
    y = doubled(x)[:, None] + x[None, :]  # (BLOCK, BLOCK)
    tl.store(y_ptr + offs[:, None] * BLOCK + offs[None, :], doubled(y).to(tl.float16))


@triton.jit
def odd_kernel(y_ptr, BLOCK: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, 4), tl.full((BLOCK,), 1.0, tl.float32))


def test_helpers_shapes_and_types_in_a_kernel():
    x, y = torch.arange(4.0), torch.zeros(4, 4, dtype=torch.float16)
    helped_kernel[(1,)](x, y, BLOCK=4)
    assert torch.equal(y, (4 * x[:, None] + 2 * x[None, :]).half())


@pytest.mark.parametrize(("block", "said"), [(3, "Shape element 0 must be a power of 2"), (8, "ncompatible")])
def test_the_language_is_as_before_also_after_an_error(block, said):
    before = {name: getattr(tl, name) for name in ("load", "store", "arange", "dot", "range")}
    for _ in range(2):  # the second time the shape is known, if wrong
        with pytest.raises(InterpreterError, match=said):
            odd_kernel[(1,)](torch.zeros(4), BLOCK=block)
    assert before == {name: getattr(tl, name) for name in before}


def test_block_types():
    for shape in ([4, 8], tl.tuple([4, 8]), [tl.constexpr(4), 8]):
        made = tl.block_type(tl.float32, shape)
        assert made == tl.block_type(tl.float32, [4, 8]) and made != tl.block_type(tl.float32, [8, 4])
        assert (str(made), made.numel, list(made.shape)) == ("<['4', '8'], fp32>", 32, [4, 8])
        tensor = tl.tensor(None, made)
        assert all(isinstance(size, tl.constexpr) for size in tensor.shape) and tensor.numel.value == 32
    with pytest.raises(TypeError, match="0d block_type is forbidden"):
        tl.block_type(tl.float32, [])


@pytest.mark.parametrize("K", [64, 1023, 1024, 1025, 2047, 4096])
def test_products_of_int8_are_exact(K):
    """Of the largest codes: their sums need more bits than FP32 has from K = 1,024 on."""
    a, b = np.full((2, K), -128, dtype=np.int8), np.full((K, 2), -128, dtype=np.int8)
    a[1, 3], b[3, 1] = 127, 1  # an odd sum
    handles = [TensorHandle(a, tl.int8), TensorHandle(b, tl.int8), TensorHandle(np.full((2, 2), 7, np.int32), tl.int32)]
    made = interpreter_builder.create_dot(*handles, None, None)
    assert made.data.dtype == np.int32 and made.dtype == tl.int32
    assert (made.data == a.astype(np.int64) @ b.astype(np.int64) + 7).all()


@pytest.mark.parametrize(("numbers", "count"), [([], 0), ([5], 1), ([3, 1, 3, 2], 3), ([0, 10**12, 10**12], 2),
                                                ([-2, 7, -2], 2)])
def test_different_numbers_are_counted(numbers, count):
    assert _different(np.array(numbers, dtype=np.int64)) == count


def test_what_a_launch_touched():
    access = SimpleNamespace(kind="load", tensor="x", itemsize=2, offsets=np.array([4, 5, 4]), live=np.array([True] * 3))
    idle = SimpleNamespace(kind="store", tensor="y", itemsize=4, offsets=np.array([1]), live=np.array([False]))
    launch = Launch(None, {}, [], {}, accesses=[access, idle])
    assert launch.footprint() == {("load", "x"): 4, ("store", "y"): 0}
