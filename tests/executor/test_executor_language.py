"""What Triton's language compiles to, beyond single operations: control flow, reductions, tiles, atomics, descriptors."""

import inspect

import pytest
import torch
import triton
import triton.language as tl
from executor_launches import execute
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import CompileError, Module, Unsupported
from checks.judge.memory import bits


def ran(kernel, grid, *arguments, **constexprs):
    """The report of a launch that must be fine; tensors are written in place."""
    fn = kernel.fn
    report = execute(kernel, grid, dict(zip(inspect.signature(fn).parameters, arguments, strict=False)) | constexprs)
    assert report.fine, [*report.faults, *report.races]
    return report


@triton.jit
def collatz_kernel(x_ptr, steps_ptr, N, BLOCK: tl.constexpr):
    i = tl.program_id(0)
    n = tl.load(x_ptr + i)
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    tl.store(steps_ptr + i, steps)


def test_while_and_if_go_different_ways_in_each_program():
    x = torch.arange(1, 40, dtype=torch.int32)
    steps = torch.zeros(39, dtype=torch.int32)
    ran(collatz_kernel, (39,), x, steps, 39, BLOCK=1)
    for n, found in zip(x.tolist(), steps.tolist(), strict=True):
        count = 0
        while n != 1:
            n, count = (n // 2 if n % 2 == 0 else 3 * n + 1), count + 1
        assert found == count


@triton.jit
def triangle_kernel(out_ptr, start_ptr, N):
    i = tl.program_id(0)
    total = tl.load(start_ptr + i)
    for j in range(i, N, 1 + i % 3):
        total += j
    tl.store(out_ptr + i, total)


@triton.jit
def early_kernel(x_ptr, out_ptr, LIMIT):
    i = tl.program_id(0)
    x = tl.load(x_ptr + i)
    if x > LIMIT:
        tl.store(out_ptr + i, -1)
        return
    if x == 3:
        return
    tl.store(out_ptr + i, x * 2)


@triton.jit(noinline=True)
def shifted(x, by):
    if by > 4:
        return x - by
    return x + by


@triton.jit
def calls_kernel(x_ptr, out_ptr, EACH):
    i = tl.program_id(0)
    tl.store(out_ptr + i, shifted(tl.load(x_ptr + i), i // EACH))


def test_loops_with_bounds_of_their_own_early_returns_and_calls():
    out, start = torch.zeros(20, dtype=torch.int32), torch.arange(20, dtype=torch.int32) * 1000
    ran(triangle_kernel, (20,), out, start, 30)
    assert out.tolist() == [1000 * i + sum(range(i, 30, 1 + i % 3)) for i in range(20)]
    x, out = torch.arange(10, dtype=torch.int32), torch.full((10,), 99, dtype=torch.int32)
    ran(early_kernel, (10,), x, out, 5)
    assert out.tolist() == [0, 2, 4, 99, 8, 10, -1, -1, -1, -1]
    x, out = torch.arange(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    ran(calls_kernel, (64,), x, out, 8)
    assert out.tolist() == [v - v // 8 if v // 8 > 4 else v + v // 8 for v in range(64)]


@triton.jit
def first_difference(a, b):
    return a * 2 - b


@triton.jit
def reductions_kernel(x_ptr, out_ptr, scan_ptr, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    tile = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + tile)
    L: tl.constexpr = N if AXIS == 0 else M
    lanes = tl.arange(0, L)
    tl.store(out_ptr + lanes, tl.sum(x, axis=AXIS))
    tl.store(out_ptr + L + lanes, tl.max(x, axis=AXIS))
    tl.store(out_ptr + 2 * L + lanes, tl.min(x, axis=AXIS))
    tl.store(out_ptr + 3 * L + lanes, tl.argmax(x, axis=AXIS).to(x.dtype))
    tl.store(out_ptr + 4 * L + lanes, tl.argmin(x, axis=AXIS).to(x.dtype))
    tl.store(scan_ptr + tile, tl.cumsum(x, axis=AXIS))
    tl.store(scan_ptr + M * N + tile, tl.cumsum(x, axis=AXIS, reverse=True))
    tl.store(scan_ptr + 2 * M * N + tile, tl.associative_scan(x, AXIS, first_difference))
    tl.store(scan_ptr + 3 * M * N + tile, tl.sort(x, dim=1))


@pytest.mark.parametrize("dtype", (torch.float32, torch.int32, torch.float16, torch.int64))
@pytest.mark.parametrize("axis", (0, 1))
def test_reductions_and_scans(dtype, axis):
    M, N = 8, 16
    x = torch.randint(-9, 9, (M, N)).to(dtype)
    out, scan = torch.zeros(5, (N, M)[axis], dtype=dtype), torch.zeros(4, M, N, dtype=dtype)
    ran(reductions_kernel, (1,), x, out, scan, M=M, N=N, AXIS=axis)
    assert torch.equal(out[0], x.sum(axis).to(dtype))
    assert torch.equal(out[1], x.amax(axis))
    assert torch.equal(out[2], x.amin(axis))
    first = [(x == best).to(torch.int8).argmax(axis).to(dtype) for best in (x.amax(axis, True), x.amin(axis, True))]
    assert torch.equal(out[3], first[0])
    assert torch.equal(out[4], first[1])
    assert torch.equal(scan[0], x.cumsum(axis).to(dtype))
    assert torch.equal(scan[1], x.flip(axis).cumsum(axis).flip(axis).to(dtype))
    want = x.clone().double()
    for i in range(1, x.shape[axis]):
        want.select(axis, i).copy_(2 * want.select(axis, i - 1) - want.select(axis, i))
    if dtype != torch.float16:
        assert torch.equal(scan[2].double(), want)
    assert torch.equal(scan[3], x.sort(1).values)


def test_sums_of_fp16_are_rounded_after_each_addition():
    @triton.jit
    def sum_kernel(x_ptr, out_ptr, N: tl.constexpr):
        tl.store(out_ptr, tl.sum(tl.load(x_ptr + tl.arange(0, N)), axis=0, dtype=tl.float16))

    x = torch.tensor([2048.0, 1.0, 1.0, 1.0], dtype=torch.float16)
    out = torch.zeros(1, dtype=torch.float16)
    ran(sum_kernel, (1,), x, out, N=4)  # (2048 + 1) + (1 + 1): 2049 is no FP16 number
    assert out.item() == 2050


@triton.jit
def tiles_kernel(x_ptr, y_ptr, index_ptr, out_ptr, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    tile = m[:, None] * N + n[None, :]
    x, y = tl.load(x_ptr + tile), tl.load(y_ptr + tile)
    joined = tl.join(x, y)
    a, b = tl.split(joined)
    flat = tl.reshape(joined, (2 * M * N,))
    tl.store(out_ptr + tl.arange(0, 2 * M * N), flat)
    tl.store(out_ptr + 2 * M * N + tile, a - b)
    tl.store(out_ptr + 3 * M * N + n[:, None] * M + m[None, :], tl.trans(x))
    tl.store(out_ptr + 4 * M * N + tile, tl.gather(x, tl.load(index_ptr + tile), axis=1))
    tl.store(out_ptr + 5 * M * N + tl.arange(0, 2 * M * N), tl.interleave(tl.ravel(x), tl.ravel(y)))
    tl.store(out_ptr + 7 * M * N + tl.arange(0, 2 * M), tl.cat(tl.sum(x, 1), tl.sum(y, 1), can_reorder=True))
    tl.store(out_ptr + 8 * M * N + tile, tl.broadcast_to(tl.full((), 3.0, tl.float32), (M, N)))


def test_moving_tiles():
    M, N = 4, 8
    x, y = torch.randn(M, N), torch.randn(M, N)
    index, out = torch.randint(0, N, (M, N), dtype=torch.int32), torch.zeros(9, M * N)
    ran(tiles_kernel, (1,), x, y, index, out, M=M, N=N)
    both = torch.stack([x, y], -1)
    assert torch.equal(out[:2].flatten(), both.flatten())
    assert torch.equal(out[2], (x - y).flatten())
    assert torch.equal(out[3], x.T.flatten())
    assert torch.equal(out[4], x.gather(1, index.long()).flatten())
    assert torch.equal(out[5:7].flatten(), both.flatten())
    torch.testing.assert_close(out[7][:2 * M], torch.cat([x.sum(1), y.sum(1)]))
    assert (out[8] == 3).all()


@triton.jit
def histogram_kernel(x_ptr, out_ptr, N: tl.constexpr, BINS: tl.constexpr):
    x = tl.load(x_ptr + tl.program_id(0) * N + tl.arange(0, N))
    tl.store(out_ptr + tl.program_id(0) * BINS + tl.arange(0, BINS), tl.histogram(x, BINS))


def test_histogram():
    x, out = torch.randint(0, 8, (3, 64), dtype=torch.int32), torch.zeros(3, 8, dtype=torch.int32)
    ran(histogram_kernel, (3,), x, out, N=64, BINS=8)
    assert torch.equal(out, torch.stack([row.bincount(minlength=8) for row in x]).int())


@triton.jit
def dot_kernel(a_ptr, b_ptr, c_ptr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
               OUT: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(a_ptr + m[:, None] * K + k[None, :])
    b = tl.load(b_ptr + k[:, None] * N + n[None, :])
    tl.store(c_ptr + m[:, None] * N + n[None, :], tl.dot(a, b, input_precision=PRECISION, out_dtype=OUT))


@pytest.mark.parametrize("kind", ("i8", "f16", "bf16", "ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"))
def test_dot(kind):
    M, N, K = 16, 32, 64
    dtype = {"i8": torch.int8, "f16": torch.float16, "bf16": torch.bfloat16}.get(kind, torch.float32)
    if kind == "i8":
        a, b = (torch.randint(-128, 128, s, dtype=torch.int8) for s in ((M, K), (K, N)))
    else:
        a, b = torch.randn(M, K).to(dtype), torch.randn(K, N).to(dtype)
    c = torch.zeros(M, N, dtype=torch.int32 if kind == "i8" else torch.float32)
    ran(dot_kernel, (1,), a, b, c, M=M, N=N, K=K, PRECISION="tf32" if kind in ("i8", "f16", "bf16") else kind,
        OUT=tl.int32 if kind == "i8" else tl.float32)
    if kind == "i8":
        assert torch.equal(c, (a.long() @ b.long()).int())
        return
    if kind == "tf32":
        a, b = ((x.view(torch.int32) & -8192).view(torch.float32) for x in (a, b))
    exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    assert ((c - exact).abs() <= K * 2.0**-24 * size).all()


@triton.jit
def atomics_kernel(x_ptr, sum_ptr, max_ptr, old_ptr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs)
    tl.atomic_add(sum_ptr + offs % 4, x)
    tl.atomic_max(max_ptr + offs * 0, x, mask=offs % 2 == 0)
    old = tl.atomic_add(old_ptr, 1)
    tl.store(old_ptr + 1 + tl.program_id(0), old)


@triton.jit
def lock_kernel(lock_ptr, total_ptr):
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    tl.store(total_ptr, tl.load(total_ptr) * 2 + 1)
    tl.atomic_xchg(lock_ptr, 0)


def test_atomics():
    x = torch.randint(-99, 99, (96,), dtype=torch.int32)
    total, most, old = (torch.full((n,), start, dtype=torch.int32) for n, start in ((4, 0), (1, -1000), (13, 0)))
    report = execute(atomics_kernel, (12,), {"x_ptr": x, "sum_ptr": total, "max_ptr": most, "old_ptr": old, "BLOCK": 8})
    assert not report.faults
    assert torch.equal(total, x.view(-1, 4).sum(0).int())
    assert most.item() == x[::2].max().item()
    assert old.tolist() == [12, *range(12)]
    lock, count = torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    ran(lock_kernel, (6,), lock, count)
    assert (lock.item(), count.item()) == (0, 2**6 - 1)


@triton.jit
def descriptor_kernel(x_desc, y_ptr, out_ptr, M, N, BM: tl.constexpr, BN: tl.constexpr):
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    y_desc = tl.make_tensor_descriptor(y_ptr, [M, N], [N, 1], [BM, BN])
    out_desc = tl.make_tensor_descriptor(out_ptr, [M, N], [N, 1], [BM, BN])
    out_desc.store([m, n], x_desc.load([m, n]) + y_desc.load([m, n]))


@triton.jit
def block_pointer_kernel(x_ptr, out_ptr, M, N, BM: tl.constexpr, BN: tl.constexpr):
    x = tl.make_block_ptr(x_ptr, (M, N), (N, 1), (0, 0), (BM, BN), (1, 0))
    out = tl.make_block_ptr(out_ptr, (M, N), (N, 1), (0, 0), (BM, BN), (1, 0))
    for _ in range(0, N, BN):
        tl.store(out, tl.load(x, boundary_check=(0, 1), padding_option="zero") * 2, boundary_check=(0, 1))
        x, out = tl.advance(x, (0, BN)), tl.advance(out, (0, BN))


def test_descriptors_and_block_pointers_stay_within_the_tensor():
    M, N = 20, 40
    x, y, out = torch.randn(M, N), torch.randn(M, N), torch.zeros(M, N)
    ran(descriptor_kernel, (2, 3), TensorDescriptor.from_tensor(x, [16, 16]), y, out, M, N, BM=16, BN=16)
    assert torch.equal(out, x + y)
    out.zero_()
    ran(block_pointer_kernel, (1,), x, out, M, N, BM=32, BN=16)
    assert torch.equal(out, 2 * x)


@pytest.mark.parametrize("rounding", ["", "%r: i1, "])  # before Triton 3.7, and from then on
def test_a_descriptor_is_taken_apart_as_its_triton_does(rounding):
    head = f"tt.func public @k(%b: !tt.ptr<f32>, %n: i64, %s: i64, %p: i1, {rounding}%m: i32, %t: i64) {{"
    code = Module("\n".join(["module {", head, "tt.return", "}", "}"]))
    assert code.run((1,), {"x": TensorDescriptor.from_tensor(torch.ones(16), [16])}).fine
    with pytest.raises(TypeError, match="arguments"):
        code.run((1,), {"x": torch.ones(16)})


@triton.jit
def packed_kernel(x_ptr, out_ptr, N: tl.constexpr):
    words = tl.load(x_ptr.to(tl.pointer_type(tl.int32)) + tl.arange(0, N))
    tl.store(out_ptr.to(tl.pointer_type(tl.int16)) + tl.arange(0, N), (words >> 16).to(tl.int16))


def test_pointers_cast_to_another_element():
    x, out = torch.arange(-32, 32, dtype=torch.int8), torch.zeros(32, dtype=torch.uint8)
    ran(packed_kernel, (1,), x, out, N=16)
    assert torch.equal(out.view(torch.int16), x.view(torch.int16)[1::2])
    short = torch.zeros(63, dtype=torch.int8)
    report = execute(packed_kernel, (1,), {"x_ptr": short, "out_ptr": out, "N": 16})
    assert [(f.what, f.tensor, f.offset) for f in report.faults] == [("out-of-bounds load", "x_ptr", 15)]


@triton.jit


@triton.jit
def differences(a, b):
    d = a - b
    if d > 0:
        d = d * 10
    return d, a + b


@triton.jit
def map_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    lanes = tl.arange(0, N)
    d, s = tl.map_elementwise(differences, tl.load(x_ptr + lanes), tl.load(y_ptr + lanes))
    tl.store(out_ptr + lanes, d)
    tl.store(out_ptr + N + lanes, s)


def test_map_elementwise():
    x, y = torch.randint(-9, 9, (2, 32), dtype=torch.int32)
    out = torch.zeros(2, 32, dtype=torch.int32)
    ran(map_kernel, (1,), x, y, out, N=32)
    assert torch.equal(out, torch.stack([torch.where(x > y, 10 * (x - y), x - y), x + y]))


@triton.jit
def random_kernel(out_ptr, SEED, N: tl.constexpr):
    lanes = tl.arange(0, N)
    tl.store(out_ptr + lanes, tl.rand(SEED, lanes))


def test_random_numbers_are_the_interpreters():
    out, want = torch.zeros(64), torch.zeros(64)
    ran(random_kernel, (1,), out, 7, N=64)
    random_kernel[(1,)](want, 7, N=64)
    assert torch.equal(bits(out), bits(want))


@triton.jit
def noisy_kernel(x_ptr, N: tl.constexpr):
    i = tl.program_id(0)
    x = tl.load(x_ptr + i)
    tl.device_print("x is", x, i)
    tl.device_assert(x < 5, "x is too large")


def test_prints_and_assertions():
    x = torch.arange(8, dtype=torch.int32)
    report = execute(noisy_kernel, (8,), {"x_ptr": x, "N": 8})
    (printed,) = report.prints
    assert "x is" in printed.text
    assert [v.tolist() for v in printed.values] == [list(range(8))] * 2
    assert printed.programs == [(i, 0, 0) for i in range(8)]
    assert printed.place.line == inspect.getsourcelines(noisy_kernel.fn)[1] + 4
    assert not report.faults  # assertions are compiled where Triton is asked to debug; here they are not


def test_what_the_front_end_refuses_is_named_with_its_line():
    @triton.jit
    def wrong_kernel(x_ptr, N: tl.constexpr):
        tl.store(x_ptr + tl.arange(0, N), 0)

    with pytest.raises(CompileError, match=r"power of 2\n  at: tl.store\(x_ptr \+ tl.arange\(0, N\), 0\)"):
        execute(wrong_kernel, (1,), {"x_ptr": torch.zeros(3), "N": 3})
    with pytest.raises(CompileError, match="is a list, which a kernel cannot take"):
        execute(wrong_kernel, (1,), {"x_ptr": [1], "N": 4})
    with pytest.raises(CompileError, match="is a tuple, .*: pass each by itself"):
        execute(wrong_kernel, (1,), {"x_ptr": (torch.zeros(4),), "N": 4})


@triton.jit
def logic_kernel(x_ptr, N: tl.constexpr, AND: tl.constexpr):
    i = tl.program_id(0) if N == 1 else tl.arange(0, N)
    tl.store(x_ptr + i, (i >= 0 and i < 1) if AND else (i < 0 or i < 1))


@pytest.mark.parametrize("logic", (True, False))
def test_logic_of_python_joins_scalars_and_no_blocks(logic):
    execute(logic_kernel, (1,), {"x_ptr": (x := torch.zeros(2)), "N": 1, "AND": logic})
    assert x.tolist() == [1, 0]
    with pytest.raises(CompileError, match=r"Logical operators 'and' and 'or' are .*\n  at: tl.store"):
        execute(logic_kernel, (1,), {"x_ptr": x, "N": 2, "AND": logic})


def test_tensors_and_other_globals_are_no_part_of_a_kernel():
    table = torch.ones(4)

    @triton.jit
    def global_kernel(x_ptr):
        tl.store(x_ptr, table)

    with pytest.raises(CompileError, match="uses the global `table`, a Tensor"):
        execute(global_kernel, (1,), {"x_ptr": table})


def test_a_kernel_s_own_name_hides_the_notebook_s():
    doubled = torch.ones(4)

    @triton.jit
    def own_kernel(x_ptr):
        doubled = 2 * tl.load(x_ptr)
        tl.store(x_ptr, doubled)

    execute(own_kernel, (1,), {"x_ptr": doubled})
    assert doubled.tolist() == [2, 1, 1, 1]


def test_inline_assembly_is_not_executed():
    @triton.jit
    def asm_kernel(x_ptr, N: tl.constexpr):
        x = tl.load(x_ptr + tl.arange(0, N))
        y = tl.inline_asm_elementwise("rcp.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
        tl.store(x_ptr + tl.arange(0, N), y)

    with pytest.raises(Unsupported, match="inline assembly"):
        execute(asm_kernel, (1,), {"x_ptr": torch.ones(4), "N": 4})
