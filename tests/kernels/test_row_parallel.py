"""How a layer cut by columns exchanges: by which way, in which buffers, and what it then gives. One rank plays all."""

import pytest
import torch

from kernels import row_parallel
from kernels.exchange import Group
from kernels.fused import rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.linear import Int8Linear
from kernels.operators import multiply_codes
from kernels.row_parallel import RowParallelInt8Linear, RowParallelLinear, expect_scales
from kernels.runtime import device

K, N = 24, 10


class Alone(Group):
    """A group of one that writes down what it is asked to exchange."""

    def __init__(self, peers=None):
        self.rank, self.size, self.peers, self.said = 0, 1, peers, []
        if peers:
            peers.said = self.said

    def all_reduce(self, tensor, op="sum", what=""):
        self.said.append((op, tuple(tensor.shape), tensor.dtype, what))
        return tensor

    def start_sum(self, tensor):
        self.said.append(("begun", tuple(tensor.shape)))
        return lambda: self.said.append(("waited", tuple(tensor.shape)))


class Peers:
    """Peer memory of one rank. What it has written there is read when all have met, and not before."""

    def __init__(self, size_bytes):
        self.size_bytes, self.written = size_bytes, {}

    def room(self, buffer, shape, dtype):
        self.said.append((buffer, tuple(shape), dtype))
        self.written[buffer] = torch.zeros(shape, dtype=dtype, device=device())
        return self.written[buffer]

    def meet(self, buffer, shape, dtype):
        assert (tuple(self.written[buffer].shape), self.written[buffer].dtype) == (tuple(shape), dtype)
        return [self.written.pop(buffer)]


def randn(*shape, seed=0, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device())


def layers(scales, partial_dtype=None, peers=None, bias=True, turn=0):
    """The whole layer, and the row-parallel one of a rank that has all of it."""
    torch.manual_seed(0)
    whole = Int8Linear.from_linear(torch.nn.Linear(K, N, bias=bias).half().to(device()))
    cut = RowParallelInt8Linear(whole, Alone(peers), scales, partial_dtype)
    cut.turn = turn
    return whole, cut


F16, F32, INT32 = torch.float16, torch.float32, torch.int32
WAYS = {  # scales, dtype of partial products, bytes that peers have room for, and what is exchanged for M rows
    "shared": ("shared", None, None, lambda M: [
        ("max", (M,), F32, "largest magnitudes"), ("sum", (M, N), INT32, "partial sums")]),
    "shared, peers": ("shared", None, 4, lambda M: [(0, (M,), F32), (1, (M, N), INT32)]),
    "shared, too large for peers": ("shared", None, 3.99, lambda M: [
        ("max", (M,), F32, "largest magnitudes"), ("sum", (M, N), INT32, "partial sums")]),
    "own": ("own", None, None, lambda M: [("sum", (M, N), F16, "partial products")]),
    "own, peers": ("own", None, 2, lambda M: [(1, (M, N), F16)]),
    "own, too large for peers": ("own", None, 1.99, lambda M: [("sum", (M, N), F16, "partial products")]),
    "own in FP32": ("own", F32, None, lambda M: [("sum", (M, N), F32, "partial products")]),
}


@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_exchange_gives_the_layers_numbers(way, M):
    scales, partial_dtype, bytes_each, exchanged = WAYS[way]
    whole, cut = layers(scales, partial_dtype, bytes_each and Peers(M * N * bytes_each), turn=1)
    x, residual, gate, up = (randn(M, width, seed=seed) for seed, width in enumerate((K, N, K, K)))
    want = whole(x)
    mlp = multiply_codes(*silu_mul_quantize_int8(gate, up), whole.weight_q, whole.weight_scale, whole.bias)
    for call, result, by_peers in (
            (lambda: cut(x), want, False), (lambda: cut.forward_mlp(gate, up), mlp, False),
            (lambda: cut.add_to(residual, x), want + residual, True),
            (lambda: cut.add_mlp_to(residual, gate, up), mlp + residual, True)):
        cut.group.said.clear()
        assert torch.equal(call(), result)
        assert cut.group.said == (exchanged(M) if by_peers else WAYS[way.split(",")[0]][3](M))


@pytest.mark.parametrize("scales, M, room, one_launch", [
    ("own", 1, 2, True), ("own", 4, 2, True), ("own", 5, 2, False), ("own", 3, 1.99, False), ("own", 3, None, False),
    ("shared", 3, 4, False)])
def test_a_sum_and_the_norm_behind_it(scales, M, room, one_launch, monkeypatch):
    whole, cut = layers(scales, peers=room and Peers(M * N * room), turn=1)
    added = []
    monkeypatch.setattr(row_parallel, "FEW", 4)
    monkeypatch.setattr(RowParallelInt8Linear, "add_to", lambda *given, add=RowParallelInt8Linear.add_to: (
        added.append(given), add(*given))[1])
    x, residual, weight = randn(M, K), randn(M, N, seed=1), randn(N, seed=2)
    rows, (q, scale) = cut.add_to_and_norm(residual, x, weight, 0.5)
    want = whole(x) + residual
    assert torch.equal(rows, want) and len(added) == (not one_launch)
    want_q, want_scale = rmsnorm_quantize_int8(want, weight, 0.5)
    assert torch.equal(q, want_q)
    torch.testing.assert_close(scale, want_scale, rtol=1e-6, atol=0)
    if one_launch:
        assert cut.group.said == [(1, (M, N), F16)]


@pytest.mark.parametrize("M, pieces, cut_in", [(6, 3, [2, 2, 2]), (5, 2, [3, 2]), (2, 4, [1, 1])])
def test_pieces_are_summed_while_the_next_are_multiplied(M, pieces, cut_in):
    whole, cut = layers("own")
    cut.pieces, x, residual = pieces, randn(M, K), randn(M, N, seed=1)
    assert torch.equal(cut.add_to(residual, x), whole(x) + residual)
    assert cut.group.said == [("begun", (m, N)) for m in cut_in] + [("waited", (m, N)) for m in cut_in]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scales, partial_dtype", [("shared", None), ("own", None), ("own", F32)])
def test_what_a_compiler_sees_gives_the_same(scales, partial_dtype, bias, monkeypatch):
    _, cut = layers(scales, partial_dtype, bias=bias)
    x, residual, gate, up = (randn(3, width, seed=seed) for seed, width in enumerate((K, N, K, K)))
    want = cut.add_to(residual, x), cut(x), cut.forward_mlp(gate, up)
    asked, cut.group.said = cut.group.said, []
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert all(map(torch.equal, (cut.add_to(residual, x), cut(x), cut.forward_mlp(gate, up)), want))
    assert [said[:3] for said in cut.group.said] == [said[:3] for said in asked]
    rows, (q, scale) = cut.add_to_and_norm(residual, x, randn(N, seed=2), 0.5)
    want_q, want_scale = rmsnorm_quantize_int8(rows, randn(N, seed=2), 0.5)
    assert torch.equal(rows, want[0]) and torch.equal(q, want_q) and torch.equal(scale, want_scale)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("room, said", [(None, ("sum", (2, 3, N), F16, "partial products")), (2, (1, (6, N), F16)),
                                        (1.99, ("sum", (2, 3, N), F16, "partial products"))])
def test_the_layer_in_fp16(bias, room, said):
    linear = torch.nn.Linear(K, N, bias=bias).half().to(device())
    cut = RowParallelLinear(linear, Alone(room and Peers(6 * N * room)))
    cut.turn, x = 1, randn(2, 3, K)
    torch.testing.assert_close(cut(x), linear(x), rtol=2e-3, atol=2e-3)
    assert cut.group.said == [said]
    assert not any(weight.requires_grad for weight in cut.parameters())
    assert {weight.data_ptr() for weight in cut.parameters()}.isdisjoint(weight.data_ptr() for weight in linear.parameters())


@pytest.mark.parametrize("scales, dtype, words", [
    ("both", None, r"scales must be one of \('shared', 'own'\), got 'both'"),
    ("own", F16, "partial_dtype must be None, for that of x, or torch.float32, got torch.float16"),
    ("shared", F32, 'partial_dtype is for scales="own"')])
def test_ways_that_there_are_not(scales, dtype, words):
    with pytest.raises(ValueError, match=words):
        expect_scales(scales, dtype)
    for right in (("shared", None), ("own", None), ("own", F32)):
        expect_scales(*right)


@pytest.mark.parametrize("scales", ["shared", "own"])
def test_a_layer_says_what_it_is_and_keeps_its_scales(scales):
    _, cut = layers(scales)
    assert repr(cut) == (f"RowParallelInt8Linear(in_features={K} of each of 1 ranks, out_features={N}, scales='{scales}', "
                         "bias=True)")
    assert cut.half().weight_scale.dtype == torch.float32 and set(cut.state_dict()) == {"weight_q", "weight_scale", "bias"}
    with pytest.raises(ValueError, match=rf"x must be \(..., {K}\), this rank's part of the columns, got \(2, {K + 1}\)"):
        cut(randn(2, K + 1))
