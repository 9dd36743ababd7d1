"""Launches caught on their way to Triton's interpreter, and executed beside it on the same numbers."""

import contextlib
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import Module, Report, compile_kernel, specialize


@dataclass
class Replayed:
    """One launch, done twice."""

    kernel: str
    report: Report
    executed: dict[str, torch.Tensor]  # the tensors afterwards, by argument
    interpreted: dict[str, torch.Tensor]
    compile_s: float
    interpreter_s: float
    arguments: dict = field(repr=False)

    def same_bits(self) -> bool:
        """Of BF16 the interpreter cuts bits off where a GPU rounds: the last bit may differ, by one."""
        return all(torch.equal(bits(ours), bits(theirs)) if ours.dtype != torch.bfloat16 else
                   bool(((bits(ours).int() - bits(theirs).int()) // 2 == 0).all())
                   for ours, theirs in ((self.executed[name], self.interpreted[name]) for name in self.executed))


def bits(x: torch.Tensor) -> torch.Tensor:
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    return x.contiguous().view(whole)


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
def beside_the_interpreter() -> Iterator[list[Replayed]]:
    """Every launch inside the block is executed too; yields what came out."""
    replayed: list[Replayed] = []
    interpret = InterpretedFunction.run

    def run(self, *args, grid, warmup, **kwargs):
        if warmup:
            return None
        named = {name: value for name, value in kwargs.items() if name in self.arg_names}
        bound = inspect.signature(self.fn).bind(*args, **named)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        tensors = {name: value.base if isinstance(value, TensorDescriptor) else value for name, value in arguments.items()
                   if isinstance(value, torch.Tensor | TensorDescriptor)}
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        began = time.perf_counter()
        report = execute(self, grid, arguments)
        compile_s = time.perf_counter() - began - report.seconds
        executed = {name: tensor.clone() for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            tensor.copy_(before[name])
        began = time.perf_counter()
        result = interpret(self, *args, grid=grid, warmup=warmup, **kwargs)
        interpreter_s = time.perf_counter() - began
        interpreted = {name: tensor.clone() for name, tensor in tensors.items()}
        replayed.append(Replayed(self.fn.__name__, report, executed, interpreted, compile_s, interpreter_s, arguments))
        return result

    InterpretedFunction.run = run
    try:
        yield replayed
    finally:
        InterpretedFunction.run = interpret
