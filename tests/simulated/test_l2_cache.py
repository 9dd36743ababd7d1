"""The model of a GPU's cache, on traces made by hand and on the kernels of lesson 02."""

import numpy as np
import pytest

from checks.judge.launches import Access, Launch
from checks.judge.source import define
from checks.pictures.matmul import show_one_tile, show_order
from checks.simulated.l2_cache import SECTOR, bytes_from_memory, in_launch_order, sectors_in_step
from kernels import matmul


def launch(*loads, kind="load"):
    """A launch whose program i loads, one after the other, the sectors in `loads[i]`."""
    lanes = SECTOR // 2
    made = [Access(kind, "x_ptr", (program, 0, 0), np.arange(sector * lanes, (sector + 1) * lanes), np.ones(lanes, bool), 2)
            for program, sectors in enumerate(loads) for sector in sectors]
    return Launch(None, {}, [], {}, made)


@pytest.mark.parametrize(("loads", "sectors", "together", "misses"), [
    (([0, 1, 2],), 8, 1, 3),
    (([0, 1, 0, 1],), 8, 1, 2),  # held
    (([0, 1, 2, 0, 1, 2],), 2, 1, 6),  # one too many: each is thrown out just before it is used again
    (([0, 1, 0, 2, 0, 1],), 2, 1, 4),  # 0 was used last, so 1 goes
    (([0, 1], [0, 1]), 1, 1, 4),  # one after the other
    (([0, 1], [0, 1]), 1, 2, 2),  # in step
    (([0, 1], [2]), 8, 2, 3),  # one ends before the other
])
def test_what_the_cache_does_not_hold_comes_from_memory(loads, sectors, together, misses):
    assert bytes_from_memory(launch(*loads), sectors * SECTOR, together) == misses * SECTOR


def test_stores_and_lanes_that_are_off_cost_no_loads():
    assert bytes_from_memory(launch([0, 1], kind="store"), 64, 1) == 0
    half = launch([0, 1])
    half.accesses[1].live[:] = False
    assert bytes_from_memory(half, 64, 1) == SECTOR


def test_axis_0_of_the_grid_counts_fastest():
    accesses = [Access("load", "x_ptr", program, np.zeros(1, int), np.ones(1, bool), 2)
                for program in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]]
    assert in_launch_order(Launch(None, {}, [], {}, accesses)) == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]


@pytest.mark.parametrize(("offsets", "itemsize", "sectors"), [
    (range(16), 4, [0, 1]), (range(8), 4, [0]), ((0, 7), 4, [0]), ((7, 8), 4, [0, 1]), ((31, 32), 1, [0, 1]),
    ((100, 3), 8, [0, 25]), ((), 4, [])])
def test_memory_moves_in_sectors_of_32_bytes(offsets, itemsize, sectors):
    made = Access("load", "x_ptr", (0, 0, 0), np.array(offsets, int), np.ones(len(offsets), bool), itemsize)
    one = Launch(None, {}, [], {}, [made])
    assert sectors_in_step(one, 1) == [("x_ptr", sector) for sector in sectors]
    assert bytes_from_memory(one, 1 << 20, 1) == 32 * len(sectors)


def test_a_program_that_loads_nothing_runs_too():
    """It is one of those that run together."""
    loads, stores = launch([0, 1], [], [0, 1]), launch([], [5], [], kind="store")
    both = Launch(None, {}, [], {}, loads.accesses + stores.accesses)
    assert in_launch_order(both) == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    assert [bytes_from_memory(both, SECTOR, together) // SECTOR for together in (1, 2, 3)] == [4, 4, 2]


def test_the_pictures_of_tiles_say_what_the_order_needs():
    assert "(1, 1) of 4" in show_one_tile(matmul.matmul_fp16_naive_kernel, M=200, N=150, K=70).get_suptitle()
    loads = show_order(matmul.matmul_fp16_naive_kernel, matmul.grouped_tile).axes[0]
    column_by_column, groups = (line.get_ydata() for line in loads.lines[:2])
    assert (column_by_column[3], groups[3]) == (16 * 16 + 16, 16 + 4 * 16), "panels, with a cache of 10"
    assert column_by_column[5] == column_by_column[3] and column_by_column[6] == 32, "a cache of 16, and of 20"


def test_pictures_of_what_is_not_written_yet_say_so(capsys):
    names = dict(vars(matmul))
    stub = define("@triton.jit\ndef grouped_tile(pid, num_pid_m, num_pid_n, GROUP_M: tl.constexpr):\n"
                  "    tl.static_assert(False, \"TODO\")\n", "grouped_tile", names)
    assert show_order(matmul.matmul_fp16_naive_kernel, stub) is None
    assert "grouped_tile is not attempted yet" in capsys.readouterr().out
