"""What ARCHITECTURE.md says of the tree: who may import whom, and how large a file, a function and a name may be."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from checks.grader.results import BESIDE_VERDICTS
from checks.paths import ROOT

ROOMS = (
    ("kernels",), ("checks.paths", "checks.files"), ("checks.executor",), ("checks.host",), ("checks.judge",),
    ("checks.ranks",), ("checks.simulated",), ("checks.exercises",),
    ("checks.bench",), ("checks.capstone",), ("checks.model",),
    ("checks.pictures",), ("checks.course",), ("checks", "checks.notebook"),
    ("checks.grader",), ("checks.dev",), ("checks.__main__",), ("tests",),
)
"""In order: a room imports from itself and from those before it."""

LINES, FUNCTION_LINES, PARAMETERS, MODULE_NAME, TEST_NAME = 420, 60, 6, 28, 60
BEYOND_THE_LIMITS = {
    "checks.simulated.gpu.SimulatedGPU.__init__": "the properties of a GPU, each by its name",
    "kernels.perrow_w8a8.perrow_w8a8_matmul": "a product's operands one by one, as torch._scaled_mm takes them",
    "kernels.perrow_w8a8.perrow_w8a8_matmul_grouped": "the same",
    "kernels.hopper_gemm.hopper_gemm": "the same",
    "kernels.timing.benchmark": "an exercise: lesson 03 names each",
}
"""Functions with more parameters than the others may have, and why."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    """checks/judge/verdict.py -> checks.judge.verdict; a package's __init__.py bears the package's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_files(*folders: str) -> dict[str, Path]:
    """Path by module; the submissions that the grader's tests read as text are no modules."""
    files = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return {module_name(path): path for path in files if path.parent.name not in ("exploits", "honest")}


MODULES = python_files("kernels", "checks", "tests")
CODE = python_files("kernels", "checks")
TESTS_BY_NAME = {path.stem: module for module, path in MODULES.items() if module.startswith("tests.")}  # all on sys.path


@cache
def parsed() -> dict[str, ast.Module]:
    """Each module's syntax tree."""
    return {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def imports(module: str) -> Iterator[str]:
    """The modules of this repository that a module imports, anywhere in it, by the names it uses for them.

    What is imported for annotations alone, under `if TYPE_CHECKING`, is not: it never runs.
    """
    for node in running(parsed()[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are written in full, from the root of the repository"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield from owner(name)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and the statements below it but blocks under `if TYPE_CHECKING`."""
    found = [node]
    while found:
        node = found.pop()
        yield node
        if not isinstance(node, ast.expr):
            found += (child for child in ast.iter_child_nodes(node) if not (
                isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"))


def owner(name: str) -> list[str]:
    """The module that `name` is, or that it is found in; none for one of another library."""
    found = name if name in MODULES else name.rpartition(".")[0]
    if found in MODULES:
        return [found]
    test = TESTS_BY_NAME.get(name.partition(".")[0])
    return [test] if test else []


@cache
def needed() -> dict[str, set[str]]:
    """By module, those that it imports."""
    return {module: {found for found in imports(module) if found != module} for module in MODULES}


def room(module: str) -> int:
    """The number of a module's room. Raises LookupError where it has none."""
    parts = module.split(".")
    names = [module, ".".join(parts[:2]), *(parts[:1] if parts[0] != "checks" else [])]  # `checks` alone is not its rooms
    for number, room_names in enumerate(ROOMS):
        if set(names) & set(room_names):
            return number
    raise LookupError(f"{module} belongs to no room: add it to ROOMS and to ARCHITECTURE.md")


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """Every function in a module, nested ones too, with its name: `checks.judge.launches.Launch.read`."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, Function | ast.ClassDef)
        name = f"{prefix}.{node.name}" if named else prefix
        if isinstance(node, Function):
            yield name, node
        yield from functions(node, name)


def is_kernel(function: Function) -> bool:
    """Whether Triton or Gluon compiles it: then pointers, sizes, strides and blocks each are a parameter of their own."""
    return any("jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def parameters(function: Function) -> list[str]:
    given = function.args
    every = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return every[1:] if every[:1] in (["self"], ["cls"]) else every


@cache
def functions_of_code() -> list[tuple[str, Function]]:
    return [(name, function) for module in CODE for name, function in functions(parsed()[module], module)]


def test_a_module_imports_only_from_rooms_before_its_own():
    upward = {(module, found) for module, needs in needed().items() for found in needs if room(found) > room(module)}
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    circle = dict(needed())
    while outside := [module for module, needs in circle.items()
                      if not needs & circle.keys() or not any(module in others for others in circle.values())]:
        for module in outside:
            del circle[module]
    assert not circle


def test_a_module_named_in_a_string_is_there():
    strings = {node.value for module in CODE for node in ast.walk(parsed()[module])
               if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = {text for text in strings if re.fullmatch(r"(checks|kernels)(\.\w+)+", text)}
    missing = named - MODULES.keys()
    assert named
    assert not missing


def test_what_decides_verdicts_is_in_the_grader_s_digest():
    """Other code may be edited without a class being graded again: no grader reaches it, and of the grader nothing else."""
    sandbox = "checks.grader.sandbox."
    reached, left = set[str](), ["checks.grader.units", "checks.grader.intake.reading", *(
        sandbox + name for name in ("forkserver", "child", "play_child", "compile_child"))]  # the latter run as scripts
    while left:
        reached.add(module := left.pop())
        left += needed()[module] - reached
    beside = {module for module, path in CODE.items() if path.relative_to(ROOT).as_posix().startswith(BESIDE_VERDICTS)}
    canaries = {"checks.grader.selftest"}
    grader = {module for module, path in CODE.items() if module.startswith("checks.grader.") and path.name != "__init__.py"}
    assert not reached & beside
    assert grader - reached - canaries <= beside


def test_files_and_their_names_are_short():
    assert not [module for module, path in MODULES.items() if len(path.read_text().splitlines()) > LINES]
    assert not [module for module, path in MODULES.items() if len(path.stem) > MODULE_NAME]


def test_functions_are_short_and_take_few_arguments():
    long = {name for name, function in functions_of_code() if function.end_lineno - function.lineno >= FUNCTION_LINES}
    wide = {name for name, function in functions_of_code()
            if len(parameters(function)) > PARAMETERS and not is_kernel(function)}
    too_wide = wide - BEYOND_THE_LIMITS.keys()
    assert not long
    assert not too_wide
    assert BEYOND_THE_LIMITS.keys() <= wide, "an exception that nothing needs any more"


def test_names_of_tests_fit_a_line_of_pytests_summary():
    assert not [(module, function.name) for module in MODULES
                for _, function in functions(parsed()[module], module)
                if function.name.startswith("test_") and len(function.name) >= TEST_NAME]


def test_architecture_md_lists_the_rooms_in_their_order():
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    names = [tuple(re.findall(r"`(.*?)`", row)) for row in rows]
    assert [tuple(module_name(ROOT / name) for name in room_names) for room_names in names] == list(ROOMS)


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_a_document_names_are_there(document):
    text = (ROOT / document).read_text()
    examples = {"tests/kernels/test_NOUN.py", "lessons/NN_name.ipynb"}
    full = set(re.findall(r"(?:checks|kernels|tests|lessons)/[\w/]*(?:\.\w+)?", text)) - examples
    short = set(re.findall(r"`([\w/]+\.py)`", text)) - examples
    alone = [ROOT / "workshop.py", ROOT / "lessons" / "checks.py"]
    there = [f"/{path.relative_to(ROOT)}" for path in [*MODULES.values(), *alone]]
    assert full and not [path for path in full if not (ROOT / path).exists()]
    assert short and not [name for name in short if not any(path.endswith(f"/{name}") for path in there)]


def test_architecture_md_knows_each_lesson_s_files():
    rows = re.findall(r"^\| (\d\d[a-z]?) \| (.*?) \| (.*?) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert [number for number, _, _ in rows] == [path.stem.partition("_")[0]
                                               for path in sorted((ROOT / "lessons").glob("[0-9]*.ipynb"))]
    for number, topics, pictures in rows:
        found = {path.stem for path in (ROOT / "checks" / "exercises").glob("*.py") if f'"{number}_' in path.read_text()}
        (lesson,) = (ROOT / "lessons").glob(f"{number}_*.ipynb")
        drawn = set(re.findall(r"from checks\.pictures(?:\.| import )(\w+)", lesson.read_text())) - {"common"}
        assert topics.split(", ") == sorted(found) and pictures.split(", ") == sorted(drawn)
