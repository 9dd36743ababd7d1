"""What is read of a submission, and what of it is run."""

import json
import types

import pytest
from grading import ADD, NEEDED, exercise_cell

from checks.grader.intake import extract
from checks.grader.intake.code import code_for, function_source, suspicious
from checks.grader.intake.formats import cells_of
from checks.grader.intake.submissions import Cell, Submission, given_notices, is_stub, read_submission

# what is run of it


@pytest.mark.parametrize("source, named", [
    ("import os\nos._exit(0)", ["_exit"]), ("import ctypes", ["ctypes"]),
    ("from ctypes import CDLL as c", ["CDLL", "ctypes"]),
    ("open('x')", ["open"]), ("getattr(x, '__globals__')", ["__globals__"]), ("x.f_back", ["f_back"]), ("x = 1", []),
    ("def def", []), ("from . import ctypes", ["ctypes"]), ("import urllib.request", ["urllib"]),
    ("import gc, traceback\nfor frame, _ in traceback.walk_stack(None):\n    gc.get_referents(frame)", ["gc", "traceback"])])
def test_names_that_reach_out(source, named):
    assert suspicious(source) == named


def test_private_names_reach_into_a_harness():
    assert suspicious("gpu._now_us") == []
    assert suspicious("gpu._now_us", private=True) == ["_now_us"]
    assert suspicious("vars(gpu)['_now_us'] + getattr(gpu, '_now' + '_us')", private=True) == ["getattr", "vars"]


def code_of(exercise, *cells):
    return code_for(exercise, Submission("ada", [Cell(source, "a.py", index) for index, source in enumerate(cells)]))


def test_what_is_not_run():
    assert code_of(NEEDED).status == "missing" and "no cell with the line" in code_of(NEEDED).message
    stub = code_of(NEEDED, exercise_cell(NEEDED, "def programs_needed(N, BLOCK):\n    ...  # TODO: your code\n"))
    assert (stub.status is None) != ("TODO" in stub.source and stub.status == "not attempted")


def test_what_is_run_of_a_notebook():
    """All its cells in their order, after the lesson's imports and what the lesson gives."""
    cells = "import torch", exercise_cell(ADD), "print(1)"
    code = code_of(ADD, *cells)
    assert code.cells == cells and code.index == 1 and code.file == "a.py" and code.status is None
    assert "import" in code.setup[0] and any("# given: vector_add" in cell for cell in code.setup)
    assert not any("# exercise:" in cell for cell in code.setup)


def test_only_the_notebook_that_holds_the_cell_is_run():
    cells = [Cell("first", "a.py", 0), Cell("import torch", "b.IPYNB", 0), Cell(exercise_cell(ADD), "b.IPYNB", 2)]
    code = code_for(ADD, Submission("ada", cells))
    assert (code.file, code.cells, code.index) == ("b.IPYNB", ("import torch", exercise_cell(ADD)), 1)
    assert any("the given cell `vector_add` is missing" in notice for notice in code.notices)
    assert not code_of(ADD, exercise_cell(ADD)).notices, "a script has no given cells"


def test_a_given_cell_is_no_exercise():
    assert code_of(NEEDED, f"# given: vector_add\ndef {NEEDED.name}():\n    pass\n").status == "missing"


# source as text


@pytest.mark.parametrize("source", ["def f(:\n", "(" * 100_000, "x" + ".a" * 3000, "-" * 50_000 + "1", "\0", "%time\nx ="],
                         ids=lambda source: source[:5])
def test_what_cannot_be_parsed_is_no_python(source):
    with pytest.raises(SyntaxError):
        extract.parse(source)


@pytest.mark.parametrize("one, other, same", [
    ("x=1", "x = 1  # a comment", True), ("x = 1", "x = 2", False), ("f( a,\n b)", "f(a, b)", True),
    ("def f():\n    'doc'\n    return 1", "def f():\n    return 1", True),
    ("def f():\n    'doc'", "def f():\n    pass", True),
    ("class A:\n    'doc'\n    x = 1", "class A:\n    x = 1", True),
    ("async def f():\n    'a'", "async def f(): pass", True),
    ("def f():\n    g()\n    return 2", "def f():\n    return 2", False), ("%time\nx = 1", "x = 1", True),
    ("def def  f", "def def f", True), ("def def f", "def def g", False)])
def test_which_texts_are_the_same_code(one, other, same):
    assert (extract.normal_form(one) == extract.normal_form(other)) == same


@pytest.mark.parametrize("source, binds", [
    ("import torch.nn", {"torch"}), ("import torch.nn as nn, os", {"nn", "os"}), ("from a import b as c, d", {"c", "d"}),
    ("x, (y, *z) = 1, (2, 3)", {"x", "y", "z"}), ("x += 1", {"x"}), ("x: int = 1", {"x"}), ("a.b = c[d] = 1", set()),
    ("async def f():\n    y = 1", {"f"}), ("class A(B):\n    y = 1", {"A"}), ("def f(a):\n    y = a", {"f"}),
    ("if a:\n    import b\nelse:\n    def c(): pass", {"b", "c"}), ("for i in n:\n    x = i", {"i", "x"}),
    ("with a as b:\n    c = 1", {"b", "c"}), ("while (n := 1):\n    y = n", {"n", "y"}),
    ("try:\n    import a\nexcept E:\n    a = None\n    import b\nfinally:\n    c = 1", {"a", "b", "c"})])
def test_which_names_a_statement_binds(source, binds):
    (statement,) = extract.statements(source)
    assert statement.binds == binds


@pytest.mark.parametrize("wanted, kept", [
    ("f", ["import a", "B = a.b", "def g():\n    return B", "def h():\n    return C", "C = 1",
           "def f():\n    return g() + h()"]),
    ("h", ["def h():\n    return C", "C = 1"]), ("x", ["x = 1", "x += D", "D = 2"]), ("nothing", []),
    ("P", ["P = Q = []", "Q += [1]"])])
def test_all_that_is_needed_by_name_is_kept_in_its_order(wanted, kept):
    source = ("import a\nB = a.b\nprint(B)\ndef g():\n    return B\ndef h():\n    return C\nC = 1\ndef f():\n"
              "    return g() + h()\nx = 1\nx += D\nD = 2\nP = Q = []\nQ += [1]\n")
    assert [one.source for one in extract.needed_for([wanted], extract.statements(source))] == kept


def test_which_statements_of_a_cell_bind_names():
    cell = "print(1)\ndel a\nassert b\nglobal c\npass\n@d\ndef f():\n    pass\nx = (1,\n     2)\n"
    found = extract.statements(cell, cell=3)
    assert [(one.source, one.place, one.function) for one in found] == [
        ("@d\ndef f():\n    pass", (3, 6), True), ("x = (1,\n     2)", (3, 9), False)]
    assert found[0].needs == {"d"} and extract.text(found + found[:1]) == "@d\ndef f():\n    pass\nx = (1,\n     2)\n"
    cell = "import a\nfrom b import (c,\n    d)\n!ls\ndef f():\n    from e import g\nfrom h import i"
    assert extract.imports(cell) == ["from b import (c,\n    d)", "from h import i"]


@pytest.mark.parametrize("source, wanted, there", [
    ("def f(): pass", "f", True), ("async def f(): pass", "f", False), ("class f: pass", "f", False), ("f = 1", "f", False),
    ("if 1:\n    def f(): pass", "f", False), ("def def f()", "f", False), ("%time\ndef f(): pass", "f", True),
    ("def g(): pass", "f", False)])
def test_whether_a_cell_defines_a_function(source, wanted, there):
    assert extract.function_in(source, wanted) is there


@pytest.mark.parametrize("error, said", [(MemoryError(), "MemoryError"), (ValueError("null bytes"), "null bytes"),
                                         (RecursionError("too deep"), "too deep")], ids=repr)
def test_why_a_text_cannot_be_parsed_is_said(monkeypatch, error, said):
    def parse(_):
        raise error

    monkeypatch.setattr(extract, "ast", types.SimpleNamespace(parse=parse))
    with pytest.raises(SyntaxError, match=f"^it cannot be parsed: {said}$"):
        extract.parse("x")


def test_the_source_of_a_function_is_its_own():
    cell = "%time\nx = 1\n@dec\ndef f(a):\n    return a\n\ndef g():\n    pass\n"
    assert function_source(cell, "f") == "@dec\ndef f(a):\n    return a"
    assert function_source("def f():\n    return 1\n\nx = f()\ndef f():\n    return 2\n", "f") == "def f():\n    return 2"
    assert function_source("f = make()", "f") == "f = make()" and function_source("def def", "f") == "def def"


def test_a_notebook_of_an_old_format_may_have_empty_worksheets():
    cell = {"cell_type": "code", "input": "x = 1"}
    for sheets in ([], None, {}, [{"cells": [cell]}]):
        old = {"worksheets": sheets} | ({} if sheets else {"cells": [cell]})
        assert cells_of("a.ipynb", json.dumps(old).encode()).sources == ["x = 1"]


# what is said of it


GIVEN = "# given: vector_add\ndef vector_add(x):\n    return x"
LESSON = ("import torch", GIVEN, exercise_cell(NEEDED), exercise_cell(ADD))


@pytest.mark.parametrize("cells, said", [
    (LESSON, []), ((GIVEN, exercise_cell(ADD)), []), ((GIVEN, exercise_cell(NEEDED)), []), ((GIVEN,), []),
    ((GIVEN, exercise_cell(ADD), exercise_cell(NEEDED)), ["not in the lesson's order"]),
    ((exercise_cell(ADD), GIVEN), ["not in the lesson's order"]), ((exercise_cell(ADD),), ["`vector_add` is missing"]),
    ((GIVEN, GIVEN.replace("x", "y")), ["`vector_add` was edited"]),
    ((GIVEN.replace("x", "y"), GIVEN), ["`vector_add` was edited"]), ((GIVEN, GIVEN), []),
    ((exercise_cell(ADD), GIVEN.replace("x", "y")), ["`vector_add` was edited", "not in the lesson's order"])],
    ids=range(11))
def test_what_is_said_of_the_given_cells(cells, said):
    own = Submission("ada", [Cell(source, "a.ipynb", index) for index, source in enumerate(cells)])
    found = given_notices(own, "a.ipynb", LESSON)
    assert len(found) == len(said) and all(part in notice for part, notice in zip(said, found, strict=True)), found


def test_all_problems_of_a_submission_are_named(tmp_path):
    """Files that are no work, and cells that are there twice."""
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.py").write_text("\n")
    for name, more in (("a.py", ""), ("b.py", "\n    # other\nx = 1")):
        (tmp_path / name).write_text(exercise_cell(NEEDED) + more)
    parts = ("empty.py cannot be read", "notes.txt was not read", f"`{NEEDED.name}` was handed in 2 times, not alike")
    problems = read_submission("ada", [tmp_path]).problems
    assert len(problems) == len(parts) and all(part in said for part, said in zip(parts, problems, strict=True)), problems


@pytest.mark.parametrize("source, stub", [
    ("raise NotImplementedError('TODO')", True), ("x = 1  # TODO", False), ("# TODO\nx = " + "-" * 5000 + "1", False),
    ("# TODO\nx = (", False), ("# TODO\nx = " + "+".join("1" * 20_000), False)], ids=range(5))
def test_what_is_no_stub_though_it_says_so(source, stub):
    assert is_stub(source) is stub
