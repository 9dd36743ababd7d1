"""What lessons import: from `checks`, `checks.pictures.<noun>`, `kernels` and its modules, nothing deeper."""

import ast
import importlib
import subprocess
import sys

import pytest
from IPython.core.inputtransformer2 import TransformerManager

import checks
from checks.course.notebooks import lessons, read

OURS = ("checks", "kernels")


def imports_of(path):
    """(module, name) of everything a lesson imports of ours; the name is None in `import module`."""
    found = set()
    for cell in read(path).cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
                if isinstance(node, ast.ImportFrom):
                    found |= {(node.module, alias.name) for alias in node.names}
                elif isinstance(node, ast.Import):
                    found |= {(alias.name, None) for alias in node.names}
    return {(module, name) for module, name in found if module.partition(".")[0] in OURS}


def allowed(module, name):
    parts = module.split(".")
    if parts[0] == "kernels":
        return name is not None and len(parts) <= 2
    return name is not None and (len(parts) == 1 or parts[1] == "pictures" and len(parts) <= 3)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in lessons()])
def test_a_lesson_imports_nothing_deeper(path):
    found = imports_of(path)
    assert ("checks", "check") in found
    assert not [pair for pair in found if not allowed(*pair)]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in lessons()])
def test_a_lesson_imports_checks_first(path):
    """A student's kernel has nothing yet, and `kernels` comes before triton; the tests' kernels are forked with both."""
    cell = next(cell for cell in read(path).cells if cell.cell_type == "code")
    first = ast.parse(cell.source).body[0]
    assert isinstance(first, ast.ImportFrom) and first.module == "checks"


@pytest.mark.parametrize(("module", "name", "fine"), [
    ("checks", "trace", True), ("checks.pictures.gemv", "show_bytes", True), ("checks.pictures", "gemv", True),
    ("kernels", "cost", True), ("kernels.cost", "gemv_bytes", True),
    ("checks.judge.tracing", "trace", False), ("checks.notebook", "check", False), ("checks.pictures.a.b", "c", False),
    ("kernels.ops.gemv", "gemv_fp16", False), ("checks", None, False), ("kernels", None, False),
])
def test_what_counts_as_deeper(module, name, fine):
    assert allowed(module, name) == fine


def test_checks_offers_what_lessons_import_and_no_more():
    used = {name for path in lessons() for module, name in imports_of(path) if module == "checks"}
    assert used == {"check", *checks.FOR_LESSONS}


def test_each_name_is_that_of_its_module():
    for name, module in checks.FOR_LESSONS.items():
        assert getattr(checks, name) is getattr(importlib.import_module(module), name)
        assert name in dir(checks)
    assert {"check", "CheckFailed", "__name__"} <= set(dir(checks))
    assert set(checks.__all__) == {"check", "CheckFailed", *checks.FOR_LESSONS}


def test_a_name_that_is_not_there_is_an_error_as_in_any_module():
    with pytest.raises(AttributeError, match="^module 'checks' has no attribute 'trase'$"):
        checks.trase  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'trase' from 'checks'"):
        from checks import trase  # noqa: F401
    assert not hasattr(checks, "trase")


def test_check_alone_does_not_load_what_lessons_need_beside_it():
    find = ("import sys; from checks import check; "
            "print(*(m for m in sys.modules if m.startswith(('checks.capstone', 'checks.bench', 'checks.pictures'))))")
    done = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, [])
