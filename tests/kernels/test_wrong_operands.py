"""Each tensor of each function with the wrong type, dtype, dimensions or sizes: refused, in words that name it."""

import contextlib

import pytest
import torch
from test_current_gpu import CALLS
from triton.runtime.interpreter import InterpretedFunction

CHECKED = [call for call in CALLS if not call.endswith("of a choice")]  # which a caller has checked
PARTS = ("product of a part", "one row of a part", "sums of a part", "end and norm")
CALLED = {"k_q": "keys", "v_q": "values"}  # in messages
WRONG = {"dtype": torch.Tensor.double, "one dimension more": lambda x: x[None], "no tensor": lambda x: [1.0]}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr(InterpretedFunction, "run", lambda *_, **__: None)


def names_of(call):
    return [name for name, value in CALLS[call][1].items() if isinstance(value, torch.Tensor)]


def is_right(call, name, wrong):
    """What is taken, or not looked at: leading dimensions, and tensors that the caller made to be written."""
    if call in ("INT8", "a layer") and name == "x":
        return wrong == "one dimension more" or call == "a layer" and wrong == "no tensor"  # torch says it
    return call in PARTS and name in ("y", "residual") and wrong != "one dimension more"


@pytest.mark.parametrize("call", CHECKED)
def test_a_wrong_operand_is_named(call):
    function, given = CALLS[call]
    for name in names_of(call):
        said = {"k": "keys", "v": "values"}.get(name, name) if call == "attention" else CALLED.get(name, name)
        for wrong, change in WRONG.items():
            if is_right(call, name, wrong):
                continue
            with pytest.raises((TypeError, ValueError)) as caught:
                function(**given | {name: change(given[name])})
            assert str(caught.value).startswith(f"{said} must be"), (name, wrong)


def rows_are_free(name, given):
    """Whether no other operand has as many rows as this one."""
    return name in ("w", "partial") or name in ("x", "x_q", "w_q") and not (
        given.keys() & {f"{name[0]}_scale", "amax", "place", "y"})


def columns_are_free(call, name):
    return name == "part" or names_of(call) == ["x"] and call not in ("quantize, groups", "quantized heads", "a layer")


@pytest.mark.parametrize("call", CHECKED)
def test_operands_whose_sizes_do_not_agree_are_refused(call):
    function, given = CALLS[call]
    for name in names_of(call):
        x = given[name]
        changes = [(x[..., :-1].contiguous(), columns_are_free(call, name))]
        if x.ndim > 1 and len(x) > 1:
            changes.append((x[:-1], rows_are_free(name, given)))
        for less, free in changes:
            with contextlib.nullcontext() if free else pytest.raises((TypeError, ValueError)):
                function(**given | {name: less})
