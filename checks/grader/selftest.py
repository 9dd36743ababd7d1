"""Whether this installation judges as it should: known-good and known-bad submissions, made from answers and mutants."""

from checks.grader.intake.library import lesson_cells
from checks.grader.intake.submissions import Cell, Submission
from checks.judge.exercise import Exercise, Mutant
from checks.judge.source import answer_source, find_mark
from checks.judge.trial import PASSED

CHEAT = """class Fake:
    def __getitem__(self, grid):
        return lambda *arguments, **named: None


{name} = Fake()
"""


class Misjudged(Exception):
    """A submission whose verdict is known got another one."""


def submission_with(exercise: Exercise, source: str, student: str = "selftest") -> Submission:
    """The exercise's lesson with the stub of `exercise` replaced by `source`, other stubs by their answers."""
    cells = []
    for index, cell in enumerate(lesson_cells(exercise.lesson)):
        kind, name = find_mark(cell) or ("", "")
        if kind == "exercise":
            written = source if name == exercise.name else answer_source(name)
            cell = f"# exercise: {name}\n{written.rstrip()}"
        cells.append(Cell(cell, f"{exercise.lesson}.ipynb", index))
    if not any(cell.mark == ("exercise", exercise.name) for cell in cells):
        raise Misjudged(f"{exercise.name} is asked for by no cell of lessons/{exercise.lesson}.ipynb")
    return Submission(student, cells, digest=f"selftest {exercise.name}")


def mutated_source(exercise: Exercise, mutant: Mutant) -> str:
    return exercise.edited_source(*mutant.edits.items())


def check_canaries(grader) -> None:
    """Grade one known-good and one known-bad submission of a cheap exercise. Raises Misjudged."""
    wanted = [grader.course.exercises[name] for name in grader.wanted]
    kernels = [exercise for exercise in wanted if exercise.is_kernel] or wanted
    if kernels:
        exercise = kernels[0]
        _expect(grader, exercise, answer_source(exercise.name), full=True)
        _expect(grader, exercise, mutated_source(exercise, exercise.mutants[0]), full=False)


def _expect(grader, exercise: Exercise, source: str, full: bool) -> dict:
    result = grader.grade_exercise(exercise.name, submission_with(exercise, source))
    if full and (result["status"] != PASSED or result["flags"] or result["points"] < result["possible"] - 0.01):
        raise Misjudged(f"the answer of {exercise.name} got {result['points']:g} of {result['possible']:g} points, "
                        f"{result['status']}: {result['message']} {[flag['text'] for flag in result['flags']]}")
    if not full and result["status"] == PASSED:
        raise Misjudged(f"a known mistake in {exercise.name} passed")
    return result


def run(grader, say=print) -> int:
    """Every exercise: its answer passes without a flag, its first mutant fails, its stub is no attempt, a cheat gets no
    points. Prints what is misjudged; returns how many."""
    misjudged = 0
    for name in grader.wanted:
        exercise = grader.course.exercises[name]
        try:
            good = _expect(grader, exercise, answer_source(exercise.name), full=True)
            bad = _expect(grader, exercise, mutated_source(exercise, exercise.mutants[0]), full=False)
            stub = next(cell for cell in lesson_cells(exercise.lesson) if find_mark(cell) == ("exercise", name))
            untouched = grader.grade_exercise(name, submission_with(exercise, stub.partition("\n")[2]))
            if untouched["status"] != "not attempted" or untouched["points"]:
                raise Misjudged(f"the stub of {name} is {untouched['status']}")
            if exercise.is_kernel:
                cheat = grader.grade_exercise(name, submission_with(exercise, CHEAT.format(name=name)))
                if cheat["points"]:
                    raise Misjudged(f"no kernel at all got points in {name}")
            say(f"✓ {name}: answer {good['points']:g} of {good['possible']:g}; "
                f"'{exercise.mutants[0].name}': {bad['status']}")
        except Misjudged as error:
            misjudged += 1
            say(f"✗ {error}")
    say(f"isolation: {', '.join(grader.server.levels)}")
    return misjudged
