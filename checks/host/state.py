"""Whether calls of a function may have to do with one another, by what it keeps or changes outside itself."""

import dis
import types
from collections.abc import Iterator
from typing import Any

import torch
import triton.language as tl

from checks.executor.source import plain_function

_WRITES = {"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"}
_CHANGERS = {"setattr", "delattr", "globals", "vars", "exec", "eval", "environ", "modules", "chdir", "manual_seed", "seed",
             "set_default_dtype", "set_default_device", "set_grad_enabled", "set_num_threads"}
_FIXED = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, types.ModuleType,
          types.BuiltinFunctionType, tl.dtype)
_MOST = 200  # functions that are looked at


def keeps_state(function: Any) -> bool:
    """Whether `function`, or one that it calls, reads what may change between calls or changes what others may read.

    In doubt it does. What libraries keep to themselves does not count.
    """
    return _keeps(function, set())


def _keeps(value: Any, seen: set[int]) -> bool:
    if isinstance(value, _FIXED) or id(value) in seen:
        return False
    if isinstance(value, tuple | frozenset):
        return any(_keeps(one, seen) for one in value)
    if isinstance(value, tl.constexpr):
        return _keeps(value.value, seen)
    if isinstance(value, type):
        return value.__module__ == "__main__"
    try:
        function = plain_function(value)
    except AttributeError:
        return True
    seen |= {id(value), id(function)}
    return function.__globals__.get("__name__") == "__main__" and (len(seen) > _MOST or _function_keeps(function, seen))


def _function_keeps(function: types.FunctionType, seen: set[int]) -> bool:
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *_cells(function)]
    for code in _codes(function.__code__):
        if _CHANGERS & set(code.co_names) or any(step.opname in _WRITES for step in dis.get_instructions(code)):
            return True
        held += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    return any(_keeps(value, seen) for value in held)


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _codes(value)
