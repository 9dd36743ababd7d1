"""How decode divides the work, on both sides of each bound: a GPU of 132 multiprocessors, unless it says another."""

import pytest

from kernels.decode_tiles import (
    LARGE,
    NARROW,
    NARROWER,
    SPLIT,
    TALL,
    WIDE,
    gemv_blocks,
    plan,
    plan_unsplit,
    row_blocks,
    stages,
)

HOPPER, AMPERE = (9, 0), (8, 9)


@pytest.mark.parametrize("M, N, K, capability, tile, splits", [
    # Fewer tiles of 64 rows than multiprocessors: so many parts that each has one, of at least 1,024 columns.
    (2, 131 * 64, 9000, HOPPER, SPLIT, 1), (128, 131 * 64, 9000, AMPERE, SPLIT, 1), (2, 131 * 64 + 1, 9000, HOPPER, WIDE, 1),
    (2, 66 * 64, 2048, HOPPER, SPLIT, 2), (2, 66 * 64, 2047, HOPPER, SPLIT, 1), (2, 66 * 64 + 1, 2048, HOPPER, SPLIT, 1),
    (2, 66 * 64, 900, HOPPER, SPLIT, 1), (2, 64, 200_000, HOPPER, SPLIT, 132), (2, 64, 5 * 1024 - 1, HOPPER, SPLIT, 4),
    # Up to three tiles for each.
    (16, 396 * 64, 512, HOPPER, WIDE, 1), (16, 396 * 64 + 1, 512, HOPPER, TALL, 1), (17, 396 * 64, 512, HOPPER, TALL, 1),
    (17, 396 * 64 + 1, 512, HOPPER, LARGE, 1), (17, 396 * 64 + 1, 512, AMPERE, TALL, 1),
    (64, 132 * 64, 512, HOPPER, TALL, 1), (65, 132 * 64, 512, HOPPER, LARGE, 1), (65, 132 * 64, 512, AMPERE, TALL, 1),
    (65, 132 * 64, 512, (10, 0), LARGE, 1)])
def test_the_plan_of_the_gpus_time(M, N, K, capability, tile, splits):
    assert plan(M, N, K, 132, capability) == (tile, splits)


@pytest.mark.parametrize("M, N, K, tile, splits", [
    (2, 2048, 4096, NARROWER, 1), (16, 2048, 4096, NARROWER, 1), (17, 2048, 4096, NARROW, 1), (16, 2049, 4096, NARROW, 1),
    (64, 2048, 4096, NARROW, 1), (65, 2048, 4096, SPLIT, 4), (2, 2048, 8192, NARROWER, 1), (2, 2048, 8193, SPLIT, 4),
    (2, 66 * 64, 2047, SPLIT, 1), (16, 132 * 64, 4096, WIDE, 1), (65, 132 * 64, 4096, LARGE, 1)])
def test_the_plan_of_the_hosts_time(M, N, K, tile, splits):
    assert plan_unsplit(M, N, K, 132, HOPPER) == (tile, splits)


@pytest.mark.parametrize("N, K, blocks", [(24 * 132 - 1, 2049, (4, 4096, 8)), (24 * 132, 2049, (4, 2048, 4)),
                                          (24 * 132 - 1, 2048, (4, 2048, 4)), (24 * 132, 2048, (4, 2048, 4))])
def test_blocks_of_the_gemv(N, K, blocks):
    assert gemv_blocks(N, K, 132) == blocks


@pytest.mark.parametrize("M, blocks", [(1, (16, 0)), (16, (16, 0)), (17, (32, 0)), (33, (64, 0)), (64, (64, 0)),
                                       (65, (64, 16)), (80, (64, 16)), (81, (64, 32)), (128, (64, 64))])
def test_blocks_that_hold_the_rows(M, blocks):
    assert row_blocks(M) == blocks


@pytest.mark.parametrize("tile, rows, shared_bytes, found", [
    (WIDE, 16, 232_448, 3), (WIDE, 16, 3 * 80 * 256, 3), (WIDE, 16, 3 * 80 * 256 - 1, 2), (SPLIT, 16, 101_376, 4),
    (LARGE, 64, 232_448, 4), (LARGE, 64, 2 * 4 * 192 * 128, 4), (LARGE, 64, 2 * 4 * 192 * 128 - 1, 3),
    (LARGE, 128, 232_448, 3)])
def test_stages_that_shared_memory_holds(tile, rows, shared_bytes, found):
    assert stages(tile, rows, shared_bytes) == found
