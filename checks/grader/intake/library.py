"""What of `kernels` a child is given for an exercise: our entry and what the lesson imports, as text, without the answer."""

import functools
import json
import re
from dataclasses import dataclass

from checks.grader.intake import extract
from checks.judge.exercise import Exercise
from checks.paths import ROOT

_FROM = re.compile(r"^\s*from\s+((?:kernels|checks)(?:\.\w+)*)\s+import\s+(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Library:
    """`modules` by dotted name, and the text that defines our entry around the student's function.

    Where an exercise is tried `through` a harness (a simulated GPU, say), the entry is that: it runs beside the student's
    code, so that such a result is worth less trust than one whose inputs and outputs travel as bytes.
    """

    modules: dict[str, str]
    entry_code: str | None
    through: str | None = None


@functools.cache
def library_for(exercise: Exercise) -> Library:
    """The library of an exercise. Nothing in it defines the answer."""
    without = frozenset({exercise.name})
    entry_code = None
    if exercise.wrapper is not None:
        entry_code = _slice(exercise.module.__name__, {exercise.wrapper}, without)
    through = exercise.adapter
    if through is not None:
        entry_code = _slice(through.__module__, {through.__name__}, without)
    return Library(_modules(exercise.lesson, (entry_code or "",), without), entry_code, through and through.__name__)


@functools.cache
def shared_modules(exercises: tuple[Exercise, ...]) -> dict[str, str]:
    """The modules that these exercises of one lesson have in common: nothing in them defines the answer of any."""
    entries = tuple(library_for(exercise).entry_code or "" for exercise in exercises)
    return _modules(exercises[0].lesson, entries, frozenset(exercise.name for exercise in exercises))


def _modules(lesson: str, entries: tuple[str, ...], without: frozenset[str]) -> dict[str, str]:
    """What a lesson's cells and `entries` import, without these names, and what that needs in turn."""
    wanted: dict[str, set[str]] = {}
    for entry in entries:
        _follow(entry, wanted)
    for cell in lesson_cells(lesson):
        _follow(cell, wanted, ("kernels",))
    modules: dict[str, str] = {}
    followed: dict[str, set[str]] = {}
    while followed != wanted:  # what a module needs of another may need more of a third
        followed = {module: set(names) for module, names in wanted.items()}
        for module, names in followed.items():
            modules[module] = _slice(module, names, without) if "." in module else ""
            _follow(modules[module], wanted)
    return modules


def answer_text(exercise: Exercise, kernel: str) -> str:
    """The text of our kernel called `kernel`, the answer in it. For the compiler alone, never for a student's child."""
    return _slice(exercise.module.__name__, {kernel}, frozenset())


@functools.cache
def lesson_cells(lesson: str) -> tuple[str, ...]:
    """The code cells of a lesson as it is handed out; none when there is no such lesson."""
    path = ROOT / "lessons" / f"{lesson}.ipynb"
    if not path.exists():
        return ()
    notebook = json.loads(path.read_text())
    return tuple("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")


def _follow(source: str, wanted: dict[str, set[str]], packages: tuple[str, ...] = ("kernels", "checks")) -> None:
    """Note what `source` imports from these packages."""
    starts = tuple(f"from {package}" for package in packages)
    imports = [text for text in _imports(source) if text.lstrip().startswith(starts)]
    for module, names in (match.groups() for text in imports for match in _FROM.finditer(_one_line(text))):
        for name in (part.split(" as ")[0].strip() for part in names.split(",")):
            if module in ("kernels", "checks"):  # a module as a whole: only what is used of it
                wanted.setdefault(module, set())
                used = set(re.findall(rf"\b{name}\.(\w+)", source)) if "def " in source else _plain(f"{module}.{name}")
                wanted.setdefault(f"{module}.{name}", set()).update(used)
            else:
                wanted.setdefault(module, set()).add(name)


@functools.lru_cache(1024)
def _imports(source: str) -> list[str]:
    """The imports at the top level of `source`; none where it cannot be parsed."""
    try:
        return extract.imports(source)
    except SyntaxError:
        return []


def _plain(module: str) -> set[str]:
    """The functions of a module that holds no kernels, such as the cost models: exercises may call one another's."""
    statements = _statements(module)
    if any("triton.jit" in statement.source for statement in statements):
        return set()
    return {name for statement in statements if statement.function for name in statement.binds}


def _one_line(source: str) -> str:
    return re.sub(r"#.*", "", source).replace("(", " ").replace(")", " ").replace("\\\n", " ").replace("\n", " ")


@functools.cache
def _statements(module: str) -> tuple:
    path = ROOT / (module.replace(".", "/") + ".py")
    return tuple(extract.statements(path.read_text())) if path.exists() else ()


def _slice(module: str, names: set[str], without: frozenset[str]) -> str:
    available = [statement for statement in _statements(module) if not without & statement.binds]
    return extract.text(extract.needed_for(names, available))
