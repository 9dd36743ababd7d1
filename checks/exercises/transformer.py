"""Lesson 10: a transformer in INT8: its layers, and what they cost in accuracy."""

import math

import torch

from checks.exercises.quantize import exact_codes
from checks.judge.exercise import Case, Exercise, Expected, Mutant

LESSON = "10_transformer"


def guesses(B: int, T: int, V: int, size: float = 2.0, dtype: torch.dtype = torch.float16):
    """Logits that lean to the right tokens, more in some rows than in others; no token stands twice in a row."""
    def inputs(g: torch.Generator) -> dict:
        tokens = torch.randint(1, V, (B, T), generator=g).cumsum(dim=1) % V
        logits = torch.randn(B, T, V, generator=g)
        right = torch.nn.functional.one_hot(tokens[:, 1:], V) * torch.linspace(0.5, 2, B)[:, None, None]
        logits[:, :-1] += right
        return {"logits": (size * logits).to(dtype), "tokens": tokens}
    return inputs


def surprised(B: int, T: int, V: int):
    """Sure guesses, and a token that came though the model gave it e⁻¹²⁰: less than FP32 can hold."""
    def inputs(g: torch.Generator) -> dict:
        made = guesses(B, T, V, size=15.0)(g)  # wrong ones may cost e⁸⁸, which FP32 still holds
        made["logits"][0, 0] = 0
        made["logits"][0, 0, made["tokens"][0, 1]] = -120
        return made
    return inputs


def uniform(B: int, T: int, V: int):
    """All logits alike: the model knows nothing, so its perplexity is V."""
    return lambda g: {"logits": torch.full((B, T, V), 3.0).half(), "tokens": torch.randint(V, (B, T), generator=g)}


def exact_perplexity(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[Expected]:
    """In float64. FP32 numbers up to 2¹⁰ in size are right to 2⁻¹⁴, so no log-probability errs by more than a few times
    that, and their mean by 10⁻⁴ at most."""
    log_p = torch.log_softmax(logits.double(), dim=-1)[:, :-1].gather(-1, tokens[:, 1:, None])
    value = math.exp(-log_p.mean())
    return (Expected(value, 1e-4 * value),)


PERPLEXITY = Exercise(
    name="perplexity",
    lesson=LESSON,
    points=2,
    oracle=exact_perplexity,
    cases=(
        Case("two rows of nine tokens, V=17", guesses(2, 9, 17)),
        Case("a model that knows nothing, V=256", uniform(2, 5, 256)),
        Case("very sure guesses, V=11", surprised(3, 6, 11)),
        Case("one row of two tokens, V=5", guesses(1, 2, 5, dtype=torch.float32)),
    ),
    mutants=(
        Mutant("each guess is compared with the token it has just read",
               {"logits[:, :-1]": "logits", "tokens[:, 1:, None]": "tokens[:, :, None]"},
               "logits[b, t] is about token t + 1: drop the last logits and the first token."),
        Mutant("computed in FP16",
               {"logits[:, :-1].float()": "logits[:, :-1]",
                "math.exp(-log_p.mean())": "torch.exp(-log_p.mean()).item()"},
               "Turn the logits into FP32 first, `.float()`: FP16 keeps three digits of each logarithm and of their mean."),
        Mutant("shifted the wrong way",
               {"logits[:, :-1]": "logits[:, 1:]", "tokens[:, 1:, None]": "tokens[:, :-1, None]"},
               "logits[b, t] is about token t + 1, not t - 1: it is logits[:, :-1] and tokens[:, 1:]."),
        Mutant("the loss, without exp", {"math.exp(-log_p.mean())": "-log_p.mean().item()"},
               "That is the mean loss in nats; perplexity is exp of it."),
        Mutant("a base of 2", {"math.exp(-log_p.mean())": "2 ** -log_p.mean().item()"},
               "log_softmax gives natural logarithms, so the base of the power is e: math.exp."),
        Mutant("exp before the mean", {"math.exp(-log_p.mean())": "torch.exp(-log_p).mean().item()"},
               "Take the mean of the logarithms first, then one exp: a single bad guess must not outweigh all others."),
        Mutant("the mean probability", {"math.exp(-log_p.mean())": "1 / torch.exp(log_p).mean().item()"},
               "Average log p, not p itself: the probabilities of a text's tokens multiply, so their logarithms add."),
        Mutant("the sum instead of the mean", {"log_p.mean()": "log_p.sum().clamp(min=-300)"},
               "Divide by the number of guesses: it is the mean of -log p."),
        Mutant("exp of the wrong sign", {"math.exp(-log_p.mean())": "math.exp(log_p.mean())"},
               "Log-probabilities are negative, and perplexity is at least 1: exp of minus their mean."),
        Mutant("the mean of the rows' perplexities",
               {"math.exp(-log_p.mean())": "torch.exp(-log_p.mean(dim=(1, 2))).mean().item()"},
               "One mean over all guesses of all rows, then one exp."),
        Mutant("softmax along the wrong dimension", {"dim=-1)  # (B, T - 1, V)": "dim=1)  # (B, T - 1, V)"},
               "Each position guesses among the V tokens: softmax runs over the last dimension."),
        Mutant("divided by all T tokens", {"log_p.mean()": "log_p.sum() / tokens.numel()"},
               "T tokens hold T - 1 guesses: nothing guessed the first."),
        Mutant("a softmax that underflows",
               {"torch.log_softmax(logits[:, :-1].float(), dim=-1)":
                 "torch.softmax(logits[:, :-1].float(), dim=-1).log()"},
               "An unlikely token's probability becomes 0 in FP32, and its logarithm -inf: torch.log_softmax never leaves "
               "logarithms."),
        Mutant("the logits taken for log-probabilities",
               {"torch.log_softmax(logits[:, :-1].float(), dim=-1)": "logits[:, :-1].float()"},
               "Logits are no log-probabilities yet: torch.log_softmax makes them."),
        Mutant("the most likely token's probability", {"log_p.gather(-1, tokens[:, 1:, None])": "log_p.amax(-1)"},
               "What counts is the probability of the token that came, not of the likeliest: gather it with `tokens`."),
        Mutant("logits in FP16", {"logits[:, :-1].float()": "logits[:, :-1]"},
               "Turn the logits into FP32 first, `.float()`: FP16 keeps three digits of each logarithm."),
        Mutant("a softmax without its logarithm", {"torch.log_softmax": "torch.softmax"},
               "The mean is that of log p: torch.log_softmax."),
    ),
)


def layer(*lead: int, N: int, K: int, size: float = 1.0, bias: bool = True):
    """A layer and its inputs. Rows of x and of the weight have sizes of their own."""
    def inputs(g: torch.Generator) -> dict:
        x = torch.randn(*lead, K, generator=g) * 2.0 ** torch.randint(-3, 4, (*lead, 1), generator=g) * size
        w_q = torch.randint(-127, 128, (N, K), generator=g).to(torch.int8)
        w_scale = (0.5 + torch.rand(N, generator=g)) * 2.0 ** torch.randint(-10, -5, (N,), generator=g)
        return {"x": x.half(), "w_q": w_q, "w_scale": w_scale,
                "bias": (4 * torch.randn(N, generator=g)).half() if bias else None}
    return inputs


def cancelling(M: int, N: int, K: int):
    """Large products that cancel but for a small rest: rows of codes, K even, half of which take the other half away."""
    def inputs(g: torch.Generator) -> dict:
        order = torch.randperm(K, generator=g)
        x = torch.randint(-127, 128, (M, K // 2), generator=g)
        x[:, 0] = 127
        w = torch.randint(-127, 128, (N, K // 2), generator=g)
        w_q = torch.cat([w, -w + (torch.rand(N, K // 2, generator=g) < 2 / K)], dim=1).clamp(-127, 127)
        w_scale = (0.5 + torch.rand(N, generator=g)) / 128
        step = (0.5 + torch.rand(M, 1, generator=g)) / 32
        return {"x": (torch.cat([x, x], dim=1)[:, order] * step).half(), "w_q": w_q[:, order].to(torch.int8),
                "w_scale": w_scale, "bias": None}
    return inputs


def exact_int8_linear(x, w_q, w_scale, bias=None) -> tuple[Expected]:
    """In float64, from the codes by the definition.

    Where a quotient is so near to a tie that x's code is free (see `exact_codes`), y may move by that step, and what
    follows rounds the moved one. The scale of x errs by 2⁻²² of itself at most, the sum's conversion and the two products
    by 2⁻²⁴ each, together less than 2⁻²¹; adding the bias errs by 2⁻²⁴ of the sum, and rounding to FP16 by 2⁻¹¹.
    """
    codes, scale = exact_codes(x.reshape(-1, x.shape[-1]))
    assert isinstance(codes.value, torch.Tensor) and isinstance(codes.tolerance, torch.Tensor)
    assert isinstance(scale.value, torch.Tensor)
    scales = scale.value[:, None] * w_scale.double()
    product = codes.value @ w_q.double().T * scales
    free = codes.tolerance.double() @ w_q.double().abs().T * scales
    value = product + (0 if bias is None else bias.double())
    rounded = 2.0**-21 * (product.abs() + free) + (2.0**-24 + 2.0**-11) * (value.abs() + free).clamp(min=2.0**-14)
    tolerance = free + rounded
    shape = (*x.shape[:-1], len(w_q))
    return (Expected(value.reshape(shape), tolerance.reshape(shape), torch.float16),)


_EXACT = "The sum of up to K products of codes needs more bits: turn both into float64 first, `.double()`."

INT8_LINEAR = Exercise(
    name="int8_linear_torch",
    lesson=LESSON,
    outputs=("y",),
    points=3,
    oracle=exact_int8_linear,
    cases=(
        Case("a batch of 2 x 5 tokens, N=12 K=48", layer(2, 5, N=12, K=48)),
        Case("without bias, 7 tokens, N=9 K=300", layer(7, N=9, K=300, size=0.1, bias=False)),
        Case("one token, N=5 K=16", layer(1, N=5, K=16)),
        Case("no leading dimension, N=6 K=33", layer(N=6, K=33)),
        Case("sums that almost cancel, 3 tokens, N=8 K=512", cancelling(3, 8, 512)),
        Case("large numbers, 4 tokens, N=8 K=128", layer(4, N=8, K=128, size=30.0)),
    ),
    mutants=(
        Mutant("the product in int8", {"x_q.double() @ w_q.double().T": "(x_q @ w_q.T)"},
               f"In torch a product of int8 tensors stays int8, and wraps around at 127. {_EXACT}"),
        Mutant("the product in FP16", {"x_q.double() @ w_q.double().T": "x_q.half() @ w_q.half().T"},
               f"FP16 ends at 65,504 and has 11 bits. {_EXACT}"),
        Mutant("scaled before the product",
               {"acc = x_q.double() @ w_q.double().T": "acc = (x_q.float() * x_scale[:, None]) @ (w_q.float() * "
                 "w_scale[:, None]).T", "acc.float() * x_scale[:, None] * w_scale": "acc"},
               "Multiply the codes, and scale their sums: only whole numbers add up without rounding, whatever the order."),
        Mutant("x keeps its leading dimensions", {"x.reshape(-1, x.shape[-1])": "x"},
               "Quantization takes rows, (tokens, K): `x.reshape(-1, x.shape[-1])` first, and the leading dimensions back "
               "at the end."),
        Mutant("the weight scale is forgotten", {" * w_scale\n": "\n"},
               "y needs both scales: that of x's row and that of the weight's row."),
        Mutant("the scale of x is forgotten", {"acc.float() * x_scale[:, None] * w_scale": "acc.float() * w_scale"},
               "y needs both scales: that of x's row and that of the weight's row."),
        Mutant("the bias is forgotten", {"y = y + bias.float()": "y = y + 0 * bias.float()"},
               "A layer with a bias adds it at the end."),
        Mutant("the bias is scaled too",
               {"y = acc.float() * x_scale[:, None] * w_scale": "y = acc.float()",
                "y = y + bias.float()": "y = y + bias.float()\n    y = y * x_scale[:, None] * w_scale",
                "    if bias is not None:": "    if bias is None:\n        y = y * x_scale[:, None] * w_scale\n    else:"},
               "The bias is no code: scale the sum first, then add the bias."),
        Mutant("x is not quantized",
               {"x_q, x_scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))":
                 "x_q, x_scale = x.reshape(-1, x.shape[-1]), torch.ones(x.numel() // x.shape[-1])"},
               "This is W8A16: quantize the rows of x too, so that the product is one of codes."),
        Mutant("one scale for all rows of x",
               {"x_q, x_scale = quantize_int8_perrow_torch(x.reshape(-1, x.shape[-1]))":
                 "x_q, x_scale = quantize_int8_perrow_torch(x.reshape(1, -1))\n"
                 "    x_q, x_scale = x_q.reshape(-1, x.shape[-1]), x_scale.expand(x.numel() // x.shape[-1])"},
               "Each row of x, each token, has a scale of its own: reshape to (tokens, K) before you quantize."),
        Mutant("the leading dimensions are lost", {".reshape(*x.shape[:-1], w_q.shape[0])": ""},
               "y has x's leading dimensions: reshape the rows back to (*x.shape[:-1], N)."),
        Mutant("y in FP32", {"y.to(x.dtype).reshape": "y.reshape"}, "y comes in the dtype of x: `.to(x.dtype)`."),
        Mutant("scaled in FP16",
               {"acc.float() * x_scale[:, None] * w_scale": "(acc.float() * x_scale[:, None]).half().float() * w_scale"},
               "Round once, at the very end: the sum times one scale alone may not even fit into FP16."),
        Mutant("the bias is added after rounding",
               {"    if bias is not None:": "    y = y.half()\n    if bias is not None:", "bias.float()": "bias"},
               "Round once, at the very end: add the bias in FP32, then turn the sum into FP16."),
        Mutant("x's scale along the columns", {"x_scale[:, None]": "x_scale"},
               "x_scale belongs to the rows of y: make it a column, x_scale[:, None]."),
        Mutant("w's scale along the rows", {"* w_scale\n": "* w_scale[:, None]\n"},
               "w_scale belongs to the columns of y: a row, as it is or w_scale[None, :]."),
        Mutant("x's scale twice",
               {"acc.float() * x_scale[:, None] * w_scale":
                 "acc.float() * x_scale[:, None] * w_scale * x_scale[:, None]"},
               "Each scale multiplies once."),
        Mutant("w's scale twice",
               {"acc.float() * x_scale[:, None] * w_scale": "acc.float() * x_scale[:, None] * w_scale * w_scale"},
               "Each scale multiplies once."),
        Mutant("the bias is subtracted", {"y = y + bias.float()": "y = y - bias.float()"}, "The bias is added."),
        Mutant("w is not transposed", {"w_q.double().T": "w_q.double()"}, "w is (N, K): the product is x_q @ w_q.T."),
        Mutant("the bias is added before the scales",
               {"acc.float() * x_scale[:, None] * w_scale\n    if bias is not None:\n        y = y + bias.float()":
                 "(acc.float() + (0 if bias is None else bias.float())) * x_scale[:, None] * w_scale"},
               "The bias is a number, not a sum of codes: add it after the scales."),
    ),
)


def costs(*pairs: tuple[float, int], budget: float, what: str) -> Case:
    """Layers of (cost, weights)."""
    cost, weights = zip(*pairs, strict=True)
    return Case(what, lambda _: {"cost": torch.tensor(cost, dtype=torch.float64), "weights": torch.tensor(weights),
                                 "budget": budget})


def many_layers(L: int, budget: float) -> Case:
    """Sizes as in a Llama, costs of both signs."""
    def inputs(g: torch.Generator) -> dict:
        weights = torch.tensor([16, 4, 4, 16, 56, 56, 56])[torch.randint(7, (L,), generator=g)] * 1024
        return {"cost": torch.randn(L, generator=g, dtype=torch.float64) + 0.3, "weights": weights, "budget": budget}
    return Case(f"{L} layers, budget {budget:g}", inputs)


def exact_skip(cost, weights, budget) -> tuple[Expected]:
    skip, taken, total = [False] * len(cost), 0, int(weights.sum())
    for i in sorted(range(len(cost)), key=lambda i: -float(cost[i]) / int(weights[i])):
        if cost[i] > 0 and taken + int(weights[i]) <= budget * total:
            skip[i], taken = True, taken + int(weights[i])
    return (Expected(torch.tensor(skip).long(), 0, torch.bool),)


LAYERS_TO_SKIP = Exercise(
    name="layers_to_skip",
    lesson=LESSON,
    outputs=("skip",),
    points=2,
    oracle=exact_skip,
    cases=(
        many_layers(28, 0.25),
        costs((0.9, 40), (0.5, 10), (0.4, 30), (0.3, 10), (0.05, 10), budget=0.5, what="the cheapest per weight first"),
        costs((5.0, 50), (3.0, 40), (0.5, 10), budget=0.2, what="the costliest two do not fit"),
        costs((1.0, 30), (0.8, 50), (0.5, 10), budget=0.56, what="a large layer costs most in all"),
        costs((1.0, 25), (0.5, 75), budget=0.25, what="exactly the budget"),
        costs((-0.1, 10), (0.0, 10), (0.2, 10), budget=1.0, what="layers that cost nothing"),
        costs((0.2, 10), (0.1, 10), budget=0.0, what="no budget"),
    ),
    mutants=(
        Mutant("by cost alone", {"(cost / weights).argsort": "cost.argsort"},
               "A large layer uses up the budget of many small ones: order by cost per weight."),
        Mutant("the least costly first", {"descending=True": "descending=False"},
               "Spend the budget where it helps most: the largest cost per weight first."),
        Mutant("the smallest layers first", {"(cost / weights).argsort(descending=True)": "weights.argsort()"},
               "Order by what a layer costs for each of its weights, not by its size alone."),
        Mutant("it stops at the first layer that does not fit",
               {"        skip[layer] =": "        if not fits:\n            break\n        skip[layer] ="},
               "A smaller layer further down may still fit: go on to the next one."),
        Mutant("the budget is a share of the layers",
               {"weights[skip].sum() + weights[layer] <= budget * weights.sum()":
                 "skip.sum() + 1 <= budget * len(weights)"},
               "Layers differ in size: count their weights."),
        Mutant("each layer is compared with the whole budget", {"weights[skip].sum() + weights[layer]": "weights[layer]"},
               "The layers share one budget: count the weights of those already taken as well."),
        Mutant("the answer in the order of the costs",
               {"return skip": "return skip[(cost / weights).argsort(descending=True)]"},
               "Element i of the result is for layer i as given: set skip[layer], not skip of its place in the order."),
        Mutant("the layer's own weights are not counted", {"weights[skip].sum() + weights[layer]": "weights[skip].sum()"},
               "With this layer the budget may be passed: add its own weights before you compare."),
        Mutant("less than the budget", {"<= budget": "< budget"}, "Exactly the budget is allowed: `<=`."),
        Mutant("layers that cost nothing are left out too", {"fits & (cost[layer] > 0)": "fits"},
               "A layer that costs nothing, or even gains, is better quantized: take it only if its cost is above 0."),
        Mutant("the layers to quantize are returned", {"return skip": "return ~skip"},
               "True is for the layers that are left out."),
        Mutant("the numbers of the layers are returned", {"return skip": "return skip.nonzero()[:, 0]"},
               "One bool for each layer, in the layers' order."),
        Mutant("no budget at all", {"fits & (cost[layer] > 0)": "cost[layer] > 0"},
               "The weights left out are at most `budget` of all weights."),
        Mutant("the budget taken for a number of weights", {"budget * weights.sum()": "budget"},
               "`budget` is a part of all weights: compare with budget * weights.sum()."),
        Mutant("layers that cost exactly nothing are left out too", {"cost[layer] > 0": "cost[layer] >= 0"},
               "A layer that costs nothing is better quantized: take it only if its cost is above 0."),
        Mutant("by cost times weights", {"(cost / weights)": "(cost * weights)"},
               "Order by what a layer costs for each of its weights: cost / weights."),
    ),
)

def points(n: int):
    """Points of which some dominate others; some share a time or a loss, and some are the same."""
    def inputs(g: torch.Generator) -> dict:
        us, loss = torch.randint(1, n, (2, n), generator=g).double()
        return {"us": us, "loss": loss}
    return inputs


def exact_front(us, loss) -> tuple[Expected]:
    pairs = list(zip(us.tolist(), loss.tolist(), strict=True))
    front = [not any(a <= us and b <= loss and (a, b) != (us, loss) for a, b in pairs) for us, loss in pairs]
    return (Expected(torch.tensor(front).long(), 0, torch.bool),)


def these_points(what: str, *pairs: tuple[float, float]) -> Case:
    us, loss = torch.tensor(pairs, dtype=torch.float64).T.contiguous()
    return Case(what, lambda _: {"us": us.clone(), "loss": loss.clone()})


PARETO = Exercise(
    name="pareto_front",
    lesson=LESSON,
    outputs=("front",),
    points=2,
    oracle=exact_front,
    cases=(
        Case("12 points", points(12)),
        these_points("a staircase and one point behind it", (1, 9), (2, 5), (4, 4), (7, 1), (5, 6)),
        these_points("two points with the same time", (2, 5), (2, 3), (1, 7)),
        these_points("two points with the same loss", (3, 2), (4, 2), (9, 1)),
        these_points("the same point twice", (2, 2), (2, 2), (3, 1), (4, 4)),
        these_points("one point", (1, 1)),
    ),
    mutants=(
        Mutant("ties do not count", {"us[None, :] <= us[:, None]": "us[None, :] < us[:, None]",
                                     "loss[None, :] <= loss[:, None]": "loss[None, :] < loss[:, None]"},
               "A point with the same time and a smaller loss dominates too: at most as large in both, smaller in one."),
        Mutant("every point dominates itself", {"(no_worse & better)": "no_worse"},
               "A point is no worse than itself: to dominate, it must also be smaller in one of the two."),
        Mutant("better in one is enough", {"(no_worse & better)": "better"},
               "A faster point with a larger loss dominates nothing: it must be no worse in both."),
        Mutant("the points that dominate", {".any(dim=1)": ".any(dim=0)"},
               "Row i must ask whether any column dominates point i: this asks whether point i dominates any."),
        Mutant("the dominated points", {"return ~(": "return ("}, "True is for the points that nothing dominates."),
        Mutant("a larger loss is better", {"loss[None, :] <= loss[:, None]": "loss[None, :] >= loss[:, None]",
                                           "loss[None, :] < loss[:, None]": "loss[None, :] > loss[:, None]"},
               "A loss is better when it is smaller, like a time."),
        Mutant("the fastest and the best alone",
               {"return ~(no_worse & better).any(dim=1)": "return (us == us.min()) | (loss == loss.min())"},
               "What lies between the fastest and the most accurate is what a frontier is for."),
        Mutant("the numbers of the points are returned",
               {"return ~(no_worse & better).any(dim=1)": "return (~(no_worse & better).any(dim=1)).nonzero()[:, 0]"},
               "One bool for each point, in the points' order."),
        Mutant("the points in the order of their time",
               {"return ~(no_worse & better).any(dim=1)": "return (~(no_worse & better).any(dim=1))[us.argsort()]"},
               "One bool for each point, in the points' order."),
        Mutant("two equal points dominate each other",
               {"no_worse & better": "no_worse & ~torch.eye(len(us), dtype=torch.bool)"},
               "To dominate, a point must be smaller in at least one of the two."),
        Mutant("only earlier points are asked", {"(no_worse & better)": "(no_worse & better).tril()"},
               "The points stand in any order: a later one dominates as well."),
        Mutant("points taken to be sorted by time",
               {"(us[None, :] <= us[:, None]) & (loss[None, :] <= loss[:, None])":
                 "(loss[None, :] <= loss[:, None]).tril(-1)",
                "(no_worse & better)": "no_worse"},
               "The points stand in any order: sort them by time first, or compare each with all others."),
    ),
)

EXERCISES = (PERPLEXITY, INT8_LINEAR, LAYERS_TO_SKIP, PARETO)
