"""Pictures for the lessons, drawn from traces of the student's own kernels and from measured figures."""

import base64
import html
import io
import sys
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.ticker import MaxNLocator

from checks.bench import perf
from checks.bench.baselines import BASELINES
from checks.bench.figures import COLOURS, bandwidth_figure
from checks.bench.results import recorded, select
from checks.exercises import find_exercise
from checks.judge.source import find_placeholder, python_function, source_of
from checks.judge.tracing import trace
from checks.judge.trial import Outcome
from checks.pictures.description import describe
from kernels.runtime import INTERPRETED

NOTHING = "#F2F2F2"
DPI = 100


def draw_errors(outcome: Outcome):
    """Where the first wrong output of a case is wrong."""
    wrong = outcome.wrong
    assert wrong is not None, "no element is wrong: there is nothing to draw"
    grid = np.atleast_2d(wrong.flatten(0, -2).numpy() if wrong.ndim > 2 else wrong.numpy())
    figure, axes = plt.subplots(figsize=(7, 1.3 if wrong.ndim < 2 else 3.5), layout="constrained")
    axes.imshow(grid, cmap=ListedColormap([COLOURS[4], COLOURS[5]]), vmin=0, vmax=1, aspect="auto",
                interpolation="nearest")
    axes.set_title(f"{int(wrong.sum())} of {wrong.numel()} elements are wrong (orange): {outcome.case.name}", fontsize=10)
    axes.set_xlabel("element" if wrong.ndim < 2 else "column")
    axes.set_yticks([]) if wrong.ndim < 2 else axes.set_ylabel("row" if wrong.ndim == 2 else "row, part below part")
    for axis in (axes.xaxis, axes.yaxis) if wrong.ndim > 1 else (axes.xaxis,):
        axis.set_major_locator(MaxNLocator(integer=True))
    return show_figure(figure)


def show_accesses(function, N: int = 160, K: int = 320):
    """Which program of your GEMV reads which part of W, and how often each element of x is read.

    Runs `function(x, w)` once on a small W (N, K), in Triton's interpreter, and draws what was touched.
    """
    if not ready_to_draw(function):
        return None
    w, x = torch.randn(N, K).half(), torch.randn(K).half()
    launch = trace(function, x=x, w=w)[-1]
    owner = np.full(N * K, -1)
    reads = np.zeros(K, dtype=int)
    programs = sorted({access.program for access in launch.accesses})
    steps: Counter[tuple] = Counter()
    middle = {}
    for access in launch.accesses:
        touched = access.offsets[access.live]
        if access.tensor == "w_ptr":
            step = steps[access.program]
            steps[access.program] += 1
            # Neighbouring programs and neighbouring steps of one program get different colours.
            middle[programs.index(access.program), step] = touched.mean() // K, (touched % K).mean()
            owner[touched] = (2 * programs.index(access.program) + step % 2) % len(COLOURS)
        elif access.tensor == "x_ptr":
            np.add.at(reads, touched, 1)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), height_ratios=[3, 1], sharex=True,
                                         layout="constrained")
    top.imshow(owner.reshape(N, K), cmap=ListedColormap([NOTHING, *COLOURS]), vmin=-1, vmax=len(COLOURS) - 1,
               aspect="auto", interpolation="nearest")
    if len(steps) * max(steps.values(), default=0) <= 30:
        for (program, step), (row, column) in middle.items():
            label = f"program {program}" + (f"\nstep {step}" if max(steps.values()) > 1 else "")
            top.text(column, row, label, ha="center", va="center", fontsize=7,
                     bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5})
    top.set_ylabel("row n of W")
    most = max(steps.values(), default=0)
    top.set_title(f"W ({N}, {K}): {len(programs)} programs, each loads W in {most} step{'s' * (most > 1)}", fontsize=10)
    bottom.fill_between(np.arange(K), reads, step="mid", color=COLOURS[0])
    counts = f"{reads.min()} to {reads.max()}" if reads.min() < reads.max() else f"{reads.max()}"
    bottom.text(K / 2, reads.max() / 2, f"{counts} time{'s' * (counts != '1')}", ha="center", va="center", color="white")
    bottom.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    bottom.set(xlabel="k", ylabel="reads of x[k]", ylim=(0, max(reads.max() * 1.2, 1)), xlim=(0, K - 1))
    return show_figure(figure)


def show_bandwidth(**functions):
    """GB/s of y = W x against N, W (N, 4096): of your functions by name where there is a GPU, else as recorded on one."""
    def measure() -> list[dict]:
        return perf.test_perf_gemv({"cuBLAS FP16": BASELINES["cuBLAS FP16"], **{
            name: function for name, function in functions.items() if ready_to_draw(function)}})

    found = figures_of(("gemv",), measure, function=("cuBLAS FP16", *functions), K=4096, mode="eager")
    if found is None:
        return None
    rows, title = found
    roofs = recorded()["roofs"] if INTERPRETED else perf.copy_roof()
    return show_figure(bandwidth_figure(rows, roofs, f"{title}\neager: each call launched by itself"))


def figures_of(tests: tuple[str, ...], measure, **wanted) -> tuple[list[dict], str] | None:
    """Rows, and where they are from: what `measure()` gives where there is a GPU, else those recorded on one.

    `tests` and `wanted` select the recorded ones; None, and a sentence, where nothing is recorded.
    """
    if not INTERPRETED:
        return measure(), f"Measured now on this {torch.cuda.get_device_name()}"
    figures = recorded()
    rows = select(figures, test=tests, **wanted)
    if not rows:
        print(f"○ Nothing is recorded yet for this picture on the {figures['gpu']}: `python3 workshop.py bench`, "
              "on a GPU, measures it.")
        return None
    return rows, f"Recorded on an {figures['gpu']} (there is no GPU here)"


def ready_to_draw(function) -> bool:
    """Whether the function has been written; says so if not."""
    written = find_exercise(python_function(function).__name__).written_by_student(function)
    if find_placeholder(source_of(written)):
        print(f"○ {python_function(written).__name__} is not attempted yet: there is nothing to draw.")
        return False
    return True


def show_figure(figure):
    """Show `figure` in a notebook, once, with its description as text alternative; elsewhere hand it back."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display(page(figure), raw=True)
        plt.close(figure)
        return None
    return figure


def page(figure) -> dict[str, str]:
    """The picture as HTML and as text, by MIME type: no editor takes a text alternative for an image alone."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", dpi=DPI)
    image, said = base64.b64encode(drawn.getvalue()).decode(), describe(figure)
    return {"text/html": f'<img alt="{html.escape(said)}" style="max-width: 100%" src="data:image/png;base64,{image}">',
            "text/plain": said}
