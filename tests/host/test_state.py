"""Which functions keep state, so that what one call does may depend on another."""

import functools
import math
import statistics

import pytest
import torch
import triton.language as tl

from checks.host.state import _MOST, keeps_state

CELL = """
import functools
import math
import torch
import triton
import triton.language as tl

WIDTH: tl.constexpr = tl.constexpr(8)
SCALES = (1.0, 2.0)
HELD = (1.0, [2.0])
seen = []
weights = torch.ones(2)

@triton.jit
def half(x):
    return x / 2

@triton.jit
def kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr, half(tl.load(x_ptr + WIDTH)))

def launch(x):
    def grid(meta):
        return (triton.cdiv(x.numel(), meta["BLOCK"]),)
    kernel[grid](x, BLOCK=4)
    return x

def mean(x):
    return math.fsum(x) / len(x) * SCALES[0] + torch.zeros(1).item()

def recursive(n):
    return 0 if n == 0 else recursive(n - 1)

class Model:
    calls = 0

def remembers(x):
    seen.append(x)

def through_another(x):
    return remembers(x)

def in_a_lambda(x):
    return (lambda y: seen.append(y))(x)

def reads(x):
    return x @ weights

def reads_in_a_tuple(x):
    return HELD[1][0] * x

def by_default(x, cache={}):
    return cache.setdefault(x, x)

def by_keyword(x, *, cache={}):
    return cache.setdefault(x, x)

def outer():
    held = []
    return lambda x: held.append(x)

in_a_closure = outer()

@functools.lru_cache
def cached(x):
    return x

def calls_cached(x):
    return cached(x)

def writes(x):
    global count
    count = x

def sets(x):
    torch.backends.mine = x

def makes():
    return Model()

def seeds():
    torch.manual_seed(0)
"""


@pytest.fixture(scope="module")
def names() -> dict:
    names = {"__name__": "__main__"}
    exec(CELL.replace("@triton.jit\n", ""), names)
    return names


@pytest.mark.parametrize("name", ["launch", "kernel", "mean", "recursive", "half"])
def test_what_keeps_nothing(names, name):
    assert not keeps_state(names[name])


@pytest.mark.parametrize("name", ["remembers", "through_another", "in_a_lambda", "reads", "by_default", "by_keyword",
                                  "in_a_closure", "cached", "calls_cached", "writes", "sets", "makes", "seeds",
                                  "reads_in_a_tuple"])
def test_what_keeps_state(names, name):
    assert keeps_state(names[name])


def function(body: str, head: str = "def f(x):", **names):
    exec(f"{head}\n    {body}\n", names := {"__name__": "__main__"} | names)
    return names["f"]


@pytest.mark.parametrize("body", [
    *(f"{name}(x)" for name in ("setattr", "delattr", "globals", "vars", "exec", "eval")), "os.environ", "sys.modules",
    "os.chdir(x)", *(f"torch.{name}(x)" for name in (
        "manual_seed", "seed", "set_default_dtype", "set_default_device", "set_grad_enabled", "set_num_threads")),
    "global n; n = 1", "global n; del n", "x.n = 1", "del x.n", "x.n += 1", "import os.path as path; path.n = 1",
    "def g():\n        global n\n        n = x\n    return g()", "return [vars(y) for y in x]"])
def test_what_changes_things_for_others(body):
    assert keeps_state(function(body))


@pytest.mark.parametrize("value", [
    1, 1.5, 2j, "a", b"a", None, True, torch.float16, torch.device("cpu"), math, math.sqrt, len, tl.float16, (1, "a"),
    frozenset((1, 2)), (1, (2, frozenset((torch.int8,)))), tl.constexpr(3), tl.constexpr((1, 2)), tl.arange, int, dict,
    statistics.median])
def test_what_cannot_change_may_be_read(value):
    assert not keeps_state(function("return held", held=value))
    assert not keeps_state(function("return held", "def f(x, held=held):", held=value))
    assert not keeps_state(function("return (lambda: held)()", "def f(x, *, held=held):", held=value))


@pytest.mark.parametrize("value", [
    [], {}, set(), (1, []), (1, (2, {})), tl.constexpr([1]), (tl.constexpr([1]),), torch.ones(1), object(), bytearray(1),
    type("Mine", (), {"__module__": "__main__"}), (type("Mine", (), {"__module__": "__main__"}),),
    functools.partial(len, []), function("return x", "def f(x, cache=[]):")], ids=lambda value: type(value).__name__)
def test_what_can_change_keeps_state(value):
    assert keeps_state(function("return held", held=value))
    assert keeps_state(function("return held", "def f(x, held=held):", held=value))
    assert keeps_state(function("return x", "def f(x, *, held=held):", held=value))
    assert keeps_state(function("return helper(x)", held=value, helper=function("return held", held=value)))
    assert not keeps_state(function("return held", held=value, __name__="a_library"))
    assert not keeps_state(function("held = 3; return held", unread=value)), "nobody reads it"


def test_a_name_of_a_closure_that_has_no_value_yet():
    head = "def outer(late):\n    def f():\n        return held\n    if late:\n        held = []\n    return f"
    exec(head, names := {"__name__": "__main__"})
    assert not keeps_state(names["outer"](False)) and keeps_state(names["outer"](True))
    for order in ("a, b", "b, a"):
        exec(f"def outer():\n    def f():\n        return {order}\n    b = []\n    return f\n    a = 1", names)
        assert keeps_state(names["outer"]()), "the other one has"
    exec("def outer():\n    def f():\n        return a, b\n    a = []\n    return f\n    b = 1", names)
    assert keeps_state(names["outer"]())


@pytest.mark.parametrize(("functions", "keeps"), [(_MOST // 2 - 1, False), (_MOST + 1, True)])
def test_so_many_functions_are_looked_at(functions, keeps):
    names = {"__name__": "__main__"}
    exec("\n".join(f"def f{n}(x): return {f'f{n - 1}(x)' if n else 'x'}" for n in range(functions)), names)
    assert keeps_state(names[f"f{functions - 1}"]) is keeps


def test_libraries_and_nothing_at_all_keep_no_state():
    assert not keeps_state(statistics.median) and not keeps_state(None)
    assert keeps_state(object()), "in doubt"
