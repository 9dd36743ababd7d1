"""Inputs and outputs on their way between the grader and a child."""

import json
import math

import pytest
import torch

from checks.grader.sandbox.values import OtherValue, decode, encode, encode_inputs
from checks.grader.sandbox.wire import ProtocolError


class Named(torch.Tensor):
    pass


@pytest.mark.parametrize("value", [
    *(torch.tensor([[1, 0], [1, 1]]).to(getattr(torch, name)) for name in
      ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")),
    torch.empty(0, 3), torch.tensor(7.0), torch.tensor([math.nan, math.inf, -0.0]), torch.ones(3).as_subclass(Named)],
    ids=lambda t: f"{t.dtype} {tuple(t.shape)} {type(t).__name__}")
def test_a_tensor_arrives_as_it_was(value):
    (found,) = decode(*encode([value]))
    assert type(found) is torch.Tensor and found.dtype == value.dtype and found.shape == value.shape
    assert torch.equal(found.nan_to_num(9.0), value.as_subclass(torch.Tensor).nan_to_num(9.0))


@pytest.mark.parametrize("value", [0, -3, 2**70, True, False, None, "text", 0.1, -0.0, math.inf, 1e-310, torch.float16])
def test_a_plain_value_arrives_as_it_was(value):
    described, payload = encode([value])
    (found,) = decode(json.loads(json.dumps(described)), payload)
    assert type(found) is type(value) and found == value and str(found) == str(value)


def test_what_is_no_tensor_or_number_arrives_as_text():
    (found,) = decode(*encode([{"a": 1}]))
    assert isinstance(found, OtherValue) and repr(found) == "{'a': 1}" and type(found).__name__ == "dict"
    assert len(repr(decode(*encode(["x" * 5000]))[0])) == 200, "a header is of limited size"
    assert type(decode([["other", "no name!", "x"]], b"")[0]).__name__ == "object"
    with pytest.raises(TypeError, match="the input `x` is a dict"):
        encode_inputs({"x": {}})


class Mute:
    def __repr__(self):
        raise ValueError


UNSENT = {
    "a number of about 5,000 digits, too many": lambda: 10**5000,
    "a number of about 400 digits, too many": lambda: -(10**400),
    "a Mute that cannot be printed": Mute, "a sparse_coo tensor of float32": lambda: torch.eye(2).to_sparse(),
    "a strided tensor of complex64": lambda: torch.ones(2, dtype=torch.complex64),
    "a tensor of 9 axes": lambda: torch.ones([1] * 9),
    "a strided tensor of qint8": lambda: torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8),
    "a nested tensor of float32": lambda: torch.nested.nested_tensor([torch.ones(1)]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("text", "make"), UNSENT.items(), ids=UNSENT)
def test_what_cannot_be_sent_is_described(text, make):
    """It is what the function returned, not an error that it raised."""
    (found,) = decode(*encode([value := make()]))
    assert isinstance(found, OtherValue) and repr(found) == f"<{text}>" and type(found).__name__ == type(value).__name__


def test_several_values_share_one_payload_in_order():
    a, b = torch.arange(3.0), torch.arange(4, dtype=torch.int8)
    found = decode(*encode([a, 5, b]))
    assert torch.equal(found[0], a) and found[1] == 5 and torch.equal(found[2], b)


def test_strides_are_made_only_where_asked_for():
    """A child that claims strides of gigabytes reserves nothing in the grader."""
    described = [["tensor", "float32", [2, 1], [2**40, 1], 8]]
    assert decode(described, bytes(8))[0].stride() == (1, 1)
    wide = torch.arange(12.0).view(3, 4)[:, :2]
    found = decode(*encode([wide]), strided=True)[0]
    assert found.stride() == (4, 1) and torch.equal(found, wide)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize(("shape", "strides"), [
    ((1,), (5,)), ((1, 1), (3, 7)), ((1,), (0,)), ((), ()), ((2, 3), (1, 2)), ((2, 1), (1, 9)), ((0, 2), (7, 1))])
def test_whatever_strides_it_has_a_tensor_arrives(shape, strides, dtype):
    value = torch.ones(16).cumsum(0).to(dtype).as_strided(shape, strides)
    (plain,), (strided,) = decode(*encode([value])), decode(*encode([value]), strided=True)
    assert torch.equal(plain, value) and torch.equal(strided, value) and strided.stride() == strides


@pytest.mark.parametrize("described", [
    [["tensor", "float32", [2], [1], 4]], [["tensor", "float32", [1] * 9, [1] * 9, 4]], [["tensor", "float32", [1], [1], 8]],
    [["tensor", "complex64", [1], [1], 8]], [["tensor", "float32", ["2"], [1], 8]], [["plain", {}]], [["pickle", "x"]],
    [["plain", 10**400]], [["plain", "x" * 1001]]], ids=lambda described: str(described)[:40])
def test_a_description_that_is_none(described):
    with pytest.raises(ProtocolError):
        decode(described, bytes(4))
