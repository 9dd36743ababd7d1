"""A Triton kernel to TTIR, the text of its intermediate representation: Triton's own front end does it, without a GPU.

Triton decides at its import whether kernels are interpreted, and an interpreting process cannot compile. There another
process (frontend.py) does it.
"""

import functools
import inspect
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import frontend, source
from checks.executor.errors import CompileError
from checks.executor.processes import Server

TIMEOUT_S = 60
TRITON_TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64",
                torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1",
                torch.uint8: "u8", torch.uint16: "u16", torch.uint32: "u32", torch.uint64: "u64",
                torch.float8_e5m2: "fp8e5", torch.float8_e4m3fn: "fp8e4nv"}


def compile_kernel(kernel: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any]) -> str:
    """The TTIR of a `triton.jit` function, autotuned or not; behind each operation ` //FILE:LINE`, where it is known.

    signature: type by argument name ("*fp16", "i32", "tensordesc<fp16[64, 64]>", "constexpr", ...), as `specialize` gives
    it; constexprs: value by argument name: numbers, strings, None, dtypes of `tl`. Texts are kept, by source, signature and
    constexprs. Raises CompileError where the front end refuses the kernel, LimitExceeded when it takes more than a minute.
    """
    return _compiled(source.describe(kernel), json.dumps(dict(signature)), json.dumps(plain_values(constexprs)))


def plain_values(constexprs: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON has them. Raises CompileError for one that cannot be compiled here."""
    return {name: _plain(name, value) for name, value in constexprs.items()}


def specialize(kernel: Any, arguments: Mapping[str, Any], ones: bool = True) -> tuple[dict[str, str], dict[str, Any]]:
    """The signature and the constexprs of a launch with these arguments, by name.

    As on a GPU, None is built in like a constexpr, and so is the number 1 unless `ones` is off. Raises CompileError for an
    argument that a kernel cannot take.
    """
    declared = constexpr_names(kernel)
    types, constexprs = {}, {}
    for name, value in arguments.items():
        if name in declared or value is None or ones and type(value) is int and value == 1:
            types[name], constexprs[name] = "constexpr", value.value if isinstance(value, tl.constexpr) else value
        else:
            types[name] = triton_type(name, value)
    return types, constexprs


def constexpr_names(kernel: Any) -> list[str]:
    """The arguments that the kernel declares `tl.constexpr`."""
    parameters = inspect.signature(source.plain_function(kernel)).parameters.values()
    return [p.name for p in parameters if "constexpr" in str(p.annotation)]


def triton_type(name: str, value: Any) -> str:
    """The type of an argument in a signature. Raises CompileError where a kernel cannot take it."""
    if isinstance(value, torch.Tensor) and value.dtype in TRITON_TYPES:
        return f"*{TRITON_TYPES[value.dtype]}"
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{TRITON_TYPES[value.base.dtype]}{list(value.block_shape)}>"
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, int) and -2**63 <= value < 2**64:
        return "i32" if -2**31 <= value < 2**31 else "i64" if value < 2**63 else "u64"
    if isinstance(value, float):
        return "fp32"
    if isinstance(value, tuple):
        raise CompileError(f"the argument `{name}` is a tuple, and a check sees no tensors inside of one: pass each by "
                           "itself")
    raise CompileError(f"the argument `{name}` is a {type(value).__name__}, which a kernel cannot take")


def _plain(name: str, value: Any) -> Any:
    """A constexpr as JSON knows it."""
    if isinstance(value, tl.constexpr):
        value = value.value
    if isinstance(value, tl.dtype):
        return {"dtype": str(value)}
    if isinstance(value, torch.dtype):
        raise CompileError(f"the constexpr `{name}` is {value}; a kernel needs Triton's, such as tl.float16")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return {"tuple": [_plain(name, item) for item in value]}
    raise CompileError(f"the constexpr `{name}` is a {type(value).__name__}, which cannot be compiled here")


@functools.lru_cache(maxsize=1024)
def _compiled(description: str, signature: str, constexprs: str) -> str:
    request = {"source": description, "signature": signature, "constexprs": constexprs}
    if not triton.knobs.runtime.interpret:
        return frontend.compile_request(request)
    answer = _server().ask(request, TIMEOUT_S)
    if "error" in answer:
        raise CompileError(answer["error"])
    return answer["text"]


@functools.cache
def _server() -> Server:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return Server("frontend", environment)


def warm_up() -> None:
    """Have the compiling process ready, where there is to be one: its start takes most of a second."""
    if triton.knobs.runtime.interpret:
        _server().start()
