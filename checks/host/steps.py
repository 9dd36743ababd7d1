"""What host code asks for, as data: torch operators and kernel launches on numbered tensors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Ref:
    """The tensor of this number in a recording."""

    number: int


@dataclass(frozen=True)
class DescriptorRef:
    """A `TensorDescriptor` over a tensor of the recording."""

    base: Ref
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    block_shape: tuple[int, ...]
    padding: str


@dataclass(frozen=True)
class Operator:
    """A torch operator that ran. Tensors among its arguments and results are `Ref`s, also inside lists."""

    name: str  # such as "aten::empty_strided"
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: Any


@dataclass(frozen=True)
class LaunchStep:
    """A kernel launch: `kernel` is the function under `triton.jit`, `arguments` all of its parameters by name.

    In a recording that another process has sent, `kernel` is the kernel's description (checks/executor/source.py).
    """

    kernel: Callable[..., Any] | str
    name: str  # of the kernel
    arguments: dict[str, Any]
    grid: tuple[int, int, int]
    options: dict[str, int]  # num_warps, num_stages, ...
    signature: dict[str, str]  # type by argument name
    constexprs: dict[str, Any]  # value by argument name: those that the kernel declares, None and the number 1


@dataclass
class Recording:
    """What one call of a wrapper asked for, in order."""

    inputs: dict[str, Any] = field(default_factory=dict)  # Refs, and the numbers as they were given
    constants: dict[int, torch.Tensor] = field(default_factory=dict)  # tensors that host code made from Python numbers
    steps: list[Operator | LaunchStep] = field(default_factory=list)
    outputs: tuple[Any, ...] = ()  # Refs and what else was returned

    @property
    def launches(self) -> list[LaunchStep]:
        return [step for step in self.steps if isinstance(step, LaunchStep)]

    @property
    def operators(self) -> list[str]:
        """The operators among the steps, each once, and a word for tensors that host code made of many numbers."""
        table = sum(tensor.numel() for tensor in self.constants.values()) > TABLE
        return sorted({step.name for step in self.steps if isinstance(step, Operator)}) + ([WRITTEN] if table else [])


TABLE = 64  # numbers that host code may write into tensors; more could be a table of results
WRITTEN = "numbers written in Python"
ALLOCATIONS = {"aten::" + name for name in (
    "empty.memory_format", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "zeros", "zeros_like",
    "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "zero_", "fill_.Scalar", "fill_.Tensor",
    "lift_fresh", "scalar_tensor")}
VIEWS = {"aten::" + name for name in (
    "view", "_unsafe_view", "view.dtype", "as_strided", "_reshape_alias", "slice.Tensor", "select.int", "t", "transpose.int",
    "permute", "expand", "unsqueeze", "squeeze", "squeeze.dim", "squeeze.dims", "alias", "detach", "unbind.int",
    "split.Tensor", "split_with_sizes", "diagonal", "unfold")}
COPIES = {"aten::" + name for name in (
    "clone", "copy_", "_to_copy", "cat", "stack", "constant_pad_nd", "slice_scatter", "select_scatter", "flip", "roll",
    "repeat")}
MOVES_ONLY = ALLOCATIONS | VIEWS | COPIES
"""Operators that put numbers in places and compute none; conversions between dtypes among them."""
