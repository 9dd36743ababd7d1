"""A kernel as data and back: each kind of name that it uses, where its lines are from, and what cannot be written down."""

import functools
import importlib
import json
import linecache
import math

import pytest
import torch
import triton
import triton.language as tl

from checks.executor import CompileError, compile_kernel, source
from checks.executor.frontend import _with_places, last_word
from checks.executor.source import define, describe, plain_function, source_lines

HELPERS = '''import triton


@triton.jit
def inner(x):
    return x * FACTOR


@triton.jit(noinline=True)
def outer(x, by=DEFAULT):
    return inner(x) + OFFSET + by
'''
KERNEL = '''# a notebook's cell


@triton.jit
def kernel(x_ptr, SIZE: tl.constexpr):
    offs = tl.arange(0, SIZE)
    x = tl.load(x_ptr + offs).to(KIND)
    tl.store(x_ptr + offs, x + outer(tl.program_id(0), int(math.floor(2.5))))
'''
VALUES = {"FACTOR": tl.constexpr(3), "OFFSET": 10, "DEFAULT": 1, "KIND": tl.float32, "math": math, "tl": tl,
          "triton": triton}


def defined(text, path, **names):
    """What a file holds after it has run; Python can show its source."""
    linecache.cache[path] = (len(text), None, source_lines(text), path)
    names = {"__name__": "__main__", **VALUES, **names}
    exec(compile(text, path, "exec"), names)
    return names


@pytest.fixture(scope="module")
def files():
    helpers = defined(HELPERS, "<helpers>")
    kernel = defined(KERNEL, "<cell 1>", outer=helpers["outer"])["kernel"]
    yield kernel, helpers
    for path in ("<helpers>", "<cell 1>"):
        del linecache.cache[path]


def test_what_is_written_down_of_a_kernel(files):
    described = json.loads(describe(files[0]))
    assert (described["file"], described["name"]) == ("<cell 1>", "kernel")
    cell, helpers = described["files"]["<cell 1>"], described["files"]["<helpers>"]
    assert {name: (first, noinline) for name, (first, _, noinline) in cell["functions"].items()} == {"kernel": (5, False)}
    assert {name: (first, noinline) for name, (first, _, noinline) in helpers["functions"].items()} == {
        "inner": (5, False), "outer": (10, True)}
    assert cell["functions"]["kernel"][1] == KERNEL[KERNEL.index("def kernel"):]
    assert helpers["functions"]["inner"][1].rstrip() == "def inner(x):\n    return x * FACTOR"
    assert cell["names"] == {
        "tl": ["module", "triton.language"], "math": ["module", "math"], "KIND": ["dtype", "fp32"],
        "outer": ["function", "<helpers>", "outer"]}
    assert helpers["names"] == {"FACTOR": ["constexpr", 3], "OFFSET": ["constant", 10], "DEFAULT": ["constant", 1],
                                "inner": ["function", "<helpers>", "inner"]}


def test_it_is_the_same_wherever_it_stands(files):
    kernel, helpers = files
    moved = defined("\n" * 7 + KERNEL, "<cell 9>", outer=helpers["outer"])["kernel"]
    assert describe(moved) != describe(kernel) and describe(moved, placed=False) == describe(kernel, placed=False)
    without = json.loads(describe(kernel, placed=False))
    assert without["file"] == "<kernel 0>" and set(without["files"]) == {"<kernel 0>", "<kernel 1>"}
    assert {name: first for file in without["files"].values() for name, (first, *_) in file["functions"].items()} == {
        "kernel": 1, "inner": 1, "outer": 6}
    assert without["files"]["<kernel 0>"]["names"]["outer"] == ["function", "<kernel 1>", "outer"]
    other = defined(KERNEL.replace("2.5", "3.5"), "<cell 9>", outer=helpers["outer"])["kernel"]
    assert describe(other, placed=False) != describe(kernel, placed=False)


@pytest.mark.parametrize("placed", [True, False])
def test_it_comes_back_as_it_was(files, placed):
    kept = dict(linecache.cache)
    made = define(describe(files[0], placed))
    assert linecache.cache == kept
    function = plain_function(made)
    outer = function.__globals__["outer"]
    inner = plain_function(outer).__globals__["inner"]
    assert [source._noinline(plain_function(one)) for one in (made, outer, inner)] == [False, True, False]
    firsts = function.__code__.co_firstlineno, plain_function(outer).__code__.co_firstlineno
    assert firsts == ((5, 10) if placed else (1, 6))
    names = function.__globals__ | plain_function(outer).__globals__ | plain_function(inner).__globals__
    assert (names["math"], names["tl"], names["KIND"], names["OFFSET"]) == (math, tl, tl.float32, 10)
    assert isinstance(names["FACTOR"], tl.constexpr) and names["FACTOR"].value == 3
    assert plain_function(outer).__defaults__ == (1,)


TYPES = {"x_ptr": "*fp32", "SIZE": "constexpr"}


def test_it_is_compiled_with_the_places_of_its_files():
    helpers = defined(HELPERS, "<helpers>", OFFSET=tl.constexpr(10))  # as the compiler wants its globals
    text = compile_kernel(defined(KERNEL, "<cell 1>", outer=helpers["outer"])["kernel"], TYPES, {"SIZE": 8})
    assert "//<cell 1>:7\n" in text and "//<helpers>:11\n" in text, text


def test_a_refusal_of_another_function_s_argument_is_said(files):
    """The compiler names the caller's line and gives the callee's text, which is shorter."""
    text = KERNEL.replace("x + outer(tl.program_id(0), ", "outer(x, ")
    kernel = defined(text, "<cell 2>", outer=files[1]["outer"])["kernel"]
    with pytest.raises(CompileError, match="^Function outer is marked noinline, but was called with non-scalar argument x"):
        compile_kernel(kernel, TYPES, {"SIZE": 8})


@pytest.mark.parametrize("wrapped", [
    lambda k: k, lambda k: triton.autotune([triton.Config({"SIZE": 8})], key=[])(k),
    lambda k: triton.heuristics({"SIZE": lambda _: 8})(k),
    lambda k: triton.autotune([triton.Config({})], key=[])(triton.heuristics({"SIZE": lambda _: 8})(k))])
def test_the_function_under_its_decorators(files, wrapped):
    assert plain_function(wrapped(files[0])).__name__ == "kernel"
    assert describe(wrapped(files[0])) == describe(files[0])


@pytest.mark.parametrize(("value", "said"), [
    (torch.ones(2), "`kernel` uses the global `WRONG`, a Tensor: a kernel may only"), ([1], "a list: a kernel may only"),
    ((1, 2), "a tuple: a kernel may only"), (1j, "a complex"), (torch.float16, "a dtype")])
def test_a_global_that_cannot_be_written_down(value, said):
    text = "@triton.jit\ndef kernel(x_ptr):\n    tl.store(x_ptr, WRONG)\n"
    with pytest.raises(CompileError, match=said):
        describe(defined(text, "<wrong>", WRONG=value)["kernel"])


@pytest.mark.parametrize("value", [True, 3, 0.5, "text", None])
def test_constants_come_back_as_they_were(value):
    text = "@triton.jit\ndef kernel(x_ptr):\n    tl.store(x_ptr, VALUE)\n"
    for wrapped in (value, tl.constexpr(value)):
        made = plain_function(define(describe(defined(text, "<constant>", VALUE=wrapped)["kernel"]))).__globals__["VALUE"]
        assert isinstance(made, tl.constexpr) == isinstance(wrapped, tl.constexpr)
        assert (made.value if isinstance(made, tl.constexpr) else made) is value or made == value


def test_functions_of_triton_s_go_by_their_names():
    """Not by those that a file gives them with `as`."""
    text = ("@triton.jit\ndef kernel(x_ptr):\n"
            "    tl.store(x_ptr, ceil(5, 2) + larger(1, 2) + zeros((1,), tl.int32) + size(root(4)))\n")
    names = {"ceil": (triton.cdiv, "cdiv"), "larger": (tl.maximum, "maximum"), "zeros": (tl.zeros, "zeros"),
             "size": (len, "len"), "root": (math.sqrt, "sqrt")}
    described = describe(defined(text, "<named>", **{name: value for name, (value, _) in names.items()})["kernel"])
    kinds = json.loads(described)["files"]["<named>"]["names"]
    made = plain_function(define(described)).__globals__
    for name, (_, own) in names.items():  # the interpreter puts its own in some places, so not by what they are
        kind, module, attribute = kinds[name]
        assert (kind, module.partition(".")[0] in ("triton", "builtins", "math"), attribute) == ("attribute", True, own)
        assert made[name] is getattr(importlib.import_module(module), attribute)


def test_a_closure_s_names_and_one_s_own():
    def make(scale):
        shown = 1

        @triton.jit
        def scaled_kernel(x_ptr):
            shown = tl.load(x_ptr) * scale  # of its own
            tl.store(x_ptr, shown)
        return scaled_kernel, shown

    names = next(iter(json.loads(describe(make(4)[0]))["files"].values()))["names"]
    assert names["scale"] == ["constant", 4] and "shown" not in names


def test_what_a_kernel_gives_a_name_to_is_its_own():
    """Whatever the notebook calls by that name, also where a comprehension reads it."""
    text = ("@triton.jit\ndef kernel(x_ptr, SIZE: tl.constexpr):\n    held = tl.load(x_ptr)\n    shown = 2 * held\n"
            "    tl.store(x_ptr, [held + shown for one in (1, 2)][0])\n")
    mine = dict.fromkeys(("held", "shown", "one", "SIZE", "x_ptr"), torch.ones(1))
    described = json.loads(describe(defined(text, "<own>", **mine)["kernel"]))
    assert described["files"]["<own>"]["names"] == {"tl": ["module", "triton.language"]}


def test_kernels_that_call_each_other_are_written_once_each():
    text = "".join(f"@triton.jit\ndef {name}(x):\n    return {other}(x)\n\n\n" for name, other in ("ab", "ba", "ca"))
    (file,) = json.loads(describe(defined(text, "<round>")["c"]))["files"].values()
    assert set(file["functions"]) == {"a", "b", "c"}
    assert file["names"] == {name: ["function", "<round>", name] for name in "ab"}


def test_a_source_that_python_does_not_know():
    names = {"__name__": "__main__", **VALUES}
    exec("def kernel(x_ptr):\n    pass", names)
    with pytest.raises(CompileError, match="Python does not know the source of `kernel`"):
        describe(names["kernel"])
    with pytest.raises(CompileError, match="`<lambda>` is not defined by `def`"):
        describe(defined("f = lambda x: x\n", "<lambda>")["f"])


HEADS = {  # of functions that may be defined, and that may not
    True: ("def k(x, y: tl.constexpr = -1, *, z: int = None) -> tl.tensor:", "def k(x=-1, *a, **b):"),
    False: ("def k(x=[]):", "def k(x: print()):", "def k() -> print():", "def k(*a: print()):", "def k(**a: print()):",
            "def k(*, x=print()):", "def k(x: print(), /):", "def k(*, x: print()):", "async def k():", "class k:",
            "def k():\n    pass\nif k():", "@triton.jit\ndef k():")}


@pytest.mark.parametrize(("text", "plain"), [
    (f"{head}\n    pass", plain) for plain, heads in HEADS.items() for head in heads])
def test_a_definition_runs_nothing(files, text, plain):
    described = json.loads(describe(files[0]))
    described["files"]["<cell 1>"]["functions"] = {"k": [1, text, False]}
    described["name"] = "k"
    if plain:
        assert define(json.dumps(described)).__name__ == "k"
    else:
        with pytest.raises(CompileError, match="a kernel is one function|must be names or constants"):
            define(json.dumps(described))


@pytest.mark.parametrize(("text", "lines"), [
    ("a\nb\n", ["a\n", "b\n"]), ("a\nb", ["a\n", "b"]), ("a\x0cb\nc", ["a\x0cb\n", "c"]), ("", []), ("\n", ["\n"])])
def test_lines_end_where_python_ends_them(text, lines):
    assert source_lines(text) == lines


DEBUG = '''#loc = loc(unknown)
#loc1 = loc("/a/k.py":3:7)
#loc2 = loc("/a:b/k.py":12:1)
#loc3 = loc("/x/triton/language/standard.py":40:1)
#loc4 = loc(callsite(#loc3 at #loc1))
#loc5 = loc("name"(#loc2))
#loc6 = loc(fused[#loc3, #loc5])
#loc7 = loc("x"(#loc7))
#loc8 = loc("/home/me/triton/k.py":9:1)
module {
  a loc(#loc1)
  b loc(#loc2)
  c loc(#loc3)
  d loc(#loc4)
  e loc(#loc5)
  f loc(#loc6)
  g loc(callsite(#loc3 at #loc2))
  h loc(#loc)
  i loc(#loc7)
  j
  k loc(#loc8)
} loc(#loc)
'''


def test_each_operation_has_the_place_of_the_author_s_line():
    """Not that of Triton's own function that it calls there."""
    bare = "module {\n" + "".join(f"  {name}\n" for name in "abcdefghijk") + "}\n"
    assert _with_places(bare, DEBUG).splitlines() == [
        "module {", "  a ///a/k.py:3", "  b ///a:b/k.py:12", "  c", "  d ///a/k.py:3", "  e ///a:b/k.py:12",
        "  f ///a:b/k.py:12", "  g ///a:b/k.py:12", "  h", "  i", "  j", "  k ///home/me/triton/k.py:9", "}"]
    known = DEBUG.replace("#loc = loc(unknown)", '#loc = loc("/a/k.py":1:0)')
    assert _with_places(bare, known).splitlines()[8::4] == ["  h ///a/k.py:1", "} ///a/k.py:1"]


class Refused(Exception):
    def __init__(self, said, src=None, line=None):
        super().__init__(said)
        self.src = src
        self.node = None if line is None else functools.partial(str)
        if line is not None:
            self.node.lineno = line


def chain(*errors):
    for outer, inner in zip(errors, errors[1:], strict=False):
        outer.__cause__ = inner
    return errors[0]


TEXT = "def k(x):\n    first(x)\n    second(x)\n"


@pytest.mark.parametrize(("error", "said"), [
    (Refused("no"), "no"), (Refused(" a\n b \n\n"), "b"), (Refused(""), "Refused"), (Refused("x" * 400), "x" * 300),
    (Refused("no", TEXT, 2), "no\n  at: first(x)"),
    (chain(Refused("outer", TEXT, 2), Refused("inner", TEXT, 3)), "inner\n  at: second(x)"),
    (chain(Refused("outer", TEXT, 2), Refused("inner", "def of_triton():\n    y\n", 2)), "inner\n  at: first(x)"),
    (chain(Refused("outer", TEXT, 2), ValueError("deep")), "deep\n  at: first(x)"), (Refused("no", None, 2), "no"),
    (Refused("no", TEXT, 4), "no")])  # Triton gives some nodes with the text of another function
def test_what_is_said_of_a_refusal(error, said):
    assert last_word(error, [TEXT]) == said


def test_without_texts_any_line_counts():
    assert last_word(Refused("no", "def of_triton():\n    y\n", 2)) == "no\n  at: y"


def test_texts_of_a_description(files):
    heads = sorted(text.partition("(")[0] for text in source.texts(describe(files[0])))
    assert heads == ["def inner", "def kernel", "def outer"]
