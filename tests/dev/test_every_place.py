"""No exercise lacks any of its places. `python3 workshop.py dev new-exercise` makes them all, each with a TODO.

What must hold between answer, stub, cases and solution is in tests/course/test_contract.py.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from checks.course.notebooks import exercises_in, lessons, read
from checks.exercises import EXERCISES, NOUNS
from checks.judge.exercise import Exercise
from checks.judge.source import answer_source, find_placeholder
from checks.paths import ROOT

KERNEL_TESTS, GPU, LIBRARY = ROOT / "tests" / "kernels", ROOT / "tests" / "gpu", ROOT / "kernels"
COMPILED = KERNEL_TESTS / "test_every_kernel_compiles.py"
ALL = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values()]
KERNELS = [pytest.param(exercise, id=exercise.name) for exercise in EXERCISES.values() if exercise.is_kernel]


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for folder in (KERNEL_TESTS, GPU, LIBRARY) for path in folder.rglob("*.py")}


def identifiers(node: ast.AST) -> set[str]:
    """All names in a piece of code: of `test_fused.rows` and of `from kernels import fused` each part."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            found.add(part.id if isinstance(part, ast.Name) else part.attr)
        elif isinstance(part, ast.alias):
            found |= set(part.name.split("."))
    return found


def defined_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def reached(tree: ast.Module, names: set[str]) -> set[str]:
    """The names in those functions and constants of a module that are among `names`, or that these lead to."""
    waiting, found = set(names), set()
    defined = {name: node for node in tree.body for name in defined_by(node)}
    while ready := waiting & defined.keys():
        waiting = set().union(*(identifiers(defined.pop(name)) for name in ready))
        found |= waiting
    return found


@cache
def used_on_gpu() -> set[str]:
    """What the report on a GPU calls: itself, through the tests that it runs, and through other functions of `kernels`."""
    found = set().union(*(identifiers(tree) for path, tree in trees().items() if path.name.startswith("gpu_report")))
    through = [reached(tree, found) for path, tree in trees().items() if LIBRARY in path.parents or path.stem in found]
    return found.union(*through)


def todos(exercise: Exercise, folder: Path) -> list[str]:
    """The files of a folder with a TODO of this exercise, as the skeleton has it."""
    todo = re.compile(rf"TODO: \{{{exercise.wrapper}\.__name__\}}|\.{exercise.name}, .*# TODO")
    return [path.name for path in sorted(folder.glob("*.py")) if todo.search(path.read_text())]


@pytest.mark.parametrize("exercise", ALL)
def test_oracle_is_written_and_three_mistakes_are_known(exercise):
    assert exercise.oracle is not None, "write its oracle, in checks/exercises/"
    assert len(exercise.mutants) >= 3, "write at least three mutants, in checks/exercises/"


@pytest.mark.parametrize("exercise", ALL)
def test_answer_is_written(exercise):
    for name in {exercise.name, exercise.wrapper or exercise.name}:
        source = answer_source(name)
        assert find_placeholder(source) is None and "TODO" not in source, f"{name} in kernels/ has a TODO"


@pytest.mark.parametrize("exercise", ALL)
def test_lesson_has_its_text_hints_and_stub(exercise):
    (lesson,) = [path for path in lessons() if path.stem == exercise.lesson]
    cells = read(lesson).cells
    stub = exercises_in(read(lesson))[exercise.name]
    before = cells[:next(number for number, cell in enumerate(cells) if cell.id == stub.id)]
    hints = next(cell.source for cell in reversed(before) if "<summary>Hint" in cell.source)
    assert "TODO" not in hints.replace("`TODO`", ""), f"{lesson.name}: the text and the hints before {stub.id}"
    assert '"""TODO' not in stub.source, f"{lesson.name}: {stub.id} must have the answer's docstring"


@pytest.mark.parametrize("exercise", ALL)
def test_readme_has_a_row_for_its_lesson(exercise):
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if f"(lessons/{exercise.lesson}.ipynb) |" in line]
    assert len(rows) == 1
    assert f"`{exercise.name}` (TODO)" not in rows[0], "write what it asks in README.md, and remove its (TODO)"


@pytest.mark.parametrize("exercise", KERNELS)
def test_kernel_has_a_test(exercise):
    users = [path.name for path, tree in trees().items() if path.parent == KERNEL_TESTS and path != COMPILED
             and {exercise.name, exercise.wrapper} & identifiers(tree)]
    assert users, "nothing in tests/kernels/ calls it"
    left = [file for file in todos(exercise, KERNEL_TESTS) if file != COMPILED.name]
    assert not left, f"tests/kernels/{left[0]} has the skeleton's TODO instead of a test"


@pytest.mark.parametrize("exercise", KERNELS)
def test_kernel_is_compiled_for_gpus(exercise):
    if exercise.name.endswith("_kernel"):  # others are parts of one
        assert exercise.name in identifiers(trees()[COMPILED]), f"{COMPILED.name} has no job for it"
    left = todos(exercise, KERNEL_TESTS)
    assert COMPILED.name not in left, f"its job in {COMPILED.name} has a TODO: give its blocks and types"


@pytest.mark.parametrize("exercise", KERNELS)
def test_kernel_is_in_the_gpu_report(exercise):
    assert {exercise.name, exercise.wrapper} & used_on_gpu(), "no tests/gpu/gpu_report*.py calls it"
    left = todos(exercise, GPU)
    assert not left, f"tests/gpu/{left[0]} has the skeleton's TODO instead of a check"


@pytest.mark.parametrize("path", sorted((ROOT / "checks" / "exercises").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_no_exercise_is_left_out_of_its_lists(path):
    noun = importlib.import_module(f"checks.exercises.{path.stem}")
    assert noun in NOUNS
    assert not [name for name, value in vars(noun).items() if isinstance(value, Exercise) and value not in noun.EXERCISES]
