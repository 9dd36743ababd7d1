"""Lesson 08: INT8 matrix-vector products, with x in FP16 (W8A16) and in INT8 (W8A8)."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant


def codes(g: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randint(-127, 128, shape, generator=g, dtype=torch.int8)


def scales(g: torch.Generator, size: int, about: float = 1e-3) -> torch.Tensor:
    """All different, from half of `about` to one and a half."""
    return (torch.rand(size, generator=g) + 0.5) * about


def far_apart(w: torch.Tensor) -> torch.Tensor:
    """The same rows 2³⁰ elements apart, parts of a matrix that is never made: the third starts beyond 32 bits."""
    far = torch.empty((len(w) - 1) * 2**30 + w.shape[1], dtype=w.dtype).as_strided(w.shape, (2**30, 1))
    return far.copy_(w)


def climbing(g: torch.Generator, N: int, K: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes x (K,) and w (N, K), N ≤ 3, whose sums climb past 2²⁵ and come down to -127, -254, -381. FP32 numbers are
    4 apart up there, so no FP32 sum of the two halves ends at one of these. Needs K near a power of two from 8,192 on."""
    x = 127 * (2 * torch.randint(0, 2, (K,), generator=g, dtype=torch.int8) - 1)
    w = x.repeat(N, 1)
    w[:, K // 2:2 * (K // 2)] *= -1
    w[:, 0] -= (torch.arange(N, dtype=torch.int8) + 1) * x[0].sign()
    return x, w


# W8A16: codes of w, x as it is.

def in_bf16(make):
    """The same with x in BF16."""
    def inputs(g: torch.Generator) -> dict:
        made = make(g)
        return made | {"x": made["x"].bfloat16()}
    return inputs


def w8a16(N: int, K: int, x_size: float = 1.0, w_scale: float = 1e-3, wider: int = 0, far: bool = False):
    def inputs(g: torch.Generator) -> dict:
        w_q = codes(g, N, K + wider)[:, :K]
        return {"x": (torch.randn(K, generator=g).clamp(-2, 2) * x_size).half(), "w_q": far_apart(w_q) if far else w_q,
                "w_scale": scales(g, N, w_scale)}
    return inputs


def whole_w8a16(N: int, K: int):
    """Every x is a whole number, so sums up to 2²⁴ are exact in FP32; products pass 2,048, where FP16 loses odd numbers."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randint(16, 24, (K,), generator=g)
        w_q = codes(g, N, K)
        w_q[:, 1::2] = -w_q[:, :2 * (K // 2):2]
        x[1::2] = x[:2 * (K // 2):2]
        w_q[:, 0] += torch.where(w_q[:, 0] > 0, -1, 1)
        return {"x": x.half(), "w_q": w_q, "w_scale": scales(g, N, 1.0)}
    return inputs


def exact_w8a16(x: torch.Tensor, w_q: torch.Tensor, w_scale: torch.Tensor) -> tuple[Expected]:
    """y in float64. FP32 accumulation errs by at most K · 2⁻²⁴ · Σ|w·x| (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., section 3.1), by 0 for whole numbers whose sums stay below 2²⁴; the scaling by 2⁻²⁴ · |y| and
    rounding y to FP16 by 2⁻¹¹ · |y|, to BF16 by 2⁻⁷ · |y| where the interpreter truncates."""
    scale = w_scale.double()
    exact, size = (w_q.double() @ x.double()) * scale, w_q.double().abs() @ x.double().abs()
    whole = bool((x == x.round()).all() and size.max() < 2**24)
    accumulation = 0.0 if whole else x.numel() * 2.0**-24 * size * scale
    unit = 2.0**-11 if x.dtype == torch.float16 else 2.0**-7
    return (Expected(exact, accumulation + (unit + 2.0**-23) * exact.abs().clamp(min=2.0**-14), x.dtype),)


OTHER = "Lanes that a mask turns off hold anything at all unless the load says `other=0`; here they are summed."
_64_BITS = "n * stride_wn can pass 2³¹, where 32-bit numbers wrap around: keep n in 64 bits."
_APART = "w may be part of a wider matrix: its rows are stride_wn elements apart, not K."
_MASK_K = "BLOCK_K is a power of two and K need not be: load only where `offs_k < K`, and let the rest be 0."
MASK_W = "After a row's K codes come those of the next row, after the last row nothing: load only where `offs_k < K`."
EARLY = "The sum of the codes passes 65,504, where FP16 ends: scale it in FP32 and round to FP16 once, at the end."
_W_SCALE = "Row n of w has the scale w_scale[n]: the sum has to be multiplied with it."
_OWN_SCALE = "Row n has its own scale: load it from w_scale_ptr + n."
_FP16_SCALE = "The scales of small rows are too small for FP16: keep them in FP32."

_W16_X, _W16_W = "x_ptr + offs_k, mask=mask_k, other=0.0", "n * stride_wn + offs_k, mask=mask_k, other=0)"

GEMV_W8A16_ROW = Exercise(
    name="gemv_w8a16_row_kernel",
    lesson="08_decode",
    wrapper="gemv_w8a16_row",
    outputs=("y",),
    points=3,
    least_bytes=lambda x, w_q, w_scale: w_q.numel() + 2 * x.numel() + 6 * len(w_q),
    oracle=exact_w8a16,
    cases=(
        Case("N=17 K=300", w8a16(17, 300)),
        Case("a power of two, N=3 K=256", w8a16(3, 256)),
        Case("y in BF16 and large, N=9 K=130", in_bf16(w8a16(9, 130, x_size=2e4, w_scale=1.0))),
        Case("one element, N=1 K=1", w8a16(1, 1)),
        Case("whole numbers, N=4 K=129", whole_w8a16(4, 129)),
        Case("rows of a wider matrix, N=5 K=127", w8a16(5, 127, wider=24)),
        Case("large x and tiny scales, N=3 K=64", w8a16(3, 64, x_size=3e4, w_scale=2e-8)),
        Case("rows 2^30 elements apart, N=3 K=5", w8a16(3, 5, far=True)),
    ),
    mutants=(
        Mutant("the scale is forgotten", {", axis=0) * tl.load(w_scale_ptr + n)": ", axis=0)"}, _W_SCALE),
        Mutant("every row gets the scale of row 0", {"tl.load(w_scale_ptr + n)": "tl.load(w_scale_ptr)"}, _OWN_SCALE),
        Mutant("the scales taken along K",
               {"x.to(tl.float32), axis=0) * tl.load(w_scale_ptr + n)":
                 "x.to(tl.float32) * tl.load(w_scale_ptr + offs_k, mask=mask_k, other=0.0), axis=0)"}, _OWN_SCALE),
        Mutant("divided by the scale", {"axis=0) * tl.load": "axis=0) / tl.load"},
               "A code times its scale is the weight: multiply."),
        Mutant("the scale in FP16", {"tl.load(w_scale_ptr + n)": "tl.load(w_scale_ptr + n).to(tl.float16)"}, _FP16_SCALE),
        Mutant("the sum rounded to FP16 before it is scaled",
               {"tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0)":
                 "tl.sum(w.to(tl.float32) * x.to(tl.float32), axis=0).to(tl.float16)"}, EARLY),
        Mutant("products in FP16", {"w.to(tl.float32) * x.to(tl.float32)": "w.to(tl.float16) * x"},
               "FP16 has 11 bits, and the product of a code and an FP16 number needs 18: turn both into tl.float32 first."),
        Mutant("x turned into INT8", {"x.to(tl.float32)": "x.to(tl.int8).to(tl.float32)"},
               "x is FP16 here (W8A16), and `.to(tl.int8)` throws its fractions away: turn w into FP32, not x into INT8."),
        Mutant("the mask on K is missing", {_W16_X: "x_ptr + offs_k", _W16_W: "n * stride_wn + offs_k)"}, _MASK_K),
        Mutant("the mask on K is missing when w is loaded", {_W16_W: "n * stride_wn + offs_k)"}, MASK_W),
        Mutant("`other=` is missing",
               {_W16_X: "x_ptr + offs_k, mask=mask_k", _W16_W: "n * stride_wn + offs_k, mask=mask_k)"}, OTHER),
        Mutant("every program reads row 0", {"w_ptr + n * stride_wn + offs_k": "w_ptr + offs_k"},
               "Row n of w starts n * stride_wn elements after w_ptr."),
        Mutant("rows taken to be K apart", {"w_ptr + n * stride_wn": "w_ptr + n * K"}, _APART),
        Mutant("every program writes y[0]", {"y_ptr + n,": "y_ptr,"}, "Program n owns y[n]: store at y_ptr + n."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"}, _64_BITS),
        Mutant("y in FP16, whatever x is", {"y.to(y_ptr.dtype.element_ty)": "y.to(tl.float16)"},
               "x may be BF16, and y is then too: round to the type of y's elements, y_ptr.dtype.element_ty."),
        Mutant("the scale twice",
               {" * tl.load(w_scale_ptr + n)": " * tl.load(w_scale_ptr + n) * tl.load(w_scale_ptr + n)"},
               "Row n of w has one scale, and it multiplies once."),
        Mutant("w times w", {"w.to(tl.float32) * x.to(tl.float32)": "w.to(tl.float32) * w.to(tl.float32)"},
               "The products are w[n, k] · x[k]."),
        Mutant("x times x", {"w.to(tl.float32) * x.to(tl.float32)": "x.to(tl.float32) * x.to(tl.float32)"},
               "The products are w[n, k] · x[k]."),
    ),
)


# W8A8: codes of both.

def w8a8_row(N: int, K: int, x_scale: float = 1e-2, w_scale: float = 1e-3, wider: int = 0, far: bool = False):
    def inputs(g: torch.Generator) -> dict:
        w_q = codes(g, N, K + wider)[:, :K]
        return {"x_q": codes(g, K), "x_scale": scales(g, 1, x_scale), "w_q": far_apart(w_q) if far else w_q,
                "w_scale": scales(g, N, w_scale)}
    return inputs


def climbing_row(N: int, K: int):
    def inputs(g: torch.Generator) -> dict:
        x_q, w_q = climbing(g, N, K)
        return {"x_q": x_q, "x_scale": torch.ones(1), "w_q": w_q, "w_scale": torch.ones(N)}
    return inputs


def largest_row(N: int, K: int):
    """Every code is ±127, and every row's sum K · 127²."""
    def inputs(g: torch.Generator) -> dict:
        x_q = 127 * (2 * torch.randint(0, 2, (K,), generator=g, dtype=torch.int8) - 1)
        return {"x_q": x_q, "x_scale": scales(g, 1, 1e-3), "w_q": x_q.repeat(N, 1), "w_scale": scales(g, N, 1e-3)}
    return inputs


def exact_scaled(acc: torch.Tensor, x_scale: torch.Tensor, w_scale: torch.Tensor) -> Expected:
    """acc (M, N), exact, times its scales. FP32 takes three roundings of 2⁻²⁴ (of the sum, and one for each scale), FP16 one
    of 2⁻¹¹; a product of two scales below 2⁻¹²⁶ has fewer bits, and none of the cases goes there."""
    exact = acc.double() * x_scale.double()[:, None] * w_scale.double()
    return Expected(exact, (2.0**-11 + 2.0**-22) * exact.abs().clamp(min=2.0**-14), torch.float16)


def exact_w8a8_row(x_q, x_scale, w_q, w_scale) -> tuple[Expected]:
    want = exact_scaled(x_q.double()[None] @ w_q.double().T, x_scale, w_scale)
    assert isinstance(want.value, torch.Tensor) and isinstance(want.tolerance, torch.Tensor)
    return (Expected(want.value[0], want.tolerance[0], want.dtype),)


_X_SCALE = "The codes of x stand for numbers that are x_scale times as large: multiply the sum with it."
_BOTH = "y is the sum of the codes' products times both scales, of x and of w's row n."
_W8_X, _W8_W = "x_ptr + offs_k, mask=mask_k, other=0)", "n * stride_wn + offs_k, mask=mask_k, other=0)"
_INT_SUM = "w.to(tl.int32) * x.to(tl.int32)"

GEMV_W8A8_ROW = Exercise(
    name="gemv_w8a8_row_kernel",
    lesson="08_decode",
    wrapper="gemv_w8a8_row",
    outputs=("y",),
    points=3,
    least_bytes=lambda x_q, x_scale, w_q, w_scale: w_q.numel() + x_q.numel() + 4 + 6 * len(w_q),
    oracle=exact_w8a8_row,
    cases=(
        Case("sums beyond FP32's 24 bits, N=3 K=8000", climbing_row(3, 8000)),
        Case("N=17 K=300", w8a8_row(17, 300)),
        Case("a power of two, N=3 K=256", w8a8_row(3, 256)),
        Case("one element, N=1 K=1", w8a8_row(1, 1)),
        Case("the largest sums, N=2 K=1000", largest_row(2, 1000)),
        Case("rows of a wider matrix, N=5 K=127", w8a8_row(5, 127, wider=24)),
        Case("tiny scales of w, N=4 K=100", w8a8_row(4, 100, x_scale=400.0, w_scale=2e-8)),
        Case("rows 2^30 elements apart, N=3 K=5", w8a8_row(3, 5, far=True)),
    ),
    mutants=(
        Mutant("products in INT8", {_INT_SUM: "w * x"},
               "A product of two codes takes up to 15 bits and INT8 has 8: turn both into tl.int32 before you multiply."),
        Mutant("products in FP16", {_INT_SUM: "w.to(tl.float16) * x.to(tl.float16)"},
               "FP16 has 11 bits, a product of two codes takes up to 15: turn both into tl.int32, and sum whole numbers."),
        Mutant("sums in FP32", {_INT_SUM: "w.to(tl.float32) * x.to(tl.float32)"},
               "FP32 has 24 bits, and a sum of products of codes takes up to 31: turn both into tl.int32, and sum whole "
               "numbers."),
        Mutant("the sum rounded to FP16 before it is scaled", {"acc.to(tl.float32)": "acc.to(tl.float16)"}, EARLY),
        Mutant("both scales are forgotten", {"acc.to(tl.float32) * tl.load(x_scale_ptr) * tl.load(w_scale_ptr + n)":
                                              "acc.to(tl.float32)"}, _BOTH),
        Mutant("the scale of x is forgotten", {" * tl.load(x_scale_ptr)": ""}, _X_SCALE),
        Mutant("the scale of w is forgotten", {" * tl.load(w_scale_ptr + n)": ""}, _W_SCALE),
        Mutant("every row gets the scale of row 0", {"tl.load(w_scale_ptr + n)": "tl.load(w_scale_ptr)"}, _OWN_SCALE),
        Mutant("a scale of x for every row of w", {"tl.load(x_scale_ptr)": "tl.load(x_scale_ptr + n)"},
               "There is one token, so x has one scale: tl.load(x_scale_ptr)."),
        Mutant("the product of the scales in FP16",
               {"acc.to(tl.float32) * tl.load(x_scale_ptr) * tl.load(w_scale_ptr + n)":
                 "acc.to(tl.float32) * (tl.load(x_scale_ptr) * tl.load(w_scale_ptr + n)).to(tl.float16)"}, _FP16_SCALE),
        Mutant("the scale of w in FP16", {"tl.load(w_scale_ptr + n)": "tl.load(w_scale_ptr + n).to(tl.float16)"},
               _FP16_SCALE),
        Mutant("the mask on K is missing", {_W8_X: "x_ptr + offs_k)", _W8_W: "n * stride_wn + offs_k)"}, _MASK_K),
        Mutant("the mask on K is missing when w is loaded", {_W8_W: "n * stride_wn + offs_k)"}, MASK_W),
        Mutant("`other=` is missing",
               {_W8_X: "x_ptr + offs_k, mask=mask_k)", _W8_W: "n * stride_wn + offs_k, mask=mask_k)"}, OTHER),
        Mutant("every program reads row 0", {"w_ptr + n * stride_wn + offs_k": "w_ptr + offs_k"},
               "Row n of w starts n * stride_wn elements after w_ptr."),
        Mutant("rows taken to be K apart", {"w_ptr + n * stride_wn": "w_ptr + n * K"}, _APART),
        Mutant("every program writes y[0]", {"y_ptr + n,": "y_ptr,"}, "Program n owns y[n]: store at y_ptr + n."),
        Mutant("32-bit offsets", {"tl.program_id(0).to(tl.int64)": "tl.program_id(0)"}, _64_BITS),
        Mutant("the scale of w twice",
               {" * tl.load(w_scale_ptr + n)": " * tl.load(w_scale_ptr + n) * tl.load(w_scale_ptr + n)"},
               "Each scale multiplies once."),
        Mutant("the scale of x twice", {" * tl.load(x_scale_ptr)": " * tl.load(x_scale_ptr) * tl.load(x_scale_ptr)"},
               "Each scale multiplies once."),
        Mutant("divided by the scales",
               {" * tl.load(x_scale_ptr) * tl.load(w_scale_ptr + n)":
                 " / tl.load(x_scale_ptr) / tl.load(w_scale_ptr + n)"},
               "A scale is what a code is multiplied with."),
        Mutant("w times w", {"w.to(tl.int32) * x.to(tl.int32)": "w.to(tl.int32) * w.to(tl.int32)"},
               "The products are w[n, k] · x[k]."),
        Mutant("x times x", {"w.to(tl.int32) * x.to(tl.int32)": "x.to(tl.int32) * x.to(tl.int32)"},
               "The products are w[n, k] · x[k]."),
        Mutant("the fraction of y is thrown away", {"y.to(tl.float16)": "y.to(tl.int32)"},
               "y is a fraction: `.to(tl.int32)` cuts it down to a whole number."),
    ),
)

EXERCISES = [GEMV_W8A16_ROW, GEMV_W8A8_ROW]
