"""What judges a student's kernels. In a lesson: `from checks import check`, then `check(gemv_fp16)`.

Lessons import from here, from `checks.pictures` and from `kernels` alone. What they need beside `check` is in `FOR_LESSONS`
and is loaded when it is first asked for (PEP 562), so that `check` does not wait for the benchmark or the transformer.
"""

import importlib

import kernels  # noqa: F401, I001  first: it decides whether Triton interprets
from checks.notebook import CheckFailed, check

FOR_LESSONS = {
    "Block": "checks.simulated.synthetic",
    "Scheme": "checks.capstone.accuracy",
    "SimulatedGPU": "checks.simulated.gpu",
    "TILES": "checks.simulated.buggy_matmuls",
    "activations": "checks.simulated.synthetic",
    "continuation": "checks.capstone.training",
    "layer_sqnr_db": "checks.capstone.accuracy",
    "linears": "checks.capstone.accuracy",
    "load": "checks.capstone.training",
    "pairs": "checks.bench.results",
    "planted_int_mm": "checks.simulated.buggy_matmuls",
    "recorded": "checks.bench.command",
    "run_checks_and_report": "checks.bench.command",
    "run_on_ranks": "checks.ranks.kept",
    "scripted_debugger": "checks.judge.debugger",
    "select": "checks.bench.command",
    "source_of": "checks.judge.source",
    "start_ranks": "checks.ranks.kept",
    "tokens_of": "checks.capstone.training",
    "trace": "checks.judge.tracing",
    "use_your_own": "checks.course.own",
    "weights": "checks.simulated.synthetic",
    "windows": "checks.capstone.training",
    "with_linears": "checks.capstone.accuracy",
}
"""The names that lessons import from `checks`, and the module of each."""

__all__ = ["CheckFailed", "check", *FOR_LESSONS]


def __getattr__(name: str):
    if name not in FOR_LESSONS:
        raise AttributeError(f"module 'checks' has no attribute {name!r}")
    return getattr(importlib.import_module(FOR_LESSONS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *FOR_LESSONS})
