"""Ranks that are played in one process: they share what goes through their group, and nothing else."""

import pytest
import torch

from checks.judge.exercise import WrongAnswer
from checks.simulated.ranks import replay

PARTS = [{"x": torch.tensor([1.0, 5.0])}, {"x": torch.tensor([3.0, 2.0])}]
BOX, FIRST = [], {}


def together(x, group):
    return group.all_reduce(x)


def by_gathering(x, group):
    return group.all_gather(x.mul_(2)).sum(0) / 2


def by_a_box(x, group):
    BOX.append(x)
    group.all_reduce(torch.zeros(1))  # by now all have put theirs into the box
    return BOX[-1] + BOX[-2]


def by_what_came_first(x, group):
    FIRST.setdefault(group.rank, x)
    group.all_reduce(torch.zeros(1))
    return sum(FIRST.values())


def by_what_comes_back(x, group, seen=[]):  # noqa: B006  for that is how it keeps them
    seen.append((group.rank, x))
    group.all_reduce(torch.zeros(1))
    return next(other for rank, other in reversed(seen) if rank != group.rank) + x


@pytest.mark.parametrize("function", [together, by_gathering])
def test_what_goes_through_the_group_is_shared(function):
    (first, second), exchanged = replay(function, PARTS)
    assert first.tolist() == second.tolist() == [4.0, 7.0] and exchanged == 8
    assert PARTS[0]["x"].tolist() == [1.0, 5.0]


@pytest.mark.parametrize("function", [by_a_box, by_what_comes_back])
def test_nothing_else_is(function):
    with pytest.raises(WrongAnswer, match="goes through `group`"):
        replay(function, PARTS)


@pytest.mark.parametrize("numbers", [[1.0, 1.0], [2.0, 3.0, 2.0], [[0.5], [0.5]]])
@pytest.mark.parametrize("function", [by_a_box, by_what_comes_back])
def test_nothing_else_is_of_numbers_the_same_turned(function, numbers):
    parts = [{"x": torch.tensor(numbers)}, {"x": 3 * torch.tensor(numbers)}]
    with pytest.raises(WrongAnswer, match="goes through `group`"):
        replay(function, parts)


def test_what_is_no_number_is_the_same_as_itself():
    results, _ = replay(lambda x, group: group.all_reduce(x) * torch.tensor([1.0, torch.nan]), PARTS)
    assert [result.isnan().tolist() for result in results] == [[False, True]] * 2


def cleans_up(x, group):
    try:
        return group.all_reduce(x).clone()
    finally:
        x.zero_()


def test_what_a_rank_hands_over_is_what_it_was_then():
    assert [result.tolist() for result in replay(cleans_up, PARTS)[0]] == [[4.0, 7.0]] * 2


def test_what_came_first_is_of_no_use():
    (first, _), _ = replay(by_what_came_first, PARTS)
    assert first.tolist() != [4.0, 7.0]


def test_an_error_is_the_function_s_own():
    def broken(x, group):
        raise KeyError(x.tolist())

    with pytest.raises(KeyError, match="1.0, 5.0"):
        replay(broken, PARTS)
