"""What of a submission is run for an exercise: the cells of the notebook that holds its cell."""

import ast
from dataclasses import dataclass, field

from checks.grader.intake import extract
from checks.grader.intake.library import lesson_cells
from checks.grader.intake.submissions import Submission, find_exercise_cell, given_notices, is_stub
from checks.judge.exercise import Exercise
from checks.judge.source import find_mark

REACHES = {"_getframe", "settrace", "setprofile", "get_objects", "get_referrers", "modules", "_exit", "fork", "ctypes",
           "mmap", "subprocess", "socket", "urllib", "requests", "pickle", "__reduce__", "atexit", "signal", "ptrace",
           "importlib", "linecache", "inspect", "meta_path", "environ", "kill", "popen", "system", "__globals__",
           "__closure__", "__code__", "__subclasses__", "f_back", "f_locals", "tb_frame", "__builtins__", "builtins",
           "gc", "traceback", "_current_frames",
           "set_trace", "_patch_lang", "interpreter_builder", "multiprocessing", "cffi", "dlopen", "CDLL"}
"""Names by which code reaches beyond its function: a word for a person, not a verdict."""
LOOKS = {"vars", "dir", "getattr", "setattr", "delattr"}
"""Functions by which it reaches what is private to a harness."""


@dataclass
class Code:
    """What was found for an exercise: a status without running anything, or the cells to run."""

    status: str | None = None  # "missing", "not attempted"
    message: str = ""
    notices: list[str] = field(default_factory=list)
    source: str = ""  # the student's own function, for hints and for similarity
    suspicious: list[str] = field(default_factory=list)
    file: str = ""
    setup: tuple[str, ...] = ()  # the lesson's own cells that are run first: imports, and what is given
    cells: tuple[str, ...] = ()  # the student's
    index: int = 0  # of the exercise's cell among them


def code_for(exercise: Exercise, submission: Submission) -> Code:
    """What to run for `exercise`. Nothing of the submission is executed."""
    found = find_exercise_cell(submission, exercise.name)
    if found.cell is None:
        return Code("missing", f"there is no cell with the line `# exercise: {exercise.name}`.")
    handed_out = lesson_cells(exercise.lesson)
    cells = submission.in_file(found.cell.file)
    code = Code(notices=list(found.notices), source=function_source(found.cell.source, exercise.name),
                suspicious=suspicious(found.cell.source, private=exercise.adapter is not None), file=found.cell.file,
                setup=_setup(handed_out), cells=tuple(cell.source for cell in cells), index=cells.index(found.cell))
    if found.cell.file.lower().endswith(".ipynb"):
        code.notices += given_notices(submission, found.cell.file, handed_out)
    if is_stub(found.cell.source):
        code.status, code.message = "not attempted", "the line that holds the place of your code is still there."
    return code


def _setup(handed_out: tuple[str, ...]) -> tuple[str, ...]:
    return handed_out[:1] + tuple(cell for cell in handed_out[1:] if (find_mark(cell) or ("",))[0] == "given")


def function_source(cell: str, name: str) -> str:
    """The lines of a cell that define the function `name`; all of them where it is not defined by `def`."""
    try:
        tree, text = extract.parse(cell)
    except SyntaxError:
        return cell
    for node in reversed(tree.body):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.split("\n")[first - 1:node.end_lineno])
    return cell


def suspicious(source: str, private: bool = False) -> list[str]:
    """What of REACHES a cell names; also private attributes, such as a harness has them, and LOOKS."""
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
    called = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
    opened = ({"open"} | (LOOKS if private else set())) & called
    hidden = {name for name in attributes if name.startswith("_") and private}
    return sorted((names & REACHES) | hidden | opened | {s for s in strings if s in REACHES})
