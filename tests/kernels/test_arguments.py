"""What the public functions take and refuse alike: no rows at all, and elements that do not lie side by side."""

import pytest
import torch

from kernels import decode, fused, matmul_int8, operators, perrow_w8a8, quantize
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
