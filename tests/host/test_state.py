"""Which functions keep state, so that what one call does may depend on another."""

import pytest

from checks.host.state import keeps_state

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


def test_libraries_and_nothing_at_all_keep_no_state():
    import statistics
    assert not keeps_state(statistics.median) and not keeps_state(None)
    assert keeps_state(object()), "in doubt"
