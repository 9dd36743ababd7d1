"""Runs host code on tensors that have shapes, strides, dtypes and devices, and no data; kernels are noted, not run.

Whatever Python the host code is written in, the numbers cannot pass through it: reading one raises `NeedsNumbers`.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime import Autotuner, JITFunction
from triton.runtime.interpreter import InterpretedFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import specialize
from checks.host.steps import DescriptorRef, LaunchStep, Operator, Recording, Ref

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
_KNOWN = {one.name for one in dataclasses.fields(CUDAOptions)}
"""What a launch on a GPU may say beside the kernel's arguments; it refuses all else, as Python does for a function."""
TORCHS_OWN = ("aten", "prim", "prims")
_QUERIES = {"prim::device", "aten::sym_size.int", "aten::sym_stride.int", "aten::sym_numel", "aten::sym_storage_offset"}
_here = threading.local()  # .recorder: of the call that this thread records


class NeedsNumbers(Exception):
    """Host code asked for a tensor's numbers; the message says by which operator."""


def record(function: Callable[..., Any], inputs: dict[str, Any]) -> Recording:
    """What `function(**inputs)` asks for. Tensors among the inputs lend their shapes, strides and dtypes, not their numbers.

    Raises what the function raises; NeedsNumbers where it reads a number of a tensor, or a shape that depends on one.
    """
    recorder = _Recorder()
    without_data = _mode()
    with without_data:
        given = {name: torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
                 if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    recorder.recording.inputs = {name: recorder.described(value) for name, value in given.items()}
    with warnings.catch_warnings(), _noting_launches(recorder), _on_its_gpu(), without_data, recorder:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        try:
            result = function(**given)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise NeedsNumbers(str(error.func)) from error
        except RuntimeError as error:
            if ".numpy() is not supported for tensor subclasses" in str(error):
                raise NeedsNumbers("Tensor.numpy") from error
            raise
    outputs = result if isinstance(result, tuple | list) and len(result) != 1 else (result,)
    recorder.recording.outputs = tuple(recorder.described(value) for value in outputs)
    return recorder.recording


@contextlib.contextmanager
def _on_its_gpu() -> Iterator[None]:
    """Inside the block host code that was written for a GPU finds what it asks of one, though there be none."""
    if torch.cuda.is_available():
        yield
        return
    with mock.patch.object(torch.cuda, "synchronize", lambda device=None: None), \
            mock.patch.object(torch.Tensor, "cuda", lambda self, *_, **__: self):
        yield


def _mode() -> FakeTensorMode:
    kept = vars(sys).get("tracebacklimit")
    sys.tracebacklimit = 0  # it would look up the source of every caller, a sixth of a recording
    try:
        return FakeTensorMode(allow_non_fake_inputs=True)  # such as a tensor that the wrapper makes of Python numbers
    finally:
        if kept is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = kept


class _Recorder(TorchDispatchMode):
    """Numbers the tensors that pass by and writes down the operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.recording = Recording()
        self._numbers: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []  # alive as long as their ids are in use

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if func.namespace not in TORCHS_OWN:
            return self._inside(func, args, keywords)
        result = func(*args, **keywords)
        if func.name() not in _QUERIES:
            arguments, named = self.described(args), self.described(keywords)
            self.recording.steps.append(Operator(func.name(), arguments, named, self.described(result)))
        return result

    def _inside(self, func: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The result of an operator that the host code has defined: what counts is what happens in it."""
        defined = OPDEFS.get(func._schema.name)
        if defined is None:
            raise NeedsNumbers(func.name())
        with self:
            return defined._init_fn(*args, **keywords)

    def launch(self, kernel: Any, args: tuple[Any, ...], grid: Any, keywords: dict[str, Any]) -> None:
        named = {name: value for name, value in keywords.items() if name in kernel.arg_names or name not in _KNOWN}
        found = inspect.getcallargs(kernel.fn, *args, **named)
        arguments = {name: found[name] for name in kernel.arg_names}  # in the order of the compiled kernel's
        size = grid(arguments) if callable(grid) else grid
        x, y, z = (*map(int, size if isinstance(size, tuple | list) else (size,)), 1, 1)[:3]
        options = {name: keywords[name] for name in OPTIONS if keywords.get(name) is not None}
        described = {name: self.described(value) for name, value in arguments.items()}
        signature, constexprs = specialize(kernel.fn, arguments)
        self.recording.steps.append(
            LaunchStep(kernel.fn, kernel.fn.__name__, described, (x, y, z), options, signature, constexprs))

    def described(self, value: Any) -> Any:
        """`value` with Refs in place of tensors."""
        return tree_map(self._described, value)

    def _described(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return Ref(self._number(value))
        if isinstance(value, TensorDescriptor):
            return DescriptorRef(Ref(self._number(value.base)), tuple(value.shape), tuple(value.strides),
                                 tuple(value.block_shape), value.padding)
        return value

    def _number(self, tensor: torch.Tensor) -> int:
        number = self._numbers.get(id(tensor))
        if number is None:
            number = self._numbers[id(tensor)] = len(self._kept)
            self._kept.append(tensor)
            if not isinstance(tensor, FakeTensor):  # made from Python numbers: it has data, and they are the host code's own
                self.recording.constants[number] = tensor
        return number


@contextlib.contextmanager
def _noting_launches(recorder: _Recorder) -> Iterator[None]:
    _here.recorder = recorder
    try:
        yield
    finally:
        _here.recorder = None


@contextlib.contextmanager
def discarding_launches() -> Iterator[None]:
    """Inside the block this thread's launches do nothing."""
    with _noting_launches(_Recorder()):
        yield


def _install() -> None:
    """Send launches to this thread's recorder, if any; an autotuner then times nothing and takes its largest blocks."""
    for interface in (JITFunction, InterpretedFunction):
        interface.run = _noted(interface.run)
    run, bench = Autotuner.run, Autotuner._bench

    def run_untimed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(_here, "recorder", None) is None:
            return run(self, *args, **kwargs)
        choices, self.cache = self.cache, {}  # what is chosen here was not measured
        try:
            return run(self, *args, **kwargs)
        finally:
            self.cache = choices

    def no_bench(self: Any, *args: Any, config: Any, **kwargs: Any) -> Any:
        if getattr(_here, "recorder", None) is None:
            return bench(self, *args, config=config, **kwargs)
        return 1 / math.prod(value for value in config.kwargs.values() if type(value) is int and value > 0)

    Autotuner.run, Autotuner._bench = run_untimed, no_bench


def _noted(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def noted(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        recorder = getattr(_here, "recorder", None)
        if recorder is None:
            return run(self, *args, grid=grid, warmup=warmup, **kwargs)
        if not warmup:
            recorder.launch(self, args, grid, kwargs)
        return None
    return noted


_install()
