"""The compiler's process: what it is asked, what it answers, and which Python its front end may call."""

import ast
import builtins
import gc
import io
import json
import math
import os
import re
from types import ModuleType, SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from triton.compiler.code_generator import CodeGenerator
from triton.compiler.errors import UnsupportedLanguageConstruct
from triton.runtime.jit import BoundConstexprFunction, ConstexprFunction, JITFunction

from checks.executor import CompileError, calls, compile, frontend, source


@triton.jit
def loud_kernel(x_ptr, N, SIZE: tl.constexpr):
    tl.static_print("SIZE is", SIZE)
    tl.store(x_ptr + N, SIZE)


def request(**changes):
    types = {"x_ptr": "*i32", "N": "i32", "SIZE": "constexpr"}
    return {"source": source.describe(loud_kernel), "signature": json.dumps(types),
            "constexprs": json.dumps({"SIZE": 3})} | changes


def test_what_a_kernel_prints_while_it_is_compiled_is_no_answer():
    for size in (3, 4):
        asked = request(constexprs=json.dumps({"SIZE": size}))
        assert f"arith.constant {size} : i32" in compile._server().ask(asked, 60)["text"]


@pytest.mark.parametrize("aligned", [None, [], ["N"], ["x_ptr"], ["N", "x_ptr"]])
def test_which_arguments_16_divides(aligned):
    answer = compile._server().ask(request(**({} if aligned is None else {"aligned": json.dumps(aligned)})), 60)
    head = next(line for line in answer["text"].splitlines() if "tt.func" in line)
    found = ["tt.divisibility = 16" in argument for argument in re.findall(r"%\w+: ([^%]*)", head)]
    assert found == [name in (aligned or []) for name in ("x_ptr", "N")]


@pytest.mark.parametrize(("changes", "said"), [
    ({"signature": "{"}, "line 1 column 2"), ({"constexprs": "{}"}, "SIZE"),
    ({"source": "{"}, "line 1 column 2"), ({"source": "3"}, "'int' object is not subscriptable"),
    ({"signature": json.dumps({"x_ptr": "*i32", "SIZE": "constexpr"})}, "'N'")])
def test_a_request_that_cannot_be_compiled(changes, said):
    """Whatever goes wrong is an answer, and the next request is answered too."""
    assert said in compile._server().ask(request(**changes), 60)["error"]
    assert "tt.func" in compile._server().ask(request(), 60)["text"]


def test_the_process_answers_until_nobody_asks(monkeypatch):
    """Its answers go where its output went; its output goes where its errors go."""
    requests, done, written = iter([1, "bad", 2]), [], []

    def read(descriptor):
        for one in requests:
            done.append(("read", descriptor))
            return one
        raise EOFError

    def compiled(asked):
        if asked == "bad":
            raise CompileError("no such kernel")
        return f"the text of {asked}"

    monkeypatch.setattr(os, "dup", lambda one: done.append(("dup", one)) or 99)
    monkeypatch.setattr(os, "dup2", lambda one, other: done.append(("dup2", one, other)))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(frontend.frames, "read", read)
    monkeypatch.setattr(frontend.frames, "write", lambda descriptor, answer: written.append((descriptor, answer)))
    monkeypatch.setattr(frontend, "compile_request", compiled)
    with pytest.raises(SystemExit) as ended:
        frontend.serve()
    assert ended.value.code is None and done == [("dup", 1), ("dup2", 2, 1), *[("read", 0)] * 3]
    assert written == [(99, {"text": "the text of 1"}), (99, {"error": "no such kernel"}), (99, {"text": "the text of 2"})]


@pytest.mark.parametrize("interprets", [True, False])
def test_who_compiles(monkeypatch, interprets):
    """An interpreting process asks another one, in which Triton does not interpret; any other does it itself."""
    asked = []
    server = SimpleNamespace(start=lambda: asked.append("start"),
                             ask=lambda request, timeout_s: asked.append(timeout_s) or ANSWERS[request["source"]])
    monkeypatch.setitem(vars(triton.knobs.runtime), "interpret", interprets)
    monkeypatch.setattr(compile, "_server", lambda: server)
    monkeypatch.setattr(frontend, "compile_request", lambda request: f"here: {sorted(request)}")
    compile.warm_up()
    compiled = compile._compiled.__wrapped__
    if not interprets:
        assert compiled("good", "{}", "{}") == "here: ['constexprs', 'signature', 'source']" and not asked
        return
    assert compiled("good", "{}", "{}") == "a text" and asked == ["start", 60]
    with pytest.raises(CompileError, match="^refused$"):
        compiled("bad", "{}", "{}")


ANSWERS = {"good": {"text": "a text"}, "bad": {"error": "refused"}}


def test_the_compiler_s_process_does_not_interpret(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("OF_OURS", "kept")
    made = []
    monkeypatch.setattr(compile, "Server", lambda *arguments: made.append(arguments))
    compile._server.__wrapped__()
    ((module, environment),) = made
    assert module == "frontend" and environment["OF_OURS"] == "kept" and "TRITON_INTERPRET" not in environment


def of_module(module, **names):
    return type("Manager", (), {"__module__": module, **names})


NAMES = {"ours": of_module("__main__"), "gluons": of_module("triton.experimental.gluon.language._core"),
         "tritons": of_module("triton.language.extra.tasks"), "compilers": of_module("triton.compiler"), "function": tl.load}


@pytest.mark.parametrize(("managers", "refused"), [
    ("tritons()", None), ("gluons()", None), ("tritons(), gluons() as task", None), ("ours()", "__main__.Manager"),
    ("tritons(), ours()", "__main__.Manager"), ("ours(), tritons()", "__main__.Manager"), ("tritons", "tritons"),
    ("compilers()", "triton.compiler.Manager"), ("function()", "triton.language.core.load"),
    ("tritons(), gluons", "gluons")])
def test_which_blocks_a_kernel_may_enter(monkeypatch, managers, refused):
    """Those of a class of Triton's language that is made there: Triton calls what `with` names."""
    entered = []
    monkeypatch.setattr(CodeGenerator, "visit_With", lambda self, node: entered.append(node) or "entered")
    before = CodeGenerator.call_Function, CodeGenerator.visit_With
    generator = SimpleNamespace(visit=lambda node: NAMES[node.id], jit_fn=SimpleNamespace(src="with x: pass"))
    (node,) = ast.parse(f"with {managers}: pass").body
    try:
        with calls.tritons_own_alone():
            assert CodeGenerator.visit_With(generator, node) == "entered"
    except UnsupportedLanguageConstruct as error:
        assert refused and f"not `{refused}`" in str(error) and not entered
    else:
        assert refused is None and entered == [node]
    assert (CodeGenerator.call_Function, CodeGenerator.visit_With) == before


class Plain:
    def method(self):
        """Of no class of Triton's."""


def function():
    """Of no module of Triton's."""


def constant_function(module):
    def of_constants(a):
        return a

    made = ConstexprFunction(of_constants)
    made.fn.__module__ = module
    return made


MAY = {
    "a kernel": (JITFunction(function), True),
    "a function of constants": (constant_function("triton.language.standard"), True),
    "the same of one's own": (constant_function("__main__"), False),
    "a bound function of constants": (BoundConstexprFunction(tl.float32, constant_function("triton")), True),
    "a bound one of one's own": (BoundConstexprFunction(tl.float32, constant_function("kernels")), False),
    "len": (len, True), "print": (print, False), "exec": (builtins.exec, False), "math": (math.log2, True),
    "another module": (os.getpid, False), "a module of the same name": (ModuleType("math").__repr__, False),
    "of a text": ("a".upper, True), "of a list": ([].append, True), "of a tuple": ((1,).count, True),
    "of a number": ((3).bit_length, True), "of a dtype": (tl.float16.is_floating, True), "of a dict": ({}.get, False),
    "of an object": (Plain().method, False), "of a file": (io.StringIO().read, False),
    "of a tensor": (torch.ones(1).sum, False),
    "of a constexpr": (tl.constexpr(3).__add__, True), "a type of Triton's": (tl.constexpr, True), "a type": (dict, False),
    "of the language": (tl.load, True), "no builtin of it": (tl.core.builtin, False), "a plain function": (function, False),
    "nothing": (None, False)}


@pytest.mark.parametrize("name", MAY)
def test_what_a_kernel_may_call(name):
    what, may = MAY[name]
    assert bool(calls._may_be_called(SimpleNamespace(builtin_namespace={"len": len}), what)) == may


@pytest.mark.parametrize(("what", "named"), [
    (builtins.exec, "builtins.exec"), (os.getpid, "posix.getpid"), (io.StringIO, "_io.StringIO"), ("text", "text"),
    ("x" * 100, "x" * 80), (of_module("m" * 100), "m" * 80 + ".Manager")], ids=lambda value: str(value)[:12])
def test_what_is_refused_is_named(what, named):
    assert calls._refusal(what) == ("a kernel can call Triton's functions, other kernels and `math`, "
                                    f"not `{named}`: compute it before the launch")


def test_a_context_is_new_after_so_many_requests(monkeypatch):
    """It keeps each type, constant and place that it has seen."""
    asked = []
    monkeypatch.setattr(frontend, "_requests", iter(range(2 * frontend.RENEWED + 1)))

    def context(number):
        asked.append(number)
        raise LookupError

    monkeypatch.setattr(frontend, "_backend", lambda: None)
    monkeypatch.setattr(frontend, "_context", context)
    for _ in range(2 * frontend.RENEWED + 1):
        with pytest.raises(LookupError):
            frontend._ttir(None, {}, {}, [])
    assert asked == [0] * frontend.RENEWED + [1] * frontend.RENEWED + [2]
