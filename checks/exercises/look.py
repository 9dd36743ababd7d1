"""Lesson 00: finding the place where a kernel goes wrong."""

import torch

from checks.judge.exercise import Case, Exercise, Expected, Mutant

NAN, INF = float("nan"), float("inf")


def differing(N: int, BLOCK: int, wrong: dict[int, float]) -> Case:
    """Two vectors that differ in `wrong`, by element: by how much."""
    def inputs(g: torch.Generator) -> dict:
        exact = torch.randn(N, generator=g)
        out = exact.clone()
        for element, by in wrong.items():
            out[element] += by
        return {"out": out, "exact": exact, "BLOCK": BLOCK}

    return Case(f"N={N} BLOCK={BLOCK}, wrong by {wrong or 'nothing'}", inputs)


def differing_in_the_last_bit(N: int, BLOCK: int, element: int) -> Case:
    def inputs(g: torch.Generator) -> dict:
        exact = torch.randn(N, generator=g)
        out = exact.clone()
        out[element] = torch.nextafter(exact[element], torch.tensor(INF))
        return {"out": out, "exact": exact, "BLOCK": BLOCK}

    return Case(f"N={N} BLOCK={BLOCK}, element {element} wrong in its last bit", inputs)


def nan_in_both(N: int, BLOCK: int, element: int) -> Case:
    def inputs(g: torch.Generator) -> dict:
        exact = torch.randn(N, generator=g)
        exact[element] = NAN
        return {"out": exact.clone(), "exact": exact, "BLOCK": BLOCK}

    return Case(f"N={N} BLOCK={BLOCK}, element {element} NaN in both", inputs)


def exact_place(out: torch.Tensor, exact: torch.Tensor, BLOCK: int) -> tuple[Expected, Expected]:
    for element, (got, want) in enumerate(zip(out.tolist(), exact.tolist(), strict=True)):
        if got != want:
            return Expected(element // BLOCK), Expected(element % BLOCK)
    return Expected(-1), Expected(-1)


_FIRST = "divmod(int(wrong[0]), BLOCK)"

FIRST_WRONG = Exercise(
    name="first_wrong",
    lesson="00_hello_triton",
    points=2,
    outputs=("program", "lane"),
    cases=(differing(50, 16, {37: 1.0, 40: 1.5}), differing(64, 16, {}), differing(7, 16, {0: -1.0}),
           differing(300, 128, {299: -0.5}), differing(40, 8, {19: NAN, 30: 2.0}), differing(40, 8, {9: INF}),
           differing_in_the_last_bit(20, 4, 14), nan_in_both(20, 4, 9)),
    oracle=exact_place,
    mutants=(
        Mutant("the last wrong element", {"wrong[0]": "wrong[-1]"},
               "This is the last wrong element; the first one is the best place to look."),
        Mutant("lane and program swapped", {_FIRST: "divmod(int(wrong[0]), BLOCK)[::-1]"},
               "The program comes first: element // BLOCK is the program, element % BLOCK the lane."),
        Mutant("the element in place of the lane", {_FIRST: "(int(wrong[0]) // BLOCK, int(wrong[0]))"},
               "The lane is the place within the program's block: element % BLOCK."),
        Mutant("NaN passed over", {"(out != exact)": "((out - exact).abs() > 0)"},
               "Every comparison with NaN is false but `!=`: compare with `!=`, so that a NaN counts as wrong."),
        Mutant("the largest difference", {"int(wrong[0])": "int((out - exact).abs().argmax())"},
               "The first wrong element is wanted, however little it differs: that is where to look."),
        Mutant("only what is too large", {"out != exact": "out > exact"},
               "An element that is too small is wrong too."),
        Mutant("a small difference let pass", {"(out != exact)": "~((out - exact).abs() < 0.75)"},
               "Any difference counts here: compare with `!=`."),
        Mutant("close numbers taken for equal", {"(out != exact)": "(~torch.isclose(out, exact))"},
               "The two have to agree in every bit here: compare with `!=`."),
        Mutant("NaN in both taken for right", {"(out != exact)": "((out != exact) & ~(out.isnan() & exact.isnan()))"},
               "NaN is wrong wherever it is: `!=` alone finds it, for NaN differs even from NaN."),
        Mutant("(0, 0) where nothing is wrong", {"return -1, -1": "return 0, 0"},
               "(0, 0) says that program 0 is wrong in lane 0; without a wrong element return (-1, -1)."),
    ),
)

EXERCISES = [FIRST_WRONG]
