"""How far off the result of a measured function may be, of each kind: just within passes, just beyond is told in numbers."""

import re

import pytest
import torch

from checks.bench import attention, operands, workloads
from checks.bench.baselines import BASELINES
from checks.bench.operands import MAKERS, OF_X, Operands, Wrong, expect_codes, expect_product
from kernels.runtime import device

M, K, N = 5, 128, 6
HALF, SINGLE, TINY = 2.0**-11, 2.0**-24, 2.0**-25


def product(x, w):
    return x.double() @ w.double().T


def sizes(x, w):
    return x.double().abs() @ w.double().abs().T


def of_floats(o):
    exact = product(o["x"].view(o.M, K), o["w"])
    return exact, HALF * exact.abs() + K * SINGLE * sizes(o["x"].view(o.M, K), o["w"]) + TINY


def of_codes_of_w(o):
    x, scale = o["x"].view(1, K), o["w_scale"].double()
    exact = product(x, o["w_q"]) * scale
    return exact, HALF * exact.abs() + (K + 2) * SINGLE * sizes(x, o["w_q"]) * scale + TINY


def of_codes(o):
    exact = product(o["x_q"], o["w_q"]) * o["x_scale"].double()[:, None] * o["w_scale"].double()
    return exact, (HALF + 6 * SINGLE) * exact.abs() + TINY


def of_groups(o):
    x, w = (o[f"{side}_groups_q"].double() * o[f"{side}_groups_scale"].double().T.repeat_interleave(128, 1) for side in "xw")
    return product(x, w), HALF * product(x, w).abs() + (K // 128 + 2) * SINGLE * sizes(x, w) + TINY


KINDS = {  # a function of each kind, whether x is a vector, and the exact product with its bound
    "floats": (lambda x, w: None, False, of_floats), "a vector": (lambda x, w: None, True, of_floats),
    "W8A16": (lambda x, w_q, w_scale: None, True, of_codes_of_w), "codes": (
        lambda x_q, x_scale, w_q, w_scale: None, False, of_codes),
    "x that is quantized": (lambda x, w_q, w_scale: None, False, of_codes),
    "groups": (lambda x_groups_q, x_groups_scale, w_groups_q, w_groups_scale: None, False, of_groups)}


@pytest.mark.parametrize("kind", KINDS)
def test_an_element_may_be_off_by_its_roundings(kind):
    function, vector, exact_and_bound = KINDS[kind]
    o = Operands(1 if vector else M, K, N, vector)
    exact, bound = exact_and_bound(o)
    shape = (N,) if vector else (M, N)
    for part in (0.99, -0.99):
        expect_product("f", function, (exact + part * bound).view(shape), o)
    m, n = exact.shape[0] - 1, N - 2
    for off in (1.02 * bound[m, n], -1.02 * bound[m, n], torch.nan):
        y = exact.clone()
        y[m, n] += off
        with pytest.raises(Wrong) as wrong:
            expect_product("f", function, y.view(shape), o)
        assert str(wrong.value) == (f"f is wrong at M={o.M} K={K} N={N}: 1 of {y.numel()} elements; y[{m}, {n}] is "
                                    f"{y[m, n]:.6g}, expected {exact[m, n]:.6g}")


def test_a_code_beside_a_tie_may_be_either():
    o = Operands(2, 2, 1)
    o.made["x"] = torch.tensor([[1.0, 0.5], [127.0, 60.25]], device=device()).half()  # 63.5 steps; 60.25 of them
    o.made["w_q"] = torch.tensor([[0, 5]], dtype=torch.int8, device=device())
    o.made["w_scale"] = torch.tensor([1.0], device=device())
    o.made["w"] = torch.ones(1, 2, device=device()).half()

    def quantizes(x, w_q, w_scale):
        return None

    for code, right in ((64, True), (63, True), (62, False), (66, False)):
        y = torch.tensor([[code * 5 / 127], [300.0]], dtype=torch.float64, device=device())
        if right:
            expect_product("f", quantizes, y, o)
        else:
            with pytest.raises(Wrong, match=r"1 of 2 elements; y\[0, 0\]"):
                expect_product("f", quantizes, y, o)
    with pytest.raises(Wrong, match=r"y\[1, 0\] is 305, expected 300"):
        expect_product("f", quantizes, torch.tensor([[64 * 5 / 127], [305.0]], device=device()), o)


def test_of_many_rows_the_one_that_is_wrong_is_named():
    o = Operands(5000, 8, 4)

    def f(x, w):
        return x @ w.T

    y = product(o["x"], o["w"])
    expect_product("f", f, y, o)
    y[4999, 2] = 77
    with pytest.raises(Wrong, match=re.escape("f is wrong at M=5000 K=8 N=4: ")) as wrong:
        expect_product("f", f, y, o)
    assert f"y[4999, 2] is 77, expected {product(o['x'], o['w'])[4999, 2]:.6g}" in str(wrong.value)


@pytest.mark.parametrize("y, said", [
    (1, "int"), (None, "NoneType"), (torch.ones(6, 5), "shape (6, 5)"), (torch.ones(5), "shape (5,)"),
    ((torch.ones(5, 6), 3), "a tuple of shape (5, 6), int")])
def test_what_is_no_product_is_described(y, said):
    with pytest.raises(Wrong) as wrong:
        expect_product("f", lambda x, w: None, y, Operands(M, K, N))
    assert str(wrong.value) == f"f must give a tensor of shape (5, 6), got {said}"


def stated(error=None, unscaled=False, parameters="x, w"):
    function = eval(f"lambda {parameters}: None")
    function.error, function.unscaled = error, unscaled
    return function


def test_a_stated_error_is_a_part_of_the_whole():
    o = Operands(M, K, N)
    exact = product(o["x"], o["w"])
    noise = torch.randn(M, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device())
    noise *= exact.norm() / noise.norm()
    for parameters in ("x, w", "x_q, x_scale, w_q, w_scale", "x8, x8_scale, w8, w8_scale"):
        function = stated(0.02, parameters=parameters)
        expect_product("f", function, exact + 0.0199 * noise, o)
        with pytest.raises(Wrong, match=r"f is wrong at M=5 K=128 N=6: its relative error is 0.021, expected below 0.02$"):
            expect_product("f", function, exact + 0.0206 * noise, o)
    with pytest.raises(Wrong, match="relative error is nan"):
        expect_product("f", stated(0.02), exact * torch.nan, o)


def test_unscaled_sums_are_scaled_before_they_are_compared():
    o = Operands(M, K, N)
    function, sums = stated(unscaled=True, parameters="x_q, w_q"), product(o["x_q"], o["w_q"])
    expect_product("f", function, sums, o)
    one = (torch.arange(N, device=device()) == 2) * 1000
    for wrong in (sums + one, sums * 1.01, sums * o["x_scale"][:, None] * o["w_scale"]):
        with pytest.raises(Wrong):
            expect_product("f", function, wrong, o)


def silu(gate):
    return gate / (1 + (-gate).exp())


def hidden(o, parameters):
    """What is quantized, in float64."""
    if "gate" in parameters:
        return silu(o["gate"].double()) * o["up"].double()
    if "w_q" in parameters:
        gate, up = (product(o["x_q"], o["w_q"]) * o["x_scale"].double()[:, None] * o["w_scale"].double()).chunk(2, dim=1)
        return silu(gate) * up
    x = o["x"].double()
    return x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt() * o["weight"].double() if "weight" in parameters else x


QUANTIZERS = {  # the error of a code beyond half a step, and of a scale
    "x": (127 * 2.0**-23, 2.0**-22), "x, weight": (127 * 2.0**-10, 2.0**-9), "gate, up": (127 * 2.0**-10, 2.0**-9),
    "x_q, x_scale, w_q, w_scale": (127 * 6 * 2.0**-11, 3 * 2.0**-11)}


@pytest.mark.parametrize("parameters", QUANTIZERS)
def test_codes_may_be_off_by_their_roundings(parameters):
    code_error, scale_error = QUANTIZERS[parameters]
    function, o = stated(parameters=parameters), Operands(M, K, N, unit=True)
    y = hidden(o, parameters)
    scale = y.abs().amax(1) / 127
    codes = y / scale[:, None]
    for sign in (1, -1):
        expect_codes("f", function, (codes + sign * (0.5 + 0.99 * code_error), scale * (1 + sign * 0.99 * scale_error)), o)
        for row in (0, M - 1):
            wrong = scale.clone()
            wrong[row] *= 1 + sign * 1.02 * scale_error
            with pytest.raises(Wrong, match="f is wrong at M=5 K=128 N=6: scales must be amax / 127 of their rows"):
                expect_codes("f", function, (codes, wrong), o)
            off = codes.clone()
            off[row, 1] += sign * (0.5 + 1.02 * code_error)
            with pytest.raises(Wrong, match="f is wrong at M=5 K=128 N=6: a code is more than half a step from its number"):
                expect_codes("f", function, (off, scale), o)
    for nan in ((codes * torch.nan, scale), (codes, scale * torch.nan)):
        with pytest.raises(Wrong):
            expect_codes("f", function, nan, o)


@pytest.mark.parametrize(("parameters", "columns"), [("x", K), ("gate, up", K), ("x_q, x_scale, w_q, w_scale", N // 2)])
def test_what_are_no_codes_is_described(parameters, columns):
    q, scale = torch.ones(M, columns), torch.ones(M)
    for result, said in ((q, f"shape (5, {columns})"), ((q,), f"a tuple of shape (5, {columns})"), ((q, 1.0), "float"),
                         ((scale, q), f"a tuple of shape (5,), shape (5, {columns})"), ((q, scale, scale), "shape (5,), sh"),
                         ((q[:, 1:], scale), f"(5, {columns - 1})"), ((q, scale[1:]), "shape (4,)"), ([q, scale], "list")):
        with pytest.raises(Wrong) as wrong:
            expect_codes("f", stated(parameters=parameters), result, Operands(M, K, N))
        assert str(wrong.value).startswith(f"f must give codes (5, {columns}) and scales (5,), got ")
        assert said in str(wrong.value)


@pytest.mark.parametrize("names", ["source, target", "x, x_copy"])
def test_a_copy_must_be_one(names):
    o = Operands(M, K, N)
    source, target = (o[name] for name in names.split(", "))
    target.copy_(source)
    expect_codes("f", stated(parameters=names), None, o)
    target.view(-1)[-1] += 1
    with pytest.raises(Wrong, match="^f did not copy$"):
        expect_codes("f", stated(parameters=names), None, o)


LIBRARIES = {"torchao_linear", "gemlite_linear"}


def test_all_numbers_but_weights_are_new_after_a_refresh():
    """So that no kept result is right; of a cache of keys and values, and of what is written to, they may stay."""
    stay = {name for name in MAKERS if name.startswith(("w", "keys", "values"))} | {
        "int8_linear", "target", "x_copy", "lengths"} | LIBRARIES
    assert {*MAKERS} - stay == {*OF_X}
    o = Operands(3, K, N)
    before = {name: (o[name], o[name].clone()) for name in MAKERS if name not in LIBRARIES | {"int8_linear"}}
    layer = o["int8_linear"]
    o.made["exact product"] = "of the old numbers"
    o.refresh()
    for name, (place, old) in before.items():
        assert o[name] is place
        assert torch.equal(place.view(torch.uint8), old.view(torch.uint8)) != (name in OF_X) or name in ("target", "x_copy")
    assert o["int8_linear"] is layer and "exact product" not in o.made
    for q, scale, of in (("x_q", "x_scale", "x"), ("w_q", "w_scale", "w")):
        again = Operands(3, K, N)
        again.made[of] = o[of]
        assert torch.equal(again[q], o[q]) and torch.equal(again[scale], o[scale])


def test_a_layer_has_the_codes_of_its_weight():
    o = Operands(2, K, N)
    assert torch.equal(o["int8_linear"].weight_q, o["w_q"]) and o["int8_linear"].bias is None
    assert torch.equal(o["int8_linear"].weight_scale, o["w_scale"])
    assert torch.equal(operands._linear(o).weight, o["w"]) and operands._linear(o).weight is not o["w"]


@pytest.mark.parametrize(("unit", "size"), [(True, 1 / 32), (False, 1.0)])
def test_how_large_weights_are(unit, size):
    o = Operands(2, 1024, 8, unit=unit)
    assert o["w"].float().std().item() == pytest.approx(size, rel=0.05)
    assert o["x"].float().std().item() == pytest.approx(1.0, rel=0.05)


def test_only_parameters_without_a_default_are_operands():
    def f(x, /, w, config=3, *rest, other, more=1, **options):
        return None

    assert operands.operand_names(f) == ["x", "w"]


# attention


def exact_attention(o, codes):
    side = {name: o[f"{name}_q"].double() * o[f"{name}_scale"].double()[..., None] if codes else o[name].double()
            for name in ("keys", "values")}
    query = o["query"].double()
    if codes:
        scale = query.abs().amax(2, keepdim=True) / 127
        query = (query / scale).round() * scale
    query = query.view(o.M, attention.KV_HEADS, -1, attention.D)
    chances = (query @ side["keys"].mT / attention.D**0.5).softmax(-1)
    return (chances @ side["values"]).view(o.M, attention.HEADS, attention.D)


@pytest.mark.parametrize("name", attention.ATTENTION)
def test_attention_is_held_to_its_own_cache(name):
    o, function = Operands(2, 9, 1), BASELINES[name]
    exact = exact_attention(o, "int8" in name)
    attention.expect_attention("f", function, exact, o)
    within = exact * (1 + 0.99 * attention.ERROR)
    attention.expect_attention("f", function, within, o)
    for wrong in (exact * (1 + 1.03 * attention.ERROR), exact.flip(0), exact.flip(1), exact.roll(1, 2), exact * torch.nan):
        with pytest.raises(Wrong, match=r"f is wrong for 2 sequences of 9: its relative error is .*, expected below 0.0039"):
            attention.expect_attention("f", function, wrong, o)
    for wrong in (exact[:1], exact[:, 1:], exact[None], 3):
        with pytest.raises(Wrong, match=r"f must give a tensor of shape \(2, \d+, 128\)"):
            attention.expect_attention("f", function, wrong, o)
    assert o["lengths"].tolist() == [9, 9] and attention.HEADS == 4 * attention.KV_HEADS


def test_codes_of_a_cache_are_those_of_its_tokens():
    o = Operands(3, 5, 1)
    for side in ("keys", "values"):
        q, scale = o[f"{side}_q"], o[f"{side}_scale"]
        assert (q.shape, scale.shape) == (o[side].shape, o[side].shape[:3])
        assert torch.equal(q.abs().amax(-1), torch.full_like(q[..., 0], 127))
        assert torch.allclose(q * scale[..., None], o[side].float(), atol=0.02, rtol=0)
    assert not torch.equal(o["keys"], o["values"])


def test_the_units_of_attention_take_part():
    assert set(attention.ATTENTION) == {name for unit in workloads.plan()["right"] if unit["test"] == "attention"
                                        for name in unit["functions"]}
