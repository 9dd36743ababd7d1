"""What the tests have ranks do: functions that every rank runs with the group of all."""

import copy

import torch
import torch.distributed as dist

from kernels.linear import Int8Linear, quantize_linears_
from kernels.parallel import ColumnParallelInt8Linear, RowParallelInt8Linear, parallelize_, part
from kernels.transformer import Block, Config, FusedInt8Block, Transformer, rotation

TINY = Config(vocabulary=16, layers=1, dim=32, heads=4, kv_heads=2, hidden=48)


def linear(dtype=torch.float16, bias=True, K=24, N=10):
    torch.manual_seed(0)
    return torch.nn.Linear(K, N, bias=bias).to(dtype).requires_grad_(False)


def rows(M, K=24, dtype=torch.float16):
    x = torch.randn(M, K, generator=torch.Generator().manual_seed(M)).to(dtype)
    if M > 3:
        x[0] *= 30
        x[1] = 0
        x[2, K - 1] = torch.nan  # in the last rank's part alone
    return x


def layers_give_one_gpu_s_bits(group):
    for dtype, bias, M in ((torch.float16, True, 5), (torch.bfloat16, False, 1)):
        whole, x = Int8Linear.from_linear(linear(dtype, bias)), rows(M, dtype=dtype)
        want = whole(x)
        columns = ColumnParallelInt8Linear.from_linear(whole, group)(x)
        mine = x[:, part(24, group)]
        shared = RowParallelInt8Linear.from_linear(linear(dtype, bias), group)(mine[None])
        assert same(torch.cat(list(group.all_gather(columns)), dim=1), want)
        assert shared.shape == (1, M, 10) and same(shared[0], want)


def same(a, b):
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def own_scales(group):
    """Relative errors against FP16 and what the ranks hold of the bias: with own scales, with FP32 exchange, of one GPU."""
    given, x = linear(), rows(2)
    exact, found = x.float() @ given.weight.float().T + given.bias.float(), []
    layers = [RowParallelInt8Linear.from_linear(given, group, "own", dtype) for dtype in (None, torch.float32)]
    for y in (*(layer(x[:, part(24, group)]) for layer in layers), Int8Linear.from_linear(given)(x)):
        assert all(torch.equal(y, other) for other in group.all_gather(y))
        found.append(((y - exact).norm() / exact.norm()).item())
    return found, layers[0].bias is None


def models_on_ranks(group):
    torch.manual_seed(0)
    fp16 = Transformer(TINY).half().eval().requires_grad_(False)
    tokens = torch.arange(4)[None]
    whole = quantize_linears_(copy.deepcopy(fp16))
    cut = parallelize_(copy.deepcopy(whole), group)
    assert cut.blocks[0].attention.o.in_features == 16 and torch.equal(cut(tokens), whole(tokens))
    close = parallelize_(copy.deepcopy(fp16), group)(tokens) - fp16(tokens)
    block, x, turn = FusedInt8Block(fp16.blocks[0]), torch.randn(1, 4, 32).half(), rotation(TINY, torch.arange(4))
    want = block(x, turn)
    assert torch.equal(parallelize_(copy.deepcopy(block), group)(x, turn), want)
    own = parallelize_(copy.deepcopy(block), group, scales="own")
    one_piece = own(x, turn)
    for layer in (own.o, own.down):
        layer.pieces = 2
    assert torch.equal(own(x, turn), one_piece)
    return close.abs().max().item(), ((one_piece - want).float().norm() / (want - x).float().norm()).item()


class GatheredPeers:
    """Peer memory played by the process group: what a rank has written is gathered when all meet."""

    size_bytes = 1 << 20

    def __init__(self, group):
        self.group, self.mine = group, {}

    def room(self, buffer, shape, dtype):
        self.mine[buffer] = torch.zeros(shape, dtype=dtype)
        return self.mine[buffer]

    def meet(self, buffer, shape, dtype):
        assert (tuple(self.mine[buffer].shape), self.mine[buffer].dtype) == (tuple(shape), dtype)
        return list(self.group.all_gather(self.mine.pop(buffer)))


def blocks_by_peers(group):
    """Peers give the block's bits: of one GPU with a shared scale, those of the process group with own scales; FP16 too."""
    torch.manual_seed(0)
    fp16 = Block(TINY).half().eval().requires_grad_(False)
    whole, turn = FusedInt8Block(fp16), rotation(TINY, torch.arange(1))
    x = torch.randn(1, 1, 32).half()
    for made, options in ((whole, {}), (whole, {"scales": "own"}), (fp16, {})):
        cut = parallelize_(copy.deepcopy(made), group, **options)
        want = cut(x, turn)
        last = cut.down if made is whole else cut.mlp.down
        last.group.peers = GatheredPeers(group)
        got = cut(x, turn)
        assert (got - want).abs().max() < 0.01 if options else torch.equal(got, want)
    return got.shape


def compiled_layer(group):
    """Whether a compiled row-parallel layer is one graph with the same bits."""
    layer = RowParallelInt8Linear.from_linear(linear(), group)
    x = rows(2)[:, part(24, group)].contiguous()
    return torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))


def refusals(group):
    """What is said of layers and models that cannot be cut."""
    said = []
    torch.manual_seed(group.rank)
    different = torch.nn.Linear(24, 10).half()
    block = Block(Config(vocabulary=1, layers=1, dim=32, heads=4, kv_heads=1, hidden=48)).half()
    for call in (lambda: ColumnParallelInt8Linear.from_linear(linear(N=9), group),
                 lambda: RowParallelInt8Linear.from_linear(linear(K=25), group),
                 lambda: RowParallelInt8Linear.from_linear(different, group),
                 lambda: ColumnParallelInt8Linear.from_linear(linear(N=8 + 2 * group.rank), group),
                 lambda: parallelize_(block, group),
                 lambda: RowParallelInt8Linear.from_linear(linear(), group)(rows(2)),
                 lambda: parallelize_(parallelize_(Block(TINY).half(), group), group)):
        torch.manual_seed(5)
        try:
            call()
        except ValueError as error:
            said.append(str(error))
    return said


def sums_without_end(group):
    while True:
        group.all_reduce(torch.ones(3), what="ones")


def raises(group):
    if group.rank == 1:
        raise KeyError("this one alone")


def sums_once(group):
    return dist.get_backend(group.process_group), group.all_reduce(torch.tensor([group.rank + 1.0])).item()
