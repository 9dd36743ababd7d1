"""Gate and up in one product: against the definition, and the plans of lesson 07b with their bytes."""

import pytest
import torch

from checks.judge.tracing import trace
from kernels import cost, mlp
from kernels.gate_up import gate_up_silu_mul_plain
from kernels.runtime import device


def inputs(M, N, K, seed=0):
    """Codes and scales of x (M, K) and of w (2N, K), and gates and ups of a few units."""
    g = torch.Generator().manual_seed(seed)
    made = {"x_q": torch.randint(-127, 128, (M, K), generator=g, dtype=torch.int8),
            "x_scale": torch.rand(M, generator=g) / 30,
            "w_q": torch.randint(-127, 128, (2 * N, K), generator=g, dtype=torch.int8),
            "w_scale": torch.rand(2 * N, generator=g) / 100 / K**0.5}
    return {name: value.to(device()) for name, value in made.items()}


def definition(x_q, x_scale, w_q, w_scale, bias=None):
    """silu(gate) · up in float64, from exact sums, and how far off FP32 may be before the rounding.

    The sum turned into FP32, two products and the addition of the bias err by 2⁻²⁴ of the larger term each. SiLU's slope is
    at most 1.1. exp(-gate) is |gate| + 4 units of 2⁻²⁴ off, the sum one, the quotient four, the product one.
    """
    product = (x_q.double() @ w_q.double().T) * x_scale.double()[:, None] * w_scale.double()
    added = torch.zeros_like(w_scale).double() if bias is None else bias.double()
    (gate, up), (gate_off, up_off) = (product + added).chunk(2, dim=1), (
        4 * 2.0**-24 * (product.abs() + added.abs())).chunk(2, dim=1)
    silu = gate / (1 + (-gate).exp())
    off = 1.1 * gate_off * up.abs() + silu.abs() * up_off + 2.0**-24 * (gate.abs() + 10) * (silu * up).abs()
    return silu * up, off


def check_gate_up(M, N, K, bias=None):
    given = inputs(M, N, K)
    bias = None if bias is None else torch.randn(2 * N, device=device()).to(bias)
    want, off = definition(**given, bias=bias)
    y = gate_up_silu_mul_plain(**given, bias=bias)
    assert y.shape == (M, N) and y.dtype == torch.float16
    assert ((y.double() - want).abs() <= 2.0**-11 * (want.abs() + off).clamp(min=2.0**-14) + off).all(), (M, N, K)


@pytest.mark.parametrize("M, N, K, bias", [
    (1, 1, 1, None), (127, 65, 100, None), (130, 64, 129, torch.float32), (5, 129, 128, torch.float16)])
def test_gate_and_up_of_ragged_sizes(M, N, K, bias):
    check_gate_up(M, N, K, bias)


def test_what_is_not_a_number_stays_in_its_row():
    given = inputs(4, 70, 50)
    given["x_scale"][1] = float("nan")
    given["x_scale"][2] = 0
    y = gate_up_silu_mul_plain(**given)
    assert y[1].isnan().all() and (y[2] == 0).all() and y[[0, 3]].isfinite().all()


@pytest.mark.parametrize("change, wrong", [
    ({"w_q": torch.zeros(7, 50, dtype=torch.int8), "w_scale": torch.zeros(7)}, "w_q must have an even number of rows"),
    ({"w_scale": torch.zeros(3)}, "w_scale must be"), ({"x_q": torch.zeros(4, 50)}, "x_q must be")])
def test_what_gate_up_refuses(change, wrong):
    given = inputs(4, 70, 50) | {name: value.to(device()) for name, value in change.items()}
    with pytest.raises((TypeError, ValueError), match=wrong):
        gate_up_silu_mul_plain(**given)


def test_a_large_gate_is_a_factor_and_nothing_else():
    """silu(40) is 40 in FP32, so y is 40 · up, rounded once."""
    given = inputs(3, 70, 1)
    given["x_q"].fill_(1)
    given["x_scale"].fill_(1.0)
    given["w_q"][:70], given["w_scale"][:70] = 40, 1.0
    up = given["w_q"][70:, 0].float() * given["w_scale"][70:]
    assert torch.equal(gate_up_silu_mul_plain(**given), (40.0 * up).half().expand(3, 70))


@pytest.mark.parametrize("name", ["silu_apart", "silu_in_quantizer", "silu_in_epilogue"])
def test_a_plan_of_silu_mul_touches_the_bytes_of_its_model(name):
    M, N, K = 64, 64, 128
    given = {key: value.cpu() for key, value in inputs(M, N, K).items()}
    moved = sum(launch.footprint().total() for launch in trace(getattr(mlp, name), **given))
    assert moved == getattr(cost, f"{name}_bytes")(M, N, K)


def check_plans_of_silu_mul(M, N, K):
    """Each plan's codes of h: three roundings to FP16 at most, of 2⁻¹¹ each, in h and in amax."""
    given = inputs(M, N, K)
    h, _ = definition(**given)
    scale = h.abs().amax(1) / 127
    for plan in mlp.silu_apart, mlp.silu_in_quantizer, mlp.silu_in_epilogue:
        q, got = plan(**given)
        assert ((got - scale).abs() <= 3 * 2.0**-11 * scale).all(), plan.__name__
        assert ((q - h / scale[:, None]).abs() <= 0.5 + 127 * 6 * 2.0**-11).all(), plan.__name__


def test_the_plans_of_silu_mul_agree():
    check_plans_of_silu_mul(33, 70, 100)


@pytest.mark.parametrize("dtype, unit", [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-7)])  # BF16 may be cut off
@pytest.mark.parametrize("K", [1, 2048, 2049])
def test_silu_mul_by_itself(K, dtype, unit):
    g = torch.Generator().manual_seed(K)
    gate, up = (torch.randn(3, K + 4, generator=g).to(dtype).to(device())[:, 3:K + 3] for _ in range(2))
    want = gate.double() / (1 + (-gate.double()).exp()) * up.double()
    y = mlp.silu_mul_fp16(gate, up)
    assert y.dtype == dtype and y.shape == (3, K)
    torch.testing.assert_close(y.double(), want, rtol=1.01 * unit, atol=2.0**-25)


def check_mlp(M, D, N):
    g = torch.Generator(device()).manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g, device=device())

    x, weight, gate_up, down = normal(M, D).half(), normal(D).half(), normal(2 * N, D) / D**0.5, normal(D, N) / N**0.5
    codes = []
    for w in gate_up, down:
        scale = w.abs().amax(1) / 127
        codes += [(w / scale[:, None]).round().to(torch.int8), scale]
    wide = x.double()
    normed = wide / (wide.square().mean(1, keepdim=True) + 1e-6).sqrt() * weight.double()
    gate, up = (normed @ gate_up.double().T).chunk(2, dim=1)
    want = (gate / (1 + (-gate).exp()) * up) @ down.double().T
    error = (mlp.mlp_int8(x, weight, *codes).double() - want).norm() / want.norm()
    # Codes of normal rows cost a product 1.3 %; two products one after the other, gate and up of it, and SiLU's slope.
    assert error < 4 * 0.013, error


def test_the_whole_mlp_is_near_the_one_in_float64():
    check_mlp(7, 96, 130)
