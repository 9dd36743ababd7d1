"""What the lessons say in numbers is what is recorded in results/, what their cells print, or what is compiled."""

import pytest

from checks.course.notebooks import LESSONS, read
from checks.judge.compiler import start
from kernels import hello


def text(lesson: str) -> str:
    """The words of a lesson, with single spaces."""
    return " ".join(" ".join(cell.source for cell in read(next(LESSONS.glob(f"{lesson}_*.ipynb"))).cells).split())


def compiled(jobs):
    """Compiled for GPUs that are not here, in the order of the jobs."""
    return start(list(jobs), processes=2)()


@pytest.fixture
def registers():
    """`registers(kernel, types, **constexprs)`: of each thread, for `sm_90`."""
    def count(kernel, types, **constexprs):
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constexprs else types.get(name, "i32") for name in names}
        (report,) = compiled([{"module": kernel.fn.__module__, "name": kernel.fn.__name__, "signature": signature,
                               "constexprs": constexprs, "aligned": [n for n in names if n not in constexprs],
                               "options": {}, "capability": 90}])
        return report.registers
    return count


def test_00_registers_grow_with_the_lanes_of_a_thread(registers):
    fp32 = dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*fp32")
    few, many = (registers(hello.vector_add_kernel, fp32, BLOCK=block) for block in (128, 1024))
    assert f"our kernel takes {few} registers with `BLOCK=128`" in text("00")
    assert f"and {many} with `BLOCK=1024`" in text("00")
