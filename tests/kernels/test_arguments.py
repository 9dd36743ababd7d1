"""What the public functions take and refuse alike: no rows at all, and elements that do not lie side by side."""

import pytest
import torch

from kernels import decode, fused, matmul_int8, operators, perrow_w8a8, quantize
from kernels.arguments import expect, expect_rows
from kernels.runtime import device

M, N, K = 3, 16, 32
GIVEN = {name: value.to(device()) for name, value in {
    "x": torch.ones(M, K).half(), "gate": torch.ones(M, K).half(), "up": torch.ones(M, K).half(), "weight": torch.ones(K),
    "x_q": torch.ones(M, K, dtype=torch.int8), "x_scale": torch.ones(M), "w_q": torch.ones(N, K, dtype=torch.int8),
    "w_scale": torch.ones(N), "bias": torch.ones(N)}.items()}
OF_ROWS = ("x", "gate", "up", "x_q", "x_scale")
LAYER, PRODUCT = ("x", "w_q", "w_scale", "bias"), ("x_q", "x_scale", "w_q", "w_scale", "bias")
TAKES = {
    quantize.quantize_int8_perrow: ("x",), decode.decode_quantize: ("x",), operators.quantize_int8_perrow_op: ("x",),
    decode.decode_w8a8: LAYER, matmul_int8: LAYER, operators.matmul_int8_op: LAYER,
    decode.decode_codes: PRODUCT, perrow_w8a8.perrow_w8a8_matmul: PRODUCT, operators.perrow_w8a8_matmul_op: PRODUCT,
    fused.rmsnorm_quantize_int8: ("x", "weight"), operators.rmsnorm_quantize_int8_op: ("x", "weight"),
    fused.silu_mul_quantize_int8: ("gate", "up"), operators.silu_mul_quantize_int8_op: ("gate", "up"),
}
CALLS = [pytest.param(function, id=function.__name__) for function in TAKES]


@pytest.mark.parametrize("function", CALLS)
def test_of_no_rows_comes_no_row(function):
    given = {name: GIVEN[name] for name in TAKES[function]}
    some, none = function(**given), function(**{name: x[:0] if name in OF_ROWS else x for name, x in given.items()})
    for whole, empty in zip(*(made if isinstance(made, tuple) else (made,) for made in (some, none)), strict=True):
        assert (empty.shape, empty.dtype) == ((0, *whole.shape[1:]), whole.dtype) and len(whole) == M


@pytest.mark.parametrize("function", CALLS)
def test_elements_that_lie_apart_are_refused_by_name(function):
    for name in TAKES[function]:
        given = {other: GIVEN[other] for other in TAKES[function]}
        apart = given[name].repeat_interleave(2, -1)[..., ::2]
        if name == "x" and "matmul_int8" in function.__name__:  # which makes a copy of an x that lies so
            continue
        with pytest.raises(ValueError, match=f"^{name} must be contiguous"):
            function(**given | {name: apart})


@pytest.mark.parametrize("function", [call for call in CALLS if call.id.endswith(".default")])
def test_a_compiler_is_told_the_shapes_and_types_that_come(function):
    given = [GIVEN[name].bfloat16() if name in ("x", "gate", "up") else GIVEN[name] for name in TAKES[function]]
    told, made = function(*(x.to("meta") for x in given)), function(*given)
    for one, other in zip(*(all_ if isinstance(all_, tuple) else (all_,) for all_ in (told, made)), strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride())


@pytest.mark.parametrize("function", [call for call in CALLS if call.id.endswith(".default")])
def test_a_compiler_is_told_what_does_not_fit(function):
    given = {name: GIVEN[name].to("meta") for name in TAKES[function]}
    for name, x in given.items():
        for wrong in (x.double(), x[None]):
            if wrong.ndim == 3 and name == "x" and "matmul_int8" in function.__name__:  # with any leading dimensions
                continue
            with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
                function(**given | {name: wrong})


T, F16, F32, INT8 = torch.zeros, torch.float16, torch.float32, torch.int8


@pytest.mark.parametrize("value, shape, dtypes, options, sizes", [
    (T(3, 5), ("M", "K"), F32, {}, (3, 5)), (T(3, 5), (3, 5), (F16, F32), {}, (3, 5)), (T(4), ("N",), F32, {}, (4,)),
    (T(()), (), F32, {}, ()), (T(0, 5), ("M", "K"), F32, {"batch": True}, (0, 5)), (T(0, 5), (0, 5), F32, {}, (0, 5)),
    (T(2, 0, 5), ("B", "T", 5), F32, {"batch": True}, (2, 0, 5)), (T(3, device="meta"), (3,), F32, {}, (3,)),
    (T(3), (3,), F32, {"device": torch.device("cpu")}, (3,))])
def test_what_is_as_it_should_be_gives_its_sizes(value, shape, dtypes, options, sizes):
    assert expect("x", value, shape, dtypes, **options) == sizes


@pytest.mark.parametrize("value, shape, dtypes, options, kind, said", [
    ([1.0], ("N",), F32, {}, TypeError, "x must be a (N,) float32 tensor, got list"),
    (None, (2, "K"), (F16, INT8), {}, TypeError, "x must be a (2, K) float16 or int8 tensor, got NoneType"),
    (T(3, 5), ("M", "K"), (F16, INT8), {}, TypeError, "x must be (M, K) float16 or int8, got (3, 5) float32"),
    (T(3), ("M", "K"), F16, {}, TypeError, "x must be (M, K) float16, got (3,) float32"),  # the dtype comes first
    (T(3), ("M", "K"), F32, {}, ValueError, "x must be (M, K) float32, got (3,) float32"),
    (T(()), ("N",), F32, {}, ValueError, "x must be (N,) float32, got () float32"),
    (T(3, 5), ("M", 4), F32, {}, ValueError, "x must be (M, 4) float32, got (3, 5) float32"),
    (T(3, 5), (2, "K"), F32, {}, ValueError, "x must be (2, K) float32, got (3, 5) float32"),
    (T(0, 5), (1, 5), F32, {"batch": True}, ValueError, "x must be (1, 5) float32, got (0, 5) float32"),
    (T(0, 5), ("M", "K"), F32, {}, ValueError, "x must not be empty, got (0, 5) float32"),
    (T(5, 0), ("M", "K"), F32, {}, ValueError, "x must not be empty, got (5, 0) float32"),
    (T(5, 0), ("M", "K"), F32, {"batch": True}, ValueError, "x must not be empty, got (5, 0) float32"),
    (T(3), (3,), F32, {"device": torch.device("meta")}, ValueError,
     "x must be on meta, as the other arguments are, got cpu")])
def test_what_is_not_is_named_with_what_was_wanted(value, shape, dtypes, options, kind, said):
    with pytest.raises(kind) as caught:
        expect("x", value, shape, dtypes, **options)
    assert type(caught.value) is kind and str(caught.value) == said


def test_rows_of_one_number_and_rows_far_apart_have_no_gaps():
    for x in (T(3, 8), T(3, 8)[:, 2:5], T(3, 8)[::2], T(8, 3).T[:, :1], T(8)[3:4], T(4, 1)):
        expect_rows("x", x)
    for x, strides in ((T(8, 3).T, "(1, 3) for shape (3, 8)"), (T(8)[::2], "(2,) for shape (4,)")):
        with pytest.raises(ValueError) as caught:
            expect_rows("y", x)
        assert str(caught.value) == (f"y must be contiguous along its last dimension, got strides {strides}: "
                                     "call y.contiguous() first")
