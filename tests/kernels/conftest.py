"""Every interpreted launch of these tests is guarded, as in the notebooks, and refuses the blocks that the compiler refuses;
memory that nothing wrote to shows."""

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import min_dot_size
from triton.runtime.interpreter import InterpreterBuilder, interpreter_builder

import checks.judge.launches  # noqa: F401  from here on an access out of bounds raises, and masked-off lanes hold NaN
from checks.judge import recorded

RECORDINGS: dict = {}


@pytest.fixture(autouse=True)
def unwritten_memory_shows(monkeypatch):
    """`torch.empty` gives NaN, or the largest integer, in place of what may be the right answer of the test before."""
    monkeypatch.setattr(torch, "empty", filled)
    monkeypatch.setattr(recorded, "_kept", RECORDINGS)  # in them memory is filled: not for other tests


def filled(*shape, empty=torch.empty, **options):
    made = empty(*shape, **options)
    if made.numel() > 1 << 24 or made.device.type == "meta":
        return made
    return made.fill_(torch.nan if made.is_floating_point() else torch.iinfo(made.dtype).max)


@pytest.fixture(autouse=True)
def blocks_are_those_of_a_compiler(monkeypatch):
    """`tl.arange` takes a power of two, and `tl.dot` as many numbers along K as tensor cores do: NumPy takes any."""
    monkeypatch.setattr(InterpreterBuilder, "create_make_range", power_of_two)
    monkeypatch.setitem(interpreter_builder.codegen_fns, "min_dot_size", min_dot_size(GPUTarget("cuda", 90, 32)))


def power_of_two(builder, kind, start, stop, make_range=InterpreterBuilder.create_make_range):
    length = stop - start
    assert length > 0 and length & (length - 1) == 0, f"tl.arange({start}, {stop}) has no power of two"
    return make_range(builder, kind, start, stop)
