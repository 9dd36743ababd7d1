"""What is said when a rank is gone, peer memory, and the checksum by which ranks tell whether they hold the same weights."""

import sys
from types import SimpleNamespace

import pytest
import torch

from kernels import exchange
from kernels.exchange import Group, PeerMemory, RankLost, checksum

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int32, torch.int64]


@pytest.fixture(params=[1 << 24, 7], ids=["in one piece", "in pieces"])
def piece(monkeypatch, request):
    monkeypatch.setattr(exchange, "PIECE", request.param)


def changed(x):
    """The tensor with its lowest bit, its first number's sign, or its order another one."""
    bits = x.clone().view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
    bits.view(-1)[-1] ^= 1
    yield "the lowest bit of the last", bits.view(x.dtype)
    yield "a sign", torch.cat([-x[:1], x[1:]])
    yield "two neighbours", x[[1, 0, *range(2, len(x))]]
    yield "the first and the last", x[[-1, *range(1, len(x) - 1), 0]]
    yield "pieces", x.roll(7, 0)
    yield "all in reverse", x.flip(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whatever_differs_changes_the_checksum(dtype, piece):
    x = torch.arange(1, 22).to(dtype)
    sums = {"nothing": checksum(x)} | {what: checksum(other) for what, other in changed(x)}
    assert len({int(total) for total in sums.values()}) == len(sums), sums
    assert all(0 <= total < 2**62 for total in sums.values())


def test_a_checksum_is_of_the_numbers_and_not_of_how_they_lie(piece):
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert checksum(x) == checksum(x.T.contiguous().T) == checksum(x.clone()) == checksum(x.reshape(30))
    assert checksum(x) != checksum(x.T)


def one_of(size, rank=0, process_group="the group"):
    """A rank's group as it is, but that no process group was made."""
    group = object.__new__(Group)
    group.rank, group.size, group.process_group, group.name, group.peers = rank, size, process_group, "name", None
    return group


def fails(said):
    def collective(*_, **__):
        raise RuntimeError(said)
    return collective


@pytest.mark.parametrize("rank, size, whom", [(0, 2, "rank 1"), (1, 2, "rank 0"), (1, 3, "one of the ranks 0, 2"),
                                              (3, 4, "one of the ranks 0, 1, 2")])
def test_a_rank_that_is_gone_is_named(monkeypatch, rank, size, whom):
    group = one_of(size, rank)
    x = torch.ones(2, 3, dtype=torch.float16)
    monkeypatch.setattr(exchange.dist, "all_reduce", fails("[/a/b.cc:12] Connection closed by peer. More of it\nand more"))
    monkeypatch.setattr(exchange.dist, "all_gather", fails("no place"))
    for call, what in ((lambda: group.all_reduce(x), "sum of (2, 3) float16"),
                       (lambda: group.all_reduce(x, "max", "scales"), "max of scales (2, 3) float16")):
        with pytest.raises(RankLost) as lost:
            call()
        assert str(lost.value) == (
            f"rank {rank} waits for {whom} in the {what}, and no answer comes: that rank has ended, or does something "
            "else. torch.distributed says: Connection closed by peer")
        assert isinstance(lost.value.__cause__, RuntimeError)
    with pytest.raises(RankLost, match=r"in the gathering of codes \(2, 3\) float16, .* says: no place$"):
        group.all_gather(x, "codes")


def test_a_sum_beside_other_work_is_waited_for(monkeypatch):
    asked, x = [], torch.ones(3)
    work = SimpleNamespace(wait=lambda: asked.append("waited"))
    monkeypatch.setattr(exchange.dist, "all_reduce", lambda *given, **options: asked.append((given, options)) or work)
    wait = one_of(2).start_sum(x)
    assert asked == [((x,), {"group": "the group", "async_op": True})]
    wait()
    assert asked[1:] == ["waited"]
    work.wait = fails("timed out")
    with pytest.raises(RankLost, match=r"rank 0 waits for rank 1 in the sum of \(3,\) float32"):
        one_of(2).start_sum(x)()


def test_other_operations_are_refused_and_each_is_handed_on(monkeypatch):
    asked = []
    monkeypatch.setattr(exchange.dist, "all_reduce", lambda x, op, group: asked.append((op, group)))
    x = torch.ones(3)
    for op in ("sum", "max"):
        assert one_of(2).all_reduce(x, op) is x
    assert asked == [(exchange.dist.ReduceOp.SUM, "the group"), (exchange.dist.ReduceOp.MAX, "the group")]
    for size in (1, 2):
        with pytest.raises(ValueError, match='op must be "sum" or "max", got \'min\''):
            one_of(size).all_reduce(x, "min")


def test_a_group_of_one_exchanges_nothing(monkeypatch):
    for name in ("all_reduce", "all_gather"):
        monkeypatch.setattr(exchange.dist, name, fails("nobody is there"))
    group, x = one_of(1), torch.randn(2, 3)
    assert group.all_reduce(x, "max") is x
    gathered = group.all_gather(x)
    assert gathered.shape == (1, 2, 3) and torch.equal(gathered[0], x)
    group.expect_same({"weight": x})


def test_ranks_gather_in_their_order_and_rows_by_columns_too(monkeypatch):
    def all_gather(parts, mine, group):
        assert mine.is_contiguous() and group == "the group"
        for rank, part in enumerate(parts):
            part.copy_(mine + rank)

    monkeypatch.setattr(exchange.dist, "all_gather", all_gather)
    x = torch.arange(6.0).view(2, 3).T
    assert torch.equal(one_of(3, 1).all_gather(x), torch.stack([x, x + 1, x + 2]))


def test_the_tensor_that_differs_is_named(monkeypatch):
    """A maximum that another rank's number is part of: `numbers` are its checksums, beside ours."""
    tensors = {"a": torch.ones(3), "b": torch.arange(4)}
    theirs = []

    def all_reduce(group, both, op, what):
        other = torch.stack((theirs[0], -theirs[0]))
        theirs.pop(0)
        return torch.maximum(both, other)

    monkeypatch.setattr(Group, "all_reduce", all_reduce)
    outline = exchange.zlib.crc32(repr([(name, tuple(t.shape), t.dtype) for name, t in tensors.items()]).encode())
    sums = torch.stack([checksum(t) for t in tensors.values()])
    for heads, others, said in (([2, outline], sums, None), ([3, outline], sums, "not the same names, shapes or dtypes"),
                                ([2, outline - 1], sums, "not the same names, shapes or dtypes"),
                                ([2, outline], sums + torch.tensor([0, 1]), "different weights: b is not the same"),
                                ([2, outline], sums - torch.tensor([1, 0]), "different weights: a is not the same")):
        theirs[:] = [torch.tensor(heads), others]
        if said is None:
            one_of(2).expect_same(tensors)
        else:
            with pytest.raises(ValueError, match=said):
                one_of(2).expect_same(tensors)


def test_peer_memory_is_written_here_and_read_everywhere(monkeypatch):
    said = []

    class Handle:
        def __init__(self, memory, group):
            said.append(("met", tuple(memory.shape), memory.dtype, group))
            self.number = len(said)

        def get_buffer(self, rank, shape, dtype):
            return self.number, rank, shape, dtype

        def barrier(self, channel):
            said.append(("barrier", self.number, channel))

    symmetric = SimpleNamespace(empty=lambda size, dtype, device: torch.zeros(size, dtype=dtype), rendezvous=Handle)
    monkeypatch.setitem(sys.modules, "torch.distributed._symmetric_memory", symmetric)
    monkeypatch.setattr(torch.distributed, "_symmetric_memory", symmetric, raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    peers = PeerMemory(one_of(3, 2), 640)
    assert peers.size_bytes == 640 and said == [("met", (640,), torch.uint8, "the group")] * 2
    given = (5, 4), torch.float16
    assert [peers.room(buffer, *given) for buffer in (0, 1)] == [(1, 2, *given), (2, 2, *given)]
    assert said[2:] == []
    assert [peers.meet(buffer, *given) for buffer in (0, 1)] == [[(number, rank, *given) for rank in range(3)]
                                                                 for number in (1, 2)]
    assert said[2:] == [("barrier", 1, 0), ("barrier", 2, 1)]
