"""Triton's interpreter with less Python around the same numbers: types are made once, the language is prepared once for a
launch, and products of INT8 go to BLAS.

Like launches.py it reaches into what Triton does not promise; tests/judge/test_faster.py holds it against Triton's own.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle


class _Shape(NamedTuple):
    """What block types and tensors of one shape have in common."""

    ints: Any  # tl.tuple
    numel: int
    text: str
    constexprs: Any  # tl.tuple
    constexpr_numel: Any


def make_faster() -> None:
    """Amend the interpreter, for good."""
    _types_made_once()
    _language_prepared_once()
    _less_around_each_operation()
    InterpreterBuilder.create_dot = _dot_by_blas(InterpreterBuilder.create_dot)


def _types_made_once() -> None:
    shapes: dict[tuple[int, ...], _Shape] = {}
    make_type, np_dtype = tl.block_type.__init__, triton_interpreter._get_np_dtype

    def new_type(self: Any, element_ty: Any, shape: Any) -> None:
        sizes = tuple([size.value if isinstance(size, tl.constexpr) else size for size in shape])
        known = shapes.get(sizes)
        if known is None:
            make_type(self, element_ty, shape)  # which refuses what is no shape
            known = shapes[sizes] = _Shape(self.shape, self.numel, str(self.shape), tl.tuple(list(map(tl.constexpr, sizes))),
                                           tl.constexpr(math.prod(sizes)))
        self.element_ty, self.shape, self.numel, self.shared = element_ty, known.ints, known.numel, known
        self.name = f"<{known.text}, {element_ty}>"

    scalar = _Shape((), 1, "()", tl.tuple([]), tl.constexpr(1))

    def new_tensor(self: Any, handle: Any, type: Any) -> None:
        shared = type.shared if type.is_block() else scalar
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shared.constexprs, shared.constexpr_numel

    np_dtypes: dict[str, Any] = {}

    def np_dtype_of(dtype: Any) -> Any:
        element = dtype.scalar
        if element.name not in np_dtypes:
            np_dtypes[element.name] = np_dtype(element)
        return np_dtypes[element.name]

    tl.block_type.__init__, tl.tensor.__init__ = new_type, new_tensor
    triton_interpreter._get_np_dtype = np_dtype_of


def _language_prepared_once() -> None:
    """Triton prepares its language for a launch, and again at each call of a helper inside of it."""
    prepare, call = triton_interpreter._patch_lang, GridExecutor.__call__
    prepared: list[list[Any]] = []  # by the launches that are under way: the modules of the language that are prepared

    def prepare_once(function: Any) -> Any:
        modules = languages(function)
        if prepared and all(module in prepared[-1] for module in modules):
            return triton_interpreter._LangPatchScope()
        scope = prepare(function)
        if prepared:
            prepared[-1] += modules
        return scope

    @functools.lru_cache(maxsize=1024)
    def languages(function: Any) -> list[Any]:
        return [module for module in (tl, tl.core) if any(value is module for value in function.__globals__.values())]

    def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
        prepared.append([])
        try:
            return call(self, *args, **kwargs)
        finally:
            prepared.pop()

    triton_interpreter._patch_lang = prepare_once
    GridExecutor.__call__ = launch


def _less_around_each_operation() -> None:
    semantic = triton_interpreter.interpreter_semantic
    broadcast = semantic.broadcast_impl_value

    def patch_attribute(package: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
        inner = getattr(member, "__wrapped__", member)  # without the question whether it was called in a kernel

        def operation(*arguments: Any, **named: Any) -> Any:
            named["_semantic"] = semantic
            return inner(*arguments, **named)

        scope.set_attr(package, name, operation)

    def broadcast_unless_alike(lhs: Any, rhs: Any) -> Any:
        return (lhs, rhs) if lhs.shape is rhs.shape else broadcast(lhs, rhs)

    triton_interpreter._patch_attr = patch_attribute
    semantic.broadcast_impl_value = broadcast_unless_alike


def _dot_by_blas(dot: Any) -> Any:
    """NumPy multiplies whole numbers one by one; as long as sums stay below 2**24, FP32 gives the same ones from BLAS."""
    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if a.data.dtype == b.data.dtype == np.int8 and a.data.shape[-1] < 1024 and d.data.dtype == np.int32:
            product = np.matmul(a.data.astype(np.float32), b.data.astype(np.float32)).astype(np.int32)
            return TensorHandle(product + d.data, d.dtype.scalar)
        return dot(self, a, b, d, *rest)

    return create_dot
