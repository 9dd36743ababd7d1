"""Arguments of a launch: the type that the compiler is told, what is built in, and how each is held."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from checks.executor import CompileError, Descriptor, Tensor, Unsupported, specialize
from checks.executor.arguments import flat, from_torch
from checks.executor.compile import TRITON_TYPES, constexpr_names, plain_values, triton_type
from checks.executor.frontend import constexpr_value


@triton.jit
def plain_kernel(x, SIZE: tl.constexpr, y=None, KIND: "tl.constexpr" = 1):
    pass


def test_which_arguments_are_declared_constexpr():
    assert constexpr_names(plain_kernel) == ["SIZE", "KIND"]
    tuned = triton.autotune([triton.Config({"SIZE": 1})], key=[])(triton.heuristics({"KIND": lambda _: 1})(plain_kernel))
    assert constexpr_names(tuned) == ["SIZE", "KIND"]


SIZES = [(-2**31, "i32"), (-1, "i32"), (0, "i32"), (2, "i32"), (2**31 - 1, "i32"), (2**31, "i64"), (-2**31 - 1, "i64"),
         (-2**63, "i64"), (2**63 - 1, "i64"), (2**63, "u64"), (2**64 - 1, "u64")]
TYPED = [*SIZES, (True, "i1"), (False, "i1"), (1.0, "fp32"), (math.inf, "fp32"),
         *((torch.zeros(1, dtype=dtype), f"*{name}") for dtype, name in TRITON_TYPES.items()),
         *((TensorDescriptor.from_tensor(torch.zeros(4, 16, dtype=dtype), [2, 16]), f"tensordesc<{kind}[2, 16]>")
           for dtype, kind in ((torch.float16, "fp16"), (torch.int8, "i8")))]


@pytest.mark.parametrize(("value", "kind"), TYPED, ids=lambda value: str(value)[:20])
def test_the_type_of_an_argument(value, kind):
    assert specialize(plain_kernel, {"x": value, "SIZE": 4}) == ({"x": kind, "SIZE": "constexpr"}, {"SIZE": 4})


@pytest.mark.parametrize(("value", "ones", "built_in"), [
    (1, True, True), (1, False, False), (None, True, True), (None, False, True), (True, True, False), (1.0, True, False),
    (-1, True, False), (0, True, False)])
def test_none_and_the_number_1_are_built_in(value, ones, built_in):
    types, constexprs = specialize(plain_kernel, {"y": value}, ones=ones)
    assert (types["y"] == "constexpr", "y" in constexprs) == (built_in, built_in)
    assert not built_in or constexprs["y"] is value


def test_a_constexpr_is_taken_out_of_its_wrapping():
    _, constexprs = specialize(plain_kernel, {"SIZE": tl.constexpr(8), "KIND": tl.float16})
    assert constexprs == {"SIZE": 8, "KIND": tl.float16} and type(constexprs["SIZE"]) is int


@pytest.mark.parametrize(("value", "said"), [
    (2**64, "`x` is a int"), (-2**63 - 1, "`x` is a int"), ("text", "`x` is a str"), ([], "`x` is a list"),
    ((1,), "`x` is a tuple, .*: pass each by itself"), (1j, "`x` is a complex"),
    (torch.zeros(1, dtype=torch.complex64), "`x` is a Tensor")], ids=lambda value: str(value)[:20])
def test_what_no_kernel_takes(value, said):
    with pytest.raises(CompileError, match=said):
        triton_type("x", value)


PLAIN = [(None, None), (True, True), (3, 3), (0.5, 0.5), ("text", "text"), (tl.constexpr(3), 3),
         (tl.float16, {"dtype": "fp16"}), (tl.constexpr(tl.int8), {"dtype": "int8"}),
         ((1, (tl.float32, None)), {"tuple": [1, {"tuple": [{"dtype": "fp32"}, None]}]}), ([2, "a"], {"tuple": [2, "a"]})]


@pytest.mark.parametrize(("value", "plain"), PLAIN, ids=lambda value: str(value)[:20])
def test_a_constexpr_goes_to_the_compiler_and_comes_back(value, plain):
    assert plain_values({"C": value}) == {"C": plain}
    value = value.value if isinstance(value, tl.constexpr) else value
    assert constexpr_value(plain) == (tuple(value) if isinstance(value, list) else value)
    assert type(constexpr_value(plain)) is (tuple if isinstance(value, list) else type(value))


@pytest.mark.parametrize(("value", "said"), [
    (torch.float16, "`C` is torch.float16; a kernel needs Triton's, such as tl.float16"),
    (1j, "`C` is a complex, which cannot"), ((1, {}), "`C` is a dict, which cannot"),
    (torch.zeros(1), "`C` is a Tensor, which cannot")], ids=lambda value: str(value)[:20])
def test_a_constexpr_that_cannot_be_sent(value, said):
    with pytest.raises(CompileError, match=said):
        plain_values({"C": value})


@pytest.mark.parametrize("value", [True, 3, 0.5, np.float32(2), np.int64(7), Tensor.of(np.zeros(3))], ids=repr)
def test_what_needs_no_change_gets_none(value):
    assert from_torch(value) is value


def test_a_tensor_s_place_in_its_storage():
    whole = torch.arange(24, dtype=torch.int16).view(4, 6)
    for x in (whole, whole[1:, 2:5], whole.T, whole[::2], whole[2, 3], whole[:0]):
        held = from_torch(x)
        assert (held.itemsize, held.shape, held.strides, held.start) == (2, x.shape, x.stride(), x.storage_offset())
        assert held.address == whole.untyped_storage().data_ptr() and held.storage.size == 48
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    held = from_torch(array)
    assert (held.itemsize, held.shape, held.strides, held.start) == (8, (2, 3), (3, 1), 0)
    assert np.shares_memory(held.storage, array)
    with pytest.raises(ValueError, match="must be contiguous"):
        from_torch(array.T)


@pytest.mark.parametrize(("value", "said"), [(torch.zeros(1, device="meta"), "it lies on meta, not on the CPU"),
                                             ("text", "an argument of type str"), (None, "an argument of type NoneType")])
def test_what_cannot_be_held(value, said):
    with pytest.raises(Unsupported, match=said):
        from_torch(value)


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("rounding", [True, False])
def test_a_descriptor_is_taken_apart(padding, rounding):
    x = torch.zeros(4, 32)
    described = from_torch(TensorDescriptor(x, [3, 16], [32, 1], [2, 16], padding))
    assert isinstance(described, Descriptor) and described.base.shape == (4, 32)
    assert (described.shape, described.strides, described.nan) == ((3, 16), (32, 1), padding == "nan")
    parts = flat({"a": 5, "desc": described, "b": 6}, rounding)
    sizes = [3, 16, 32, 1]
    assert [name for name, _ in parts] == ["a", *["desc"] * (10 + rounding), "b"]
    assert [part for _, part in parts[2:-1]] == [*sizes, padding == "nan", *[False] * rounding, *sizes]
    assert parts[1][1] is described.base and flat(list({"a": 5}.items())) == [("a", 5)]


def test_a_descriptor_of_a_triton_that_pads_with_zeros_alone():
    made = from_torch(SimpleNamespace(base=torch.zeros(4, 8), shape=[4, 8], strides=[8, 1], block_shape=[2, 8]))
    assert isinstance(made, Descriptor) and (made.shape, made.strides, made.nan) == ((4, 8), (8, 1), False)
