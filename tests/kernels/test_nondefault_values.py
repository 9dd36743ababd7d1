"""What is easily lost on the way because its usual value hides it: eps, the base of positions, names, the last clamp."""

import dataclasses

import pytest
import torch

from checks.judge.launches import watch
from kernels import fused, matmul, perrow_w8a8, plans
from kernels.linear import Int8Linear, Int8LinearOnCpu, int8_linear_torch, quantize_linears_
from kernels.operators import (
    matmul_int8_op,
    perrow_w8a8_matmul_op,
    rmsnorm_quantize_int8_op,
    silu_mul_quantize_int8_op,
)
from kernels.perrow_w8a8 import perrow_w8a8_matmul
from kernels.quantize import quantize_int8_perrow
from kernels.runtime import INTERPRETED, device
from kernels.transformer import Block, Config, FusedInt8Block, Transformer, rotation, stack

TINY = Config(vocabulary=64, layers=2, dim=32, heads=2, kv_heads=1, hidden=48, rope_base=50.0)
EPS = 0.75  # beside a mean of squares of 1


def randn(*shape, seed=0, dtype=torch.float16):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device())


def codes(rows, K, seed=0):
    made = torch.randint(-127, 128, (rows, K), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    return made.to(device())


NORMS = [fused.rmsnorm_quantize_int8, fused.rmsnorm_quantize_int8_plain, fused.rmsnorm_quantize_int8_long,
         rmsnorm_quantize_int8_op]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("K", [200, 2500])
def test_eps_is_under_the_root(norm, K):
    x, weight = randn(3, K), randn(K, seed=1)
    y = x.double() / (x.double().square().mean(1, keepdim=True) + EPS).sqrt() * weight.double()
    _, scale = norm(x, weight, EPS)
    torch.testing.assert_close(scale.double(), y.abs().amax(1) / 127, rtol=1e-5, atol=0)


@pytest.mark.parametrize("plan", [plans.unfused, plans.epilogue_fused, plans.producer_fused])
def test_the_plans_hand_eps_on(plan):
    x, weight, w_q, w_scale = randn(5, 200), randn(200, seed=1), codes(40, 200), torch.full((40,), 0.01, device=device())
    codes_of_norm = fused.rmsnorm_quantize_int8(x, weight, EPS)
    # Rounding the norm to FP16, as two of the plans do, moves a code by one at most.
    bound = w_q.abs().sum(1).float() * w_scale * codes_of_norm[1][:, None] + 2e-2
    assert ((plan(x, weight, w_q, w_scale, EPS) - perrow_w8a8_matmul(*codes_of_norm, w_q, w_scale)).abs() <= bound).all()
    assert ((plan(x, weight, w_q, w_scale) - plan(x, weight, w_q, w_scale, EPS)).abs() > 4 * 2e-2).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_norm_is_its_formula(dtype):
    x, weight = randn(3, 300, dtype=dtype), randn(300, seed=1, dtype=torch.float32)
    y = x.double() / (x.double().square().mean(1, keepdim=True) + EPS).sqrt() * weight.double()
    got = plans.rmsnorm(x, weight, EPS)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), y, rtol=2**-7 if dtype is torch.bfloat16 else 2**-10, atol=1e-6)


@pytest.mark.parametrize("norm", [fused.rmsnorm_quantize_int8, fused.rmsnorm_quantize_int8_long])
@pytest.mark.parametrize("sizes", [(190.0, -190.0, 60.0), (250.0, 3.0, -130.0)])
def test_where_the_scale_has_one_bit_codes_end_at_127(norm, sizes):
    """x · weight is a few of FP32's smallest numbers, so its scale is one of them, and amax / scale far beyond 127."""
    x = torch.tensor([sizes], dtype=torch.bfloat16, device=device()) * 2.0**-70
    q, _ = norm(x, torch.full((3,), 2.0**-79, dtype=torch.bfloat16, device=device()))
    step = round(max(map(abs, sizes)) / 127)
    assert q.tolist() == [[max(-127, min(127, round(size / step))) for size in sizes]]


@pytest.mark.parametrize("function, configs, kernel", [
    (matmul.matmul_fp16, matmul.TMA_CONFIGS, "matmul_fp16_kernel"),
    (matmul.matmul_fp16_grouped, matmul.GROUPED_CONFIGS, "matmul_fp16_grouped_kernel"),
    (perrow_w8a8.perrow_w8a8_matmul, perrow_w8a8.TMA_CONFIGS, "perrow_w8a8_matmul_tma_kernel"),
    (perrow_w8a8.perrow_w8a8_matmul_grouped, perrow_w8a8.GROUPED_CONFIGS, "perrow_w8a8_matmul_kernel"),
])
def test_a_given_configuration_is_the_one_that_runs(function, configs, kernel):
    ones = torch.ones(16, device=device())
    given = (codes(16, 64), ones, codes(16, 64, 1), ones) if "w8a8" in kernel else (randn(16, 64), randn(16, 64, seed=1))
    for config in configs:
        with watch() as launches:
            function(*given, config=config)
        assert [launch.kernel.__name__ for launch in launches] == [kernel]
        assert config.kwargs.items() <= launches[0].arguments.items()


def test_the_base_of_positions():
    base = 50.0
    cos, sin = rotation(TINY, torch.tensor([0, 1, 7], device=device()))
    for pair in range(TINY.head_dim // 2):
        angles = torch.tensor([0.0, 1.0, 7.0]) * base ** (-2 * pair / TINY.head_dim)
        torch.testing.assert_close(cos[:, pair].cpu(), angles.cos())
        torch.testing.assert_close(sin[:, pair].cpu(), angles.sin())
    assert Config(1, 1, 8, 1, 1, 8).rope_base == 10_000.0


def blocks(attention_eps, mlp_eps):
    torch.manual_seed(0)
    block = Block(TINY).to(device(), torch.float16).eval().requires_grad_(False)
    block.attention_norm.eps, block.mlp_norm.eps = attention_eps, mlp_eps
    for seed, norm in enumerate((block.attention_norm, block.mlp_norm), 5):
        norm.weight.mul_(randn(TINY.dim, seed=seed))
    return block, FusedInt8Block(block)


@pytest.mark.parametrize("B, T, eps", [(1, 128, (0.1, 0.001)), (3, 43, (0.001, 0.1))])
def test_a_fused_block_keeps_each_norms_own(B, T, eps):
    x = randn(B, T, TINY.dim) * 0.05  # small beside eps
    turn = rotation(TINY, torch.arange(T, device=device()))
    block, fast = blocks(*eps)
    want = (block(x, turn) - x).float()
    assert ((fast(x, turn) - x).float() - want).norm() < 0.1 * want.norm()


def test_norms_of_a_new_model():
    model = Transformer(TINY)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.RMSNorm)]
    assert [norm.eps for norm in norms] == [1e-5] * (2 * TINY.layers + 1)
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, TINY.vocabulary)


def test_each_block_turns_by_the_models_base():
    torch.manual_seed(0)
    model, tokens = Transformer(TINY), torch.arange(12)[None]
    other = Transformer(dataclasses.replace(TINY, rope_base=1e6))
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model(tokens), other(tokens), atol=1e-3)


def test_stacked_layers_keep_their_order():
    q, k, v = (torch.nn.Linear(32, rows, bias=False).half().to(device()) for rows in (32, 16, 24))
    x, one = randn(2, 3, 32), stack(q, k, v)
    assert (one.in_features, one.out_features, one.bias) == (32, 72, None)
    want = torch.cat([Int8Linear.from_linear(layer)(x) for layer in (q, k, v)], dim=-1)
    assert torch.equal(one(x), want)


@pytest.mark.skipif(not INTERPRETED, reason="it is for machines without a GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_for_cpus_gives_the_layers_numbers(dtype, bias):
    torch.manual_seed(0)
    layer = Int8LinearOnCpu.from_linear(torch.nn.Linear(24, 10, bias=bias).to(dtype))
    assert type(layer) is Int8LinearOnCpu
    for x in (randn(24, dtype=dtype), randn(2, 1, 24, dtype=dtype), randn(24, 5, dtype=dtype).T, randn(0, 24, dtype=dtype)):
        y, want = layer(x), int8_linear_torch(x, layer.weight_q, layer.weight_scale, layer.bias)
        assert y.dtype == dtype and torch.equal(y, want)
        if dtype == torch.float16:  # the interpreter cuts BF16 off
            assert torch.equal(y, Int8Linear.forward(layer, x))


def linears(**names):
    return torch.nn.ModuleDict({name: torch.nn.Linear(8, 8, bias=bias).half().to(device()) for name, bias in names.items()})


def test_a_name_to_skip_is_a_whole_part_of_a_name():
    model = torch.nn.ModuleDict({"mlp": linears(up=True, gate_up=True, up_2=False), "up": linears(proj=True)})
    quantize_linears_(model, skip=("up",))
    skipped = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    assert skipped == ["mlp.up"]
    with pytest.raises(ValueError, match="skip must hold names"):
        quantize_linears_(linears(gate_up=True), skip=("up",))


def test_a_subclass_is_left_alone_and_the_mode_is_kept():
    class Own(torch.nn.Linear):
        pass

    model = torch.nn.ModuleDict({"own": Own(8, 8), "plain": torch.nn.Linear(8, 8, bias=False).half().to(device())}).train()
    quantize_linears_(model)
    assert type(model["own"]) is Own and type(model["plain"]) is Int8Linear
    assert model["plain"].training and model["plain"].bias is None


def test_a_layer_is_of_its_own_memory():
    linear = torch.nn.Linear(8, 6).half().to(device())
    layer = Int8Linear.from_linear(linear)
    assert torch.equal(layer.bias, linear.bias) and layer.bias.data_ptr() != linear.bias.data_ptr()
    assert (layer.weight_q.shape, layer.weight_scale.shape) == ((6, 8), (6,))
    assert "in_features=8, out_features=6, bias=True" in repr(layer)
    empty = Int8Linear(8, 6, dtype=torch.bfloat16)
    assert (empty.bias.dtype, empty.weight_q.device.type) == (torch.bfloat16, device().type)
    assert Int8Linear(8, 6, device="meta").weight_q.is_meta


@pytest.mark.parametrize("bias", [None, torch.float32])
@pytest.mark.parametrize("M", [1, 65])
def test_the_operators_give_what_the_functions_give(M, bias):
    x, (w_q, w_scale) = randn(2, M, 64, dtype=torch.bfloat16), quantize_int8_perrow(randn(40, 64, seed=1))
    bias = None if bias is None else randn(40, seed=2, dtype=bias)
    x_q, x_scale = quantize_int8_perrow(x.reshape(-1, 64))
    want = perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale, bias, out_dtype=torch.bfloat16)
    assert torch.equal(matmul_int8_op(x, w_q, w_scale, bias).reshape(-1, 40), want)
    apart = x.mT.contiguous().mT  # no row is contiguous
    assert torch.equal(matmul_int8_op(apart, w_q, w_scale, bias).reshape(-1, 40), want)
    if bias is None:
        assert torch.equal(perrow_w8a8_matmul_op(x_q, x_scale, w_q, w_scale), perrow_w8a8_matmul(x_q, x_scale, w_q, w_scale))


def test_the_product_of_codes_keeps_torchs_contract():
    x_q, w_q, ones = codes(5, 64), codes(40, 64, 1), torch.ones(40, device=device())
    torch.library.opcheck(perrow_w8a8_matmul_op, (x_q, ones[:5], w_q, ones))


@pytest.mark.parametrize("operator, given, words", [
    (rmsnorm_quantize_int8_op, [randn(3, 64), randn(63)], r"weight must be \(64,\)"),
    (rmsnorm_quantize_int8_op, [randn(64), randn(64)], r"x must be \(M, K\)"),
    (silu_mul_quantize_int8_op, [randn(3, 64), randn(4, 64)], r"up must be \(3, 64\)"),
    (silu_mul_quantize_int8_op, [randn(3, 64), randn(3, 64, dtype=torch.bfloat16)], "up must be .* float16, got"),
    (perrow_w8a8_matmul_op, [codes(3, 64), torch.ones(3), codes(40, 63), torch.ones(40)], r"w_q must be \(N, 64\)"),
    (matmul_int8_op, [randn(3, 64), codes(40, 64), torch.ones(40), torch.ones(39)], r"bias must be \(40,\)"),
])
def test_operators_refuse_while_tracing(operator, given, words):
    with pytest.raises((TypeError, ValueError), match=words):
        operator(*(value.to("meta") for value in given))
