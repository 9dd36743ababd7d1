"""Loops over numbers with and without a sign, whose bounds are the same in all programs or their own."""

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute

from checks.executor import Malformed, Module

COUNT = """module {{
tt.func public @k(%x: !tt.ptr<i32>, %low: i32, %n: i32) attributes {{noinline = false}} {{
%zero = arith.constant 0 : i32
%one = arith.constant 1 : i32
%p = tt.get_program_id x : i32
{more}
%count = scf.for {unsigned} %i = %low to %high step %one iter_args(%c = %zero) -> (i32)  : i32 {{
  %next = arith.addi %c, %one : i32
  scf.yield %next : i32
}}
%q = tt.addptr %x, %p : !tt.ptr<i32>, i32
tt.store %q, %count : !tt.ptr<i32>
tt.return
}}
}}"""
OWN = "%high = arith.addi %n, %p : i32"
SAME = "%high = arith.addi %n, %zero : i32"


@pytest.mark.parametrize(("own", "counts"), [(True, (3, 4, 5, 6)), (False, (3, 3, 3, 3))])
@pytest.mark.parametrize(("unsigned", "low"), [
    (False, 4), (False, -2), (False, -2**31), (True, 4), (True, 2**31 - 2), (True, 2**31 + 7), (True, 2**32 - 9)])
def test_how_often_a_loop_runs(unsigned, low, own, counts):
    x, high = torch.zeros(4, dtype=torch.int32), low + 3
    kernel = Module(COUNT.format(more=OWN if own else SAME, unsigned="unsigned" if unsigned else ""))
    assert kernel.run((4,), {"x": x, "low": low, "n": high}).fine
    assert tuple(x.tolist()) == counts


@triton.jit
def in_a_branch_kernel(n_ptr, x_ptr, ODD: tl.constexpr, WHILE: tl.constexpr):
    i = tl.program_id(0)
    n = tl.load(n_ptr + i)
    if i % 2 == ODD:
        if WHILE:
            while n > 0:
                tl.store(x_ptr + i, tl.load(x_ptr + i) + 1)
                n -= 1
        else:
            for _ in range(n):
                tl.store(x_ptr + i, tl.load(x_ptr + i) + 1)


@pytest.mark.parametrize("loop", ["for", "while"])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_loop_in_a_branch_runs_in_the_programs_that_take_it(loop, odd):
    counts, x = torch.tensor([3, 1, 0, 5, 2, 4], dtype=torch.int32), torch.zeros(6, dtype=torch.int32)
    given = {"n_ptr": counts, "x_ptr": x, "ODD": odd, "WHILE": loop == "while"}
    assert execute(in_a_branch_kernel, (6,), given).fine
    assert x.tolist() == [int(n) * (i % 2 == odd) for i, n in enumerate(counts)]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("step", [0, -1])
def test_a_loop_that_never_runs_may_have_any_step(step, own):
    """One that would run for ever is refused."""
    text = COUNT.format(more=OWN if own else SAME, unsigned="").replace("arith.constant 1", f"arith.constant {step}")
    x = torch.full((4,), 9, dtype=torch.int32)
    assert Module(text).run((4,), {"x": x, "low": 8, "n": 5}).fine and x.tolist() == [0] * 4
    if not own:
        with pytest.raises(Malformed, match="a loop whose step is not positive"):
            Module(text).run((4,), {"x": x, "low": 4, "n": 5})
