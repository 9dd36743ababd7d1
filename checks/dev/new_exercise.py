"""The skeleton of a new exercise: a TODO in each place that an exercise has, which its test then finds."""

import ast
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat

from checks.course.notebooks import the_one
from checks.files import write_atomically
from checks.paths import ROOT

FUNCTION = '''

def {name}(n: int) -> int:
    """TODO: its arguments; the formula, its shapes and units."""
    raise NotImplementedError("TODO: about 1 line")
'''

KERNEL = '''

@triton.jit
def {name}(
    x_ptr, y_ptr,
    N,
    BLOCK: tl.constexpr,
):
    """TODO: the formula, and what one program does."""
    tl.static_assert(False, "TODO: about 5 lines")
'''

WRAPPER = '''

def {wrapper}(x: torch.Tensor) -> torch.Tensor:
    """TODO: the formula. x (N,) float16 -> y (N,) float16."""
    y = torch.empty_like(x)  # TODO: before it, kernels.arguments.expect; the launch as in the other wrappers
    {name}[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), BLOCK=1024)
    return y
'''

FILE = '"""TODO: what is computed here."""\n'
KERNEL_IMPORTS = "import torch\nimport triton\nimport triton.language as tl\n"

EXERCISE = '''{constant} = Exercise(
    name="{name}",
    lesson="{lesson}",{kernel_lines}
    points=0,  # TODO
    oracle=None,  # TODO: a function of the inputs, independent of the answer
    cases=(),  # TODO: at least three
    mutants=(),  # TODO: at least three known mistakes
)

'''

KERNEL_LINES = '''
    wrapper="{wrapper}",
    outputs=("y",),
    least_bytes=None,  # TODO: a function of the inputs, the bytes that it must read and write at least'''

EXERCISE_FILE = '''"""TODO: the lesson, and what its exercises are about."""

from checks.judge.exercise import Exercise

EXERCISES = ()
'''

TEST = '''

def test_{wrapper}():
    raise NotImplementedError(f"TODO: {{{wrapper}.__name__}} against its definition: ragged sizes, strides, NaN, bad input")
'''

GPU_CHECK = '''

def {wrapper}_on_gpu():
    raise NotImplementedError(f"TODO: {{{wrapper}.__name__}} against its definition, at sizes that CI has no time for")
'''

TEXT = '''### TODO: the exercise's title

*Difficulty TODO of 5 · TODO minutes · about TODO lines.*

TODO: what to write, and what it is for.

<details><summary>Hint 1: the plan</summary>TODO</details>
<details><summary>Hint 2: nearly the answer</summary>TODO</details>'''


@dataclass(frozen=True)
class NewExercise:
    """A function `name` to be written in a lesson, behind its cell `after`, or at its end; its answer lies in `file`, a path
    from the root of the repository."""

    name: str
    lesson: str
    file: Path
    noun: str
    after: str | None = None

    @property
    def is_kernel(self) -> bool:
        return self.name.endswith("_kernel")

    @property
    def wrapper(self) -> str:
        """What is called: the wrapper that launches the kernel, or the function itself."""
        return self.name.removesuffix("_kernel")

    @property
    def constant(self) -> str:
        return self.wrapper.upper()

    @property
    def module(self) -> str:
        return ".".join(self.file.with_suffix("").parts)


class Draft:
    """The new texts of files below `root`, kept until all are made: a place that cannot be edited leaves none half done."""

    def __init__(self, root: Path):
        self.root = root
        self.texts: dict[Path, str] = {}

    def read(self, path: str | Path, otherwise: str | None = None) -> str:
        """The text of a file as drafted so far. Raises LookupError where it is missing and nothing is given for it."""
        path = self.root / path
        if path in self.texts:
            return self.texts[path]
        if path.exists():
            return path.read_text()
        if otherwise is None:
            raise LookupError(f"{path} is not there")
        return otherwise

    def put(self, path: str | Path, text: str) -> None:
        self.texts[self.root / path] = text

    def write(self) -> list[Path]:
        """Write all, their imports in order; returns the paths."""
        for path, text in self.texts.items():
            write_atomically(path, text)
        python = [str(path) for path in self.texts if path.suffix == ".py"]
        subprocess.run([sys.executable, "-m", "ruff", "check", "--quiet", "--no-cache", "--select", "I", "--fix", *python],
                       cwd=self.root, check=True)
        return list(self.texts)


def write_skeleton(new: NewExercise, root: Path = ROOT) -> list[Path]:
    """Write the skeleton into all its places; returns their paths.

    Raises ValueError for a name or a file that cannot be used, LookupError for a lesson that is not there. Then nothing is
    written.
    """
    draft = Draft(root)
    lesson = find_lesson(new.lesson, root)
    new = replace(new, lesson=lesson.stem)
    check_names(new, root)
    add_answer(new, draft)
    add_exercise(new, draft)
    add_cells(new, draft, lesson)
    add_readme_row(new, draft)
    if new.is_kernel:
        add_test(new, draft)
        add_compile_job(new, draft)
        add_gpu_check(new, draft)
    return draft.write()


def find_lesson(wanted: str, root: Path) -> Path:
    paths = {path.stem: path for path in (root / "lessons").glob("[0-9]*.ipynb")}
    return paths[the_one("lesson", wanted, list(paths))]


def check_names(new: NewExercise, root: Path) -> None:
    for name in (new.name, new.noun):
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"{name!r} must be a Python name in lower case")
    if new.file.parts[:1] != ("kernels",) or new.file.suffix != ".py":
        raise ValueError(f"--file must be a Python file in kernels/, as a path from {root}; got {new.file}")
    for path in sorted((root / "kernels").rglob("*.py")):
        taken = {new.name, new.wrapper} & set(top_level(path.read_text()))
        if taken:
            raise ValueError(f"{path.relative_to(root)} has {', '.join(sorted(taken))} already")


def top_level(text: str) -> dict[str, ast.stmt]:
    """The functions, classes and constants of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def last_line(text: str, name: str) -> int:
    """The number of the last line of a function of the module `text`."""
    end = top_level(text)[name].end_lineno
    assert end is not None
    return end


def add_answer(new: NewExercise, draft: Draft) -> None:
    text, template = draft.read(new.file, FILE), FUNCTION
    if new.is_kernel:
        text, template = with_import(text, KERNEL_IMPORTS), KERNEL + WRAPPER
    draft.put(new.file, text + template.format(name=new.name, wrapper=new.wrapper))


def add_exercise(new: NewExercise, draft: Draft) -> None:
    path, index = f"checks/exercises/{new.noun}.py", "checks/exercises/__init__.py"
    text = draft.read(path, EXERCISE_FILE)
    if new.constant in top_level(text):
        raise ValueError(f"{path} has {new.constant} already")
    kernel_lines = KERNEL_LINES.format(wrapper=new.wrapper) if new.is_kernel else ""
    exercise = EXERCISE.format(constant=new.constant, name=new.name, lesson=new.lesson, kernel_lines=kernel_lines)
    lines = text.splitlines(keepends=True)
    first = top_level(text)["EXERCISES"].lineno - 1
    draft.put(path, extended("".join([*lines[:first], exercise, *lines[first:]]), "EXERCISES", new.constant))
    listed = draft.read(index)
    if f"    {new.noun},\n" not in listed:
        listed = listed.replace("from checks.exercises import (\n", f"from checks.exercises import (\n    {new.noun},\n", 1)
        draft.put(index, extended(listed, "NOUNS", new.noun))


def extended(text: str, name: str, element: str) -> str:
    """The module `text` with `element` at the end of its tuple or list `name`."""
    source = ast.get_source_segment(text, top_level(text)[name])
    assert source and source[-1] in ")]"
    names = source[:-1].rstrip().removesuffix(",")
    return text.replace(source, f"{names}{element},)" if names.endswith("(") else f"{names}, {element}{source[-1]}", 1)


def add_cells(new: NewExercise, draft: Draft, lesson: Path) -> None:
    """The exercise's text, its stub, for a kernel its wrapper, and its check, behind the cell `new.after`, or before the
    lesson's end."""
    notebook = nbformat.read(lesson, as_version=4)
    template = KERNEL if new.is_kernel else FUNCTION
    cell_id = new.wrapper.replace("_", "-")[:50]
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [text(TEXT, id=f"exercise-{cell_id}-text"),
             code(f"# exercise: {new.name}\n{template.format(name=new.name).strip()}", id=f"exercise-{cell_id}"),
             code(f"check({new.wrapper})", id=f"check-{cell_id}")]
    if new.is_kernel:
        wrapper = WRAPPER.format(name=new.name, wrapper=new.wrapper).strip()
        cells.insert(2, code(f"# given: {new.wrapper}\n{wrapper}", id=f"wrapper-{cell_id}"))
    ids = [cell.id for cell in notebook.cells]
    if new.after is not None and new.after not in ids:
        raise LookupError(f"{lesson.name} has no cell {new.after!r}; there are {', '.join(ids)}")
    at = ids.index("end") if new.after is None else ids.index(new.after) + 1
    notebook.cells[at:at] = cells
    draft.put(lesson, nbformat.writes(notebook) + "\n")


def add_readme_row(new: NewExercise, draft: Draft) -> None:
    lines = draft.read("README.md").splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith("| [") and f"(lessons/{new.lesson}.ipynb)" in line:
            _, title, asked, learnt, end = line.split("|")
            lines[number] = "|".join(["", title, f"{asked.rstrip()}, `{new.name}` (TODO) ", learnt, end])
            draft.put("README.md", "".join(lines))
            return
    raise LookupError(f"README.md has no row for lessons/{new.lesson}.ipynb")


def add_test(new: NewExercise, draft: Draft) -> None:
    path = f"tests/kernels/test_{new.file.stem}.py"
    imported = f"from {new.module} import {new.wrapper}\n"
    draft.put(path, with_import(draft.read(path, ""), imported) + TEST.format(wrapper=new.wrapper))


def add_compile_job(new: NewExercise, draft: Draft) -> None:
    package, _, module = new.module.rpartition(".")
    job = f'    yield job({new.file.stem}.{new.name}, sm, {{"BLOCK": 1024}})  # TODO: its blocks and types\n'
    put_line(draft, "tests/kernels/test_every_kernel_compiles.py", "row_jobs", job, f"from {package} import {module}\n")


def add_gpu_check(new: NewExercise, draft: Draft) -> None:
    path, attempt = "tests/gpu/gpu_report_lessons.py", f'    checks.attempt("{new.wrapper}", {new.wrapper}_on_gpu)\n'
    put_line(draft, path, "check_lessons", attempt, f"from {new.module} import {new.wrapper}\n")
    draft.put(path, draft.read(path) + GPU_CHECK.format(wrapper=new.wrapper))


def put_line(draft: Draft, path: str, function: str, line: str, imports: str) -> None:
    """Put `line` at the end of a function of the file, and the lines of imports that it needs."""
    text = draft.read(path)
    lines = text.splitlines(keepends=True)
    lines.insert(last_line(text, function), line)
    draft.put(path, with_import("".join(lines), imports))


def with_import(text: str, imports: str) -> str:
    """The module `text` with these lines of imports; ruff puts them where they belong, each once."""
    body = ast.parse(text).body
    lines = text.splitlines(keepends=True)
    if body and isinstance(body[0], ast.Expr):  # its docstring
        lines.insert(body[0].end_lineno or 1, f"\n{imports}")
    else:
        lines.insert(0, imports)
    return "".join(lines)
