"""What moves lanes, where programs or lanes are the same and where they are not, and along each axis."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute

from checks.executor import Malformed, Module

PROGRAMS = 3


@triton.jit
def halves_kernel(x_ptr, out_ptr, KIND: tl.constexpr, N: tl.constexpr):
    """What is the same along the last axis is held once."""
    lanes, program = tl.arange(0, N), tl.program_id(0)
    x = tl.load(x_ptr + program * N + lanes)
    if KIND == "joined":
        a, b = tl.split(tl.join(x, lanes))
    elif KIND == "joined with the program":
        a, b = tl.split(tl.join(lanes, lanes * 0 + program))
    elif KIND == "the same twice":
        a, b = tl.split(tl.broadcast_to(x[:, None], (N, 2)))
    else:
        a, b = tl.split(tl.broadcast_to(program, (N, 2)))
    tl.store(out_ptr + program * 2 * N + lanes, a)
    tl.store(out_ptr + program * 2 * N + N + lanes, b)


LANES, IDS = torch.arange(8).expand(PROGRAMS, 8), torch.arange(PROGRAMS)[:, None].expand(PROGRAMS, 8)


HALVES = {"joined": lambda x: (x, LANES), "joined with the program": lambda x: (LANES, IDS),
          "the same twice": lambda x: (x, x), "one number": lambda x: (IDS, IDS)}


@pytest.mark.parametrize("kind", HALVES)
def test_the_two_halves_of_a_tile(kind):
    x, out = torch.arange(100, 124, dtype=torch.int32).view(3, 8), torch.zeros(PROGRAMS, 2, 8, dtype=torch.int32)
    assert execute(halves_kernel, (PROGRAMS,), {"x_ptr": x, "out_ptr": out, "KIND": kind, "N": 8}).fine
    assert out.tolist() == torch.stack(HALVES[kind](x), 1).tolist()


@triton.jit
def gather_kernel(x_ptr, index_ptr, out_ptr, AXIS: tl.constexpr, SHARED: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
                  K: tl.constexpr, L: tl.constexpr):
    """(M, N) by an index (K, L), which is each program's own or SHARED by all."""
    program = tl.program_id(0)
    x = tl.load(x_ptr + (0 if SHARED == 1 else program * M * N) + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tile = tl.arange(0, K)[:, None] * L + tl.arange(0, L)[None, :]
    index = tl.load(index_ptr + (0 if SHARED == 2 else program * K * L) + tile)
    tl.store(out_ptr + program * K * L + tile, tl.gather(x, index, axis=AXIS))


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize(("axis", "K", "L"), [(0, 16, 8), (0, 2, 8), (1, 4, 16), (1, 4, 2)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lanes_by_their_numbers(axis, K, L, shared, dtype):
    g = torch.Generator().manual_seed(0)
    x, out = torch.randn(PROGRAMS, 4, 8, generator=g), torch.zeros(PROGRAMS, K, L)
    index = torch.randint(0, (4, 8)[axis], (PROGRAMS, K, L), generator=g).to(dtype)
    given = {"x_ptr": x, "index_ptr": index, "out_ptr": out, "AXIS": axis, "SHARED": shared, "M": 4, "N": 8, "K": K, "L": L}
    assert execute(gather_kernel, (PROGRAMS,), given).fine
    sources, indices = x[:1].expand_as(x) if shared == 1 else x, index[:1].expand_as(index) if shared == 2 else index
    assert torch.equal(out, sources.gather(1 + axis, indices.long()))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_lane_that_there_is_not_is_some_lane(axis):
    """Of its own row or column; on a GPU too it is left open which."""
    index = torch.tensor([[[8, -1, 5, 4, 100, -100, 2**31 - 1, -2**31]] * 4]).int()
    x, out = torch.arange(32.0).view(1, 4, 8), torch.zeros(1, 4, 8)
    given = {"x_ptr": x, "index_ptr": index, "out_ptr": out, "AXIS": axis, "SHARED": 0, "M": 4, "N": 8, "K": 4, "L": 8}
    assert execute(gather_kernel, (1,), given).fine
    where = torch.stack([out[0].long() // 8, out[0].long() % 8])[axis ^ 1]
    assert torch.equal(where, torch.meshgrid(torch.arange(4), torch.arange(8), indexing="ij")[axis ^ 1])


@triton.jit
def histogram_kernel(x_ptr, out_ptr, MASKED: tl.constexpr, N: tl.constexpr, BINS: tl.constexpr):
    """All programs count the same numbers, and may leave out lanes of their own."""
    lanes, program = tl.arange(0, N), tl.program_id(0)
    x = tl.load(x_ptr + lanes)
    counts = tl.histogram(x, BINS, mask=lanes % 4 >= program) if MASKED else tl.histogram(x, BINS)
    tl.store(out_ptr + program * BINS + tl.arange(0, BINS), counts)


@pytest.mark.parametrize("masked", [False, True])
def test_numbers_beyond_the_bins_are_not_counted(masked):
    x = torch.arange(-20, 44, dtype=torch.int32) % 23 - 6
    out = torch.zeros(PROGRAMS, 8, dtype=torch.int32)
    assert execute(histogram_kernel, (PROGRAMS,), {"x_ptr": x, "out_ptr": out, "MASKED": masked, "N": 64, "BINS": 8}).fine
    for program in range(PROGRAMS):
        kept = x[torch.arange(64) % 4 >= program] if masked else x
        assert out[program].tolist() == [int((kept == number).sum()) for number in range(8)]


@triton.jit
def reshape_kernel(x_ptr, out_ptr, KIND: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    m, n, program = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :], tl.program_id(0)
    if KIND == "all":
        x = tl.load(x_ptr + program * M * N + m * N + n)
    elif KIND == "a row":
        x = tl.broadcast_to(tl.load(x_ptr + program * N + n), (M, N))
    elif KIND == "a column":
        x = tl.broadcast_to(tl.load(x_ptr + program * M + m), (M, N))
    else:
        x = tl.broadcast_to(tl.load(x_ptr + program), (M, N))
    tl.store(out_ptr + program * M * N + tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :], tl.reshape(x, (N, M)))


@pytest.mark.parametrize(("kind", "shape"), [("all", (4, 8)), ("a row", (1, 8)), ("a column", (4, 1)), ("one", (1, 1))])
def test_another_shape_of_what_is_held_once(kind, shape):
    x = torch.randn(PROGRAMS, *shape, generator=torch.Generator().manual_seed(0))
    out = torch.zeros(PROGRAMS, 4, 8)
    assert execute(reshape_kernel, (PROGRAMS,), {"x_ptr": x, "out_ptr": out, "KIND": kind, "M": 4, "N": 8}).fine
    assert torch.equal(out, x.expand(PROGRAMS, 4, 8))


def text(*lines):
    head = "tt.func public @k(%x: !tt.ptr<i32>) attributes {noinline = false} {"
    return Module("\n".join(["module {", head, *lines, "tt.return", "}", "}"]))


FLAT = "%flat = tt.make_range {end = 16 : i32, start = 0 : i32} : tensor<16xi32>"
STORE = ["%s = tt.splat %x : !tt.ptr<i32> -> tensor<16x!tt.ptr<i32>>",
         "%p = tt.addptr %s, %flat : tensor<16x!tt.ptr<i32>>, tensor<16xi32>", "tt.store %p, %v : tensor<16x!tt.ptr<i32>>"]
PLACED = "tt.make_range {{end = {} : i32, start = {} : i32}} : tensor<{}xi32>"


@pytest.mark.parametrize("start", [0, 5, -3])
def test_a_range_from_anywhere(start):
    x = np.zeros(16, np.int32)
    assert text(FLAT, f"%v = {PLACED.format(start + 16, start, 16)}", *STORE).run((1,), {"x": x}).fine
    assert x.tolist() == list(range(start, start + 16))
    with pytest.raises(Malformed, match=f"a range from {start} to {start + 17} for"):
        text(f"%v = {PLACED.format(start + 17, start, 16)}")


@pytest.mark.parametrize("types", [" : tensor<2x4xi32> -> tensor<4x4xi32>", " : -> tensor<4x4xi32>"])
def test_two_tiles_behind_each_other(types):
    """Along the first axis, also where the types of the two are not printed; the second is one number."""
    x = np.zeros(16, np.int32)
    types = types.replace(" : ->", " ->") if "2x4" not in types else types
    assert text(FLAT, f"%e = {PLACED.format(8, 0, 8)}", "%a = tt.reshape %e : tensor<8xi32> -> tensor<2x4xi32>",
                "%b = arith.constant dense<9> : tensor<2x4xi32>", f"%c = tt.cat %a, %b{types}",
                "%v = tt.reshape %c : tensor<4x4xi32> -> tensor<16xi32>", *STORE).run((1,), {"x": x}).fine
    assert x.tolist() == [*range(8), *[9] * 8]
