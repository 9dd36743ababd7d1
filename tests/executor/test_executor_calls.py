"""What a kernel may call while it is compiled: Triton's language, other kernels and `math`, and no Python of its own."""

import builtins
import inspect
import io
import json
import linecache
import math
import os
from types import SimpleNamespace

import pytest
import triton
import triton.language as tl
from triton.runtime.jit import ConstexprFunction

from checks.executor import CompileError, calls, compile_kernel, source
from kernels.matmul import grouped_order_kernel


@triton.jit
def one_more(a, b):
    return a + b + 1


@triton.jit
def calling_kernel(x_ptr, N, BLOCK: tl.constexpr):
    offs = tl.arange(0, BLOCK) + int(math.log2(BLOCK)) + triton.cdiv(BLOCK, 3) + min(len((1, 2)), 3)
    x = tl.load(x_ptr + offs, mask=offs < N).to(tl.float32)
    x = tl.where(x > 0, tl.math.sqrt(x), float("-inf")) + tl.constexpr(4)
    tl.static_assert(BLOCK > 1, "BLOCK")
    if isinstance(x, tl.tensor):
        tl.store(x_ptr + offs, tl.reduce(x, 0, one_more) + x.sum(axis=0))


@triton.jit
def exec_kernel(x_ptr):
    builtins.exec("0")
    tl.store(x_ptr, 1.0)


@triton.jit
def through_triton_kernel(x_ptr):
    tl.core.builtins.exec("0")
    tl.store(x_ptr, 1.0)


@triton.jit
def getattr_kernel(x_ptr):
    tl.store(x_ptr, getattr(os, "getpid")())  # noqa: B009


@triton.jit
def dressed_kernel(x_ptr):
    tl.core.builtin(tl.core.builtins.exec)("0")
    tl.store(x_ptr, 1.0)


@triton.jit
def class_kernel(x_ptr):
    tl.store(x_ptr, io.StringIO("0"))


@triton.jit
def with_kernel(x_ptr):
    with io.StringIO("0"):
        tl.store(x_ptr, 1.0)


def test_triton_s_own_functions_are_called():
    compile_kernel(calling_kernel, {"x_ptr": "*fp32", "N": "i32", "BLOCK": "constexpr"}, {"BLOCK": 16})


@pytest.mark.parametrize("kernel, named", [
    (exec_kernel, "builtins.exec"), (through_triton_kernel, "builtins.exec"), (getattr_kernel, "posix.getpid"),
    (dressed_kernel, "triton.language.core.builtin"), (class_kernel, "_io.StringIO"),
    (with_kernel, "_io.StringIO")], ids=lambda value: str(value)[:20])
def test_no_other_python_is(kernel, named):
    with pytest.raises(CompileError, match=f"a kernel can call Triton's functions.*not `{named}`"):
        compile_kernel(kernel, {"x_ptr": "*fp32"}, {})


@pytest.mark.parametrize("text", ["def k(x_ptr):\n    pass\nprint()", "print()", "@print\ndef k(x_ptr):\n    pass",
                                  "def k(x_ptr=print()):\n    pass"])
def test_a_description_runs_nothing_but_its_definitions(text):
    """A description may come from a stranger's process."""
    described = source.describe(exec_kernel).replace('"functions": {', '"functions": {"k": [1, %s, false], ')
    with pytest.raises(CompileError):
        source.define(described % __import__("json").dumps(text))


def test_defining_a_kernel_again_leaves_its_file_readable():
    described = source.describe(grouped_order_kernel)
    source.define(described)
    assert "order_ptr" in inspect.getsource(source.plain_function(grouped_order_kernel))
    path = json.loads(described)["file"]
    linecache.cache[path] = (1, None, ["kept\n"], path)
    source.define(described)
    assert linecache.getline(path, 1) == "kept\n"
    del linecache.cache[path]


@pytest.mark.parametrize(("module", "may"), [
    ("triton.language.standard", True), ("triton", True), ("triton_of_mine", False), ("tritonx.language", False),
    ("__main__", False), ("None", False)])
def test_whose_functions_of_constants_may_be_called(module, may):
    def rounded_up(a, b):
        return -(-a // b)

    rounded_up.__module__ = module
    generator = SimpleNamespace(builtin_namespace={})
    assert calls._may_be_called(generator, ConstexprFunction(rounded_up)) == may


def test_two_functions_of_a_file_must_mean_the_same_by_a_name():
    """As two cells can, between which the name was given another value."""
    text = ("@triton.jit\ndef helper(x):\n    return x + SIZE\n@triton.jit\ndef kernel(x_ptr):\n"
            "    tl.store(x_ptr, helper(SIZE))\n")
    linecache.cache["<two meanings>"] = (len(text), None, source.source_lines(text), "<two meanings>")

    def defined(size):
        names = {"__name__": "__main__", "triton": triton, "tl": tl, "SIZE": tl.constexpr(size)}
        exec(compile(text, "<two meanings>", "exec"), names)
        return names

    first, second = defined(2), defined(3)
    assert source.describe(first["kernel"])
    source.plain_function(second["kernel"]).__globals__["helper"] = first["helper"]
    with pytest.raises(CompileError, match="two functions of <two meanings> mean different things by `SIZE`"):
        source.describe(second["kernel"])
