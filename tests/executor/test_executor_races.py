"""Two programs that touch one place: who noticed whom, and where in the tensor."""

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute


@triton.jit
def one_stores_kernel(x_ptr, WRITER: tl.constexpr):
    x = tl.load(x_ptr)
    tl.store(x_ptr, x + 1, mask=tl.program_id(0) == WRITER)


@pytest.mark.parametrize("writer", range(4))
def test_a_store_of_what_all_read_is_a_race_whoever_stores(writer):
    (race,) = execute(one_stores_kernel, (4,), {"x_ptr": torch.zeros(1), "WRITER": writer}).races
    assert (race.what, race.program) == ("stores what another program has read", (writer, 0, 0))
    assert execute(one_stores_kernel, (1,), {"x_ptr": torch.zeros(1), "WRITER": 0}).fine


@triton.jit
def bytes_of_one_place_kernel(x_ptr, BYTE: tl.constexpr):
    tl.store(x_ptr.to(tl.pointer_type(tl.int8)) + BYTE, tl.program_id(0).to(tl.int8))


@pytest.mark.parametrize("byte", [0, 21])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float32, torch.int64])
def test_a_race_lies_at_an_element_of_the_tensor(dtype, byte):
    x = torch.zeros(32, dtype=dtype)
    (race,) = execute(bytes_of_one_place_kernel, (2,), {"x_ptr": x, "BYTE": byte}).races
    assert (race.tensor, race.offset) == ("x_ptr", byte // x.element_size())


@triton.jit
def taking_turns_kernel(a_ptr, b_ptr, c_ptr, STEPS: tl.constexpr):
    p, q, r = a_ptr, b_ptr, c_ptr
    for step in range(STEPS):
        if step == STEPS - 1:
            tl.store(p, tl.load(p) * 0)
        p, q, r = q, r, p


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_pointer_that_comes_round_in_a_loop_is_stored_through(steps):
    numbers = {name: torch.zeros(1) for name in ("a_ptr", "b_ptr", "c_ptr")}
    (race,) = execute(taking_turns_kernel, (4,), {**numbers, "STEPS": steps}).races
    assert (race.what, race.tensor) == ("stores what another program has read", f"{'cab'[steps % 3]}_ptr")


@triton.jit
def waits_kernel(count_ptr, x_ptr, SEM: tl.constexpr, WAITER: tl.constexpr):
    """One program after the other makes an atomic, each in a branch of its own; WAITER then stores what all have read."""
    i = tl.program_id(0)
    if i == 0:
        tl.atomic_add(count_ptr, 1, sem=SEM)
    if i == 1:
        tl.atomic_add(count_ptr, 1, sem=SEM)
    x = tl.load(x_ptr)
    tl.store(x_ptr, x + 1, mask=i == WAITER)


@pytest.mark.parametrize(("sem", "waiter", "fine"), [
    ("acq_rel", 0, True), ("acq_rel", 1, True), ("acq_rel", 2, False), ("relaxed", 0, False), ("relaxed", 1, False)])
def test_only_who_may_have_waited_is_let_be(sem, waiter, fine):
    given = {"count_ptr": torch.zeros(1, dtype=torch.int32), "x_ptr": torch.zeros(1), "SEM": sem, "WAITER": waiter}
    races = execute(waits_kernel, (4,), given).races
    assert [(race.what, race.program) for race in races] == (
        [] if fine else [("stores what another program has read", (waiter, 0, 0))])
