"""What each rank gets of a model that is cut: which rows and columns, in which order, and how its parts will exchange."""

import copy
import dataclasses

import pytest
import torch

from kernels import parallel
from kernels.exchange import Group
from kernels.linear import Int8Linear, quantize_linears_
from kernels.parallel import ColumnParallelInt8Linear, RowParallelInt8Linear, RowParallelLinear, parallelize_
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import device
from kernels.transformer import Block, Config, FusedInt8Block

TINY = Config(vocabulary=1, layers=1, dim=32, heads=4, kv_heads=2, hidden=48, rope_base=77.0)
SIZES = {"q": 32, "k": 16, "v": 16, "gate": 48, "up": 48}  # rows


class Rank(Group):
    """One of two ranks, which hold the same weights."""

    def __init__(self, rank, size=2):
        self.rank, self.size, self.peers, self.compared = rank, size, None, []

    def expect_same(self, tensors):
        self.compared.append(sorted(tensors))


@pytest.fixture(autouse=True)
def groups_as_they_are(monkeypatch):
    for module in (parallel, parallel.RowParallelInt8Linear.__init__.__globals__):
        put = monkeypatch.setitem if isinstance(module, dict) else monkeypatch.setattr
        put(module, "Group", lambda group: group)
    monkeypatch.setattr(parallel, "PeerMemory", lambda *given: given)


def block():
    torch.manual_seed(0)
    return Block(TINY).half().to(device()).eval().requires_grad_(False)


def on_each(model, **options):
    """The model as each rank has it, and the ranks."""
    ranks = [Rank(rank) for rank in range(2)]
    return [parallelize_(copy.deepcopy(model), rank, **options) for rank in ranks], ranks


def weights(layer):
    """Weights, or codes and scales, by name."""
    return dict(layer.named_parameters()) | dict(layer.named_buffers())


def layers_of(block):
    attention, mlp = block.attention, block.mlp
    return {"q": attention.q, "k": attention.k, "v": attention.v, "o": attention.o, "gate": mlp.gate, "up": mlp.up,
            "down": mlp.down}


@pytest.mark.parametrize("int8", [False, True])
def test_rows_and_columns_of_each_layer(int8):
    whole = quantize_linears_(block()) if int8 else block()
    cut, ranks = on_each(whole, scales="own", peer_bytes=640)
    for name, layer in layers_of(whole).items():
        of_ranks = [layers_of(one)[name] for one in cut]
        by_rows = name in SIZES
        kinds = {(True, True): ColumnParallelInt8Linear, (True, False): RowParallelInt8Linear,
                 (False, True): torch.nn.Linear, (False, False): RowParallelLinear}
        assert {type(part) for part in of_ranks} == {kinds[int8, by_rows]}
        for weight, value in weights(layer).items():
            parts = [weights(part)[weight] for part in of_ranks]
            if by_rows or value.ndim == 2:
                assert torch.equal(torch.cat(parts, dim=0 if by_rows else 1), value), (name, weight)
            else:  # of a row of weights that lies on both
                assert all(torch.equal(part, value) for part in parts)
            assert all(part.is_contiguous() and not part.requires_grad for part in parts)
        sizes = {(part.in_features, part.out_features) for part in of_ranks}
        each = (layer.in_features, layer.out_features // 2) if by_rows else (layer.in_features // 2, layer.out_features)
        assert sizes == {each} and not any(part.training for part in of_ranks if int8)
    for one, rank in zip(cut, ranks, strict=True):
        assert one.attention.config == dataclasses.replace(TINY, dim=16, heads=2, kv_heads=1, hidden=24)
        ends = one.attention.o, one.mlp.down
        assert [end.turn for end in ends] == [0, 1] and all(end.group is rank for end in ends)
        assert rank.peers == (rank, 640) and rank.compared == [sorted(weights(whole))]
        assert not int8 or [end.scales for end in ends] == ["own", "own"]


@pytest.mark.parametrize("options", [{}, {"scales": "own", "pieces": 3, "peer_bytes": 99}])
def test_the_stacked_layers_of_a_fused_block(options):
    whole = FusedInt8Block(block())
    cut, ranks = on_each(whole, **options)
    for one, rank in zip(cut, ranks, strict=True):
        for stacked, names in (("qkv", "q k v"), ("gate_up", "gate up")):
            rows = [SIZES[name] for name in names.split()]
            for name in ("weight_q", "weight_scale"):
                parts = getattr(getattr(whole, stacked), name).split(rows)
                want = torch.cat([part.chunk(2)[rank.rank] for part in parts])
                assert torch.equal(getattr(getattr(one, stacked), name), want)
            layer = getattr(one, stacked)
            assert (layer.in_features, layer.out_features, layer.bias) == (32, sum(rows) // 2, None)
        for turn, name in enumerate(("o", "down")):
            layer, columns = getattr(one, name), getattr(whole, name).weight_q.chunk(2, dim=1)
            assert torch.equal(layer.weight_q, columns[rank.rank])
            assert (layer.turn, layer.pieces, layer.scales, layer.group) == (
                turn, options.get("pieces", 1), options.get("scales", "shared"), rank)
        assert one.parts == 2 and one.config == dataclasses.replace(TINY, dim=16, heads=2, kv_heads=1, hidden=24)
        assert rank.peers == ((rank, 99) if options else None)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bias_goes_to_its_columns_or_to_who_adds_it(rank, training):
    torch.manual_seed(0)
    linear = torch.nn.Linear(24, 10).half().to(device()).train(training)
    whole, group, mine = Int8Linear.from_linear(linear), Rank(rank), slice(12 * rank, 12 * rank + 12)
    columns = ColumnParallelInt8Linear.from_linear(linear, group)
    rows_of_fp16 = parallel._columns(linear, group)
    for cut in (columns, rows_of_fp16):
        assert torch.equal(cut.bias, linear.bias[5 * rank:5 * rank + 5]) and cut.out_features == 5
    assert parallel._columns(torch.nn.Linear(24, 10, bias=False), group).bias is None
    assert torch.equal(RowParallelLinear(linear, group).bias, linear.bias)
    shared, own, of_codes = (RowParallelInt8Linear.from_linear(given, group, scales) for given, scales in (
        (linear, "shared"), (linear, "own"), (whole, "own")))
    assert torch.equal(shared.bias, linear.bias) and shared.bias.data_ptr() != linear.bias.data_ptr()
    for cut in (own, of_codes):  # the sum of all ranks' products has it once
        assert cut.bias is None if rank else torch.equal(cut.bias, linear.bias)
    assert {cut.training for cut in (columns, shared, own, of_codes)} == {training}
    for cut in (shared, of_codes):
        assert torch.equal(cut.weight_q, whole.weight_q[:, mine]) and torch.equal(cut.weight_scale, whole.weight_scale)
    alone = quantize_int8_perrow(linear.weight.detach()[:, mine].contiguous())
    assert torch.equal(own.weight_q, alone[0]) and torch.equal(own.weight_scale, alone[1])
    assert (own.in_features, own.out_features, own.partial_dtype) == (12, 10, None)
    assert RowParallelInt8Linear.from_linear(linear, group, "own", torch.float32).partial_dtype == torch.float32
    assert group.compared == [["bias", "weight"]] * 3 + [["bias", "weight_q", "weight_scale"]] + [["bias", "weight"]]


@pytest.mark.parametrize("change, words, fused", [
    ({"heads": 1, "kv_heads": 1}, "heads must be a multiple of the 2 ranks, got 1", False),
    ({"kv_heads": 1}, "kv_heads must be a multiple of the 2 ranks, got 1", True),
    ({"hidden": 49}, "hidden must be a multiple of the 2 ranks, got 49", False)])
def test_a_model_that_cannot_be_cut_stays_whole(change, words, fused):
    torch.manual_seed(0)
    odd = Block(dataclasses.replace(TINY, **change)).half().to(device())
    model = torch.nn.ModuleList([block(), odd])
    if fused:
        model = torch.nn.ModuleList([FusedInt8Block(one) for one in model])
    before = {name: value.shape for name, value in weights(model).items()}
    with pytest.raises(ValueError, match=f"the model's {words}"):
        parallelize_(model, Rank(0))
    assert {name: value.shape for name, value in weights(model).items()} == before


@pytest.mark.parametrize("made", [block, lambda: quantize_linears_(block()), lambda: FusedInt8Block(block())],
                         ids=["FP16", "INT8", "fused"])
def test_a_model_is_cut_once(made):
    cut = parallelize_(made(), Rank(0))
    with pytest.raises(ValueError, match="model is cut already"):
        parallelize_(cut, Rank(0))
    o = cut.o if isinstance(cut, FusedInt8Block) else cut.attention.o
    if not isinstance(o, RowParallelInt8Linear):
        return
    with pytest.raises(TypeError, match="linear must be a torch.nn.Linear or an Int8Linear, got RowParallelInt8Linear"):
        RowParallelInt8Linear.from_linear(o, Rank(0))


def test_a_part_of_columns_is_not_cut_again():
    linear = torch.nn.Linear(24, 8).half().to(device())
    columns = ColumnParallelInt8Linear.from_linear(linear, Rank(1))
    for kind in (ColumnParallelInt8Linear, RowParallelInt8Linear):
        with pytest.raises(ValueError, match="linear is cut already"):
            kind.from_linear(columns, Rank(1))
