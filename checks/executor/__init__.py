"""Triton kernels executed from their compiled TTIR with NumPy, all programs of the grid at once, without a GPU.

    signature, constexprs = specialize(kernel, arguments)       # types from arguments by name, or write them down
    text = compile_kernel(kernel, signature, constexprs)        # Triton's own front end; 10 to 90 ms, then cached
    report = Module(text).run(grid, numbers)                    # of the arguments those that are no constexprs

The report tells faults, races, prints, bytes moved, elements touched and, where asked for, each access. The text may be a
stranger's: `Limits` bound its time, its size and what it keeps.
"""

from checks.executor.arguments import Descriptor, Tensor
from checks.executor.compile import compile_kernel, specialize
from checks.executor.errors import CompileError, ExecutorError, LimitExceeded, Limits, Malformed, Unsupported
from checks.executor.report import Access, Fault, Print, Race, Report
from checks.executor.run import Module

__all__ = ["Access", "CompileError", "Descriptor", "ExecutorError", "Fault", "LimitExceeded", "Limits", "Malformed",
           "Module", "Print", "Race", "Report", "Tensor", "Unsupported", "compile_kernel", "specialize"]
