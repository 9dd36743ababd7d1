"""What lessons say and what the compiler does, for the tests that hold the numbers in lessons."""

from functools import cache

from checks.course.notebooks import LESSONS, read
from checks.executor.source import describe
from checks.judge.compiler import start


@cache
def text(lesson: str) -> str:
    """The words of a lesson, with single spaces."""
    return " ".join(" ".join(cell.source for cell in read(next(LESSONS.glob(f"{lesson}_*.ipynb"))).cells).split())


def registers(kernel, types: dict[str, str], *blocks: dict[str, int], **options: int) -> list[int]:
    """Of each thread, compiled for `sm_90` with each of `blocks`, and the compiler's `options`."""
    names, jobs = kernel.arg_names, []
    for constexprs in blocks:
        signature = {name: "constexpr" if name in constexprs else types.get(name, "i32") for name in names}
        jobs.append({"description": describe(kernel), "signature": signature, "constexprs": constexprs,
                     "aligned": [name for name in names if name not in constexprs],
                     "options": options, "capability": 90})
    return [report.registers for report in start(jobs, processes=2)()]
