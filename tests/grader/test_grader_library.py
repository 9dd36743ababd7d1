"""What of the workshop a child is given: all that the lesson's cells and our wrappers need, and no answer."""

import ast
import builtins
import functools

import pytest

from checks.exercises import EXERCISES
from checks.grader.intake import extract, library
from checks.grader.intake.library import answer_text, lesson_cells, library_for, shared_modules

LESSONS = sorted({one.lesson for one in EXERCISES.values()})


def of_lesson(lesson: str) -> tuple:
    return tuple(one for one in EXERCISES.values() if one.lesson == lesson)


def imported(source: str) -> set[tuple[str, str]]:
    """("kernels.cost", "gemv_bytes") for what `from kernels.cost import gemv_bytes` wants, and so on."""
    try:
        nodes = extract.parse(source)[0].body
    except SyntaxError:
        return set()
    return {(node.module, alias.name) for node in nodes if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names if node.module.partition(".")[0] in ("kernels", "checks")}


statements = functools.cache(extract.statements)


@functools.cache
def defined(text: str) -> set[str]:
    """The names of functions, classes and numbers that a text defines, and those that it imports."""
    return {name for node in ast.parse(text).body for name in extract._bound(node)}


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_child_has_what_the_lesson_imports(lesson):
    """But for the answers: together those of the whole lesson, alone the one that is asked for."""
    together = of_lesson(lesson)
    names = {one.name for one in together}
    wanted = {pair for cell in lesson_cells(lesson) for pair in imported(cell) if pair[0].startswith("kernels")}
    libraries = [(shared_modules(together), names), *((library_for(one).modules, {one.name}) for one in together[:2])]
    for modules, lacking in libraries:
        for module, name in wanted:
            assert module in modules
            if module == "kernels":
                assert f"kernels.{name}" in modules
            else:
                assert (name in defined(modules[module])) == (name not in lacking), f"{module}.{name}"


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_a_child_has_is_whole(lesson):
    """Each module has what it uses, itself or from another one that is there, but for the answers."""
    together = of_lesson(lesson)
    modules, lacking = shared_modules(together), {one.name for one in together}
    for module, text in modules.items():
        used = {name for one in statements(text) for name in one.needs} - defined(text) - set(dir(builtins))
        assert used <= lacking | {"__name__", "__file__"}, module
        for other, name in imported(text):
            if other in ("kernels", "checks"):
                assert f"{other}.{name}" in modules
            else:
                assert name in defined(modules[other]) | lacking, f"{module} wants {other}.{name}"


AROUND = {(one.lesson, one.adapter is not None, one.wrapper is not None): one for one in EXERCISES.values()}


@pytest.mark.parametrize("exercise", AROUND.values(), ids=lambda one: one.name)
def test_our_wrapper_around_theirs(exercise):
    given = library_for(exercise)
    if exercise.adapter is not None:
        assert given.through == exercise.adapter.__name__ in defined(given.entry_code)
    elif exercise.wrapper is not None:
        assert given.through is None and exercise.wrapper in defined(given.entry_code)
    else:
        assert (given.entry_code, given.through) == (None, None)
    if given.entry_code is not None:
        wanted = {pair for pair in imported(given.entry_code) if pair[0] not in ("kernels", "checks")}
        together = of_lesson(exercise.lesson)
        for modules, lacking in ((given.modules, set()), (shared_modules(together), {one.name for one in together})):
            have = {(module, name) for module, text in modules.items() for name in defined(text)}
            assert {pair for pair in wanted - have if pair[1] not in lacking} == set()
    answer = answer_text(exercise, exercise.name)
    assert exercise.name in defined(answer)


@pytest.mark.parametrize("source, packages, wanted", [
    ("from kernels.cost import a, b as c", None, {"kernels.cost": {"a", "b"}}),
    ("from kernels.cost import (a,  # the first\n    b)\n", None, {"kernels.cost": {"a", "b"}}),
    ("from kernels.cost import a, \\\n    b", None, {"kernels.cost": {"a", "b"}}),
    ("from checks.simulated.gpu import G", None, {"checks.simulated.gpu": {"G"}}),
    ("from checks.simulated.gpu import G", ("kernels",), {}), ("from torch.nn import a", None, {}),
    ("def f():\n    from kernels.cost import a", None, {}), ("def def", None, {}),
    ("from kernels import cost\ndef f():\n    return cost.a + cost.b(1) + costs.c", None,
     {"kernels": set(), "kernels.cost": {"a", "b"}})],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__)
def test_what_a_text_imports_of_ours(source, packages, wanted):
    found: dict[str, set[str]] = {}
    library._follow(source, found, *([packages] if packages else []))
    assert found == wanted


def test_a_lesson_that_is_not_there_has_no_cells():
    assert lesson_cells("99_nothing") == ()
    assert lesson_cells(LESSONS[0])[0].startswith(("import", "from"))


def test_a_module_that_is_imported_whole_gives_its_functions():
    """Unless it holds kernels, which are then asked for by name."""
    assert library._plain("kernels.cost") >= {"gemv_bytes", "roofline_us"} and library._plain("kernels.gemv") == set()
    assert library._plain("kernels.nothing") == set()
