"""The contract between lessons/, kernels/, checks/exercises/ and solutions/."""

import difflib
import inspect
import re
from dataclasses import replace

import nbformat
import pytest

from checks.course.notebooks import SOLUTIONS, exercises_in, function_source, lessons, mark, read, run, solve
from checks.exercises import EXERCISES
from checks.judge import diagnosis, trial
from checks.judge.source import answer_source, define, find_placeholder, python_function
from checks.judge.trial import try_again
from checks.judge.verdict import NOT_ATTEMPTED, judge

LESSONS = [pytest.param(read(path), id=path.stem) for path in lessons()]
STUBS = [pytest.param(name, cell, id=name)
         for path in lessons() for name, cell in exercises_in(read(path)).items()]
MUTANTS = [pytest.param(exercise, mutant, id=f"{exercise.name}: {mutant.name}")
           for exercise in EXERCISES.values() for mutant in exercise.mutants]


def test_every_exercise_has_one_stub_and_every_stub_an_exercise():
    names = [name for path in lessons() for name in exercises_in(read(path))]
    assert sorted(names) == sorted(exercise.name for exercise in EXERCISES.values())


@pytest.mark.parametrize(("name", "cell"), STUBS)
def test_a_solution_only_adds_lines_at_the_placeholder(name, cell):
    stub, answer = function_source(cell).splitlines(), answer_source(name).splitlines()
    changes = [c for c in difflib.SequenceMatcher(a=stub, b=answer, autojunk=False).get_opcodes() if c[0] != "equal"]
    placeholder = find_placeholder(function_source(cell))
    assert len(changes) == 1, f"{cell.id} must be the answer in kernels/ but for the lines at its placeholder: {changes}"
    _, first, last, _, _ = changes[0]
    assert (first + 1, last) == (placeholder.lineno, placeholder.end_lineno)


@pytest.mark.parametrize(("name", "cell"), STUBS)
def test_every_stub_is_not_attempted_and_says_so(name, cell):
    exercise = EXERCISES[name]
    verdict = judge(exercise, define(function_source(cell), exercise.name, dict(vars(exercise.module))))
    assert verdict.status == NOT_ATTEMPTED
    assert "not attempted: replace the placeholder `" in verdict.message


@pytest.mark.parametrize("exercise", [pytest.param(e, id=e.name) for e in EXERCISES.values()])
def test_every_answer_passes(exercise):
    verdict = judge(exercise, exercise.answer_function())
    assert verdict.passed, verdict.message


@pytest.fixture
def each_tried_once(monkeypatch):
    """The judge tries a function, then the same one as the known mistake that it is: here it is executed once."""
    kept = {}

    def once(exercise, function, seen, run=None):
        key = id(function), seen.case.name
        if key not in kept:
            kept[key] = try_again(exercise, function, seen, run)
        return replace(kept[key])

    monkeypatch.setattr(trial, "try_again", once)
    monkeypatch.setattr(diagnosis, "try_again", once)


@pytest.mark.usefixtures("each_tried_once")
@pytest.mark.parametrize(("exercise", "mutant"), MUTANTS)
def test_every_mutant_fails_and_is_named(exercise, mutant):
    verdict = judge(exercise, exercise.mutated(mutant))
    assert not verdict.passed
    assert verdict.mistake == mutant.name, verdict.message
    assert mutant.advice in verdict.message


@pytest.mark.parametrize("notebook", LESSONS)
def test_given_cells_are_the_kernels_own_text(notebook):
    for cell in notebook.cells:
        found = mark(cell)
        if found and found[0] == "given":
            ours = answer_source(found[1])
            assert function_source(cell) == ours, f"{cell.id} must be {found[1]} as it stands in kernels/"


@pytest.mark.parametrize("notebook", LESSONS)
def test_a_lesson_holds_no_outputs_and_no_stray_metadata(notebook):
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not cell.metadata
        assert not cell.id.isalnum() or cell.id.isalpha(), f"cell id {cell.id} is not a readable one"
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            assert cell.source.strip()
    wide = [f"{cell.id}: {line}" for cell in notebook.cells if cell.cell_type == "code"
            for line in cell.source.splitlines() if len(line) > 100]
    assert not wide, "\n".join(["too wide for a laptop's notebook page:", *wide])


@pytest.mark.parametrize("notebook", LESSONS)
def test_diagrams_fit_a_laptops_page(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for drawn in re.findall(r"```\w*\n(.*?)```", cell.source, re.DOTALL):
                assert max(map(len, drawn.splitlines())) <= 85, f"{cell.id}: too wide"


@pytest.mark.parametrize("notebook", LESSONS)
def test_a_lesson_checks_each_of_its_exercises(notebook):
    checked = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for name in exercises_in(notebook):
        exercise = EXERCISES[name]
        assert f"check({exercise.name})" in checked or f"check({exercise.wrapper})" in checked


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in lessons()])
def test_solutions_are_lessons_filled_in_and_run_without_errors(path):
    solution, expected = read(SOLUTIONS / path.name), solve(read(path))
    assert [(c.id, c.cell_type, c.source, c.metadata) for c in solution.cells] == [
        (c.id, c.cell_type, c.source, c.metadata) for c in expected.cells], "run `python3 workshop.py solutions`"
    code = [cell for cell in solution.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    said = "".join(output.get("text", "") for output in outputs)
    assert said.count("✓") == len(exercises_in(solution))


def test_there_is_no_solution_without_a_lesson():
    assert {path.name for path in SOLUTIONS.glob("*.ipynb")} == {path.name for path in lessons()}


@pytest.mark.parametrize("exercise", [pytest.param(e, id=e.name) for e in EXERCISES.values()])
def test_points_oracle_and_cases_are_there(exercise):
    assert exercise.points > 0, "give its points, in checks/exercises/"
    assert len(exercise.cases) >= 3, "write at least three cases, in checks/exercises/"
    assert len({case.name for case in exercise.cases}) == len(exercise.cases)
    assert inspect.getdoc(python_function(exercise.answer_function())), "the docstring is the exercise's formula"


def test_a_lesson_s_definitions_are_found_without_its_plots():
    for path in lessons():
        found = run(read(path))
        for name in exercises_in(read(path)):
            assert found.candidates(name, EXERCISES[name].wrapper), name
