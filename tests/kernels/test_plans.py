"""The three plans of lesson 07 compute the same, and touch the bytes that their models say."""

import pytest
import torch

from checks.bench.baselines import PLANS
from checks.bench.workloads import plan
from checks.judge.tracing import trace
from checks.pictures import fused
from checks.pictures.fused import PLANNED, show_plan_times
from kernels import cost, plans, rmsnorm_quantize_int8, silu_mul_quantize_int8
from kernels.fused import rmsnorm_quantize_int8_long, rmsnorm_quantize_int8_plain, silu_mul_quantize_int8_plain
from kernels.runtime import device


def inputs(M=64, N=128, K=256):
    g = torch.Generator().manual_seed(0)
    return {"x": torch.randn(M, K, generator=g).half(), "weight": torch.rand(K, generator=g).half(),
            "w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8),
            "w_scale": torch.rand(N, generator=g) / 100}


def on_device(values):
    return {name: value.to(device()) for name, value in values.items()}


@pytest.mark.parametrize("name", ["unfused", "epilogue_fused", "producer_fused"])
def test_a_plan_touches_the_bytes_of_its_model(name):
    moved = sum(launch.footprint().total() for launch in trace(getattr(plans, name), **inputs()))
    assert moved == getattr(cost, f"{name}_bytes")(64, 128, 256)


def test_the_plans_agree():
    """The first two bit for bit; the third does not round the norm to FP16, which may move a code by one."""
    given = on_device(inputs())
    first = plans.unfused(**given)
    assert torch.equal(first, plans.epilogue_fused(**given))
    # Rounding to FP16 errs by 2⁻¹¹ of a number, at most 127 steps: far less than a step, so a code moves by one at most.
    most = given["w_q"].abs().sum(1).float() * given["w_scale"]
    steps = rmsnorm_quantize_int8(given["x"], given["weight"])[1]
    assert ((first - plans.producer_fused(**given)).abs() <= most * steps[:, None]).all()


@pytest.mark.parametrize("N", [1, 2048, 2049])
def test_sums_of_more_columns_than_a_block(N):
    g = torch.Generator().manual_seed(0)
    acc = torch.randint(-9999, 9999, (3, N + 5), generator=g, dtype=torch.int32)[:, 2:N + 2].to(device())
    x_scale, w_scale = (torch.rand(size, generator=g).to(device()) for size in (3, N))
    assert torch.equal(plans.scale_sums(acc, x_scale, w_scale), (acc.float() * x_scale[:, None] * w_scale).half())


@pytest.mark.parametrize("K", [100, 2048, 5000])
def test_the_students_rungs_give_what_the_librarys_kernels_give(K):
    g = torch.Generator().manual_seed(1)
    x, y, weight = (torch.randn(*shape, generator=g).half().to(device()) for shape in ((3, K), (3, K), (K,)))
    want_q, want_scale = rmsnorm_quantize_int8(x, weight)
    for rung in rmsnorm_quantize_int8_plain, rmsnorm_quantize_int8_long:
        q, scale = rung(x, weight)
        assert (q.int() - want_q.int()).abs().max() <= 1  # a quotient near a tie
        torch.testing.assert_close(scale, want_scale, rtol=1e-5, atol=0)
    (q, scale), (want_q, want_scale) = silu_mul_quantize_int8_plain(x, y), silu_mul_quantize_int8(x, y)
    assert (q.int() - want_q.int()).abs().max() <= 1
    torch.testing.assert_close(scale, want_scale, rtol=1e-5, atol=0)


def test_the_bench_measures_what_the_picture_of_the_plans_draws(monkeypatch):
    monkeypatch.setattr("checks.bench.workloads.INTERPRETED", False)
    measured = {(tuple(unit["shape"]), name) for unit in plan()["plans"] for name in unit["functions"]}
    assert {((16384, *shape), name) for shape in PLANNED for name in PLANS} <= measured


def test_the_picture_of_the_plans_draws_each_recorded_time(monkeypatch):
    rows = [{"function": name, "K": K, "N": N, "median_us": 100.0 * place + 7 * number}
            for place, (K, N) in enumerate(PLANNED, 1) for number, name in enumerate(PLANS)]
    monkeypatch.setattr(fused, "figures_of", lambda *_, **__: (rows, "invented"))
    axes, = show_plan_times().axes
    assert {text.get_text() for text in axes.texts} == {f"{row['median_us']:,.0f}" for row in rows}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["unfused", "epilogue fused", "producer fused"]
