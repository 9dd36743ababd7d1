"""What a kernel may call while Triton's front end compiles it.

The front end calls whatever Python function a kernel's text names. That is a stranger's Python in the compiler's process,
where it could write any code in the kernel's place: Triton's own functions are called, and no others.
"""

import ast
import contextlib
import math
import types
from collections.abc import Iterator
from typing import Any

import triton.language as tl
from triton.compiler.code_generator import CodeGenerator
from triton.compiler.errors import UnsupportedLanguageConstruct
from triton.runtime.jit import BoundConstexprFunction, ConstexprFunction, JITFunction

LANGUAGE = ("triton.language", "triton.experimental.gluon.language")
CONSTANTS = (bool, int, float, str, list, tuple, tl.constexpr, tl.dtype)


@contextlib.contextmanager
def tritons_own_alone() -> Iterator[None]:
    """Inside the block the front end refuses kernels that call anything but Triton's language, each other, `math` and the
    few functions of Python that Triton knows. For one thread at a time."""
    call, enter = CodeGenerator.call_Function, CodeGenerator.visit_With

    def call_checked(self: Any, node: ast.AST, fn: Any, *rest: Any) -> Any:
        if not _may_be_called(self, fn):
            raise UnsupportedLanguageConstruct(self.jit_fn.src, node, _refusal(fn))
        return call(self, node, fn, *rest)

    def enter_checked(self: Any, node: ast.With) -> Any:
        for item in node.items:
            made = item.context_expr
            manager = self.visit(made.func) if isinstance(made, ast.Call) else ast.unparse(made)
            if not (isinstance(manager, type) and _of_the_language(manager)):
                raise UnsupportedLanguageConstruct(self.jit_fn.src, node, _refusal(manager))
        return enter(self, node)

    CodeGenerator.call_Function, CodeGenerator.visit_With = call_checked, enter_checked
    try:
        yield
    finally:
        CodeGenerator.call_Function, CodeGenerator.visit_With = call, enter


def _may_be_called(generator: Any, fn: Any) -> bool:
    bound = getattr(fn, "__self__", None)
    if isinstance(fn, BoundConstexprFunction):
        fn = fn.__func__
    if isinstance(fn, ConstexprFunction):
        return str(fn.fn.__module__).partition(".")[0] == "triton"  # such as cdiv
    if isinstance(fn, JITFunction) or isinstance(getattr(fn, "__func__", None), JITFunction):
        return True  # compiled as its caller is
    if any(fn is known for known in generator.builtin_namespace.values()):
        return True
    if isinstance(bound, types.ModuleType):
        return bound is math
    if bound is not None:  # a method, of a constant or of a value of Triton's
        return isinstance(bound, CONSTANTS) or _of_the_language(type(bound))
    return (isinstance(fn, type) or tl.core.is_builtin(fn)) and _of_the_language(fn)


def _of_the_language(what: Any) -> bool:
    return str(getattr(what, "__module__", "")).startswith(LANGUAGE)


def _refusal(fn: Any) -> str:
    name = ".".join(str(part)[:80] for part in (getattr(fn, "__module__", None), getattr(fn, "__name__", fn)) if part)
    return f"a kernel can call Triton's functions, other kernels and `math`, not `{name}`: compute it before the launch"
