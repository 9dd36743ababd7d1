"""What a student sees in a notebook: messages, no library frames, and a kernel that stays alive."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from triton.runtime.errors import InterpreterError

from checks import CheckFailed, check, notebook
from checks.course.notebooks import LESSONS, execute, function_source, read
from checks.exercises import EXERCISES
from checks.judge.source import answer_source, define
from checks.pictures.common import draw_errors

GEMV = EXERCISES["gemv_fp16_kernel"]
TYPED = [m for m in GEMV.mutants if "mask" in m.name or m.name in ("FP16 accumulation",
                                                                     "every program works on the first rows")]


@pytest.fixture(scope="module")
def session():
    """Lesson 01 in Jupyter: its set-up, then each mistake typed into the exercise's cell and checked."""
    lesson = read(LESSONS / "01_gemv_fp16.ipynb")
    cells = {cell.id: cell for cell in lesson.cells}
    code, tags = nbformat.v4.new_code_cell, {"metadata": {"tags": ["raises-exception"]}}
    typed = [cells["setup"]]
    for mutant in TYPED:
        source = answer_source(GEMV.name)
        for old, new in mutant.edits.items():
            source = source.replace(old, new)
        typed += [code(source), cells["wrapper-block"], code("check(gemv_fp16)", **tags)]
    source = answer_source(GEMV.name).replace("& mask_k[None, :]", "")
    typed += [code(source), code("show_accesses(gemv_fp16)", **tags)]
    typed += [code(function_source(cells["exercise-block"])), code("check(gemv_fp16)"), code("print('alive')")]
    lesson.cells = [nbformat.from_dict({**cell, "id": f"cell-{i}"}) for i, cell in enumerate(typed)]
    return execute(lesson).cells


@pytest.mark.parametrize("index", range(len(TYPED)), ids=[m.name for m in TYPED])
def test_a_mistake_in_a_notebook_has_no_library_frames(session, index):
    (error,) = [o for o in session[3 + 3 * index].outputs if o.output_type == "error"]
    assert error.ename == "CheckFailed"
    assert TYPED[index].advice in error.evalue
    pages = [o for o in session[3 + 3 * index].outputs if "text/html" in o.get("data", {})]
    (laid_out,) = [o for o in pages if "<img" not in o.data["text/html"]]
    assert laid_out.data["text/plain"] == f"✗ {error.evalue}"
    assert error.evalue.split("\n")[0].endswith(TYPED[index].advice)
    assert laid_out.data["text/html"].count("font-weight") == 1
    shown = "\n".join(error.traceback) + laid_out.data["text/plain"]
    assert "site-packages" not in shown and "Traceback" not in shown and ".py" not in shown
    assert error.traceback == ["✗ not right yet: see above"], error.traceback


def test_a_message_is_laid_out_with_the_student_s_text_escaped():
    failure = CheckFailed("gemv: `x < <b>` is wrong.\nIt is 3 & 4.\n  at: if a < b: <script>")
    bundle = failure.page()
    assert bundle["text/plain"] == f"✗ {failure}"
    page = bundle["text/html"]
    assert "<code>x &lt; &lt;b&gt;</code> is wrong.</div>" in page and "<div>It is 3 &amp; 4.</div>" in page
    assert "  at: <code>if a &lt; b: &lt;script&gt;</code></div>" in page and "<script>" not in page
    assert page.count("<div") == page.count("</div>") and "color:" not in page.replace("#d55e00", "")


@pytest.mark.parametrize(("cells", "said"), [
    (["def gemv_bytes(N, K):\nreturn 4"], "your cell did not run: IndentationError: expected an indented block"),
    (["def gemv_bytes(N, K):\n    return (4", "x = 3"], "your cell did not run: SyntaxError: .* was never closed, line 2"),
    (["def gemv_bytes(N, K):\n    return (4", "def gemv_bytes(N, K):\n    return 4"], "every case|W|returns"),
    (["%time x = 3"], "every case|W|returns")])
def test_a_cell_with_a_syntax_error_is_no_stub(monkeypatch, cells, said):
    shell = SimpleNamespace(user_ns={"In": ["", *cells]}, transform_cell=lambda cell: cell.replace("%time ", ""))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    wrong = define("def gemv_bytes(N, K):\n    return 4\n", "gemv_bytes", {})
    with pytest.raises(CheckFailed, match=said):
        check(wrong)


def test_a_wrong_result_comes_with_a_picture(session):
    """Where a part of it is wrong: of a result that is wrong everywhere a picture says nothing."""
    for name, drawn in (("every program works on the first rows", True), ("FP16 accumulation", False)):
        outputs = session[3 + 3 * [m.name for m in TYPED].index(name)].outputs
        assert any("<img alt=" in o.get("data", {}).get("text/html", "") for o in outputs) == drawn


def test_wrong_results_of_any_dimensions_are_drawn_as_rows():
    for shape in ((), (5,), (2, 5), (2, 3, 5), (2, 1, 3, 4)):
        wrong = torch.ones(shape, dtype=torch.bool)
        figure = draw_errors(SimpleNamespace(wrong=wrong, case=SimpleNamespace(name="made up")))
        figure.canvas.draw()
        plt.close(figure)


def test_an_unfilled_stub_is_no_error_and_the_kernel_lives_on(session):
    assert "not attempted: replace the placeholder" in session[-2].outputs[0].text
    assert session[-1].outputs[0].text == "alive\n"


def test_a_broken_kernel_run_by_hand_says_why_in_two_lines(session):
    (error,) = [o for o in session[-4].outputs if o.output_type == "error"]
    (shown,) = error.traceback
    assert "out-of-bounds load on `w_ptr`" in shown and "at: w = tl.load(" in shown
    assert shown.count("\n") == 1


def test_checking_no_exercise_says_which_there_are():
    def gemw():
        pass
    with pytest.raises(CheckFailed, match="no exercise for a function called `gemw`.*gemv_fp16_kernel"):
        check(gemw)
    with pytest.raises(CheckFailed, match="check takes a function"):
        check(3)


def test_a_wrapper_without_its_kernel_says_what_to_run_first():
    def gemv_fp16(x, w):
        pass
    gemv_fp16 = type(gemv_fp16)(gemv_fp16.__code__, {})
    with pytest.raises(CheckFailed, match="no kernel `gemv_fp16_kernel`: run the cell"):
        check(gemv_fp16)


@pytest.mark.parametrize(("source", "said"), [
    ("return N * 4", "✗ gemv_bytes"), ("raise NotImplementedError('TODO')", "○ gemv_bytes"), (None, "✓ gemv_bytes"),
])
def test_each_verdict_has_its_sign(capsys, source, said):
    answer = EXERCISES["gemv_bytes"].answer_function()
    function = define(f"def gemv_bytes(N, K):\n    {source}\n", "gemv_bytes", {}) if source else answer
    try:
        check(function)
        shown = capsys.readouterr().out
    except CheckFailed as error:
        (shown,) = error._render_traceback_()
        assert error.__cause__ is None and error.__suppress_context__
        assert capsys.readouterr().out == ""
    assert shown.startswith(said)


def test_errors_are_drawn_in_a_notebook_alone(monkeypatch):
    drawn = []
    monkeypatch.setattr("checks.pictures.common.draw_errors", drawn.append)
    (mutant,) = [m for m in GEMV.mutants if m.name == "every program works on the first rows"]
    wrong = GEMV.mutated(mutant)
    with pytest.raises(CheckFailed):
        check(wrong)
    assert not drawn  # there is no shell, though IPython is loaded
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    with pytest.raises(CheckFailed):
        check(wrong)
    assert [outcome.wrong is not None for outcome in drawn] == [True]
    with pytest.raises(CheckFailed):
        check(define("def gemv_bytes(N, K):\n    return 1 // 0\n", "gemv_bytes", {}))
    assert len(drawn) == 1  # there is nothing to draw of a function that stopped


def test_an_error_of_the_interpreter_prints_as_a_sentence():
    try:
        try:
            raise ValueError("x must be (M, K)")
        except ValueError as cause:
            raise InterpreterError(repr(cause)) from cause
    except InterpreterError as error:
        assert str(error) == "x must be (M, K)"
    assert str(InterpreterError("alone")) == "alone"


def test_progress_is_one_line_below_a_solved_exercise(monkeypatch, capsys):
    monkeypatch.setattr(notebook, "_shell", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr(notebook, "_solved", set())
    mine = [exercise for exercise in EXERCISES.values() if exercise.lesson == "01_gemv_fp16"]
    for exercise in (mine[0], mine[0], mine[1]):
        notebook._say_progress(exercise)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1] == f"  █{'░' * (len(mine) - 1)} 1 of {len(mine)} in this lesson"
    assert lines[2].startswith("  ██░")
    for exercise in mine:
        notebook._say_progress(exercise)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{len(mine)} of {len(mine)} in this lesson: all solved")


def raised(error, cause=None):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("error", "said"), [
    (raised(InterpreterError("repr"), ValueError("x must be (M, K)")), "✗ ValueError: x must be (M, K)"),
    (InterpreterError("alone"), "✗ InterpreterError: alone")])
def test_a_kernel_that_failed_says_its_reason(error, said):
    assert error._render_traceback_() == [said]
    error.line = "y = tl.load(x)"
    assert error._render_traceback_() == [f"{said}\n  at: y = tl.load(x)"]


def test_a_message_that_is_not_on_the_page_is_in_the_error():
    failure = CheckFailed("f: wrong\n  more")
    assert failure._render_traceback_() == ["✗ f: wrong\n  more"]
    failure.shown = True
    assert failure._render_traceback_() == ["✗ not right yet: see above"]


@pytest.mark.parametrize(("shell", "shown"), [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)],
                         ids=["python", "terminal", "notebook"])
def test_only_a_notebook_s_page_has_the_message(monkeypatch, shell, shown):
    pages = []
    monkeypatch.setattr(notebook, "_shell", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda page, raw: pages.append((page, raw)))
    failure = CheckFailed("f: wrong")
    notebook._show(failure)
    assert failure.shown == shown and pages == [(failure.page(), True)] * shown


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["python", "terminal"])
def test_progress_is_said_in_a_notebook_alone(monkeypatch, capsys, shell):
    monkeypatch.setattr(notebook, "_shell", lambda: shell)
    monkeypatch.setattr(notebook, "_solved", set())
    notebook._say_progress(GEMV)
    assert capsys.readouterr().out == "" and not notebook._solved


RIGHT_F, RIGHT_G = "def f(x):\n    pass", "def g(x):\n    pass"
WRONG_F, WRONG_G, WRONG_MORE = (f"import a\n\ndef {name}(x):\n    return )  # {name}\n" for name in ("f", "g", "f_more"))
UNMATCHED = "SyntaxError: unmatched ')', line 4\n  at: return )  # "


@pytest.mark.parametrize(("cells", "broken"), [
    ([], None), ([WRONG_F], f"{UNMATCHED}f"), ([RIGHT_F], None), ([WRONG_MORE], None), (["x = 'def f(:'"], None),
    ([WRONG_G, "x = 1"], f"{UNMATCHED}g"), ([RIGHT_G, WRONG_F], f"{UNMATCHED}f"), ([WRONG_F, RIGHT_G], None),
    (["    def f(x):\n        pass"], "IndentationError: unexpected indent, line 1\n  at: def f(x):")])
def test_the_last_cell_of_a_function_is_looked_at(monkeypatch, cells, broken):
    """Of `f`, the kernel, or `g`, its wrapper."""
    shell = SimpleNamespace(user_ns={"In": ["", *cells]}, transform_cell=str)
    monkeypatch.setattr(notebook, "_shell", lambda: shell)
    assert notebook._cell_that_did_not_run("f", "g") == broken


@pytest.mark.parametrize(("adapter", "started"), [
    (None, False), ("checks.simulated.ranks", True), ("checks.judge.trial", False)])
def test_ranks_are_processes_where_a_function_runs_on_them(monkeypatch, adapter, started):
    used = []
    monkeypatch.setattr("checks.simulated.ranks.use", used.append)
    made = None if adapter is None else SimpleNamespace(__module__=adapter)
    notebook._start_ranks_for(SimpleNamespace(adapter=made))
    from checks.ranks.kept import in_processes

    assert used == [in_processes] * started


@pytest.mark.parametrize(("wrong", "drawn"), [
    (None, False), ([True, True], False), ([True, False], True), ("no outcome", False)],
                         ids=["stopped", "everywhere", "in places", "no outcome"])
def test_what_is_wrong_in_places_is_drawn(monkeypatch, wrong, drawn):
    asked = []
    monkeypatch.setattr(notebook, "_shell", lambda: SimpleNamespace())
    monkeypatch.setattr("checks.pictures.common.draw_errors", asked.append)
    tensor = torch.tensor(wrong) if isinstance(wrong, list) else None
    outcome = None if wrong == "no outcome" else SimpleNamespace(wrong=tensor)
    notebook._draw(SimpleNamespace(outcome=outcome))
    assert asked == [outcome] * drawn


def test_an_exercise_that_is_right_is_said_in_lines_that_fit(monkeypatch, capsys):
    said, passed = [], SimpleNamespace(status="passed", passed=True, message=f"f: {'a' * 60} · {'b' * 60}")
    monkeypatch.setattr(notebook, "judge", lambda exercise, function: passed)
    monkeypatch.setattr(notebook, "_say_progress", said.append)
    assert check(EXERCISES["gemv_bytes"].answer_function()) is None
    assert capsys.readouterr().out == f"✓ f: {'a' * 60}\n  {'b' * 60}\n" and said == [EXERCISES["gemv_bytes"]]
