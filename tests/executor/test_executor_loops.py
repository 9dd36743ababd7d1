"""Loops over numbers with and without a sign, whose bounds are the same in all programs or their own."""

import pytest
import torch

from checks.executor import Module

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
