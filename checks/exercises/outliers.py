"""Lesson 06, second half: what to do about outliers, and which layers to keep."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant

THRESHOLD = 6.0


def with_outliers(M: int, N: int, K: int, outliers: tuple[int, ...], w_size: float = 1.0):
    """Rows whose ordinary channels have a power of two as their scale, 2⁻⁵ at most for x, and no number near a tie: quarters
    away from a code. Outlier channels hold 16 to 32 in some rows, of both signs; w is `w_size` times as large there."""
    def inputs(g: torch.Generator) -> dict:
        ordinary = [k for k in range(K) if k not in outliers]
        made = {}
        for name, rows, step in (("x", M, 2.0**-5), ("w", N, 2.0**-6)):
            codes = torch.randint(-126, 127, (rows, K), generator=g) + (torch.randint(-1, 2, (rows, K), generator=g) / 4)
            codes[:, ordinary[len(ordinary) // 2]] = 127
            made[name] = codes * step / 2.0 ** (torch.arange(rows) % 3)[:, None]
        for number, k in enumerate(outliers):
            size = torch.randint(16, 32, (M,), generator=g) + 0.5
            made["x"][:, k] = torch.where(torch.arange(M) % 3 == number % 3, -size if number % 2 else size, made["x"][:, k])
            made["w"][:, k] *= w_size
        return {"x": made["x"].half(), "w": made["w"].half(), "threshold": THRESHOLD}
    return inputs


def large_weights(M: int, N: int, K: int):
    """As above, and an ordinary channel whose weights lie above the threshold, and are the largest of their rows: they are
    127 of their scales, again powers of two, and the others at most 15."""
    def inputs(g: torch.Generator) -> dict:
        codes = torch.randint(-15, 16, (N, K), generator=g) + torch.randint(-1, 2, (N, K), generator=g) / 4
        codes[:, 8] = 127 * (2 * torch.randint(0, 2, (N,), generator=g) - 1)
        w = codes * 2.0**-3 / 2.0 ** (torch.arange(N) % 3)[:, None]
        return with_outliers(M, N, K, (3,))(g) | {"w": w.half()}
    return inputs


def at_threshold(M: int, N: int, K: int):
    """Ordinary rows, and a threshold that is the largest magnitude of all: no channel lies above it."""
    def inputs(g: torch.Generator) -> dict:
        made = with_outliers(M, N, K, ())(g)
        return made | {"threshold": made["x"].abs().max().item()}
    return inputs


def exact_decomposed(x: torch.Tensor, w: torch.Tensor, threshold: float) -> tuple[Expected]:
    """Both parts in float64. FP32 sums of K products err by at most K · 2⁻²⁴ of the sum of their magnitudes, and rounding
    the factors by three more 2⁻²⁴ each."""
    x, w = x.double(), w.double()
    kept = (x.abs() > threshold).any(dim=0)
    parts = []
    for name in (x, w):
        rest = name[:, ~kept]
        scale = rest.abs().amax(dim=1, keepdim=True) / 127
        parts.append((rest / scale).round() * scale)
    size = x.abs() @ w.abs().T
    return (Expected(x[:, kept] @ w[:, kept].T + parts[0] @ parts[1].T, (x.shape[1] + 8) * 2.0**-24 * size, torch.float32),)


_X_IN_INT8 = "fake_quantize_int8(x, 1, x.shape[1])"
_ZEROED = "x, w = torch.where(outlier, 0, x), torch.where(outlier, 0, w)"

DECOMPOSED = Exercise(
    name="matmul_decomposed",
    lesson="06_error",
    points=3,
    oracle=exact_decomposed,
    cases=(
        Case("two outlier channels, M=6 N=5 K=64", with_outliers(6, 5, 64, (3, 40))),
        Case("none, M=4 N=3 K=32", with_outliers(4, 3, 32, ())),
        Case("large weights there too, M=5 N=7 K=48", with_outliers(5, 7, 48, (0, 9, 47), w_size=4.0)),
        Case("large weights in an ordinary channel, M=4 N=5 K=32", large_weights(4, 5, 32)),
        Case("channels that just reach the threshold, M=4 N=3 K=32", at_threshold(4, 3, 32)),
    ),
    mutants=(
        Mutant("the outlier channels are counted twice", {_ZEROED: "pass"},
               "What the exact part holds must leave the INT8 part: put zeros there before you quantize."),
        Mutant("the exact part holds every channel", {"x[:, outlier] @ w[:, outlier].T": "x @ w.T"},
               "Only channels of O belong there: x[:, outlier] and w[:, outlier]. The others come in INT8."),
        Mutant("large weights count as outliers",
               {"outlier = x.abs().amax(dim=0) > threshold":
                 "outlier = torch.maximum(x.abs(), w.abs().amax(dim=0)).amax(dim=0) > threshold"},
               "O is chosen by x alone: a channel of x with a magnitude above the threshold."),
        Mutant("the codes of w, without their scales",
               {"fake_quantize_int8(w, 1, w.shape[1])": "(fake_quantize_int8(w, 1, w.shape[1]) * 127 "
                                                        "/ w.abs().amax(dim=1, keepdim=True))"},
               "Codes are not numbers yet: multiply the codes of w by the scales of its rows."),
        Mutant("the codes of x, without their scales",
               {_X_IN_INT8: f"({_X_IN_INT8} * 127 / x.abs().amax(dim=1, keepdim=True))"},
               "Codes are not numbers yet: multiply the codes of x by the scales of its rows."),
        Mutant("the codes of both, without their scales",
               {_X_IN_INT8: f"({_X_IN_INT8} * 127 / x.abs().amax(dim=1, keepdim=True))",
                "fake_quantize_int8(w, 1, w.shape[1])": "(fake_quantize_int8(w, 1, w.shape[1]) * 127 "
                                                        "/ w.abs().amax(dim=1, keepdim=True))"},
               "Codes are not numbers yet: multiply those of x and of w by the scales of their rows."),
        Mutant("the outlier channels are lost", {"return exact + ": "return "},
               "The two parts belong together: add the exact one to the INT8 one."),
        Mutant("scales that still count the outliers",
               {_ZEROED: "pass",
                _X_IN_INT8: f"torch.where(outlier, 0, {_X_IN_INT8})"},
               "The scale of a row is found before the outliers left it, so nothing is gained: put the zeros in first."),
        Mutant("the weights of outlier channels still count for the scales of w",
               {_ZEROED: "x = torch.where(outlier, 0, x)"},
               "These columns of w are not multiplied in INT8 either, so they must not widen its scales: zeros in w too."),
        Mutant("only outliers above zero", {"x.abs().amax": "x.amax"}, "An outlier may be negative: look at |x|."),
        Mutant("outlier rows in place of channels",
               {"x.abs().amax(dim=0) > threshold  # (K,)": "x.abs().amax(dim=1) > threshold",
                "x[:, outlier] @ w[:, outlier].T": "torch.where(outlier[:, None], x, 0) @ w.T",
                _ZEROED: "x = torch.where(outlier[:, None], 0, x)"},
               "A channel is a column of x: its largest magnitude is amax(dim=0)."),
        Mutant("only channels that are large in every row", {"x.abs().amax(dim=0)": "x.abs().amin(dim=0)"},
               "One magnitude above the threshold makes a channel an outlier: amax."),
        Mutant("only the single outliers, not their channels",
               {"outlier = x.abs().amax(dim=0) > threshold  # (K,)": "outlier = x.abs() > threshold",
                "x[:, outlier] @ w[:, outlier].T": "torch.where(outlier, x, 0) @ w.T",
                _ZEROED: "x = torch.where(outlier, 0, x)"},
               "A channel leaves as a whole, in x and in w: so the two products stay dense matrices."),
        Mutant("one scale for all rows of x", {_X_IN_INT8: "fake_quantize_int8(x, *x.shape)"},
               "A scale for each row: blocks of 1 x K."),
        Mutant("only x in INT8", {"fake_quantize_int8(w, 1, w.shape[1])": "w"},
               "Both factors of the second part are in INT8: quantize the rows of w too."),
        Mutant("all of it exact", {f"{_X_IN_INT8} @ fake_quantize_int8(w, 1, w.shape[1]).T": "x @ w.T"},
               "The second part goes through INT8: fake_quantize_int8(x, 1, K), and w likewise."),
        Mutant("a channel that only reaches the threshold counts as an outlier",
               {"x.abs().amax(dim=0) > threshold": "x.abs().amax(dim=0) >= threshold"},
               "An outlier lies above the threshold: `>`, not `>=`."),
        Mutant("one scale for all of x, and one for all of w",
               {"fake_quantize_int8(x, 1, x.shape[1])": "fake_quantize_int8(x, *x.shape)",
                "fake_quantize_int8(w, 1, w.shape[1])": "fake_quantize_int8(w, *w.shape)"},
               "A scale for each row: blocks of 1 x K, in x and in w."),
        Mutant("one scale for all rows of w", {"fake_quantize_int8(w, 1, w.shape[1])": "fake_quantize_int8(w, *w.shape)"},
               "A scale for each row of w too: blocks of 1 x K."),
        Mutant("a scale for each column",
               {"fake_quantize_int8(x, 1, x.shape[1])": "fake_quantize_int8(x, x.shape[0], 1)",
                "fake_quantize_int8(w, 1, w.shape[1])": "fake_quantize_int8(w, w.shape[0], 1)"},
               "A scale for each row, not for each column: blocks of 1 x K."),
        Mutant("the part in INT8 is lost",
               {"return exact + fake_quantize_int8(x, 1, x.shape[1]) @ fake_quantize_int8(w, 1, w.shape[1]).T":
                 "return exact"},
               "The two parts belong together: add the exact one and the INT8 one."),
    ),
)


def factors(M: int, N: int, K: int, alpha: float, zeros: bool = False):
    """Channels of many sizes in x and in w; of `zeros`, one channel is zero in x, one in w, one in both."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(M, K, generator=g) * 2.0 ** torch.randint(-3, 7, (K,), generator=g)
        w = torch.randn(N, K, generator=g) * 2.0 ** torch.randint(-5, 3, (K,), generator=g)
        if zeros:
            x[:, 1] = x[:, 5] = w[:, 3] = w[:, 5] = 0
        return {"x": x.half(), "w": w.half(), "alpha": alpha}
    return inputs


def exact_smooth(x: torch.Tensor, w: torch.Tensor, alpha: float) -> tuple[Expected, Expected]:
    """Channel after channel in float64. A power in FP32 errs by a few 2⁻²⁴ of its logarithm, here below 2⁴: 1e-5 in all."""
    x, w = x.double(), w.double()
    for k in range(x.shape[1]):
        x_amax, w_amax = x[:, k].abs().max(), w[:, k].abs().max()
        if x_amax and w_amax:
            s = x_amax**alpha * w_amax ** (alpha - 1)
            x[:, k] /= s
            w[:, k] *= s
    return Expected(x, 1e-5 * x.abs(), torch.float32), Expected(w, 1e-5 * w.abs(), torch.float32)


_AMAXES = "x.abs().amax(dim=0), w.abs().amax(dim=0)"
_S = "x_amax**alpha / w_amax ** (1 - alpha)"
_ASKED = "(x_amax > 0) & (w_amax > 0)"
_ASK_AMAX = "s does not tell: with alpha = 0 it never looks at x, and 0 / 0 is NaN. Ask whether the two maxima are 0."

SMOOTH = Exercise(
    name="smoothquant",
    lesson="06_error",
    outputs=("x / s", "w · s"),
    points=3,
    oracle=exact_smooth,
    cases=(
        Case("alpha=0.5, M=20 N=30 K=16", factors(20, 30, 16, 0.5)),
        Case("alpha=0.75, M=20 N=10 K=33", factors(20, 10, 33, 0.75)),
        Case("alpha=0, M=9 N=8 K=7", factors(9, 8, 7, 0.0)),
        Case("alpha=1, M=8 N=9 K=7", factors(8, 9, 7, 1.0)),
        Case("channels of zeros, alpha=0.5, M=8 N=9 K=7", factors(8, 9, 7, 0.5, zeros=True)),
        Case("channels of zeros, alpha=0, M=8 N=9 K=7", factors(8, 9, 7, 0.0, zeros=True)),
    ),
    mutants=(
        Mutant("alpha and 1 - alpha swapped", {_S: "x_amax ** (1 - alpha) / w_amax**alpha"},
               "alpha = 1 moves all of the difficulty out of x: |x|^alpha / |w|^(1 - alpha)."),
        Mutant("x multiplied and w divided", {"return x / s, w * s": "return x * s, w / s"},
               "s is large where x is: x must be divided by it, and w multiplied."),
        Mutant("only x is changed", {"return x / s, w * s": "return x / s, w"},
               "What leaves x must arrive in w, or the product is another: return w * s."),
        Mutant("both are divided", {"return x / s, w * s": "return x / s, w / s"},
               "(x / s) · (w · s) = x · w. Dividing both changes the product."),
        Mutant("both powers multiplied", {_S: "x_amax**alpha * w_amax ** (1 - alpha)"},
               "Large weights are a reason to move less into them: divide by |w|^(1 - alpha)."),
        Mutant("the weights ignored", {_S: "x_amax**alpha"}, "s also depends on the weights: / |w|^(1 - alpha)."),
        Mutant("the largest of the whole tensors", {_AMAXES: "x.abs().amax(), w.abs().amax()"},
               "Each channel has an s of its own: amax(dim=0)."),
        Mutant("without magnitudes", {_AMAXES: "x.amax(dim=0), w.amax(dim=0)"},
               "The largest magnitude may belong to a negative number: .abs() before .amax."),
        Mutant("the mean magnitude", {_AMAXES: "x.abs().mean(dim=0), w.abs().mean(dim=0)"},
               "A row's scale is set by its largest magnitudes, so s is made of the largest: amax, not mean."),
        Mutant("channels of zeros divide by zero", {"s = torch.where((x_amax > 0) & (w_amax > 0), s, 1)": "pass"},
               "A channel of zeros in x or in w makes s zero or infinite: take s = 1 there."),
        Mutant("only zeros in x are looked for", {"(x_amax > 0) & (w_amax > 0)": "x_amax > 0"},
               "A channel of zeros in w divides by zero too: take s = 1 there as well."),
        Mutant("only zeros in w are looked for", {"(x_amax > 0) & (w_amax > 0)": "w_amax > 0"},
               "A channel of zeros in x makes s zero, and x / s is 0 / 0: take s = 1 there as well."),
        Mutant("s = 1 where s is 0 or Inf", {f"{_ASKED}, s, 1": "(s == 0) | s.isinf(), 1, s"}, _ASK_AMAX),
        Mutant("s = 1 where s is 0, Inf or NaN", {_ASKED: "(s > 0) & s.isfinite()"}, _ASK_AMAX),
        Mutant("all of it in FP16", {"x, w = x.float(), w.float()": "x, w = x.half(), w.half()",
                                     "return x / s, w * s": "return (x / s).float(), (w * s).float()"},
               "FP16 has 11 bits: rounding here adds an error of its own. Compute in FP32."),
        Mutant("a maximum for each row",
               {"x.abs().amax(dim=0), w.abs().amax(dim=0)": "x.abs().amax(dim=1), w.abs().amax(dim=1)"},
               "A channel is a column of x and of w: amax(dim=0)."),
        Mutant("alpha for the weights too", {"w_amax ** (1 - alpha)": "w_amax**alpha"},
               "The two exponents add up to 1: alpha for x, 1 - alpha for w."),
        Mutant("no exponent for the weights", {"w_amax ** (1 - alpha)": "w_amax"},
               "The weights' part has an exponent too: w_amax ** (1 - alpha)."),
        Mutant("no exponent for x", {"x_amax**alpha": "x_amax"}, "x's part has an exponent too: x_amax**alpha."),
    ),
)


def layers(sqnr: tuple[float, ...], weights: tuple[int, ...], budget: int):
    """The layers of a model in an order that is neither that of their SQNR nor of their size."""
    def inputs(_: torch.Generator) -> dict:
        order = torch.randperm(len(sqnr), generator=torch.Generator().manual_seed(0))
        return {"sqnr_db": torch.tensor(sqnr, dtype=torch.float64)[order], "weights": torch.tensor(weights)[order],
                "budget": budget}
    return inputs


def exact_choice(sqnr_db: torch.Tensor, weights: torch.Tensor, budget: int) -> tuple[Expected]:
    """The layers one by one, from the lowest SQNR up."""
    chosen, left = torch.zeros(len(weights), dtype=torch.int64), budget
    for _, size, place in sorted(zip(sqnr_db.tolist(), weights.tolist(), range(len(weights)), strict=True)):
        if size <= left:
            chosen[place], left = 1, left - size
    return (Expected(chosen, dtype=torch.bool),)


LAYERS = Exercise(
    name="layers_to_keep",
    lesson="06_error",
    points=2,
    oracle=exact_choice,
    cases=(
        Case("seven layers", layers((38.1, 36.5, 37.7, 35.2, 39.0, 38.8, 21.4), (10, 10, 10, 10, 30, 30, 25), 40)),
        Case("the worst does not fit", layers((12.0, 20.5, 31.0, 33.0, 35.5), (90, 20, 50, 40, 10), 60)),
        Case("it fits exactly", layers((30.0, 10.0, 20.0), (5, 7, 9), 16)),
        Case("ten small layers", layers(tuple(range(30, 40)), (3,) * 10, 8)),
        Case("no budget", layers((30.0, 10.0, 20.0), (5, 7, 9), 0)),
        Case("room for all", layers((30.0, 10.0, 20.0, -3.0), (5, 7, 9, 11), 100)),
    ),
    mutants=(
        Mutant("the best layers first", {"sqnr_db.argsort()": "sqnr_db.argsort(descending=True)"},
               "The layers that INT8 hurts most are kept, and a low SQNR means much noise: ascending order."),
        Mutant("it stops at the first layer that does not fit",
               {"        if weights[layer] <= budget:\n":
                 "        if weights[layer] > budget:\n            break\n        if True:\n"},
               "A smaller layer after it may still fit: go on with the next."),
        Mutant("the budget is not used up", {"            budget -= int(weights[layer])\n": ""},
               "Every layer kept uses some of the budget: subtract its weights."),
        Mutant("layers counted, not weights", {"budget -= int(weights[layer])": "budget -= 1"},
               "The budget counts weights, and each layer has its own number of them."),
        Mutant("an exact fit turned away", {"weights[layer] <= budget": "weights[layer] < budget"},
               "A layer may use all of what is left: <=."),
        Mutant("the smallest layers first", {"sqnr_db.argsort()": "weights.argsort()"},
               "The order is that of the SQNR; the weights only say whether a layer fits."),
        Mutant("the lowest SQNR for each weight first", {"sqnr_db.argsort()": "(sqnr_db / weights).argsort()"},
               "The order is that of the SQNR alone; the weights only say whether a layer fits."),
        Mutant("the layers in their given order", {"sqnr_db.argsort().tolist()": "range(len(sqnr_db))"},
               "Take the layers in ascending order of their SQNR: argsort()."),
        Mutant("the answer in the order of the SQNR", {"return keep": "return keep[sqnr_db.argsort()]"},
               "Element i of the result is for layer i as given: set keep[layer], not keep of its place in the order."),
        Mutant("in the order of the SQNR, up to the first that does not fit",
               {"return keep": "return weights[sqnr_db.argsort()].cumsum(0) <= given",
                "    keep = torch.zeros_like(sqnr_db, dtype=torch.bool)\n":
                 "    keep = torch.zeros_like(sqnr_db, dtype=torch.bool)\n    given = budget\n"},
               "Element i of the result is for layer i as given; and a smaller layer may fit after one that does not."),
        Mutant("the layers that are quantized", {"return keep": "return ~keep"},
               "True stands for a layer that stays in FP16."),
        Mutant("the numbers of the layers are returned", {"return keep": "return keep.nonzero().flatten()"},
               "One bool for each layer, in the layers' order."),
        Mutant("a layer is kept whatever it takes", {"if weights[layer] <= budget:": "if budget > 0:"},
               "A layer is kept where its weights fit into what is left: weights[layer] <= budget."),
    ),
)

EXERCISES = [DECOMPOSED, SMOOTH, LAYERS]
