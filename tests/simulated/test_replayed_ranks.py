"""Ranks played in one process: what each collective gives, where ranks do not meet, and how many bytes they exchange."""

import pytest
import torch

from checks.judge.exercise import WrongAnswer
from checks.ranks.meeting import NotTogether
from checks.simulated import ranks
from checks.simulated.ranks import combined, on_ranks, replay, try_all_reduce, try_mlp, try_row_parallel, try_shared_scale


def of_rank(rank, dtype=torch.float32):
    return torch.tensor([[1, -2], [3, 4]], dtype=dtype) * (rank + 1)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("op", "want"), [
    ("sum", lambda x: x.sum(0)), ("max", lambda x: x.amax(0)), ("gathering", lambda x: x)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.int8, torch.int32])
def test_what_a_collective_gives(op, want, size, dtype):
    tensors = torch.stack([of_rank(rank, dtype) for rank in range(size)])

    def function(x, group):
        assert group.size == size
        return group.all_gather(x) if op == "gathering" else group.all_reduce(x, op)

    results, exchanged = replay(function, [{"x": x} for x in tensors])
    assert len(results) == size and exchanged == tensors[0].nbytes
    for got in (*results, combined(op, tensors)):
        assert got.dtype == dtype and torch.equal(got, want(tensors).to(dtype))


def test_one_collective_after_the_other():
    """A sum stands in the tensor's own place, and the parts given stay as they are; a gathered tensor is each rank's own."""
    def function(x, scale, group):
        total = group.all_reduce(x)
        assert total is x
        both = group.all_gather(total * (group.rank + scale))
        both[0] += 100
        return group.all_reduce(both[1], "max"), both, group.rank

    parts = [{"x": of_rank(rank), "scale": 1} for rank in range(2)]
    results, exchanged = replay(function, parts)
    total = 3 * of_rank(0)
    for rank, (largest, both, said) in enumerate(results):
        assert torch.equal(largest, 2 * total) and torch.equal(both[0], total + 100) and said == rank
    assert results[0][1].data_ptr() != results[1][1].data_ptr() and exchanged == 3 * total.nbytes
    assert all(torch.equal(part["x"], of_rank(rank)) for rank, part in enumerate(parts))


@pytest.mark.parametrize(("function", "said"), [
    (lambda x, group: group.all_reduce(x) if group.rank else x, "rank 1 waits in the sum of .2, 2. float32, and rank 0"),
    (lambda x, group: group.all_reduce(x, "max" if group.rank else "sum"), "rank 0 is in the sum .*, rank 1 is in the max"),
    (lambda x, group: group.all_reduce(x[group.rank:]), r"rank 0 is in the sum of \(2, 2\) float32, rank 1 .* \(1, 2\)"),
    (lambda x, group: group.all_gather(x) if group.rank else group.all_reduce(x), "rank 1 is in the gathering"),
    (lambda x, group: group.all_reduce(x.half() if group.rank else x), "rank 1 is in the sum of .2, 2. float16")])
def test_ranks_that_do_not_meet(function, said):
    parts = [{"x": of_rank(rank)} for rank in range(2)]
    with pytest.raises(NotTogether, match=said):
        replay(function, parts)
    with pytest.raises(WrongAnswer, match=said + r"[^.]*.*\.$"):
        on_ranks(function, parts, 1000)


@pytest.mark.parametrize("op", ["min", "", "gathering"])
def test_an_operation_that_is_none(op):
    with pytest.raises(ValueError, match=f'op must be "sum" or "max", got {op!r}'):
        replay(lambda x, group: group.all_reduce(x, op), [{"x": of_rank(0)}])


@pytest.mark.parametrize(("most", "passes"), [(31, False), (32, True), (33, True)])
def test_so_many_bytes_are_enough(most, passes):
    function = lambda x, group: group.all_gather(group.all_reduce(x)).sum()  # noqa: E731
    parts = [{"x": of_rank(rank)} for rank in range(2)]
    if passes:
        assert on_ranks(function, parts, most) == (18 * 2, 18 * 2)
    else:
        with pytest.raises(WrongAnswer, match=f"each rank hands 32 bytes to collectives, and {most} are enough"):
            on_ranks(function, parts, most)


def test_another_way_to_play(monkeypatch):
    monkeypatch.setattr(ranks, "_play", [replay])
    ranks.use(lambda function, parts: ([len(parts), function], 8))
    assert on_ranks("function", [{}, {}], 8) == (2, "function")


def exchanging(numbers, dtype=torch.float32):
    """A function that hands `numbers` of them to a collective, and gives what it was called with."""
    def function(group, **part):
        group.all_reduce(torch.zeros(numbers, dtype=dtype))
        return group.rank, part
    return function


X = torch.arange(24.0).view(4, 6)
W = torch.arange(30).view(5, 6).to(torch.int8)
PARTS = {  # a call of a function, the bytes that are enough, and what rank r gets
    "shared scale": (lambda f: try_shared_scale(f, X), 4 * 4, lambda r: {"x": X[:, 3 * r:3 * r + 3]}),
    "row parallel": (lambda f: try_row_parallel(f, X, W, torch.arange(5.0), torch.ones(5)), 4 * 20 + 4 * 4, lambda r: {
        "x": X[:, 3 * r:3 * r + 3], "w_q": W[:, 3 * r:3 * r + 3], "w_scale": torch.arange(5.0), "bias": torch.ones(5)}),
    "row parallel, own scales": (
        lambda f: try_row_parallel(f, X, W, torch.arange(10.0).view(2, 5), torch.ones(5)), 2 * 20 + 4 * 4, lambda r: {
            "x": X[:, 3 * r:3 * r + 3], "w_q": W[:, 3 * r:3 * r + 3], "w_scale": torch.arange(10.0).view(2, 5)[r],
            "bias": torch.ones(5)}),
    "MLP": (lambda f: try_mlp(f, X, X + 1, X + 2, X.T + 3), 4 * 24, lambda r: {
        "x": X, "gate": (X + 1)[2 * r:2 * r + 2], "up": (X + 2)[2 * r:2 * r + 2], "down": (X.T + 3)[:, 2 * r:2 * r + 2]}),
    "all-reduce": (lambda f: try_all_reduce(f, torch.stack([X, X + 1])), 24 + 4 * 4, lambda r: {"y": X + r}),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_each_rank_is_given_and_may_exchange(name):
    call, most, given = PARTS[name]
    with pytest.raises(WrongAnswer, match=f"{most + 1} bytes to collectives, and {most} are enough"):
        call(exchanging(most + 1, torch.int8))
    for rank, (said, part) in enumerate(call(exchanging(most, torch.int8))):
        assert said == rank and list(part) == list(given(rank))
        for key, want in given(rank).items():
            assert torch.equal(part[key], want) and part[key].is_contiguous(), key


@pytest.mark.parametrize("error", [ValueError, KeyError, ZeroDivisionError])
def test_other_numbers_than_the_ranks_own_may_be_refused(error):
    """By which it is looked for what goes from rank to rank without the group."""
    def function(x, group):
        if x[0] > x[1]:
            raise error("rows in another order")
        return group.all_reduce(x)

    results, exchanged = replay(function, [{"x": torch.tensor([1.0, 2.0])}, {"x": torch.tensor([3.0, 5.0])}])
    assert [one.tolist() for one in results] == [[4.0, 7.0]] * 2 and exchanged == 8
