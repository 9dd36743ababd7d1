"""What of a student's cells is run for an exercise, in which order of trust."""

import ast
from dataclasses import dataclass, field, replace

from checks.exercises import EXERCISES
from checks.grader.intake import extract, language
from checks.grader.intake.library import answer_text, launcher, lesson_cells, library_for
from checks.grader.intake.submissions import Submission, find_exercise_cell, given_notices, is_stub
from checks.judge.exercise import Exercise

PROVEN, OPEN, HARNESS = "proven", "open", "harness"
"""Trust: in a proven program only kernels and host code that allocates, reshapes and launches can run; an open one is any
Python, whose outputs alone count; a harness makes those outputs beside the student's Python, which could reach it."""

REACHES = {"_getframe", "settrace", "setprofile", "get_objects", "get_referrers", "modules", "_exit", "fork", "ctypes",
           "mmap", "subprocess", "socket", "urllib", "requests", "pickle", "__reduce__", "atexit", "signal", "ptrace",
           "importlib", "linecache", "inspect", "meta_path", "environ", "kill", "popen", "system", "__globals__",
           "__closure__", "__code__", "__subclasses__", "f_back", "f_locals", "tb_frame", "__builtins__", "builtins",
           "set_trace", "_patch_lang", "interpreter_builder", "multiprocessing", "cffi", "dlopen", "CDLL"}
"""Names by which code reaches beyond its function: a word for a person, not a verdict."""


@dataclass(frozen=True)
class Program:
    """One way to run an exercise: `code` defines the student's function, `call` or `entry` is what is called."""

    code: str
    trust: str
    own_entry: bool = False
    why_open: str | None = None
    lent: tuple[str, ...] = ()  # other exercises' functions that it calls, ours in place of the student's


@dataclass
class Code:
    """What was found for an exercise: a status without running anything, or programs in the order to try them."""

    status: str | None = None  # "missing", "not attempted", "crashed"
    message: str = ""
    notices: list[str] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)
    source: str = ""  # the student's own function, for hints and for similarity
    suspicious: list[str] = field(default_factory=list)


def code_for(exercise: Exercise, submission: Submission) -> Code:
    """What to run for `exercise`. Nothing of the submission is executed."""
    found = find_exercise_cell(submission, exercise.name)
    if found.cell is None:
        return Code("missing", f"there is no cell with the line `# exercise: {exercise.name}`.")
    code = Code(notices=list(found.notices), source=found.cell.source)
    if found.cell.file.lower().endswith(".ipynb"):
        code.notices += given_notices(submission, found.cell.file, lesson_cells(exercise.lesson))
    if is_stub(found.cell.source):
        code.status, code.message = "not attempted", "the line that holds the place of your code is still there."
        return code
    try:
        own = extract.statements(found.cell.source, -1)
    except SyntaxError as error:
        code.status = "crashed"
        code.message = f"its cell is no Python: {error.msg}" + (f" (line {error.lineno})." if error.lineno else ".")
        return code
    if not any(exercise.name in statement.binds for statement in own):
        code.status, code.message = "missing", f"its cell does not define `{exercise.name}`."
        return code
    code.source = next(s.source for s in reversed(own) if exercise.name in s.binds)
    code.suspicious = suspicious(found.cell.source, private=exercise.adapter is not None)
    others = _statements_around(submission, found.cell, {exercise.name})
    available = [s for s in others if s.place < (found.cell.index, 0)] + own + [
        s for s in others if s.place > (found.cell.index, 0)]
    code.programs = _programs(exercise, available, own)
    lent = {name for statement in extract.needed_for([exercise.name], available) for name in statement.needs
            if name in EXERCISES and name != exercise.name and EXERCISES[name].lesson == exercise.lesson}
    if lent:  # a mistake in one exercise is not to be paid for in the next
        answers = [s for name in sorted(lent) for s in extract.statements(answer_text(EXERCISES[name], name))
                   if exercise.name not in s.binds]
        available = answers + [statement for statement in available if not statement.binds & lent]
        code.programs += [replace(program, lent=tuple(sorted(lent))) for program in _programs(exercise, available, own)]
    return code


def _statements_around(submission: Submission, cell, without: set[str]) -> list[extract.Statement]:
    """What the other cells of the same file define, without other definitions of the function itself."""
    found = []
    for other in submission.in_file(cell.file):
        if other is cell:
            continue
        try:
            found += [s for s in extract.statements(other.source, other.index) if not s.binds & without]
        except SyntaxError:  # a broken cell does not take the others with it
            continue
    return found


def _programs(exercise: Exercise, available: list, own: list) -> list[Program]:
    given = library_for(exercise).modules
    code = extract.text(extract.needed_for([exercise.name], available))
    if exercise.wrapper is None:
        return [Program(code, OPEN)]
    if not language.is_kernel(code, exercise.name):
        return [Program(code, OPEN, why_open=f"`{exercise.name}` is no @triton.jit function")]
    outside = language.outside(code, given)
    programs = [Program(code, OPEN if outside else PROVEN, why_open=outside)]
    mine = [s for s in available if exercise.wrapper in s.binds and s.function]
    ours = next((cell for cell in lesson_cells(exercise.lesson) if extract.function_in(cell, exercise.wrapper)), "")
    if any(s in own for s in mine) or any(extract.normal_form(s.source) != extract.normal_form(ours) for s in mine):
        text = extract.text(extract.needed_for([exercise.name, exercise.wrapper], available))
        outside = language.outside(text, given)
        programs.append(Program(text, OPEN if outside else PROVEN, True, outside))
    return sorted(programs, key=lambda program: program.trust != PROVEN)


def suspicious(source: str, private: bool = False) -> list[str]:
    """What of REACHES a cell names; also private attributes, such as a harness has them."""
    try:
        tree = extract.parse(source)[0]
    except SyntaxError:
        return []
    attributes = {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    names = attributes | {part.id for part in ast.walk(tree) if isinstance(part, ast.Name) and part.id.startswith("_")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(part for alias in node.names for part in alias.name.split("."))
            names.update((getattr(node, "module", "") or "").split("."))
    strings = {part.value for part in ast.walk(tree) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    opened = {"open"} & {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
    hidden = {name for name in attributes if name.startswith("_") and private}
    return sorted((names & REACHES) | hidden | opened | {s for s in strings if s in REACHES})


def kernel_source(exercise: Exercise, program: Program, kernel: str) -> str:
    """Text that defines the launched `kernel`: the student's, or ours around the student's function."""
    if extract.function_in(program.code, kernel):
        kept = extract.statements(program.code)
        return extract.text(extract.needed_for([kernel], kept))
    student = extract.text(extract.needed_for([exercise.name], extract.statements(program.code)))
    return student + "\n" + launcher(exercise, kernel)
