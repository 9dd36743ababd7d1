"""Whether ranks hold the same weights is told by a checksum: whatever differs must change it."""

import pytest
import torch

from kernels import exchange
from kernels.exchange import checksum

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
