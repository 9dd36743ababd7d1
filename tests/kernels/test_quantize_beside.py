"""`matmul_int8` with x quantized beside the tensor cores, on an emulated multiprocessor: the bits of the two launches."""

from functools import partial

import numpy as np
import pytest
import torch
from hopper_emulator import Kernel, Tile, pointer

from kernels import quantize_beside as module
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import Card

ORDERS = {"producer first": (2, 0, 1, 3), "quantizer first": (3, 2, 0, 1)}


def unusable_codes(M, K, device):
    return lambda: (torch.full((M, K), 99, dtype=torch.int8), torch.full((M,), 7.0))


@pytest.fixture(params=ORDERS)
def order(request, monkeypatch):
    monkeypatch.setattr(module, "beside_kernel", Kernel(module, ORDERS[request.param], "beside_kernel"))
    monkeypatch.setattr(module, "rooms_for_codes", unusable_codes)


def rows(M, K, dtype):
    """Rows of every kind, a multiple of 16 bytes apart."""
    rng = torch.Generator().manual_seed(M + K)
    x = torch.randn(M, K + 8, generator=rng)[:, :K]
    x *= torch.logspace(-6, 4, M)[torch.randperm(M, generator=rng), None]
    x[::7] = 0
    x[3::31, K // 2], x[4::37, K - 1], x[5::41, 0] = torch.nan, torch.inf, -torch.inf
    if dtype == torch.bfloat16:
        x[8::9] *= 1e-33
        x[9::11] *= 1e30
    return torch.empty(M, K + 8, dtype=dtype)[:, :K].copy_(x)


def products(x, w_q, w_scale, bias):
    """What the two launches give."""
    x_q, x_scale = quantize_int8_perrow_torch(x)
    y = (x_q.double() @ w_q.double().T).float() * x_scale[:, None] * w_scale
    return (y if bias is None else y + bias).half()


def beside(x, w_q, w_scale, bias=None):
    y_room = partial(torch.full, (len(x), len(w_q)), 3.0, dtype=torch.float16)
    return module.plan_beside(x, w_q, y_room, (1, len(x), len(w_q)))(x, w_q, w_scale, bias)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ROWS, N, K", [(4, 136, 272), (2, 8, 528), (1, 264, 1040), (4, 8, 64)])  # in two parts, or in one
def test_every_bit_is_that_of_two_launches(order, ROWS, N, K, dtype, monkeypatch):
    monkeypatch.setattr(module, "rows_at_a_time", lambda K: {"ROWS": ROWS, "PARTS": -(-K * ROWS // 1024)})
    monkeypatch.setattr(module, "first_blocks", lambda *_: 1)
    M = 128 + 150
    x, rng = rows(M, K, dtype), torch.Generator().manual_seed(1)
    w_q, w_scale = quantize_int8_perrow_torch(torch.randn(N, K, generator=rng))
    bias = torch.randn(N, generator=rng).half() if N == 136 else None
    got, want = beside(x, w_q, w_scale, bias), products(x, w_q, w_scale, bias)
    assert ((got == want) | got.isnan() & want.isnan()).all()


def test_all_rows_are_first_where_the_first_tiles_need_them(order):
    x = rows(130, 160, torch.float16)
    w_q, w_scale = quantize_int8_perrow_torch(torch.randn(144, 160, generator=torch.Generator().manual_seed(2)))
    got, want = beside(x, w_q, w_scale), products(x, w_q, w_scale, None)
    assert ((got == want) | got.isnan() & want.isnan()).all()


@pytest.mark.parametrize("ROWS", [1, 2, 4])
def test_a_quantizer_s_chunks_need_not_follow_each_other(ROWS):
    """As where several claim them; each is counted in its block once all of its rows are stored."""
    M, K, first, claims, counted = 53, 72, 2, [1, 3, 0, 4, 2, 5, 6], []  # after `first` chunks, another kernel's
    x, q, scale = rows(M, K, torch.float16), torch.zeros(M, K, dtype=torch.int8), torch.zeros(M)
    functions = Kernel(module, (0,), "beside_kernel").bound()

    def add(pointer, value, sem, scope):
        return claims.pop(0) if sem == "relaxed" else counted.append((pointer.offsets, value))

    def store(pointer, value, mask, eviction_policy=""):
        value, offsets, mask = np.broadcast_arrays(value, pointer.offsets, mask)
        pointer.memory[offsets[mask]] = value[mask]

    vars(functions["gl"]).update(atomic_add=add, store=store)
    functions |= {"seen_by_copy_engine": lambda: None}
    functions["quantizer"](*map(pointer, (x, q, scale, torch.zeros(1))), M, K, x.stride(0), first, 7, FULL=2,
                           CHUNK=module.CHUNK, ROWS=ROWS, PARTS=1, OVERLAP=False)
    before = first * module.CHUNK
    assert not q[:before].any() and not scale[:before].any()
    q, scale, (want_q, want_scale) = q[before:], scale[before:], quantize_int8_perrow_torch(x[before:])
    finite = want_scale.isfinite()
    assert torch.equal(q[finite], want_q[finite]) and torch.equal(scale[finite], want_scale[finite])
    assert scale[~finite].isnan().all()
    assert counted == [(1 + chunk // 2, 1) for chunk in (3, 5, 2, 6, 4)] and claims == [6]


@pytest.mark.parametrize("broken", ["acquire", "seen_by_copy_engine"])
def test_the_emulator_notices_a_missing_fence(monkeypatch, broken):
    kernel = Kernel(module, (0, 1, 2, 3), "beside_kernel")
    name = {"acquire": "wait_for_block", "seen_by_copy_engine": "quantizer"}[broken]
    kernel.functions[name] = without(kernel.functions[name], broken)
    monkeypatch.setattr(module, "beside_kernel", kernel)
    monkeypatch.setattr(module, "rooms_for_codes", unusable_codes)
    monkeypatch.setattr(module, "first_blocks", lambda *_: 1)
    x = rows(200, 160, torch.float16)
    w_q, w_scale = quantize_int8_perrow_torch(torch.randn(144, 160, generator=torch.Generator().manual_seed(2)))
    try:
        y = beside(x, w_q, w_scale)
    except RuntimeError as error:
        assert "may read what was there before" in str(error)
    else:
        assert not torch.equal(y, products(x, w_q, w_scale, None))


def without(function, called):
    """The function with the call of that name replaced by one that does nothing."""
    code = function.__code__
    names = tuple("gdc_nothing" if name == called else name for name in code.co_names)
    return type(function)(code.replace(co_names=names), function.__globals__, function.__name__, function.__defaults__)


@pytest.mark.parametrize("bits, dtype", [(11, torch.float16), (8, torch.bfloat16)])
def test_codes_of_all_pairs_of_mantissas(bits, dtype):
    """A product and a fused multiply-add with the inverse in 48 bits: every mantissa of x by every one of amax."""
    functions = Kernel(module, (0,), "beside_kernel").bound()
    amax = torch.arange(2 ** (bits - 1), 2**bits).float()
    scale, up, inverse, rest = functions["scale_and_inverse"](tile(amax), dtype == torch.bfloat16)
    for halved in range(9):
        x = amax[None] / 2**halved * torch.ones(len(amax), 1)
        x = x.where(x <= amax[:, None], 0)
        got = functions["code"](tile(x), up, inverse, rest, dtype == torch.bfloat16)
        want = torch.round(x / torch.from_numpy(scale.copy())[:, None]).to(torch.int8)
        assert torch.equal(torch.from_numpy(got.copy()), want)


def tile(tensor):
    return tensor.numpy().view(Tile)


H200 = Card((9, 0), 132, 232_448, 60 << 20, 4814.0)


@pytest.mark.parametrize("N, K, changed, suits", [
    (2048, 2048, {}, True), (2048, 2047, {}, False), (2048, 11_264, {}, True), (2048, 11_265, {}, False),
    (16_384, 4096, {}, True), (16_385, 4096, {}, False),
    (2048, 4096, {"multiprocessors": 120, "gb_per_s": 3600.0}, True), (2048, 4096, {"multiprocessors": 119}, False),
    (2048, 4096, {"gb_per_s": 3960.0}, True), (2048, 4096, {"gb_per_s": 3959.0}, False)])
def test_where_it_was_measured_to_be_faster(N, K, changed, suits):
    assert module.beside_suits(N, K, H200._replace(**changed)) is suits


@pytest.mark.parametrize("K, ROWS, PARTS", [(9, 4, 1),
                                           (2048, 4, 8), (2049, 2, 5), (4096, 2, 8), (4097, 1, 5), (11264, 1, 11)])
def test_rows_that_the_quantizer_holds(K, ROWS, PARTS):
    assert module.rows_at_a_time(K) == {"ROWS": ROWS, "PARTS": PARTS} and PARTS <= module.MOST_PARTS


@pytest.mark.parametrize("M, N, GROUP_M, blocks", [
    (16_384, 2048, 12, 12), (32_768, 128, 12, 132), (32_768, 128, 8, 136), (1000, 128, 12, 8), (16_384, 16_384, 4, 4),
    (16_384, 129, 12, 72)])
def test_blocks_that_the_first_tiles_need(M, N, GROUP_M, blocks):
    assert module.first_blocks(M, N, GROUP_M, H200) == blocks
