import ast
import json
import multiprocessing
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from checks.exercises import EXERCISES
from checks.grader import extract, frames, gpu, language, results
from checks.grader.batch import Settings, grade_class
from checks.grader.code import PROVEN, code_for
from checks.grader.command import main
from checks.grader.course import DEFAULT, read_course, share
from checks.grader.exports import export
from checks.grader.library import lesson_cells, library_for
from checks.grader.pages import write_pages
from checks.grader.paper import Paper
from checks.grader.sandbox import Ended, Fault, Warm, decode, encode
from checks.grader.selftest import Misjudged, check_canaries, submission_with
from checks.grader.shown import messages_for_student
from checks.grader.similarity import alike
from checks.grader.submissions import (
    Cell,
    Submission,
    find_exercise_cell,
    find_submissions,
    given_notices,
    read_submission,
)
from checks.grader.unit import Grader
from checks.grader.verdicts import grade_exercise
from checks.source import ROOT, answer_source

CHEAP = ("programs_needed", "vector_add_kernel")
ADD, NEEDED = EXERCISES["vector_add_kernel"], EXERCISES["programs_needed"]


def notebook(*cells: str) -> str:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in cells]})


def exercise_cell(exercise, source: str | None = None) -> str:
    return f"# exercise: {exercise.answer}\n{source or answer_source(exercise.answer)}"


IMPORTS = "import torch\nimport triton\nimport triton.language as tl"
SOLVED = notebook(IMPORTS, exercise_cell(NEEDED), exercise_cell(ADD))


@pytest.fixture(scope="module")
def grader():
    with Grader(seed=7, exercises=CHEAP, compiles=False) as grader:
        yield grader


# submissions


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_encoding_is_read(tmp_path, encoding):
    path = tmp_path / "ada.ipynb"
    path.write_bytes(notebook("# é\r\nx = 1").replace("\\u00e9", "é").encode(encoding))
    submission = read_submission("ada", [path])
    assert [cell.source for cell in submission.cells] == ["# é\nx = 1"]
    assert not submission.problems


@pytest.mark.parametrize("data, said", [
    (b'{"cells": [', "no JSON"), (b"", "no JSON"), (b"[1]", "no cells"), (b'{"cells": {}}', "no cells"),
    (b"[" * 200_000, "nested|JSON"), (b"\xff\xfe\x00", "encoding|JSON"), (b"null", "no cells")])
def test_a_broken_notebook_is_a_problem_not_an_error(tmp_path, data, said):
    path = tmp_path / "ada.ipynb"
    path.write_bytes(data)
    submission = read_submission("ada", [path])
    assert not submission.cells
    assert any(part in submission.problems[0] for part in said.split("|")), submission.problems


def test_odd_cells_are_read(tmp_path):
    path = tmp_path / "ada.ipynb"
    cells = [{"cell_type": "code", "source": ["a = 1\n", "b = 2"]}, {"cell_type": "markdown", "source": "x"}, 7, {},
             {"cell_type": "code"}, {"cell_type": "code", "source": {"no": "text"}}]
    path.write_text(json.dumps({"cells": cells}))
    assert read_submission("ada", [path]).cells[0].source == "a = 1\nb = 2"


def test_students_are_told_apart(tmp_path):
    (tmp_path / "ada" / "deep").mkdir(parents=True)
    (tmp_path / "ada" / "deep" / "work.ipynb").write_text(SOLVED)
    (tmp_path / "ada" / "solutions").mkdir()
    (tmp_path / "ada" / "solutions" / "00.ipynb").write_text(SOLVED)
    (tmp_path / "ada" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "ada" / ".ipynb_checkpoints" / "work.ipynb").write_text(SOLVED)
    (tmp_path / "ada" / "link.ipynb").symlink_to("/etc/passwd")
    with zipfile.ZipFile(tmp_path / "bob.zip", "w") as archive:
        archive.writestr("bob/00_hello_triton.ipynb", SOLVED)
    (tmp_path / "eva b_00_hello_triton.ipynb").write_text(SOLVED)
    (tmp_path / "eva b_01_gemv_fp16 (1).ipynb").write_text(SOLVED)
    (tmp_path / ".hidden").mkdir()
    found = find_submissions(tmp_path)
    assert list(found) == ["ada", "bob", "eva b"]
    assert len(found["eva b"]) == 2
    assert {cell.file for cell in read_submission("ada", found["ada"]).cells} == {"deep/work.ipynb"}
    assert len(read_submission("bob", found["bob"]).cells) == 3


def test_a_zip_that_lies_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr("checks.grader.submissions.SIZE_LIMIT", 1000)
    with zipfile.ZipFile(tmp_path / "ada.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.ipynb", b"0" * 10_000)
    (tmp_path / "bob.zip").write_bytes(b"PK\x03\x04 no zip")
    for name, said in (("ada", "more than"), ("bob", "no readable zip")):
        submission = read_submission(name, [tmp_path / f"{name}.zip"])
        assert not submission.cells
        assert said in submission.problems[0]


def test_how_an_exercise_is_found():
    def found(*cells: str):
        return find_exercise_cell(Submission("ada", [Cell(s, "a.ipynb", i) for i, s in enumerate(cells)]), NEEDED.answer)

    stub = next(cell for cell in lesson_cells(NEEDED.lesson) if NEEDED.answer in cell)
    other = "def programs_needed(N, BLOCK):\n    return 1"
    assert found("x = 1").cell is None
    assert found(exercise_cell(NEEDED), stub).cell.index == 0, "a stub beside the work does not count"
    assert found(stub, stub).cell.index == 1
    twice = found(exercise_cell(NEEDED), exercise_cell(NEEDED, other))
    assert twice.cell.index == 1
    assert "2 times" in twice.notices[0]
    assert not found(exercise_cell(NEEDED), exercise_cell(NEEDED, answer_source(NEEDED.answer) + "# again\n")).notices
    assert "is missing" in found(other).notices[0]


def test_given_cells_are_compared():
    lesson = lesson_cells(ADD.lesson)
    given = next(cell for cell in lesson if "# given: kernels/hello.py::vector_add\n" in cell)

    def notices(cells):
        submission = Submission("ada", [Cell(source, "a.ipynb", i) for i, source in enumerate(cells)])
        return given_notices(submission, "a.ipynb", lesson)

    assert not notices(lesson)
    assert not notices([cell + "\n# a comment" for cell in lesson])
    assert "was edited" in notices([cell.replace("torch.empty", "torch.zeros") for cell in lesson])[0]
    assert "is missing" in notices([cell for cell in lesson if cell != given])[0]
    assert "order" in notices([given] + [cell for cell in lesson if cell != given])[-1]


# what is run


def test_only_what_a_function_needs_is_taken():
    source = ("import os\nimport torch\nLIMIT = 3\nx = torch.arange(5)\n\ndef helper(a):\n    x = a\n"
              "    return x + LIMIT\n\n"
              "os.remove('all')\n\n@torch.no_grad()\ndef f(n):\n    return helper(n)\n")
    kept = extract.text(extract.needed_for(["f"], extract.statements(source)))
    assert "LIMIT" in kept and "helper" in kept and "import torch" in kept
    assert "os" not in kept and "arange" not in kept


def test_shell_lines_do_not_hide_a_cell():
    assert extract.function_in("%time\n!ls\ndef f():\n    return 1", "f")
    with pytest.raises(SyntaxError):
        extract.statements("def f(:\n")
    with pytest.raises(SyntaxError):
        extract.statements("(" * 100_000)


KERNEL = "@triton.jit\ndef k(x_ptr, N, BLOCK: tl.constexpr):\n    offs = tl.arange(0, BLOCK)\n    {}\n"
HOST = "def f(x, w):\n    {}\n"


@pytest.mark.parametrize("text", [
    KERNEL.format("import os"), KERNEL.format("os = __import__('os')"), KERNEL.format("eval('1')"),
    KERNEL.format("offs.handle.data"), KERNEL.format("tl.core.builtins"), KERNEL.format("a = tl"),
    KERNEL.format("offs.__class__"), KERNEL.format("f'{offs}'.format(offs)"), KERNEL.format("torch.add(x_ptr, x_ptr)"),
    KERNEL.format("getattr(tl, 'core')"), KERNEL.format("g = lambda a: a"), KERNEL.format("global g"),
    KERNEL.format("try:\n        pass\n    except Exception:\n        pass"),
    KERNEL.format("with open('f'):\n        pass"),
    KERNEL.format("tl.load = 3"), KERNEL.format("triton.runtime.driver"), KERNEL.format("unknown(offs)"),
    HOST.format("return torch.matmul(x, w)"), HOST.format("return x.matmul(w)"), HOST.format("x.copy_(w)"),
    HOST.format("return x.numpy()"), HOST.format("torch.empty = x"), HOST.format("x.data = w"), HOST.format("import os"),
    HOST.format("return x.__add__(w)"), HOST.format("exec('1')"), HOST.format("return type(x)"), HOST.format("yield x"),
    "import os\n", "import torch.nn\n", "from torch import matmul\n", "from kernels.hello import vector_add\n",
    "from triton.language import core\n", "import numpy as np\n", "class A:\n    pass\n", "torch = tl\n",
    "@property\ndef f(x):\n    return x\n", "def f(x, y=torch.matmul):\n    return x\n", "from . import x\n",
    "from triton.tools.tensor_descriptor import triton\n", "import triton.language\n"])
def test_refused(text):
    assert language.outside(f"{IMPORTS}\n{text}", {"kernels.arguments": ""})


@pytest.mark.parametrize("name", [name for name, exercise in EXERCISES.items() if exercise.is_kernel])
def test_every_answer_and_entry_is_in_the_trusted_language(name):
    exercise = EXERCISES[name]
    code = code_for(exercise, submission_with(exercise, answer_source(exercise.answer)))
    assert [program.trust for program in code.programs] == [PROVEN], code.programs[0].why_open


@pytest.mark.parametrize("name", EXERCISES)
def test_no_child_is_given_the_answer(name):
    exercise = EXERCISES[name]
    library = library_for(exercise)
    for text in [*library.modules.values(), library.entry_code or ""]:
        assert all(getattr(node, "name", None) != name for node in ast.parse(text).body)


def test_a_mistake_is_not_paid_for_twice(grader):
    """An exercise that calls the function of another is judged with ours where the student's is wrong."""
    benchmark, timer = EXERCISES["benchmark"], EXERCISES["time_us"]
    broken = "def time_us(sides, gpu, repeats=50, warmup=5):\n    return {name: [1.0] * repeats for name in sides}\n"
    submission = submission_with(benchmark, answer_source(benchmark.answer))
    cells = [Cell(exercise_cell(timer, broken), cell.file, cell.index) if cell.mark == ("exercise", timer.answer) else cell
             for cell in submission.cells]
    course = read_course()
    result = grade_exercise(Paper(benchmark, 1), code_for(benchmark, Submission("ada", cells)), course, grader.warm, None)
    assert result["status"] == "passed", result["message"]
    assert "judged with our" in result["notices"][-1]
    result = grade_exercise(Paper(timer, 1), code_for(timer, Submission("ada", cells)), course, grader.warm, None)
    assert result["points"] == 0


# the course


def test_the_course_covers_every_exercise():
    course = read_course()
    assert set(course.exercises) == set(EXERCISES)
    assert course.points == {name: e.points for name, e in EXERCISES.items()}


def test_points_are_shared_and_gates_hold():
    course = read_course()
    everything = dict.fromkeys(("triton", "public", "hidden", "economical", "compiles"), "right")
    assert sum(earned for earned, _ in share(course, 5, everything).values()) == pytest.approx(5)
    some = share(course, 5, {"public": "right", "hidden": "wrong"})
    assert sum(possible for _, possible in some.values()) == pytest.approx(5)
    for gate in ("triton", "public"):
        assert not any(earned for earned, _ in share(course, 5, everything | {gate: "wrong"}).values())
    assert 0 < sum(earned for earned, _ in share(course, 5, everything | {"economical": "wrong"}).values()) < 5


@pytest.mark.parametrize("text, said", [
    ("[rubric.speed]\nweight = 1", "no rubric item `speed`"), ("[rubric.public]\nweight = -1", "weight of `public`"),
    ("[rubric.public]\nweight = 1\n[exercise.nothing]\nskip = true", "`nothing`, which is no exercise"),
    ("[rubric.public]\nweight = 1\n[deadlines]\nlesson = 2026-10-01T00:00:00Z", "no lesson"),
    ("[rubric.public]\nweight = 1\n[deadlines]\n00_hello_triton = 2026-10-01T00:00:00", "offset"),
    ("[rubric.public]\nweight = 1\n[visibility]\nhidden = 'all'", "visibility of `hidden`"), ("x = ", "Invalid value"),
    ("[rubric.public]\nweight = 1\n[exercise.programs_needed]\nweight = 2", "`points` and `skip`"),
    ("", "no rubric item has"),
    ("points = 3", "unknown entry points")])
def test_a_wrong_course_file_is_named(tmp_path, text, said):
    path = tmp_path / "course.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"course\.toml") as error:
        read_course(path)
    assert said in str(error.value)


def test_hidden_sizes_differ_from_public_ones():
    for name in ("vector_add_kernel", "gemv_bytes", "quantize_int8_perrow_torch", "row_sum_kernel"):
        paper = Paper(EXERCISES[name], 5)
        assert len(paper.hidden) == 2
        assert [case.name for case in paper.hidden] == ["hidden case 1", "hidden case 2"]
        shapes = [str({k: getattr(v, "shape", v) for k, v in paper.asked(case).inputs.items()})
                  for case in (*EXERCISES[name].cases, *paper.hidden)]
        assert len(set(shapes)) >= len(shapes) - 1


# the sandbox


@pytest.mark.parametrize("data, error", [
    (struct.pack(">IQ", 2**31, 0), frames.Garbled), (struct.pack(">IQ", 2, 2**60), frames.Garbled),
    (struct.pack(">IQ", 2, 0) + b"[]", frames.Garbled), (struct.pack(">IQ", 3, 0) + b"{,}", frames.Garbled),
    (b"\0", EOFError), (struct.pack(">IQ", 2, 5) + b"{}abc", EOFError)])
def test_what_is_no_frame(data, error):
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(error):
        frames.receive(ours, 100, time.monotonic() + 5)


def test_frames_keep_their_deadline():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\0")
    with pytest.raises(TimeoutError):
        frames.receive(ours, 100, time.monotonic() + 0.1)


@pytest.mark.parametrize("described", [
    [["tensor", "float32", [2], "cpu", 4]], [["tensor", "object", [1], "cpu", 8]], [["tensor", "float32", [-1], "cpu", -4]],
    [["tensor", "float32", [2**40], "cpu", 2**42]], [["int", "x"]], [["float"]], [[]], [7], [None]])
def test_a_description_that_does_not_fit_is_no_result(described):
    with pytest.raises(Ended):
        decode(described, b"\0" * 4)


def test_inputs_travel_with_their_strides(grader):
    x = torch.arange(24.0).view(4, 6)[:, :5]
    job = {"modules": {}, "code": "def f(x):\n    return x.clone(), x.stride(0)\n", "name": "f", "call": "f", "entry": None,
           "entry_code": None, "through": None}
    with grader.warm.child(job, 20) as child:
        child.begin()
        described, payload = encode({"x": x})
        answer, raw = child.ask({"inputs": described, "mode": "plain", "maps": False}, payload, 10)
    copy, stride = decode(answer["outputs"], raw)
    assert torch.equal(copy, x)
    assert stride == 6


@pytest.mark.parametrize("levels", [["seccomp", "landlock", "limits"], ["seccomp", "limits"]])
def test_lower_levels_still_keep_a_child_in(grader, levels, monkeypatch, tmp_path):
    """Where namespaces are refused. Signal 0 only asks whether a signal could be sent."""
    monkeypatch.setattr(grader.warm, "levels", levels)
    tried = {"kill": "os.kill(os.getppid(), 0)", "fork": "os.fork()", "socket": "socket.socket()",
             "write": f"open({str(tmp_path / 'x')!r}, 'w')", "remove": f"os.remove({str(ROOT / 'LICENSE')!r})"}
    for name, action in tried.items():
        source = (f"import os\nimport socket\n\n\ndef programs_needed(N, BLOCK):\n    {action}\n"
                  "    return -(-N // BLOCK)\n")
        result = grader._grade_exercise("programs_needed", submission_with(NEEDED, source))
        assert "PermissionError" in result["message"], (name, result["message"])
    honest = grader._grade_exercise("vector_add_kernel", submission_with(ADD, answer_source(ADD.answer)))
    assert honest["status"] == "passed", honest["message"]


def test_what_a_gpu_would_be_asked(grader):
    """The way of a proven program to a GPU and back, as far as it goes without one: right, and not timed."""
    paper = grader.paper("vector_add_kernel")
    code = code_for(ADD, submission_with(ADD, answer_source(ADD.answer)))
    assert gpu.on_gpu(paper, code.programs[0], grader.warm) == (None, None)
    wrong = code_for(ADD, submission_with(ADD, answer_source(ADD.answer).replace("x + y", "x - y")))
    assert "elements are wrong" in gpu.on_gpu(paper, wrong.programs[0], grader.warm)[0]
    sizes = gpu.large(ADD.cases[0]).inputs(torch.Generator())
    assert sizes["x"].numel() == gpu.LARGE**2
    assert sizes["BLOCK"] == 128


def test_no_grading_without_a_filter(monkeypatch):
    monkeypatch.setattr("checks.grader.unit.Warm", lambda kind: type("Open", (), {"levels": ["limits"], "close": print})())
    with pytest.raises(Fault, match="seccomp"):
        Grader(seed=1).warm  # noqa: B018


def test_a_sandbox_that_breaks_is_tried_again_and_is_no_zero(grader, monkeypatch):
    submission = submission_with(NEEDED, answer_source(NEEDED.answer))
    os.kill(grader.warm.process.pid, signal.SIGKILL)
    grader.warm.process.wait()
    assert grader._grade_or_say_why("programs_needed", submission)["status"] == "passed"

    def broken(*_, **__):
        raise Fault("no more processes")

    monkeypatch.setattr(Warm, "child", broken)
    result = grader._grade_or_say_why("programs_needed", submission)
    assert result["status"] == results.FAULT
    assert result["points"] is None
    assert "no more processes" in result["message"]
    assert "no points are lost" in messages_for_student(result)[0]


def test_a_grader_that_misjudges_stops(grader, monkeypatch):
    check_canaries(grader)
    monkeypatch.setattr("checks.grader.verdicts._right", lambda *_: False)
    monkeypatch.setattr("checks.grader.selftest.mutated_source", lambda exercise, mutant: answer_source(exercise.answer))
    with pytest.raises(Misjudged):
        check_canaries(grader)


# results and what is made of them


def result(student: str, points: float | None = 1.0, status: str = "passed", **more) -> dict:
    one = {"exercise": "programs_needed", "lesson": "00_hello_triton", "status": status, "points": points, "possible": 1.0,
           "message": "programs_needed: <b>said</b>", "mistake": None, "items": {}, "flags": [], "notices": [],
           "picture": None, "seconds": 0.1} | more
    return {"schema": results.SCHEMA, "student": student, "key": "k", "problems": [], "late": {}, "points": points or 0.0,
            "possible": 1.0, "exercises": [one], "isolation": ["limits"],
            "environment": {"python": "3", "torch": "2", "triton": "3"}}


def test_names_make_different_files(tmp_path):
    names = ["ada", "Ada", "../ada", "a/b", "é", "a%2Fb", "=cmd()", ".hidden", "a b"]
    paths = {results.result_path(tmp_path, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path / "students" for path in paths)
    for name in names:
        results.write_result(tmp_path, result(name))
    assert sorted(r["student"] for r in results.read_results(tmp_path)) == sorted(names)


def test_a_broken_result_is_none(tmp_path):
    path = tmp_path / "x.json"
    for text in ("", "{", "[]", '{"schema": 0}'):
        path.write_text(text)
        assert results.read_result(path) is None


def test_overrides(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,programs_needed,0.5,seen in person\n")
    graded = results.apply_overrides([result("ada", 0.0, "held"), result("bob")], results.read_overrides(tmp_path))
    assert [r["points"] for r in graded] == [0.5, 1.0]
    assert graded[0]["exercises"][0]["graded_points"] == 0.0
    assert "seen in person" in messages_for_student(graded[0]["exercises"][0])[0]
    for text, said in (("ada,programs_needed,much,why", "line 2: points"), ("ada,programs_needed,1,", "needs a reason")):
        (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\n" + text)
        with pytest.raises(ValueError, match=said):
            results.read_overrides(tmp_path)
    with pytest.raises(ValueError, match="no exercise `x` of a student `ada`"):
        results.apply_overrides([result("ada")], {("ada", "x"): (1.0, "why")})


def test_exports(tmp_path):
    graded = [result("ada"), result("=cmd()", 0.0, "failed"), result("eva", None, results.FAULT)]
    (table,) = export("csv", graded, tmp_path, None)
    rows = table.read_text().splitlines()
    assert rows[1] == "ada,1.0,1.0,1.0,0,,"
    assert rows[2].startswith("'=cmd()")
    assert rows[3] == "eva,,1.0,,0,programs_needed,", "a fault of the grader is no zero"
    suites = ElementTree.parse(export("junit", graded, tmp_path, None)[0]).getroot()
    assert [suite.get("failures") + suite.get("errors") for suite in suites] == ["00", "10", "01"]
    files = export("gradescope", graded, tmp_path, None)
    assert json.loads(files[0].read_text())["score"] == 1.0
    assert "score" not in json.loads(files[2].read_text())
    assert len(json.loads(export("json", graded, tmp_path, None)[0].read_text())["results"]) == 3


def test_pages_show_no_hidden_test_and_run_nothing(tmp_path):
    items = {"public": {"result": "right", "message": "", "earned": 0.6, "possible": 0.6},
             "hidden": {"result": "wrong", "message": "N=4711", "earned": 0.0, "possible": 0.4}}
    picture = {"of": [2, 4], "output": 0, "rows": [[0, 1, 0, 0], [0, 0, 0, 1]]}
    graded = [result("<script>alert(1)</script>", 0.6, "failed", items=items, picture=picture,
                     flags=[{"kind": "reaches out", "text": "<i>"}]), result("eva", None, results.FAULT)]
    (page,) = write_pages(tmp_path, graded)
    pages = [page, *(tmp_path / "pages" / "students").glob("*.html")]
    assert len(pages) == 3
    for path in pages:
        text = path.read_text()
        assert "<script" not in text and "<i>" not in text and "4711" not in text
        assert "Content-Security-Policy" in text


def test_similarity_sees_through_renaming():
    exercise = EXERCISES["quantize_int8_perrow_torch"]
    own = ("def quantize_int8_perrow_torch(x):\n    total = []\n    for row in x.float():\n"
           "        most = max(abs(float(v)) for v in row)\n"
           "        if most == 0:\n            total.append((row * 0, 0.0))\n            continue\n"
           "        unit = most / 127\n        numbers = [int(round(float(v) / unit)) for v in row]\n"
           "        total.append((torch.tensor(numbers), unit))\n"
           "    return torch.stack([a for a, _ in total]).to(torch.int8), torch.tensor([b for _, b in total])\n")
    copied = own.replace("total", "acc").replace("most", "m").replace("numbers", "qs") + "# mine\n"
    other = ("def quantize_int8_perrow_torch(x):\n    scale = x.float().abs().amax(1) / 127\n"
             "    while scale.isnan().any():\n"
             "        scale = scale.nan_to_num(0)\n    return torch.zeros_like(x).to(torch.int8).add(3), "
             "scale.sqrt().square()\n")
    submissions = [Submission(name, [Cell(exercise_cell(exercise, source), "a.ipynb", 0)]) for name, source in
                   (("ada", own), ("bob", copied), ("eva", other), ("jon", answer_source(exercise.answer)))]
    assert list(alike(submissions, exercise)) == [("ada", "bob")]


# a class


WRONG = exercise_cell(ADD, answer_source(ADD.answer).replace("x + y", "x - y"))


def write_class(folder: Path, students: int) -> Path:
    for index in range(students):
        (folder / f"s{index}").mkdir(parents=True)
        cells = (IMPORTS, exercise_cell(NEEDED), WRONG if index % 2 else exercise_cell(ADD))
        (folder / f"s{index}" / "work.ipynb").write_text(notebook(*cells))
    return folder


def stable(grades: Path) -> list[dict]:
    def strip(value):
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in results.VOLATILE}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [strip(result) for result in results.read_results(grades)]


def test_killed_at_any_instant_and_resumed(tmp_path):
    folder, seed = write_class(tmp_path / "sub", 6), tmp_path / "seed"
    seed.write_text("a seed")
    grades = tmp_path / "grades"
    command = [sys.executable, "-m", "checks", "grade", "class", str(folder), "--out", str(grades), "--jobs", "1",
               "--no-compile", "--resume", "--seed-file", str(seed), "--exercise", CHEAP[0], "--exercise", CHEAP[1]]
    kept = {}
    for wanted, delay in ((0, 1.0), (1, 0.0), (3, 0.02)):  # killed before the first result, then with more and more there
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while len(list(grades.glob("students/*.json"))) < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.wait()
        for path in grades.glob("students/*.json"):
            text = path.read_text()
            assert json.loads(text)["schema"] == results.SCHEMA, "a result is whole or not there"
            assert kept.setdefault(path.name, text) == text, "graded twice"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(kept)} kept" in done.stdout
    assert all((grades / "students" / name).read_text() == text for name, text in kept.items())
    other = tmp_path / "other"
    settings = Settings(random.Random("a seed").getrandbits(32), DEFAULT, CHEAP, compiles=False)
    grade_class(folder, other, settings, 1, say=lambda _: None)
    assert stable(grades) == stable(other)
    assert [r["points"] for r in stable(grades)] == [3.0, 1.0] * 3
    # an edited submission is graded again, and it alone
    (folder / "s1" / "work.ipynb").write_text(SOLVED)
    tally = grade_class(folder, other, settings, 1, resume=True, say=lambda _: None)
    assert (tally.graded, tally.kept) == (1, 5)


def test_a_worker_that_dies_costs_nobody_a_result(tmp_path):
    folder, killed = write_class(tmp_path / "sub", 4), []

    def say(line: str) -> None:
        if not killed:  # the first result is there: end the worker in the middle of the next
            killed.extend(multiprocessing.active_children())
            killed[0].kill()

    settings = Settings(3, DEFAULT, CHEAP, compiles=False)
    tally = grade_class(folder, tmp_path / "grades", settings, 1, say=say)
    assert killed
    assert (tally.graded, tally.faults) == (4, 0)
    assert [r["points"] for r in stable(tmp_path / "grades")] == [3.0, 1.0] * 2


def test_a_submission_that_ends_its_worker_twice_is_no_zero(tmp_path, monkeypatch):
    folder = write_class(tmp_path / "sub", 1)
    monkeypatch.setattr("checks.grader.batch._work", lambda waiting, *_: list(waiting))
    tally = grade_class(folder, tmp_path / "grades", Settings(3, DEFAULT, CHEAP, compiles=False), 1, say=lambda _: None)
    (result,) = results.read_results(tmp_path / "grades")
    assert tally.faults == 1
    assert {one["status"] for one in result["exercises"]} == {results.FAULT}
    assert {one["points"] for one in result["exercises"]} == {None}
    assert main(["report", str(tmp_path / "grades")]) == 0
    assert "Could not be graded" in (tmp_path / "grades" / "pages" / "index.html").read_text()


def test_what_is_late_is_recorded(tmp_path):
    course = tmp_path / "course.toml"
    course.write_text(DEFAULT.read_text().replace("[deadlines]", "[deadlines]\n00_hello_triton = 2020-01-01T00:00:00Z"))
    with Settings(3, course, CHEAP[:1], compiles=False).grader() as grader:
        graded = grader.grade("s0", [write_class(tmp_path / "sub", 1) / "s0"])
    assert graded["late"] == {"00_hello_triton": True}
    assert graded["points"] == 1.0, "no points are taken off"


def test_exit_codes(tmp_path, capsys, monkeypatch):
    folder = write_class(tmp_path / "sub", 2)
    one = ["one", str(folder / "s1"), "--no-compile", "--exercise", CHEAP[1]]
    assert main(one) == 0
    assert "right on" not in capsys.readouterr().err
    assert main([*one, "--fail-under", "50"]) == 1
    assert main(["one", str(tmp_path / "nothing")]) == 2
    assert main([*one, "--exercise", "nothing"]) == 2
    assert main(["class", str(tmp_path / "nothing"), "--out", str(tmp_path / "g")]) == 2
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "infrastructure" not in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([*one, "--gpus", "0"]) == 3
    assert main([*one, "--gpus", "all"]) == 2
    monkeypatch.setattr("checks.grader.unit.FULL", ("a level that no system has",))
    assert main([*one, "--require-isolation"]) == 3
    assert "isolation" in capsys.readouterr().err


def test_self_test(capsys):
    assert main(["selftest", "--exercise", "vector_add_kernel"]) == 0
    assert "0 misjudged" in capsys.readouterr().out

