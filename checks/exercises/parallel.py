"""Lesson 12: what each rank computes of a product that is cut over two."""

import functools

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant
from checks.simulated.ranks import SIZE, try_all_reduce, try_mlp, try_row_parallel, try_shared_scale

LESSON = "12_two_gpus"
BOTH = ("y on rank 0", "y on rank 1")


def weights(N: int, K: int, rank: int, size: int):
    def inputs(g: torch.Generator) -> dict:
        return {"w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8),
                "w_scale": torch.rand(N, generator=g) + 0.5, "rank": rank, "size": size}
    return Case(f"w ({N}, {K}), rank {rank} of {size}", inputs)


def exact_column_part(w_q, w_scale, rank, size) -> tuple[Expected, ...]:
    """Row by row: those whose number, divided by the rows of a rank, is the rank."""
    rows = [n for n in range(len(w_q)) if n // (len(w_q) // size) == rank]
    return (Expected(torch.stack([w_q[n] for n in rows]).long(), 0, torch.int8),
            Expected(torch.stack([w_scale[n] for n in rows]).double(), 0, torch.float32))


COLUMN_PART = Exercise(
    name="column_part",
    lesson=LESSON,
    outputs=("codes", "scales"),
    points=1,
    oracle=exact_column_part,
    cases=(weights(6, 4, 0, 2), weights(6, 4, 1, 2), weights(12, 8, 2, 4), weights(3, 3, 1, 3)),
    mutants=(
        Mutant("cut along K", {"return w_q[mine], w_scale[mine]":
                                "k = w_q.shape[1] // size\n    return w_q[:, rank * k:(rank + 1) * k], w_scale"},
               "Columns of y are rows of w: cut w (N, K) along N. A cut along K gives every rank a part of every sum."),
        Mutant("every size-th row", {"slice(rank * each, (rank + 1) * each)": "slice(rank, None, size)"},
               "The columns of a rank lie side by side: rows rank · N / size to (rank + 1) · N / size of w."),
        Mutant("the scales are not cut", {"w_q[mine], w_scale[mine]": "w_q[mine], w_scale"},
               "A scale belongs to a row of w: the rank needs those of its rows alone."),
        Mutant("the scales of the first rows", {"w_q[mine], w_scale[mine]": "w_q[mine], w_scale[:each]"},
               "Row n of w has scale n: cut both at the same places."),
        Mutant("the last part for rank 0", {"slice(rank * each, (rank + 1) * each)":
                                             "slice(len(w_q) - (rank + 1) * each, len(w_q) - rank * each)"},
               "Rank 0 has the first columns, rank size - 1 the last ones."),
        Mutant("every rank has the first part", {"slice(rank * each, (rank + 1) * each)": "slice(0, each)"},
               "Each rank has other rows: they begin at rank · N / size."),
    ),
)


def rows_of_codes(g: torch.Generator, M: int, K: int) -> torch.Tensor:
    """x (M, K) FP16 of which no number lies near a tie between two codes, with the scale of the row or of its half: the
    largest is 127 steps in one half and an odd number of quarters of a step in the other."""
    half = K // SIZE
    steps = torch.randint(-40, 41, (M, K), generator=g) + torch.randint(-1, 2, (M, K), generator=g) / 4
    steps[torch.arange(M), torch.randint(0, half, (M,), generator=g)] = 127
    steps[torch.arange(M), half + torch.randint(0, half, (M,), generator=g)] = -60.25
    turned = torch.randint(0, 2, (M,), generator=g).bool()
    steps[turned] = -steps[turned].roll(half, dims=1)
    return (steps * 2.0 ** torch.randint(-7, -2, (M, 1), generator=g)).half()


def row_parallel(M: int, N: int, K: int, own: bool = False, zero: bool = False) -> Case:
    def inputs(g: torch.Generator) -> dict:
        x = rows_of_codes(g, M, K)
        if zero:
            x[0], x[1, K // 2:] = 0, 0
        return {"x": x, "w_q": torch.randint(-127, 128, (N, K), generator=g, dtype=torch.int8),
                "w_scale": (1 + torch.rand(*([SIZE] if own else []), N, generator=g)) / 60 / K**0.5,
                "bias": torch.randn(N, generator=g).half()}
    return Case(f"x ({M}, {K}), w ({N}, {K})" + (", with zeros" if zero else ""), inputs)


def exact_scale(x) -> tuple[Expected, ...]:
    scale = x.double().abs().max(dim=1).values / 127
    return (Expected(scale, 2.0**-23 * scale, torch.float32),) * SIZE


SHARED_SCALE = Exercise(
    name="shared_scale",
    lesson=LESSON,
    outputs=("scale on rank 0", "scale on rank 1"),
    points=1,
    adapter=try_shared_scale,
    oracle=exact_scale,
    cases=tuple(Case(f"x ({M}, {K})", functools.partial(lambda M, K, g: {"x": rows_of_codes(g, M, K)}, M, K))
                for M, K in ((4, 16), (7, 6), (1, 40))),
    mutants=(
        Mutant("the scale of its own part", {'group.all_reduce(amax, "max") / 127': "amax / 127"},
               "The row goes on in the other ranks' parts: exchange the largest magnitude before you divide."),
        Mutant("the magnitudes are added", {'(amax, "max")': "(amax)"},
               'The largest magnitude of a row is the largest of those of its parts: `group.all_reduce(amax, "max")`.'),
        Mutant("the largest number, not the largest magnitude", {"x.float().abs().amax(dim=1)": "x.float().amax(dim=1)"},
               "A row's largest magnitude may be that of a negative number: `.abs()` first."),
        Mutant("not divided by 127", {'"max") / 127': '"max")'},
               "The largest magnitude gets code 127: the scale is amax / 127."),
        Mutant("divided by 128", {'"max") / 127': '"max") / 128'}, "Codes go from -127 to 127: divide by 127."),
        Mutant("one scale for all rows", {".abs().amax(dim=1)": ".abs().amax().expand(len(x)).clone()"},
               "Each row has a scale of its own: the maximum over its columns, `dim=1`."),
        Mutant("the largest of a column", {".abs().amax(dim=1)": ".abs().amax(dim=0)"},
               "The maximum goes over a row's columns, `dim=1`."),
    ),
)


def exact_row_parallel(x, w_q, w_scale, bias) -> tuple[Expected, ...]:
    """In float64, from codes of whole rows. Scaling in FP32 errs by less than 2⁻²¹, the bias by 2⁻²⁴, FP16 by 2⁻¹¹."""
    scale = x.double().abs().amax(dim=1, keepdim=True) / 127
    codes = torch.where(scale > 0, x.double() / scale, 0).round()
    product = codes @ w_q.double().T * scale * w_scale.double()
    y = product + bias.double()
    return (Expected(y, 2.0**-21 * product.abs() + (2.0**-24 + 2.0**-11) * y.abs() + 2.0**-25, torch.float16),) * SIZE


_ONCE = "The bias belongs to the sum, not to a part of it: add it once, after the exchange."

ROW_PARALLEL_SHARED = Exercise(
    name="row_parallel_shared",
    lesson=LESSON,
    outputs=BOTH,
    points=3,
    adapter=try_row_parallel,
    oracle=exact_row_parallel,
    cases=(row_parallel(3, 5, 40), row_parallel(1, 8, 64), row_parallel(6, 3, 200), row_parallel(3, 4, 16, zero=True)),
    mutants=(
        Mutant("bias added on every rank", {"    sums = group.all_reduce(sums)\n": "",
                                            "    return y.half()": "    return group.all_reduce(y).half()"}, _ONCE),
        Mutant("rank 0 alone comes to the all-reduce",
               {"    sums = group": "    if group.rank == 0:\n        sums = group"},
               "Every rank must call the collective: leave the `if` away."),
        Mutant("nothing is exchanged", {"    sums = group.all_reduce(sums)\n": ""},
               "Each rank has a part of K, so a part of every sum: all-reduce the INT32 sums."),
        Mutant("the scale of one part for its codes", {"scale = shared_scale(x, group)":
                                                        "scale = x.float().abs().amax(dim=1) / 127"},
               "Codes with different scales cannot be added: all parts of a row need `shared_scale`."),
        Mutant("codes of its own scale, scaled by the shared one",
               {"quantize_with_scale(x, scale)": "quantize_int8_perrow_torch(x)[0]"},
               "Quantize with the scale that the sums are multiplied by: the shared one."),
        Mutant("the partial sums in INT8", {"w_q.double().T).int()": "w_q.double().T).to(torch.int8)"},
               "Sums of products of codes need 32 bits."),
        Mutant("partial products rounded to FP16 before they are added",
               {"    sums = group.all_reduce(sums)\n": "",
                "y = sums.float() * scale[:, None] * w_scale + bias.float()":
                 "y = group.all_reduce((sums.float() * scale[:, None] * w_scale).half()) + bias"},
               "Add the INT32 sums, which are exact; scale and round once, after."),
        Mutant("all-reduce of codes", {"x_q = quantize_with_scale(x, scale)":
                                        "x_q = group.all_reduce(quantize_with_scale(x, scale))"},
               "The ranks' codes belong to different columns of x, so they are not added. What adds up are the sums."),
        Mutant("the scales of w left out", {" * w_scale + bias": " + bias"},
               "Each column's sum is multiplied by its scale of w too."),
        Mutant("no bias", {" + bias.float()": ""}, "y = (Σ x_q · w_q) · scale · w_scale + bias."),
        Mutant("the scale of x taken twice", {"* scale[:, None] * w_scale": "* scale[:, None] ** 2 * w_scale"},
               "One scale of x and one of w for each sum, whatever the number of ranks."),
    ),
)


def exact_own(x, w_q, w_scale, bias) -> tuple[Expected, ...]:
    """In float64, part by part. A partial product errs by 2⁻²¹ in FP32 and 2⁻¹¹ in FP16, their sum and that with the bias
    by 2⁻¹¹ each; the bias may be added to a partial product before it is rounded."""
    total, off = bias.double(), torch.zeros(len(x), len(w_q), dtype=torch.float64)
    for rank in range(SIZE):
        mine = slice(rank * x.shape[1] // SIZE, (rank + 1) * x.shape[1] // SIZE)
        scale = x[:, mine].double().abs().amax(dim=1, keepdim=True) / 127
        codes = torch.where(scale > 0, x[:, mine].double() / scale, 0).round()
        part = codes @ w_q[:, mine].double().T * scale * w_scale[rank].double()
        total, off = total + part, off + 2.0**-10 * (part.abs() + bias.double().abs() / SIZE)
    return (Expected(total, off + 2.0**-10 * total.abs() + 2.0**-24, torch.float16),) * SIZE


ROW_PARALLEL_OWN = Exercise(
    name="row_parallel_own",
    lesson=LESSON,
    outputs=BOTH,
    points=2,
    adapter=try_row_parallel,
    oracle=exact_own,
    cases=(row_parallel(3, 5, 40, own=True), row_parallel(1, 8, 64, own=True), row_parallel(6, 3, 200, own=True),
           row_parallel(3, 4, 16, own=True, zero=True)),
    mutants=(
        Mutant("sums added before they are scaled",
               {"sums = x_q.double() @ w_q.double().T": "sums = group.all_reduce((x_q.double() @ w_q.double().T).half())",
                "group.all_reduce(part.half())": "part.half()"},
               "Sums of codes with different scales cannot be added: scale each part by its own scales first."),
        Mutant("INT32 sums exchanged, and scaled after",
               {"sums = x_q.double() @ w_q.double().T": "sums = group.all_reduce((x_q.double() @ w_q.double().T).int())",
                "group.all_reduce(part.half())": "part.half()"},
               "Sums of codes with different scales cannot be added: scale each part by its own scales first."),
        Mutant("bias added on every rank", {"part.half()": "(part + bias).half()", "return y + bias": "return y"},
               _ONCE),
        Mutant("no bias", {"return y + bias": "return y"}, "The bias is added to the sum of the partial products."),
        Mutant("nothing is exchanged", {"group.all_reduce(part.half())": "part.half()"},
               "Each rank has the products of its part of K: all-reduce them."),
        Mutant("the scale of one part used for all",
               {"    sums = x_q": '    group.all_reduce(scale, "max")\n    sums = x_q'},
               "These codes were made with the scale of this rank's part: multiply by that one."),
        Mutant("the scale of x left out", {"sums.float() * scale[:, None] * w_scale": "sums.float() * w_scale"},
               "Each rank multiplies its sums by its own scales of x and of w."),
        Mutant("the scales of w left out", {"* scale[:, None] * w_scale": "* scale[:, None]"},
               "Each rank multiplies its sums by its own scales of x and of w."),
        Mutant("the mean of the ranks", {"group.all_reduce(part.half())": "group.all_reduce(part.half()) / group.size"},
               "The partial products are the terms of a sum: add them."),
    ),
)


def mlp(M: int, D: int, H: int) -> Case:
    def inputs(g: torch.Generator) -> dict:
        shapes = {"x": (M, D), "gate": (H, D), "up": (H, D), "down": (D, H)}
        return {name: torch.randn(shape, generator=g) / (1 if name == "x" else shape[1] ** 0.5)
                for name, shape in shapes.items()}
    return Case(f"x ({M}, {D}), {H} hidden", inputs)


def exact_mlp(x, gate, up, down) -> tuple[Expected, ...]:
    """In float64. In FP32 each of three sums errs by at most its length times 2⁻²⁴ of its terms' magnitudes."""
    g, u, wide = x.double() @ gate.double().T, x.double() @ up.double().T, down.double().abs().T
    h = g / (1 + (-g).exp()) * u
    spread = (x.double().abs() @ gate.double().abs().T) * u.abs() * 1.1 + (x.double().abs() @ up.double().abs().T) * g.abs()
    off = 2.0**-24 * ((x.shape[1] + 8) * spread + (down.shape[1] + 8) * h.abs()) @ wide
    return (Expected(h @ down.double().T, off, torch.float32),) * SIZE


MLP_PARALLEL = Exercise(
    name="mlp_parallel",
    lesson=LESSON,
    outputs=BOTH,
    points=2,
    adapter=try_mlp,
    oracle=exact_mlp,
    cases=(mlp(3, 8, 12), mlp(1, 20, 6), mlp(5, 6, 40)),
    mutants=(
        Mutant("nothing is exchanged", {"group.all_reduce(h @ down.T)": "h @ down.T"},
               "Each rank has a part of h's columns, so a part of every sum of y: all-reduce y."),
        Mutant("rank 0 alone comes to the all-reduce",
               {"    return group.all_reduce(h @ down.T)":
                "    y = h @ down.T\n    if group.rank == 0:\n        group.all_reduce(y)\n    return y"},
               "Every rank must call the collective: leave the `if` away."),
        Mutant("all-reduce of h", {"group.all_reduce(h @ down.T)": "group.all_reduce(h) @ down.T"},
               "The ranks have different columns of h, which are not added. `down` takes this rank's columns as they are."),
        Mutant("gate and up exchanged", {"silu(x @ gate.T) * (x @ up.T)": "silu(x @ up.T) * (x @ gate.T)"},
               "SiLU is of gate: silu(x gateᵀ) · (x upᵀ)."),
        Mutant("gate and up are exchanged too", {"silu(x @ gate.T) * (x @ up.T)":
                                                 "silu(group.all_reduce(x @ gate.T)) * group.all_reduce(x @ up.T)"},
               "The ranks have different rows of gate and up, whose products are not added: each goes on with its own."),
        Mutant("SiLU of the product", {"silu(x @ gate.T) * (x @ up.T)": "silu((x @ gate.T) * (x @ up.T))"},
               "SiLU is of gate alone; up is multiplied after."),
        Mutant("GELU in place of SiLU", {"torch.nn.functional.silu(": "torch.nn.functional.gelu("},
               "silu(x) = x · sigmoid(x): `torch.nn.functional.silu`."),
        Mutant("no SiLU", {"torch.nn.functional.silu(x @ gate.T)": "(x @ gate.T)"}, "h = silu(x gateᵀ) · (x upᵀ)."),
        Mutant("the mean of the ranks", {"group.all_reduce(h @ down.T)": "group.all_reduce(h @ down.T) / group.size"},
               "The partial products are the terms of a sum: add them."),
        Mutant("gate and up gathered", {"    return": "    group.all_gather(h)\n    return"},
               "`down` has the columns that belong to this rank's part of h: h need not be exchanged."),
    ),
)


def partial_products(M: int, N: int) -> Case:
    def inputs(g: torch.Generator) -> dict:
        steps = torch.randint(-126, 127, (SIZE, M, N), generator=g) + torch.randint(-1, 2, (SIZE, M, N), generator=g) / 4
        steps[:, :, N // 2] = 127
        return {"y": steps * 2.0 ** torch.randint(-9, 0, (SIZE, M, 1), generator=g)}
    return Case(f"y ({M}, {N}) on {SIZE} ranks", inputs)


def exact_int8_sum(y) -> tuple[Expected, ...]:
    """In float64. In FP32 each product and the sum err by 2⁻²³ of the terms."""
    scale = y.double().abs().amax(dim=2, keepdim=True) / 127
    terms = (y.double() / scale).round() * scale
    return (Expected(terms.sum(dim=0), 2.0**-22 * terms.abs().sum(dim=0), torch.float32),) * SIZE


ALL_REDUCE_INT8 = Exercise(
    name="all_reduce_int8",
    lesson=LESSON,
    outputs=BOTH,
    points=2,
    adapter=try_all_reduce,
    oracle=exact_int8_sum,
    cases=(partial_products(3, 8), partial_products(1, 40), partial_products(5, 5)),
    mutants=(
        Mutant("this rank's scale for all codes", {"* scales[:, :, None]": "* scale[None, :, None]"},
               "The codes of each rank have scales of their own: multiply those of rank r by `scales[r]`."),
        Mutant("the first rank's scale for all codes", {"* scales[:, :, None]": "* scales[:1, :, None]"},
               "The codes of each rank have scales of their own: multiply those of rank r by `scales[r]`."),
        Mutant("codes added before they are scaled",
               {"(codes.float() * scales[:, :, None]).sum(dim=0)":
                 "codes.float().sum(dim=0) * scales.sum(dim=0)[:, None]"},
               "Codes with different scales cannot be added: scale those of each rank first."),
        Mutant("codes added in INT8",
               {"codes.float() * scales[:, :, None]":
                 "codes.sum(dim=0, dtype=torch.int8)[None].float() * scales[:1, :, None]"},
               "A sum of two codes does not fit in 8 bits, and each has its own scale: scale them in FP32, then add."),
        Mutant("the mean of the ranks", {".sum(dim=0)": ".mean(dim=0)"}, "An all-reduce adds: `.sum(dim=0)`."),
        Mutant("without the scales", {"codes.float() * scales[:, :, None]": "codes.float()"},
               "A code stands for code · scale."),
        Mutant("the numbers are not quantized", {"    q, scale =": "    return group.all_reduce(y)\n    q, scale ="},
               "That exchanges four bytes for each number: exchange codes and scales with `group.all_gather`."),
        Mutant("a part alone", {"(codes.float() * scales[:, :, None]).sum(dim=0)": "q.float() * scale[:, None]"},
               "That is this rank's part: add those of all ranks."),
    ),
)

EXERCISES = (COLUMN_PART, SHARED_SCALE, ROW_PARALLEL_SHARED, ROW_PARALLEL_OWN, MLP_PARALLEL, ALL_REDUCE_INT8)
