"""The skeleton of an exercise in a repository of a few lines, to the letter; and the edits that it is made of."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from checks.dev import new_exercise as module
from checks.dev.new_exercise import Draft, NewExercise, last_line, top_level, with_import, write_skeleton

BEFORE = {
    "README.md": """\
| lesson | you write | you learn |
| [A](lessons/00_a.ipynb) | `a`  | b |
| [B](lessons/01_b.ipynb) | `c` | d |
A line on lessons/01_b.ipynb.
""",
    "kernels/cost.py": '"""Costs."""\n\n\ndef gemv_bytes(N: int) -> int:\n    return N\n',
    "checks/exercises/__init__.py": "from checks.exercises import (\n    cost,\n)\n\nNOUNS = (cost,)\n",
    "checks/exercises/cost.py": """\
from checks.judge.exercise import Exercise

A = Exercise()

EXERCISES = (A,)
""",
    "tests/kernels/test_every_kernel_compiles.py": """\
from kernels import cost


def row_jobs(sm):
    yield job(cost.a, sm)


def other():
    pass
""",
    "tests/gpu/gpu_report_lessons.py": '"""Report."""\n\n\ndef check_lessons(checks):\n    checks.attempt("a", a)\n',
}
STUB = '''@triton.jit
def row_max_kernel(
    x_ptr, y_ptr,
    N,
    BLOCK: tl.constexpr,
):
    """TODO: the formula, and what one program does."""
    tl.static_assert(False, "TODO: about 5 lines")
'''
WRAPPER = '''def row_max(x: torch.Tensor) -> torch.Tensor:
    """TODO: the formula. x (N,) float16 -> y (N,) float16."""
    y = torch.empty_like(x)  # TODO: before it, kernels.arguments.expect; the launch as in the other wrappers
    row_max_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y
'''
FUNCTION = '''def row_bytes(n: int) -> int:
    """TODO: its arguments; the formula, its shapes and units."""
    raise NotImplementedError("TODO: about 1 line")
'''
REST = """\
    points=0,  # TODO
    oracle=None,  # TODO: a function of the inputs, independent of the answer
    cases=(),  # TODO: at least three
    mutants=(),  # TODO: at least three known mistakes
)

"""
OF_A_KERNEL = {
    "kernels/rows.py": f'"""TODO: what is computed here."""\n\nimport torch\nimport triton\nimport triton.language as tl\n'
                       f"\n\n{STUB}\n\n{WRAPPER}",
    "checks/exercises/rows.py": '''\
"""TODO: the lesson, and what its exercises are about."""

from checks.judge.exercise import Exercise

ROW_MAX = Exercise(
    name="row_max_kernel",
    lesson="01_b",
    wrapper="row_max",
    outputs=("y",),
    least_bytes=None,  # TODO: a function of the inputs, the bytes that it must read and write at least
''' + REST + "EXERCISES = (ROW_MAX,)\n",
    "checks/exercises/__init__.py": "from checks.exercises import (\n    cost,\n    rows,\n)\n\nNOUNS = (cost, rows)\n",
    "README.md": BEFORE["README.md"].replace("`c`", "`c`, `row_max_kernel` (TODO)"),
    "tests/kernels/test_rows.py": '''\
from kernels.rows import row_max


def test_row_max():
    raise NotImplementedError(f"TODO: {row_max.__name__} against its definition: ragged sizes, strides, NaN, bad input")
''',
    "tests/kernels/test_every_kernel_compiles.py": BEFORE["tests/kernels/test_every_kernel_compiles.py"].replace(
        "import cost\n", "import cost, rows\n").replace("(cost.a, sm)\n", '''(cost.a, sm)
    yield job(rows.row_max_kernel, sm, {"BLOCK": 1024})  # TODO: its blocks and types
'''),
    "tests/gpu/gpu_report_lessons.py": '''\
"""Report."""

from kernels.rows import row_max


def check_lessons(checks):
    checks.attempt("a", a)
    checks.attempt("row_max", row_max_on_gpu)


def row_max_on_gpu():
    raise NotImplementedError(f"TODO: {row_max.__name__} against its definition, at sizes that CI has no time for")
''',
}
OF_A_FUNCTION = {
    "kernels/cost.py": f"{BEFORE['kernels/cost.py']}\n\n{FUNCTION}",
    "checks/exercises/cost.py": BEFORE["checks/exercises/cost.py"].replace("EXERCISES = (A,)", (
        f'ROW_BYTES = Exercise(\n    name="row_bytes",\n    lesson="00_a",\n{REST}EXERCISES = (A, ROW_BYTES)')),
    "README.md": BEFORE["README.md"].replace("`a`  |", "`a`, `row_bytes` (TODO) |"),
}
TEXT = """### TODO: the exercise's title

*Difficulty TODO of 5 · TODO minutes · about TODO lines.*

TODO: what to write, and what it is for.

<details><summary>Hint 1: the plan</summary>TODO</details>
<details><summary>Hint 2: nearly the answer</summary>TODO</details>"""
TITLE, SETUP, END = ("title", "markdown", "# T"), ("setup", "code", "x"), ("end", "markdown", "e")


@pytest.fixture
def small(tmp_path):
    """A repository with two lessons and one file of each kind."""
    for name, text in BEFORE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "lessons").mkdir()
    for name in ("00_a", "01_b"):
        cells = [new_markdown_cell("# T", id="title"), new_code_cell("x", id="setup"), new_markdown_cell("e", id="end")]
        nbformat.write(new_notebook(cells=cells), tmp_path / "lessons" / f"{name}.ipynb")
    return tmp_path


@pytest.mark.parametrize(("new", "files", "lesson", "cells"), [
    (NewExercise("row_max_kernel", "01", Path("kernels/rows.py"), "rows"), OF_A_KERNEL, "01_b", [
        TITLE, SETUP, ("exercise-row-max-text", "markdown", TEXT),
        ("exercise-row-max", "code", f"# exercise: row_max_kernel\n{STUB.rstrip()}"),
        ("wrapper-row-max", "code", f"# given: row_max\n{WRAPPER.rstrip()}"),
        ("check-row-max", "code", "check(row_max)"), END]),
    (NewExercise("row_bytes", "00_a", Path("kernels/cost.py"), "cost", after="title"), OF_A_FUNCTION, "00_a", [
        TITLE, ("exercise-row-bytes-text", "markdown", TEXT),
        ("exercise-row-bytes", "code", f"# exercise: row_bytes\n{FUNCTION.rstrip()}"),
        ("check-row-bytes", "code", "check(row_bytes)"), SETUP, END])], ids=["kernel", "function"])
def test_a_skeleton_to_the_letter(small, new, files, lesson, cells):
    written = write_skeleton(new, small)
    notebook = small / "lessons" / f"{lesson}.ipynb"
    assert {path.relative_to(small) for path in written} == {*map(Path, files), notebook.relative_to(small)}
    assert len(written) == len(files) + 1
    after = {str(path.relative_to(small)): path.read_text() for path in small.rglob("*") if path.suffix in (".py", ".md")}
    assert after == BEFORE | files
    found = nbformat.read(notebook, 4)
    assert [(cell.id, cell.cell_type, cell.source) for cell in found.cells] == cells
    assert notebook.read_text() == nbformat.writes(found) + "\n"


def test_where_one_place_cannot_be_edited_none_is(small):
    (small / "README.md").write_text("| [B](lessons/01_b.md) | `c` | d |\n")
    before = {path: path.read_text() for path in small.rglob("*") if path.is_file()}
    with pytest.raises(LookupError, match="README.md has no row for lessons/01_b.ipynb"):
        write_skeleton(NewExercise("row_max_kernel", "01", Path("kernels/rows.py"), "rows"), small)
    (small / "README.md").write_text(BEFORE["README.md"])
    (small / "tests" / "gpu" / "gpu_report_lessons.py").unlink()
    with pytest.raises(LookupError, match="gpu_report_lessons.py is not there"):
        write_skeleton(NewExercise("row_max_kernel", "01", Path("kernels/rows.py"), "rows"), small)
    after = {path: path.read_text() for path in small.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after.get(path)} == {"README.md", "gpu_report_lessons.py"}


def test_a_draft_is_read_again_before_it_is_written(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append((command[-2:], options)))
    draft = Draft(tmp_path)
    (tmp_path / "a.py").write_text("there")
    assert (draft.read("a.py", "otherwise"), draft.read(Path("b.md"), "otherwise"), draft.read("c.py", "")) == (
        "there", "otherwise", "")
    with pytest.raises(LookupError, match=f"^{tmp_path / 'b.md'} is not there$"):
        draft.read("b.md")
    draft.put("b.md", "one")
    draft.put(Path("d.py"), "two")
    draft.put("b.md", draft.read("b.md") + " more")
    assert not (tmp_path / "b.md").exists()
    assert draft.write() == [tmp_path / "b.md", tmp_path / "d.py"]
    assert [(tmp_path / name).read_text() for name in ("a.py", "b.md", "d.py")] == ["there", "one more", "two"]
    assert ran == [(["--fix", str(tmp_path / "d.py")], {"cwd": tmp_path, "check": True})]


MODULE = '''"""Of many kinds."""
import x
A = B = 1
C: int = 2
D.e = 3


@decorated
def f():
    def inner():
        pass

    return inner


class G:
    h = 1
'''


def test_the_names_of_a_module():
    found = top_level(MODULE)
    assert {name: type(node).__name__ for name, node in found.items()} == {
        "A": "Assign", "B": "Assign", "C": "AnnAssign", "f": "FunctionDef", "G": "ClassDef"}
    assert (last_line(MODULE, "f"), last_line(MODULE, "G")) == (13, 17)


@pytest.mark.parametrize(("text", "want"), [
    ('"""Doc."""\nx = 1\n', '"""Doc."""\n\nimport y\nx = 1\n'),
    ('"""Doc\nof two lines."""\n', '"""Doc\nof two lines."""\n\nimport y\n'),
    ("x = 1\n", "import y\nx = 1\n"), ("", "import y\n"), ("# why\nimport a\n", "import y\n# why\nimport a\n")])
def test_imports_stand_below_what_a_module_says_of_itself(text, want):
    assert with_import(text, "import y\n") == want


@pytest.mark.parametrize(("name", "file", "noun", "said"), [
    ("ok_name", "kernels/deep/x.py", "x", None), ("ok_name", "kernels/x.py", "x_2", None),
    ("2nd", "kernels/x.py", "x", "'2nd' must be a Python name"), ("Name", "kernels/x.py", "x", "'Name' must be"),
    ("ok_name", "kernels/x.py", "X", "'X' must be a Python name"),
    ("ok_name", "x.py", "x", "--file must be a Python file in"),
    ("ok_name", "kernels/x.pyi", "x", "--file must be"), ("ok_name", "/kernels/x.py", "x", "--file must be"),
    ("gemv_bytes", "kernels/x.py", "x", "kernels/cost.py has gemv_bytes already"),
    ("gemv_bytes_kernel", "kernels/x.py", "x", "kernels/cost.py has gemv_bytes already"),
    ("far", "kernels/x.py", "x", "kernels/deep/far.py has far already")])
def test_names_that_cannot_be_used_are_said(small, name, file, noun, said):
    (small / "kernels" / "deep").mkdir()
    (small / "kernels" / "deep" / "far.py").write_text("far = 1\n")
    new = NewExercise(name, "01", Path(file), noun)
    if said is None:
        module.check_names(new, small)
    else:
        with pytest.raises(ValueError, match=said):
            module.check_names(new, small)


def test_an_id_is_no_longer_than_a_notebook_allows(small):
    new = NewExercise("a" * 70 + "_kernel", "01", Path("kernels/rows.py"), "rows")
    draft = Draft(small)
    module.add_cells(new, draft, small / "lessons" / "01_b.ipynb")
    found = nbformat.reads(draft.read("lessons/01_b.ipynb"), 4)
    nbformat.validate(found)
    assert [cell.id for cell in found.cells[2:6]] == [
        f"exercise-{'a' * 50}-text", f"exercise-{'a' * 50}", f"wrapper-{'a' * 50}", f"check-{'a' * 50}"]
