"""Products with planted mistakes: each is wrong where it is said to be, in the way that is said, and right elsewhere."""

import pytest
import torch

from checks.simulated.buggy_matmuls import PLANTED, TILES, planted_int_mm
from kernels.runtime import device

SIZES = [(96, 70, 96), (32, 80, 160)]  # 32 divides M and K, 64 does not


def operands(M, N, K):
    g = torch.Generator().manual_seed(M)
    x_q, w_q = (torch.randint(-127, 128, shape, generator=g, dtype=torch.int8) for shape in ((M, K), (N, K)))
    return x_q, w_q, (x_q.long() @ w_q.long().T).int(), torch.full((M, N), 777, dtype=torch.int32)


def without_last_step(tile, x_q, w_q, want, before):
    K = x_q.shape[1] // 64 * 64
    return (x_q[:, :K].long() @ w_q[:, :K].long().T).int()


def without_last_rows(tile, x_q, w_q, want, before):
    M = len(want) // 64 * 64
    return torch.cat([want[:M], before[M:]])


def one_less(tile, x_q, w_q, want, before):
    want[-1, -1] -= 1
    return want


def swapped(tile, x_q, w_q, want, before):
    return torch.cat([want[:, -1:], want[:, 1:-1], want[:, :1]], 1)


MADE = {  # what a wrong one leaves in y, or what it raises
    "right in every config": None, "one element off by one": one_less,
    "the first config writes nothing": lambda tile, x_q, w_q, want, before: before,
    "drops the last step along K": without_last_step, "leaves the last rows unwritten": without_last_rows,
    "adds to y": lambda tile, x_q, w_q, want, before: want + before, "two columns swapped": swapped,
    "one config does not launch": RuntimeError,
    "the first config is wrong": lambda tile, x_q, w_q, want, before: (x_q.long().abs() @ w_q.long().T).int(),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PLANTED)
def test_where_a_planted_mistake_is_wrong(name, size):
    function, wrong = PLANTED[name]
    assert PLANTED.keys() == MADE.keys() and len(set(TILES)) == len(TILES) == 4
    for place, tile in enumerate(TILES):
        x_q, w_q, want, y = operands(*size)
        given, before, made = (x_q.clone(), w_q.clone()), y.clone(), MADE[name]
        if place in wrong and made is RuntimeError:
            with pytest.raises(RuntimeError, match="out of resource: shared memory"):
                function(tile, x_q, w_q, y)
            assert torch.equal(y, before)
            continue
        function(tile, x_q, w_q, y)
        expected = made(tile, x_q, w_q, want.clone(), before) if place in wrong else want
        assert torch.equal(y, expected) and torch.equal(y, want) == (place not in wrong), tile
        assert torch.equal(x_q, given[0]) and torch.equal(w_q, given[1])
        if name == "two columns swapped":
            assert y.sum() == want.sum()


@pytest.mark.parametrize(("M", "N", "K", "tile"), [
    (33, 20, 64, (32, 32, 32)), (33, 20, 64, (16, 32, 64)), (5, 70, 96, (16, 32, 64)), (40, 33, 100, (32, 16, 32)),
    (16, 16, 31, (16, 16, 32))])
def test_the_kernel_drops_the_last_step_along_k(M, N, K, tile):
    x_q, w_q, _, y = (t.to(device()) for t in operands(M, N, K))
    planted_int_mm(tile, x_q, w_q, y)
    whole = K // tile[2] * tile[2]
    assert torch.equal(y.cpu(), (x_q[:, :whole].cpu().long() @ w_q[:, :whole].cpu().long().T).int())
