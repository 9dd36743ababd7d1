"""What measured functions are given, and when their results are right."""

import pytest
import torch

import kernels
from checks.bench.baselines import BASELINES
from checks.bench.operands import OF_X, Operands, Wrong, expect_codes, expect_product
from kernels import cost, plans
from kernels.quantize import quantize_int8_perrow_torch
from kernels.runtime import device

K, N = 256, 72


def test_codes_at_a_tie_may_fall_either_way():
    """amax / 2 lies between the codes 63 and 64; w makes one of them 0 and leaves the rounding of the other to see."""
    M, N = 512, 32
    amax = torch.linspace(1, 2, M + 1)[:M].half()
    operands = Operands(M, 2, N)
    operands.made["x"] = torch.stack([amax, amax / 2], dim=1).to(device())
    operands.made["w_q"] = torch.tensor([[63, -127], [64, -127]] * (N // 2), dtype=torch.int8, device=device())
    operands.made["w_scale"] = torch.linspace(0.01, 0.02, N, device=device())
    operands.made["w"] = torch.ones(N, 2, device=device()).half()
    y = kernels.matmul_int8(*operands.arguments(kernels.matmul_int8))
    expect_product("matmul_int8", kernels.matmul_int8, y, operands)


def test_many_rows_are_checked_by_a_draw_that_holds_the_last():
    assert torch.equal(Operands(2048, 1, 1).rows_to_check().cpu(), torch.arange(2048))
    rows = Operands(5000, 1, 1).rows_to_check()
    assert len(rows) == 2048 and rows[-1] == 4999 and rows.min() >= 0 and rows.max() < 5000 and len(rows.unique()) > 1500


def test_operands_are_what_their_names_say():
    o = Operands(6, 64, 40)
    shapes = {name: tuple(o[name].shape) for name in ("x", "w", "x_q", "x_scale", "w_q", "w_scale", "weight", "gate", "up",
                                                       "x8", "x8_scale", "w8", "w8_scale", "x_copy", "w_q_by_columns")}
    assert shapes == {"x": (6, 64), "w": (40, 64), "x_q": (6, 64), "x_scale": (6,), "w_q": (40, 64), "w_scale": (40,),
                      "weight": (64,), "gate": (6, 64), "up": (6, 64), "x8": (6, 64), "x8_scale": (6, 1), "w8": (40, 64),
                      "w8_scale": (40, 1), "x_copy": (6, 64), "w_q_by_columns": (40, 64)}
    assert torch.equal(o["w_q_by_columns"], o["w_q"]) and o["w_q_by_columns"].stride() == (1, 40)
    assert torch.allclose(o["x8"].float() * o["x8_scale"], o["x"].float(), atol=0.15) and o["x8"].float().abs().max() == 448
    assert 0 <= cost.quantize_int8_perrow_bytes(6, 64) - 2 * o["source"].numel() <= 2
    assert o["target"].shape == o["source"].shape and tuple(Operands(1, 64, 40, vector=True)["x"].shape) == (64,)
    assert torch.equal(Operands(6, 64, 40)["x"], o["x"]) and not torch.equal(Operands(6, 64, 40, seed=1)["x"], o["x"])


@pytest.mark.parametrize("scale, code, wrong", [
    (1 + 2.0**-21, 0, "scales must be"), (1 + 2.0**-24, 0, None), (1, 1, "more than half a step"), (1, 0, None)])
def test_codes_and_scales_are_held_to_one_rounding(scale, code, wrong):
    o = Operands(3, 64, 1)

    def quantize(x):
        q, s = quantize_int8_perrow_torch(x)
        q[1, 5] += code
        s[2] *= scale
        return q, s

    if wrong:
        with pytest.raises(Wrong, match=wrong):
            expect_codes("quantize", quantize, quantize(o["x"]), o)
    else:
        expect_codes("quantize", quantize, quantize(o["x"]), o)


def test_fused_quantizers_are_held_to_what_stands_before_them():
    def rmsnorm(x, weight):
        return quantize_int8_perrow_torch(plans.rmsnorm(x, weight))

    def silu_mul(gate, up):
        return quantize_int8_perrow_torch((torch.nn.functional.silu(gate.float()) * up.float()).half())

    o = Operands(4, 128, 1)
    for function in (rmsnorm, silu_mul):
        result = function(*o.arguments(function))
        expect_codes(function.__name__, function, result, o)
        with pytest.raises(Wrong):
            expect_codes("plain", function, quantize_int8_perrow_torch(o["x"]), o)


def test_new_numbers_lie_where_the_old_ones_lay():
    operands = Operands(3, K, N)
    names = [name for name in OF_X if name not in ("source", "gate", "up")]
    before = {name: operands[name] for name in names}
    old = {name: value.clone() for name, value in before.items()}
    operands.refresh()
    for name in names:
        assert operands[name] is before[name] and not torch.equal(operands[name], old[name])
    again = Operands(3, K, N)
    again.made["x"] = operands["x"]
    assert torch.equal(again["x_q"], operands["x_q"]) and torch.equal(again["x_scale"], operands["x_scale"])
    assert operands["x"].device.type == device().type


@pytest.mark.parametrize(("M", "K"), [(17, 256), (40, 4096)])
def test_the_product_of_normed_rows_errs_as_int8_must(M, K):
    def unchecked(x, weight, w_q, w_scale):
        return BASELINES["unfused INT8"](x, weight, w_q, w_scale)

    def no_norm(x, weight, w_q, w_scale):
        return kernels.matmul_int8(x, w_q, w_scale)

    def coarse(x, weight, w_q, w_scale):  # half as many levels
        normed = plans.rmsnorm(x, weight)
        scale = normed.float().abs().amax(1, keepdim=True) / 63
        return ((normed / scale).round() * scale @ (w_q * w_scale[:, None]).T).half()

    operands = Operands(M, K, N)
    given = [operands[name] for name in ("x", "weight", "w_q", "w_scale")]
    expect_product("unfused", unchecked, unchecked(*given), operands)
    for wrong in (no_norm, coarse):
        with pytest.raises(Wrong, match="its relative error is"):
            expect_product(wrong.__name__, wrong, wrong(*given), operands)


def test_products_of_a_model_have_the_size_of_x():
    operands = Operands(64, 1024, 64, unit=True)
    assert 0.9 < (operands["x"].double() @ operands["w"].double().T).std() < 1.1


def test_a_product_by_groups_is_held_to_its_own_scales():
    o, multiply = Operands(9, K, N), BASELINES["group_w8a8_matmul"]
    assert {tuple(o[name].shape) for name in ("x_groups_q", "w_groups_scale")} == {(9, K), (K // 128, N)}
    y = multiply(*o.arguments(multiply))
    expect_product("groups", multiply, y, o)
    with pytest.raises(Wrong, match="groups is wrong at"):
        expect_product("groups", multiply, kernels.perrow_w8a8_matmul(o["x_q"], o["x_scale"], o["w_q"], o["w_scale"]), o)
    o.refresh()
    expect_product("groups", multiply, multiply(*o.arguments(multiply)), o)
    with pytest.raises(Wrong, match="groups is wrong at"):
        expect_product("groups", multiply, y, o)
