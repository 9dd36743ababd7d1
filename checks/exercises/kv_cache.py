"""Lesson 11: keys and values in INT8, and attention that reads them."""

import itertools
import math

import torch

from checks.exercises.fused import exact_codes
from checks.judge.exercise import Case, Exercise, Expected, Mutant
from kernels.kv_cache import tokens_of_a_part
from kernels.runtime import card

LESSON = "11_real_stack"
U = 2.0**-24

WIDEN_B = "b times a cache's stride can pass 2³¹: keep b in 64 bits."
MASK_D = "BLOCK_D is a power of two and D need not be: lanes past D belong to the next head."
KEPT = "A step ends with `top = new_top`: with a top of -inf shrink is 0, and only the last block of tokens is left."
BEHIND = "Tokens of a cache may be in front: both a token's codes and its scale go to `place`, which is t behind them."
MASK_T = "The last step goes past the length: tokens that are not there must count nothing."
GROUP = "Several query heads share a head of keys: head h reads h // group."
RESCALE = ("When a larger score comes, all that was summed before was relative to the old one: multiply it by "
           "exp(top - new_top).")


def tokens(B: int, T: int, heads: int, D: int, wider: int = 0, first: int = 0):
    """Rows of a product: heads side by side, each token and head with a size of its own. They go behind `first` others."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(B, T, heads, D, generator=g) * 2.0 ** torch.randint(-4, 4, (B, T, heads, 1), generator=g)
        wide = torch.full((B, T, heads * D + wider), 6e4).half()
        wide[:, :, :heads * D] = x.half().flatten(2)
        return {"x": wide[:, :, :heads * D], "heads": heads, "first": first}
    return inputs


def unusable(D: int):
    """One head of one token has a NaN, one is all zeros."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(1, 3, 2, D, generator=g)
        x[0, 1, 0, D - 1], x[0, 2, 1] = math.nan, 0
        return {"x": x.half().flatten(2), "heads": 2, "first": 0}
    return inputs


def exact_heads(x: torch.Tensor, heads: int, first: int) -> tuple[Expected, Expected]:
    """The codes of lesson 04 of each head's numbers, in the order of a cache: amax is exact, two divisions err."""
    B, T, width = x.shape
    rows = x.double().view(B, T, heads, width // heads).transpose(1, 2).reshape(-1, width // heads)
    q, scale = exact_codes(rows, 8 * U, 4 * U)
    found = []
    for out, shape in ((q, (B, heads, T, -1)), (scale, (B, heads, T))):
        value, tolerance = map(torch.as_tensor, (out.value, out.tolerance))
        found.append(Expected(value.view(shape), tolerance.expand(value.shape).reshape(shape), out.dtype))
    return found[0], found[1]


_LOAD_X = "tl.load(x_ptrs, mask=mask_d, other=0.0)"
_STORE_Q = "codes(x, scale), mask=mask_d"

QUANTIZE = Exercise(
    name="quantize_heads_kernel",
    lesson=LESSON,
    wrapper="quantize_heads",
    outputs=("q", "scale"),
    points=3,
    least_bytes=lambda x, heads, first: 3 * x.numel() + 4 * x.shape[0] * x.shape[1] * heads,
    oracle=exact_heads,
    cases=(
        Case("B=2 T=3 heads=2 D=24", tokens(2, 3, 2, 24)),
        Case("one token behind 5 of a cache, heads=3 D=16", tokens(1, 1, 3, 16, first=5)),
        Case("part of a wider product, heads=2 D=20", tokens(2, 2, 2, 20, wider=8)),
        Case("NaN and zeros, D=17", unusable(17)),
    ),
    mutants=(
        Mutant("every head gets the first one's numbers", {"t * stride_xt + h * D + offs_d": "t * stride_xt + offs_d"},
               "The heads of a token lie side by side: head h begins h * D numbers after the token."),
        Mutant("heads one number apart", {"t * stride_xt + h * D + offs_d": "t * stride_xt + h + offs_d"},
               "A head has D numbers: head h begins h * D numbers after the token."),
        Mutant("codes in the order of the product", {"h * stride_qh + place * D + offs_d":
               "(place * tl.num_programs(1) + h) * D + offs_d"},
               "A cache has all tokens of a head together: head h begins h * stride_qh after its sequence."),
        Mutant("scales in the order of the product", {"h * stride_sh + place, scale":
               "place * tl.num_programs(1) + h, scale"},
               "Scales lie as the codes do: head by head, h * stride_sh, then token by token."),
        Mutant("codes and scales at t", {"h * stride_sh + place, scale": "h * stride_sh + t, scale",
               "h * stride_qh + place * D": "h * stride_qh + t * D"}, BEHIND),
        Mutant("the scales at t", {"h * stride_sh + place, scale": "h * stride_sh + t, scale"}, BEHIND),
        Mutant("the codes at t", {"h * stride_qh + place * D": "h * stride_qh + t * D"}, BEHIND),
        Mutant("heads and places exchanged", {"h * stride_qh + place * D": "place * stride_qh + h * D"},
               "In a cache the heads lie stride_qh apart, and the tokens of a head D: h * stride_qh + place * D."),
        Mutant("x is read at place", {"t * stride_xt": "place * stride_xt"},
               "x holds the new tokens alone: token t of it starts at t * stride_xt. Where it goes is another matter."),
        Mutant("the mask is missing when x is loaded", {_LOAD_X: "tl.load(x_ptrs)"}, MASK_D),
        Mutant("the mask is missing when q is stored", {_STORE_Q: "codes(x, scale)"}, MASK_D),
        Mutant("the maximum of x, not of |x|", {"tl.max(finite_or_inf(x), axis=0)": "tl.max(x, axis=0)"},
               "A head's largest magnitude may be negative: finite_or_inf takes magnitudes, and lets NaN be seen."),
        Mutant("NaN passes unseen", {"finite_or_inf(x)": "tl.abs(x)"},
               "The maximum of a NaN and a number is the number: finite_or_inf turns NaN into Inf first."),
    ),
)


def cached(*shape: int, lengths=None, size: float = 1.0, longer: int = 0):
    """A query, keys and values; shape (B, heads, kv_heads, D, S).

    `longer`: the cache has room for so many tokens more, which hold huge numbers. The scores of a head of keys and the first
    query that reads it grow with the tokens, of every second head they fall: the largest so far moves, and it stays."""
    B, heads, kv_heads, D, S = shape
    ends = lengths or [S] * B

    def inputs(g: torch.Generator) -> dict:
        k, v = (torch.full((B, kv_heads, S + longer, D), 3e4).half() for _ in range(2))
        k[:, :, :S] = torch.randn(B, kv_heads, S, D, generator=g) * size
        v[:, :, :S] = torch.randn(B, kv_heads, S, D, generator=g) + torch.arange(S)[:, None] / S
        q = (torch.randn(B, heads, D, generator=g) * size).half()
        for b, h in itertools.product(range(B), range(kv_heads)):
            known = k[b, h, :ends[b]]
            scores = known.float() @ q[b, h * (heads // kv_heads)].float()
            k[b, h, :ends[b]] = known[scores.argsort(descending=h % 2 == 1)]
        return {"q": q, "k": k, "v": v, "lengths": torch.tensor(ends, dtype=torch.int32)}
    return inputs


def in_codes(make):
    """The same with codes and scales in the place of keys and values; what is past a length is huge there too."""
    def inputs(g: torch.Generator) -> dict:
        made = make(g)
        found = {"q": made["q"]}
        for name in ("k", "v"):
            x = made[name].float()
            scale = x.abs().amax(dim=-1) / 127
            found |= {f"{name}_q": (x / scale[..., None]).round().to(torch.int8), f"{name}_scale": scale}
        return found | {"lengths": made["lengths"]}
    return inputs


def softmax_parts(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, moved: torch.Tensor | float = 0.0):
    """(y, lse, bound of y, bound of lse) of one sequence, in float64; `moved`: by how much q (heads, D) may be off.

    q (heads, D), k and v (kv_heads, n, D). A score errs by (D + 8) U of Σ |q · k|; exp and log by 4 U; a sum of n tokens by
    n U of itself. An error e of all scores moves p by 2 e of itself.
    """
    group, n = len(q) // len(k), k.shape[1]
    k, v = (each.repeat_interleave(group, dim=0).double() for each in (k, v))
    q, scaling = q.double()[:, None], q.shape[1] ** -0.5
    scores = (q * k).sum(-1) * scaling  # (heads, n)
    off = ((q.shape[-1] + 8) * U * (q * k).abs().sum(-1) + (torch.as_tensor(moved) * k.abs().mT).sum(-2)) * scaling
    off = off.amax(dim=1)  # (heads,)
    p = scores.softmax(dim=1)
    y, size = (p[..., None] * v).sum(1), (p[..., None] * v.abs()).sum(1)
    lse = scores.logsumexp(dim=1)
    relative = 2 * off + (2 * n + 16) * U
    return y, lse, relative[:, None] * size, off + (n + 8) * U + 4 * U * lse.abs()


def exact_attention(q, k, v, lengths) -> tuple[Expected]:
    """In float64, sequence by sequence; y is rounded to FP16 once."""
    parts = [softmax_parts(q[b], k[b, :, :n], v[b, :, :n]) for b, n in enumerate(lengths.tolist())]
    y, bound = (torch.stack([part[i] for part in parts]) for i in (0, 2))
    return (Expected(y, bound + 2.0**-11 * y.abs() + 2.0**-24, torch.float16),)


_K_LOAD, _V_LOAD = "tl.load(k_ptr + rows, mask=mask, other=0.0)", "tl.load(v_ptr + rows, mask=mask, other=0.0)"
_SCORES = "scores = tl.where(mask_t, scores, float(\"-inf\"))"

ATTENTION = Exercise(
    name="decode_attention_kernel",
    lesson=LESSON,
    wrapper="decode_attention",
    outputs=("y",),
    points=5,
    least_bytes=lambda q, k, v, lengths: 4 * q.numel() + 4 * k.shape[1] * k.shape[3] * int(lengths.sum()),
    oracle=exact_attention,
    cases=(
        Case("two sequences, 4 heads for 2, D=24, lengths 70 and 33", cached(2, 4, 2, 24, 70, lengths=[70, 33])),
        Case("one token, D=16", cached(1, 2, 2, 16, 1)),
        Case("a cache with room for more, D=20, length 40", cached(1, 2, 1, 20, 40, longer=24)),
        Case("scores up to hundreds, D=32, length 50", cached(1, 2, 1, 32, 50, size=10.0)),
    ),
    mutants=(
        Mutant("scores are not scaled", {"axis=1) * sm_scale": "axis=1)"}, "Scores are q · k times sm_scale, 1 / √D."),
        Mutant("y is not rescaled", {"acc = acc * shrink + ": "acc = acc + "}, RESCALE),
        Mutant("the sum is not rescaled", {"total = total * shrink + ": "total = total + "}, RESCALE),
        Mutant("not divided by the sum", {"y = acc / total": "y = acc"},
               "The weights p add up to total, and those of a softmax to 1: y = acc / total."),
        Mutant("tokens past the length", {_SCORES: "scores = scores + 0.0"},
               "A key of zeros has the score 0, not none: tokens past the length get -inf, so that exp gives 0."),
        Mutant("top is not kept", {"        top = new_top\n    y = acc": "    y = acc"}, KEPT),
        Mutant("shrink after the top has moved", {"        shrink = tl.exp(top - new_top)\n": "        top = new_top\n"
               "        shrink = tl.exp(top - new_top)\n"},
               "shrink leads from the old top to the new one: compute it before `top = new_top`, or it is 1 always."),
        Mutant("exp without the top", {"p = tl.exp(scores - new_top)": "p = tl.exp(scores)",
               "shrink = tl.exp(top - new_top)": "shrink = 1.0"},
               "exp of a score of 100 is Inf in FP32: subtract the largest score first."),
        Mutant("each query head has keys of its own", {"(h // group) * stride_h": "h * stride_h"}, GROUP),
        Mutant("keys twice", {"tl.load(v_ptr + rows": "tl.load(k_ptr + rows"},
               "Scores come from keys, y from values: v_ptr."),
        Mutant("every sequence has the first one's length", {"tl.load(length_ptr + b)": "tl.load(length_ptr)"},
               "Sequence b has length[b] tokens."),
    ),
)


def exact_parts(q, k_q, k_scale, v_q, v_scale, lengths) -> tuple[Expected, Expected]:
    """Each part by itself, q in codes. A code of q within 2⁻¹⁴ of a tie may be its neighbour, a step away. p · v_scale over
    the largest v_scale is rounded to FP16: 2⁻¹¹ of itself, or 2⁻²⁵ of that largest for each token."""
    B, heads, D = q.shape
    kv_heads, S = k_q.shape[1:3]
    tokens = tokens_of_a_part(S, B * kv_heads, card().multiprocessors)
    shape = B, heads, -(-S // tokens)
    y, y_off = torch.zeros(2, *shape, D, dtype=torch.float64)
    lse, lse_off = torch.full(shape, -math.inf, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    k, v = k_q.double() * k_scale.double()[..., None], v_q.double() * v_scale.double()[..., None]
    q_scale = q.double().abs().amax(dim=-1, keepdim=True) / 127
    quotient = q.double() / q_scale
    moved = q_scale * ((quotient - quotient.floor() - 0.5).abs() < 2.0**-14)
    for b, length in enumerate(lengths.tolist()):
        for part, first in enumerate(range(0, length, tokens)):
            here = slice(first, min(first + tokens, length))
            given = (quotient[b].round() * q_scale[b], k[b, :, here])
            y[b, :, part], lse[b, :, part], y_off[b, :, part], lse_off[b, :, part] = softmax_parts(
                *given, v[b, :, here], moved[b][..., None])
            size = softmax_parts(*given, v[b, :, here].abs())[0]
            y_off[b, :, part] += 2.0**-11 * size + 2.0**-25 * tokens * v[b].abs().max()
    return Expected(y, y_off + 1e-7, torch.float32), Expected(lse, lse_off, torch.float32)


def least_int8_bytes(q, k_q, k_scale, v_q, v_scale, lengths) -> int:
    heads, D = k_q.shape[1], k_q.shape[3]
    return 2 * q.numel() + 2 * heads * (D + 4) * int(lengths.sum()) + 4 * q.numel()


_SCORES_INT8 = "q_scale[:, None] * (k_scale * sm_scale)[None, :]"
_SCALED_P = "p = p * (v_scale / most)[None, :]"
_SCALED_P_LINE = f"        {_SCALED_P}\n"
_SUM = "        total = total * shrink + tl.sum(p, axis=1)\n"

INT8 = Exercise(
    name="decode_attention_int8_kernel",
    lesson=LESSON,
    wrapper="attention_parts_int8",
    outputs=("part", "lse"),
    points=5,
    least_bytes=least_int8_bytes,
    oracle=exact_parts,
    cases=(
        Case("4 heads for 2, D=24, lengths 150 and 33", in_codes(cached(2, 4, 2, 24, 150, lengths=[150, 33]))),
        Case("one token, D=16", in_codes(cached(1, 2, 2, 16, 1))),
        Case("a cache with room for more, D=20, length 135", in_codes(cached(1, 2, 1, 20, 135, longer=130))),
    ),
    mutants=(
        Mutant("keys without their scales", {_SCORES_INT8: "q_scale[:, None] * sm_scale"},
               "Each token's codes of k have a scale: it multiplies the token's score, one number in place of D."),
        Mutant("values without their scales", {_SCALED_P: "p = p / most"},
               "Each token's codes of v have a scale: it multiplies the token's weight p before the product."),
        Mutant("the scale of values in the sum",
               {_SUM: "", _SCALED_P_LINE: _SCALED_P_LINE + _SUM},
               "The weights of the softmax are summed without v's scales: first total, then p · v_scale."),
        Mutant("top is not kept", {"        top = new_top\n    there": "    there"}, KEPT),
        Mutant("parts that go to the end", {"last = tl.minimum(first + tokens, tl.load(length_ptr + b))":
               "last = tl.load(length_ptr + b)"},
               "A part ends after `tokens` tokens: the next ones are another program's."),
        Mutant("parts that begin at 0", {"first = tl.program_id(2) * tokens": "first = 0"},
               "Part s begins at token s · tokens."),
        Mutant("every part is read from token 0 on", {"range(first, last, BLOCK_T)": "range(0, last, BLOCK_T)"},
               "Part s begins at token s · tokens: the loop starts at `first`."),
        Mutant("the largest scale of values does not come back", {"v.to(tl.float16)) * most": "v.to(tl.float16))"},
               "The scales were divided by `most`, so that FP16 holds them: multiply the sums by it again."),
        Mutant("not divided by the sum", {"acc / tl.where(there, total, 1.0)[:, None]": "acc"},
               "The weights p add up to total, and those of a softmax to 1: y = acc / total."),
        Mutant("the top is forgotten", {"top + tl.log(tl.where(there, total, 1.0))": "tl.log(tl.where(there, total, 1.0))"},
               "total is the sum of exp(score - top): top must come back, top + log(total)."),
        Mutant("y is not rescaled", {"acc = acc * shrink[:, None] + ": "acc = acc + "}, RESCALE),
        Mutant("the sum is not rescaled", {"total = total * shrink + ": "total = total + "}, RESCALE),
        Mutant("tokens past the length", {"scores = tl.where(mask_t[None, :], scores, float(\"-inf\"))":
               "scores = scores + 0.0"},
               "A masked score is 0, not none: -inf, so that exp gives 0."),
        Mutant("scores are not scaled", {"(k_scale * sm_scale)": "k_scale"}, "Scores are q · k times sm_scale, 1 / √D."),
    ),
)


def parts(B: int, heads: int, count: int, D: int, reach=None, about: float = 5.0):
    """Parts and the logarithms of their sums, near `about`; of row r only the first reach[r] were there."""
    def inputs(g: torch.Generator) -> dict:
        part = torch.randn(B, heads, count, D, generator=g)
        lse = torch.randn(B, heads, count, generator=g) * 2 + about
        for row, n in enumerate(reach or []):
            part.view(-1, count, D)[row, n:], lse.view(-1, count)[row, n:] = 0, -math.inf
        return {"part": part, "lse": lse}
    return inputs


def exact_merge(part, lse) -> tuple[Expected]:
    """In float64. exp errs by 4 U and by U of its argument, sums of n by n U; one rounding to FP16."""
    w = lse.double().softmax(dim=-1)[..., None]
    y, size = (w * part.double()).sum(2), (w * part.double().abs()).sum(2)
    finite = lse.double()[lse.isfinite()].abs().max()
    return (Expected(y, (4 * lse.shape[-1] + 4 * finite + 16) * U * size + 2.0**-11 * y.abs() + 2.0**-24, torch.float16),)


MERGE = Exercise(
    name="merge_parts_kernel",
    lesson=LESSON,
    wrapper="merge_parts",
    outputs=("y",),
    points=3,
    least_bytes=lambda part, lse: 4 * (part.numel() + lse.numel()) + 2 * part.shape[0] * part.shape[1] * part.shape[3],
    oracle=exact_merge,
    cases=(
        Case("B=2 heads=2, 5 parts, D=24", parts(2, 2, 5, 24)),
        Case("parts that were not reached", parts(1, 3, 4, 16, reach=[4, 1, 2])),
        Case("one part", parts(1, 2, 1, 16)),
        Case("logarithms near 200, 3 parts", parts(1, 2, 3, 20, about=200.0)),
    ),
    mutants=(
        Mutant("the mean of the parts", {"w = tl.exp(lse - tl.max(lse, axis=0))": "w = tl.where(mask_s, 1.0, 0.0)"},
               "A part counts as much as its share of Σ exp(score): weigh it by exp(lse)."),
        Mutant("exp without the largest", {"tl.exp(lse - tl.max(lse, axis=0))": "tl.exp(lse)"},
               "exp of 100 is Inf in FP32: subtract the largest lse of the row first."),
        Mutant("weights that do not add up to 1", {" / tl.sum(w, axis=0)": ""}, "Divide by the sum of the weights."),
        Mutant("divided by the number of parts", {"/ tl.sum(w, axis=0)": "/ parts"},
               "The weights add up to tl.sum(w, axis=0), which the number of parts is only where all lse are alike."),
        Mutant("lse itself is the weight", {"w = tl.exp(lse - tl.max(lse, axis=0))":
               "w = tl.where(lse > float(\"-inf\"), lse, 0.0)"},
               "lse is a logarithm: exp(lse) is the part's sum."),
        Mutant("lse itself is the weight, also past the parts", {"w = tl.exp(lse - tl.max(lse, axis=0))": "w = lse"},
               "lse is a logarithm: the weight is its exponential, which makes a weight of 0 of -inf."),
        Mutant("lanes past the parts count", {"mask=mask_s, other=float(\"-inf\")": "mask=mask_s, other=0.0"},
               "A lane without a part must weigh nothing: exp(-inf) is 0, exp(0) is 1."),
        Mutant("rows of one part", {"(row * parts + offs_s)[:, None] * D": "(row + offs_s)[:, None] * D"},
               "Row r has `parts` parts: they begin at r · parts."),
        Mutant("2 to the power", {"tl.exp(lse": "tl.exp2(lse"}, "lse is a natural logarithm: tl.exp."),
        Mutant("the mask is missing when parts are loaded",
               {"mask=mask_s[:, None] & (offs_d < D)[None, :], other=0.0)": "mask=(offs_d < D)[None, :], other=0.0)"},
               "Only `parts` parts are there: mask the others off."),
    ),
)

EXERCISES = [QUANTIZE, ATTENTION, INT8, MERGE]
