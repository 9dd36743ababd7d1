"""checks/host/steps.py: which operators only move numbers, each tried by name."""

import pytest
import torch

from checks.exercises import EXERCISES
from checks.host.playback import play
from checks.host.recorder import record
from checks.host.steps import ALLOCATIONS, COPIES, MOVES_ONLY, TABLE, VIEWS, WRITTEN
from checks.judge.memory import is_poison, poison_

X = {"x": torch.arange(12, dtype=torch.float32).reshape(3, 4)}
aten = torch.ops.aten

EMPTY = {
    "empty.memory_format": lambda x: torch.empty(2, 3), "empty_like": torch.empty_like,
    "new_empty": lambda x: x.new_empty(3),
    "empty_strided": lambda x: torch.empty_strided((3,), (1,)),
    "new_empty_strided": lambda x: x.new_empty_strided((3,), (1,))}
MADE = {
    "zeros": lambda x: torch.zeros(3), "zeros_like": torch.zeros_like, "new_zeros": lambda x: x.new_zeros(3),
    "ones": lambda x: torch.ones(3), "ones_like": torch.ones_like, "new_ones": lambda x: x.new_ones(3),
    "full": lambda x: torch.full((3,), 2.0), "full_like": lambda x: torch.full_like(x, 2),
    "new_full": lambda x: x.new_full((3,), 2.0), "zero_": lambda x: x.clone().zero_(),
    "fill_.Scalar": lambda x: x.clone().fill_(2.0), "fill_.Tensor": lambda x: x.clone().fill_(x[0, 1]),
    "lift_fresh": lambda x: torch.tensor([1.0, 2.0]), "scalar_tensor": lambda x: torch.scalar_tensor(2.0)}
SEEN = {
    "view": lambda x: x.view(4, 3), "_unsafe_view": lambda x: aten._unsafe_view(x, [12]),
    "view.dtype": lambda x: x.view(torch.int32), "as_strided": lambda x: x.as_strided((2,), (3,)),
    "_reshape_alias": lambda x: aten._reshape_alias(x, [12], [1]), "slice.Tensor": lambda x: x[1:, ::2],
    "select.int": lambda x: x[1], "t": lambda x: x.t(), "transpose.int": lambda x: x.transpose(0, 1),
    "permute": lambda x: x.permute(1, 0), "expand": lambda x: x[:1].expand(2, 4), "unsqueeze": lambda x: x[None],
    "squeeze": lambda x: x[None].squeeze(), "squeeze.dim": lambda x: x[None].squeeze(0),
    "squeeze.dims": lambda x: x[None].squeeze((0,)), "alias": lambda x: aten.alias(x), "detach": lambda x: x.detach(),
    "unbind.int": lambda x: x.unbind()[1], "split.Tensor": lambda x: x.chunk(2)[1],
    "split_with_sizes": lambda x: x.split([1, 2]), "diagonal": lambda x: x.diagonal(), "unfold": lambda x: x.unfold(0, 2, 1)}
COPIED = {
    "clone": lambda x: x.t().contiguous(), "copy_": lambda x: torch.zeros(2, 2).copy_(x[:2, :2]),
    "_to_copy": lambda x: x.half(),
    "cat": lambda x: torch.cat([x, x]).half(), "stack": lambda x: torch.stack([x, x]),
    "constant_pad_nd": lambda x: torch.nn.functional.pad(x, (0, 1)),
    "slice_scatter": lambda x: x.slice_scatter(x[:1], 0, 2, 3), "select_scatter": lambda x: x.select_scatter(x[0], 0, 1),
    "flip": lambda x: x.flip(0), "roll": lambda x: x.roll(1), "repeat": lambda x: x.repeat(2, 1)}
MOVES = EMPTY | MADE | SEEN | COPIED


@pytest.mark.parametrize("name", MOVES)
def test_moving_numbers_is_no_computing(name):
    recording = record(lambda x: MOVES[name](x), X)
    assert f"aten::{name}" in recording.operators and EXERCISES["vector_add_kernel"].work_of(recording.operators) == []
    copies = [f"aten::{one}" for one in COPIED if f"aten::{one}" in recording.operators]
    assert EXERCISES["copy_2d_kernel"].work_of(recording.operators) == sorted(copies), "which is what this kernel is for"
    played, wanted = play(recording, X, None, poison_), MOVES[name](**X)
    for mine, theirs in zip(played, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        assert is_poison(mine).all() if name in EMPTY else torch.equal(mine, theirs)


def test_each_of_them_is_tried():
    for names, tried in ((ALLOCATIONS, EMPTY | MADE), (VIEWS, SEEN), (COPIES, COPIED), (MOVES_ONLY, MOVES)):
        assert names == {f"aten::{name}" for name in tried}


def test_what_is_asked_of_a_tensor_is_no_operator():
    def asks(x):
        return x.device.type, *x.size(), *x.stride(), x.numel(), x.storage_offset(), x.dtype

    recording = record(asks, X)
    assert recording.steps == [] and recording.outputs == ("cpu", 3, 4, 4, 1, 12, 0, torch.float32)


@pytest.mark.parametrize("parts", [[TABLE], [TABLE + 1], [TABLE // 2] * 2, [TABLE // 2, TABLE // 2 + 1], [1] * TABLE, []])
def test_many_numbers_of_host_code_are_a_table(parts):
    found = record(lambda: [torch.tensor([0.5] * n) for n in parts], {}).operators
    assert found == ["aten::lift_fresh"] * bool(parts) + [WRITTEN] * (sum(parts) > TABLE)
    assert EXERCISES["vector_add_kernel"].work_of(found) == [WRITTEN] * (sum(parts) > TABLE)
