"""Launches caught on their way to Triton's interpreter or to the GPU, and executed beside it on the same numbers."""

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from triton.runtime import JITFunction
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import Module, Report, compile_kernel, specialize
from checks.judge.memory import bits, strided_copy
from kernels.runtime import INTERPRETED


@dataclass
class Replayed:
    """One launch, done twice."""

    kernel: str
    report: Report
    executed: dict[str, torch.Tensor]  # the tensors afterwards, by argument
    launched: dict[str, torch.Tensor]  # as Triton's interpreter or the GPU leaves them
    arguments: dict = field(repr=False)

    def same_bits(self) -> bool:
        """Of BF16 the interpreter cuts bits off where a GPU rounds: the last bit may differ, by one."""
        return all(torch.equal(bits(ours), bits(theirs)) if ours.dtype != torch.bfloat16 else
                   bool(((bits(ours).int() - bits(theirs).int()) // 2 == 0).all())
                   for ours, theirs in ((self.executed[name], self.launched[name]) for name in self.executed))


@cache
def module(text: str) -> Module:
    return Module(text)


def execute(kernel, grid, arguments: dict, **options) -> Report:
    """Compile and run; the grid may be a function of the arguments, as for a launch."""
    signature, constexprs = specialize(kernel, arguments)
    text = compile_kernel(kernel, signature, constexprs)
    given = {name: value for name, value in arguments.items() if name not in constexprs}
    return module(text).run(grid(arguments) if callable(grid) else grid, given, **options)


@contextlib.contextmanager
def beside_the_executor() -> Iterator[list[Replayed]]:
    """Every launch inside the block is executed too; yields what came out."""
    replayed: list[Replayed] = []
    interface = InterpretedFunction if INTERPRETED else JITFunction
    launch = interface.run

    def run(self, *args, grid, warmup, **kwargs):
        if warmup:
            return launch(self, *args, grid=grid, warmup=warmup, **kwargs)
        named = {name: value for name, value in kwargs.items() if name in self.arg_names}
        bound = inspect.signature(self.fn).bind(*args, **named)
        bound.apply_defaults()
        tensors = {name: value.base if isinstance(value, TensorDescriptor) else value
                   for name, value in bound.arguments.items() if isinstance(value, torch.Tensor | TensorDescriptor)}
        copies = {tensor.data_ptr(): strided_copy(tensor) for tensor in tensors.values()}  # one of what is given twice
        executed = {name: copies[tensor.data_ptr()].as_strided(tensor.shape, tensor.stride()).view(tensor.dtype)
                    for name, tensor in tensors.items()}
        arguments = {name: value if name not in executed else executed[name] if isinstance(value, torch.Tensor) else
                     TensorDescriptor(executed[name], value.shape, value.strides, value.block_shape, value.padding)
                     for name, value in bound.arguments.items()}
        report = execute(self, grid, arguments)
        result = launch(self, *args, grid=grid, warmup=warmup, **kwargs)
        launched = {name: strided_copy(tensor) for name, tensor in tensors.items()}
        replayed.append(Replayed(self.fn.__name__, report, executed, launched, arguments))
        return result

    interface.run = run
    try:
        yield replayed
    finally:
        interface.run = launch
