"""Which elements of an output come from kernels, through what torch did with them afterwards."""

import pytest
import torch

import checks.judge.made
from checks.host.recorder import record
from checks.judge.execution import attempt_executed
from checks.judge.made import made_by_kernels
from kernels.hello import vector_add_kernel

X = {"x": torch.arange(12.0), "y": torch.ones(12)}


def add(x, y, out):
    vector_add_kernel[(3,)](x, y, out, 12, BLOCK=4)
    return out


def wide(x, y):
    return add(x, y, torch.empty(20))


@pytest.mark.parametrize("call", [
    lambda x, y: add(x, y, torch.empty(12)), lambda x, y: add(x, y, torch.zeros(12)).to(torch.float16), lambda x, y:
    torch.cat([add(x, y, torch.empty(12)), add(y, x, torch.empty(12))]), lambda x, y: wide(x, y)[:12].int(),
    lambda x, y: add(x, y, torch.empty(12)).view(3, 4).t().contiguous(), lambda x, y: wide(x, y)[3:12].bool(),
    lambda x, y: add(x, y, torch.tensor([0.0] * 12)), lambda x, y: add(x, y, x.clone()).expand(2, 12),
    lambda x, y: add(x, y, torch.tensor([0.0] * 99)[:12])],
    ids=("empty", "converted", "joined", "a part of integers", "transposed", "a part of bools", "from numbers", "expanded",
         "from a table"))
def test_all_is_made_by_kernels(call):
    tried = attempt_executed(call, X, 20)
    (made,) = tried.made
    assert made.shape == tried.outputs[0].shape and made.all()


@pytest.mark.parametrize("call, missing", [
    (lambda x, y: (add(x, y, torch.empty(12)), x.clone())[1], 12), (lambda x, y: wide(x, y)[5:], 8),
    (lambda x, y: torch.cat([add(x, y, torch.empty(12)), x]), 12), (lambda x, y: torch.full((4,), 2.0), 4),
    (lambda x, y: (add(x, y, torch.empty(12)), torch.tensor([3.0] * 4))[1], 4)], ids=range(5))
def test_what_torch_put_there_is_not(call, missing):
    (made,) = attempt_executed(call, X, 20).made
    assert int((~made).sum()) == missing


def test_it_is_not_asked_where_torch_computes():
    assert made_by_kernels(record(lambda x, y: x + y, X), X, []) is None


def test_it_is_found_when_it_is_first_asked_for(monkeypatch):
    tried = attempt_executed(lambda x, y: add(x, y, torch.empty(12)), X, 20)
    played = []
    monkeypatch.setattr(checks.judge.made, "play", lambda *given: played.append(given) or (torch.full((12,), 3.0),))
    assert not played
    assert tried.made[0].all() and tried.made[0].all() and len(tried.made) == 1
    assert len(played) == 1
