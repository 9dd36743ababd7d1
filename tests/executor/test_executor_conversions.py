"""Each conversion against torch, and out of range against what an H200 made of the same numbers."""

import math
from fractions import Fraction

import pytest
import torch
from executor_lanes import FLOATS, PRECISION, TYPES, N, as_unsigned, assert_equal, lanes, rounded_fraction, run, wrapped


@pytest.mark.parametrize("source", ("i1", "i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("target", ("i1", "i8", "i16", "i32", "i64"))
def test_widths_of_integers(source, target):
    x = lanes(source)
    if TYPES[source].itemsize == TYPES[target].itemsize and "i1" not in (source, target) or source == target:
        return
    wider = target != "i1" and (source == "i1" or TYPES[target].itemsize > TYPES[source].itemsize)
    if wider:
        want = -x.to(TYPES[target]) if source == "i1" else x.to(TYPES[target])
        assert torch.equal(run(f"arith.extsi %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x), want)
        low = x.long() if source == "i1" else as_unsigned(x)
        assert torch.equal(run(f"arith.extui %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x),
                           low.to(TYPES[target]))
    else:
        want = (x & 1).bool() if target == "i1" else x.to(TYPES[target])
        assert torch.equal(run(f"arith.trunci %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x), want)


@pytest.mark.parametrize("source", ("i1", "i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("target", FLOATS)
def test_integers_to_floats_round_once(source, target):
    x = lanes(source)
    exact = [int(v) for v in x]
    for op, given in (("sitofp", [-v for v in exact] if source == "i1" else exact),
                      ("uitofp", exact if source == "i1" else [v % 2 ** (8 * x.element_size()) for v in exact])):
        want = torch.tensor([rounded_fraction(Fraction(v), *PRECISION[target]) for v in given], dtype=torch.float64)
        if target == "f16":
            want = torch.where(want.abs() > 65504, want.sign() * math.inf, want)
        got = run(f"arith.{op} %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x)
        assert_equal(got, want)


@pytest.mark.parametrize("source", ("i32", "i64"))
@pytest.mark.parametrize("target", FLOATS)
def test_integers_beside_the_middle_of_two_floats(source, target):
    top, bits = TYPES[source].itemsize * 8 - 2, PRECISION[target][0]
    step = max(2, 1 << max(0, top - bits + 1))  # from one number to the next, from 2 ** top on
    middles = [sign * ((1 << top) + step * odd // 2) for odd in (1, 3, 5) for sign in (1, -1)]
    given = [middle + aside for middle in middles for aside in (-1, 0, 1)]
    x = torch.tensor(given * N)[:N].to(TYPES[source])
    want = torch.tensor([rounded_fraction(Fraction(int(v)), *PRECISION[target]) for v in x], dtype=torch.float64)
    if target == "f16":
        want = torch.where(want.abs() > 65504, want.sign() * math.inf, want)
    assert_equal(run(f"arith.sitofp %0 : tensor<{N}x{source}> to tensor<{N}x{target}>", target, x), want)


@pytest.mark.parametrize("kind", ("i8", "i16", "i32", "i64"))
@pytest.mark.parametrize("source", FLOATS)
def test_floats_to_integers_within_range(source, kind):
    info = torch.iinfo(TYPES[kind])
    x = lanes(source).nan_to_num(0, 3, -3).clamp(max(info.min, -30000), min(info.max, 30000))
    for op, given in (("fptosi", x), ("fptoui", x.abs())):
        got = run(f"arith.{op} %0 : tensor<{N}x{source}> to tensor<{N}x{kind}>", kind, given)
        assert torch.equal(got, given.trunc().to(TYPES[kind]))


ODD = [math.nan, math.inf, -math.inf, 3e9, -3e9, 200.0, -200.0, 300.7, -1.5, 70000.0, 500.0, 1e19, -130.0, 1e20, 2.0**31,
       -5.0]
WIDE, LOW = 2**63 - 1, -(2**63)
ON_AN_H200 = {  # what Triton 3.6 makes of ODD there
    ("f32", "i8", "s"): [0, -1, 0, -1, 0, -56, 56, 44, -1, -1, -12, -1, 126, -1, -1, -5],
    ("f32", "i8", "u"): [0, 255, 0, 255, 0, 200, 0, 44, 0, 255, 244, 255, 0, 255, 255, 0],
    ("f32", "i16", "s"): [0, 32767, -32768, 32767, -32768, 200, -200, 300, -1, 32767, 500, 32767, -130, 32767, 32767,
                          -5],
    ("f64", "i16", "u"): [32768, 65535, 0, 65535, 0, 200, 0, 300, 0, 65535, 500, 65535, 0, 65535, 65535, 0],
    ("f32", "i32", "s"): [0, 2**31 - 1, -2**31, 2**31 - 1, -2**31, 200, -200, 300, -1, 70000, 500, 2**31 - 1, -130,
                          2**31 - 1, 2**31 - 1, -5],
    ("f64", "i32", "s"): [-2**31, 2**31 - 1, -2**31, 2**31 - 1, -2**31, 200, -200, 300, -1, 70000, 500, 2**31 - 1, -130,
                          2**31 - 1, 2**31 - 1, -5],
    ("f16", "i32", "s"): [0, 2**31 - 1, -2**31, 2**31 - 1, -2**31, 200, -200, 300, -1, 2**31 - 1, 500, 2**31 - 1, -130,
                          2**31 - 1, 2**31 - 1, -5],
    ("f32", "i32", "u"): [0, 2**32 - 1, 0, 3000000000, 0, 200, 0, 300, 0, 70000, 500, 2**32 - 1, 0, 2**32 - 1, 2**31, 0],
    ("bf16", "i32", "u"): [0, 2**32 - 1, 0, 3003121664, 0, 200, 0, 300, 0, 70144, 500, 2**32 - 1, 0, 2**32 - 1, 2**31, 0],
    ("f32", "i64", "s"): [LOW, WIDE, LOW, 3000000000, -3000000000, 200, -200, 300, -1, 70000, 500, WIDE, -130, WIDE,
                          2**31, -5],
    ("f32", "i64", "u"): [2**63, 2**64 - 1, 0, 3000000000, 0, 200, 0, 300, 0, 70000, 500, 9999999980506447872, 0, 2**64 - 1,
                          2**31, 0],
}


@pytest.mark.parametrize("source, kind, sign", ON_AN_H200)
def test_floats_out_of_range_become_the_integers_of_a_gpu(source, kind, sign):
    x = torch.tensor(ODD * (N // 16), dtype=torch.float64).to(TYPES[source])
    got = run(f"arith.fpto{sign}i %0 : tensor<{N}x{source}> to tensor<{N}x{kind}>", kind, x)
    assert got[:16].tolist() == [wrapped(v, 8 * got.element_size()) for v in ON_AN_H200[source, kind, sign]]
    one = run(f"arith.fpto{sign}i %0 : tensor<1x{source}> to tensor<1x{kind}>", kind, x[4:5], n=1)
    assert one.item() == got[4].item()


def test_fp8_saturates_as_on_a_gpu_but_keeps_its_infinity():
    x = torch.tensor([math.inf, -math.inf, 70000.0, 460.0] * (N // 4))
    for kind, want in (("f8E5M2", [57344.0, -57344.0, 57344.0, 448.0]), ("f8E4M3FN", [448.0, -448.0, 448.0, 448.0])):
        got = run(f"tt.fp_to_fp %0, rounding = rtne : tensor<{N}xf32> -> tensor<{N}x{kind}>", kind, x)
        assert got[:4].float().tolist() == want
    held = x.to(torch.float8_e5m2)
    assert_equal(run(f"tt.bitcast %0 : tensor<{N}xf8E5M2> -> tensor<{N}xi8>", "i8", held), held.view(torch.int8))


@pytest.mark.parametrize("source, target", [(a, b) for a in TYPES for b in TYPES if a[0] != "i" and b[0] != "i" and a != b])
def test_floats_to_floats(source, target):
    x = lanes(source)
    wider = x.element_size() < TYPES[target].itemsize
    op = "tt.fp_to_fp" if "8" in source + target else "arith.extf" if wider else "arith.truncf"
    if target.startswith("f8"):  # which saturates on a GPU; torch gives inf and NaN
        x = x.double().clamp(-400, 400).to(x.dtype)
    rounding = ", rounding = rtne" if op == "tt.fp_to_fp" and target.startswith("f8") else ""
    arrow = "->" if op == "tt.fp_to_fp" else "to"
    got = run(f"{op} %0{rounding} : tensor<{N}x{source}> {arrow} tensor<{N}x{target}>", target, x)
    assert_equal(got.float(), x.to(TYPES[target]).float())


@pytest.mark.parametrize("target", ["f16", "bf16"])
def test_floats_rounded_towards_zero(target):
    """Of every magnitude: beyond the largest number, and below the smallest normal and the smallest of all."""
    x, largest = lanes("f32"), torch.finfo(TYPES[target]).max
    x[8:] *= torch.linspace(-150, 130, N - 8).exp2()
    got = run(f"tt.fp_to_fp %0, rounding = rtz : tensor<{N}xf32> -> tensor<{N}x{target}>", target, x)
    want = [rounded_fraction(Fraction(v), *PRECISION[target], to=math.trunc) if math.isfinite(v) else v for v in x.tolist()]
    want = [max(-largest, min(largest, v)) if math.isfinite(x[i]) else v for i, v in enumerate(want)]
    assert_equal(got, torch.tensor(want, dtype=torch.float64))
    assert torch.equal(got.signbit(), x.signbit())


@pytest.mark.parametrize("a, b", [("f32", "i32"), ("i16", "f16"), ("bf16", "i16"), ("i8", "f8E5M2"), ("f64", "i64"),
                                  ("f8E4M3FN", "i8"), ("i16", "bf16")])
def test_bitcast(a, b):
    x = lanes(a)
    got = run(f"tt.bitcast %0 : tensor<{N}x{a}> -> tensor<{N}x{b}>", b, x)
    assert_equal(got.float(), x.view(TYPES[b]).float())


CONSTANTS = [  # as they are printed, and each lane's number in turn
    ("i1", "dense<true>", [1]), ("i1", "dense<false>", [0]), ("i8", "dense<-5>", [-5]),
    ("i64", "dense<9007199254740993>", [2**53 + 1]), ("i32", "dense<[3, -4]>", [3, -4]),
    ("i1", "dense<[true, false]>", [1, 0]), ("f32", "dense<1.500000e+00>", [1.5]),
    ("f32", "dense<0x7F800000>", [math.inf]), ("f32", "dense<0xFF800000>", [-math.inf]),
    ("f16", "dense<0xFC00>", [-math.inf]), ("f16", "dense<0x3E00>", [1.5]), ("bf16", "dense<0x7F80>", [math.inf]),
    ("bf16", "dense<0xBFC0>", [-1.5]), ("f64", "dense<0x7FF0000000000000>", [math.inf]),
    ("f8E5M2", "dense<0x7C>", [math.inf]), ("f8E4M3FN", "dense<0x7E>", [448.0]),
    ("f32", "dense<[0x7F800000, 1.0, -0.0]>", [math.inf, 1.0, -0.0]), ("i8", 'dense<"0x01FF">', [1, -1]),
    ("i16", 'dense<"0x0100FF7F">', [1, 32767]), ("bf16", 'dense<"0xC03F80BF">', [1.5, -1.0]),
    ("f32", 'dense<"0x0000C03F">', [1.5]),
]


@pytest.mark.parametrize("kind, text, numbers", CONSTANTS)
def test_constants(kind, text, numbers):
    n = len(numbers)
    want = torch.tensor(numbers, dtype=torch.float64 if isinstance(numbers[0], float) else torch.int64).to(TYPES[kind])
    assert_equal(run(f"arith.constant {text} : tensor<{n}x{kind}>", kind, n=n).double(), want.double())
    if n == 1:
        assert_equal(run(f"arith.constant {text} : tensor<4x{kind}>", kind, n=4).double(), want.double().expand(4))


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_undefined_is_sure_to_be_noticed(kind):
    found = run(f"ub.poison : tensor<4x{kind}>", kind, n=4)
    if kind[0] == "i":
        assert found.tolist() == [0 if kind == "i1" else torch.iinfo(TYPES[kind]).min] * 4
    else:
        assert found.float().isnan().all()


@pytest.mark.parametrize("name", ["arith.index_cast", "arith.index_castui"])
def test_indices_are_numbers(name):
    x = lanes("i32")
    there = run(f"{name} %0 : tensor<{N}xi32> to tensor<{N}xi64>", "i64", x)
    assert torch.equal(there, x.long())
    assert torch.equal(run(f"{name} %0 : tensor<{N}xi64> to tensor<{N}xi32>", "i32", there), x)
