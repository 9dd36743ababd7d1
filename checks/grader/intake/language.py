"""Which Python the grader trusts: kernels, and host code that can only allocate, reshape and launch.

A submission in this language cannot do the work outside Triton, nor reach the code that watches it, so that what its child
reports (loads, stores, operators) are facts. Everything else still runs in the sandbox, but a pass of it is for a person.
An allow-list: what is not named here is refused.
"""

import ast
import importlib
import math
import types

import torch
import triton
import triton.language as tl
from triton.tools import tensor_descriptor

_MODULES = {"triton": triton, "triton.language": tl, "triton.language.math": tl.math, "torch": torch, "math": math,
            tensor_descriptor.__name__: tensor_descriptor}
_TRITON = {"jit", "autotune", "heuristics", "Config", "cdiv", "next_power_of_2"}
_TL_REFUSED = {"extern_elementwise", "tensor", "builtin", "PropagateNan"}
_TORCH = {"empty", "empty_like", "empty_strided", "zeros", "zeros_like", "Tensor", "device", "dtype", "Size",
          *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))}
_BUILTINS = {"range", "len", "min", "max", "abs", "int", "float", "bool", "print", "sum", "tuple", "list", "zip", "map",
             "enumerate", "isinstance", "reversed", "round", "divmod", "str", "dict", "set", "sorted", "any", "all", "pow",
             "ValueError", "TypeError", "AssertionError", "RuntimeError", "NotImplementedError"}
_BLOCK = {name for kind in (tl.tensor, tl.dtype, tl.constexpr, tl.pointer_type, tl.block_type, tl.tensor_descriptor)
          for name in dir(kind) if not name.startswith("_")} - {"handle", "to_ir"} | {
          "value", "dtype", "shape", "type", "element_ty", "T", "strides", "block_shape"}
_HOST = {"shape", "stride", "device", "dtype", "T", "mT", "t", "transpose", "permute", "contiguous", "is_contiguous", "view",
         "reshape", "size", "numel", "ndim", "dim", "element_size", "itemsize", "new_empty", "new_zeros", "expand",
         "unsqueeze", "squeeze", "flatten", "is_cuda", "nbytes", "append", "get", "items", "keys", "values", "bit_length",
         "from_tensor", "narrow", "movedim", "unflatten", "swapaxes"}
_NODES = (ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For,
          ast.While, ast.If, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.Assert, ast.Raise, ast.BoolOp, ast.BinOp,
          ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
          ast.comprehension, ast.Compare, ast.Call, ast.keyword, ast.JoinedStr, ast.FormattedValue, ast.Constant,
          ast.Attribute, ast.Subscript, ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice, ast.expr_context,
          ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.NamedExpr)


class Refused(Exception):
    """What does not belong to the language, and its line."""

    def __init__(self, node: ast.AST, what: str):
        super().__init__(f"line {getattr(node, 'lineno', 0)}: {what}")


def outside(source: str, given: dict[str, str]) -> str | None:
    """What in `source` is outside the language, or None. `given` are the modules of `kernels` that the child has."""
    try:
        _check(ast.parse(source), given)
    except Refused as refused:
        return str(refused)
    return None


def is_kernel(source: str, name: str) -> bool:
    """Whether `source` defines `name` as a `@triton.jit` function."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "triton"]
    aliases = {alias.asname or alias.name for node in imports for alias in node.names if alias.name == "jit"}
    return any(isinstance(node, ast.FunctionDef) and node.name == name and _jitted(node, aliases) for node in tree.body)


def _jitted(node: ast.FunctionDef, aliases=frozenset()) -> bool:
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(ast.unparse(d) == "triton.jit" or ast.unparse(d) in aliases for d in called)


def _check(tree: ast.Module, given: dict[str, str]) -> None:
    modules: dict[str, types.ModuleType] = {}
    names: set[str] = set()
    jit: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _import(node, given, modules, names, jit)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.If | ast.AugAssign | ast.For):
            names |= _stored(node)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            raise Refused(node, f"a {type(node).__name__} outside a function")
    if names & set(modules):
        raise Refused(tree, f"`{(names & set(modules)).pop()}` is a module and something else")
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and _jitted(node, jit):
            for decorator in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults,
                              *(a.annotation for a in node.args.args)]:
                if decorator is not None:
                    _walk(decorator, modules, names | _locals(decorator), _HOST)
            inner = ast.Module(body=node.body, type_ignores=[])
            for part in ast.walk(inner):
                if isinstance(part, ast.FunctionDef | ast.Lambda):
                    raise Refused(part, "a function inside a kernel")
            _walk(inner, modules, names | _locals(node), _BLOCK)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                raise Refused(node, f"the decorator of `{node.name}`")
            _walk(node, modules, names | _locals(node), _HOST)


def _import(node, given, modules: dict, names: set, jit: set) -> None:
    for alias in node.names:
        name = alias.asname or alias.name
        if isinstance(node, ast.Import):
            if alias.name not in _MODULES or "." in alias.name and not alias.asname:
                raise Refused(node, f"`import {alias.name}`")
            modules[name] = _MODULES[alias.name]
            continue
        if node.level or node.module is None:
            raise Refused(node, "an import from nowhere")
        if node.module == "triton" and alias.name == "language":
            modules[name] = tl
        elif node.module in given and alias.name != "*":
            names.add(name)
        elif node.module in _MODULES and _member(importlib.import_module(node.module), alias.name):
            names.add(name)
            if node.module == "triton" and alias.name == "jit":
                jit.add(name)
        else:
            raise Refused(node, f"`from {node.module} import {alias.name}`")


def _member(module, name: str) -> bool:
    if name.startswith("_"):
        return False
    if module is triton:
        return name in _TRITON
    if module is torch:
        return name in _TORCH
    if module is tensor_descriptor:
        return name == "TensorDescriptor"
    found = getattr(module, name, None)
    return found is not None and not isinstance(found, types.ModuleType) and name not in _TL_REFUSED


def _locals(node: ast.AST) -> set[str]:
    bound = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
    bound |= {part.name for part in ast.walk(node) if isinstance(part, ast.FunctionDef)}
    return bound | _stored(node)


def _stored(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _walk(tree: ast.AST, modules: dict, names: set[str], attributes: set[str]) -> None:
    bases: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise Refused(node, f"a {type(node).__name__}")
        if isinstance(node, ast.FunctionDef) and node is not tree and node.decorator_list:
            raise Refused(node, f"the decorator of `{node.name}`")
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            raise Refused(node, f"`{ast.unparse(node)}` is assigned to")
        if isinstance(node, ast.Attribute):
            module = _module(node.value, modules)
            if module is not None:
                bases.update(id(part) for part in ast.walk(node.value))
                if id(node) not in bases and not _member(module, node.attr):
                    raise Refused(node, f"`{ast.unparse(node)}`")
            elif node.attr not in attributes:
                raise Refused(node, f"`.{node.attr}`")
        elif isinstance(node, ast.Name) and id(node) not in bases:
            if node.id in modules:
                raise Refused(node, f"`{node.id}` used as a value")
            if isinstance(node.ctx, ast.Load) and node.id not in names and node.id not in _BUILTINS:
                raise Refused(node, f"`{node.id}`")


def _module(node: ast.expr, modules: dict):
    """The module that this expression names, or None."""
    if isinstance(node, ast.Name):
        return modules.get(node.id)
    if isinstance(node, ast.Attribute) and _module(node.value, modules) is not None:
        inner = getattr(_module(node.value, modules), node.attr, None)
        return inner if any(inner is known for known in (tl, tl.math)) else None
    return None
