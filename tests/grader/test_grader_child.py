"""What runs a student's cells in a child, tried in the process of the test: calls with and without launches, questions."""

import contextlib
import inspect
import json
import sys
import threading
import types
from collections.abc import Callable
from importlib.util import module_from_spec
from pathlib import Path

import pytest
import torch
from frames import served
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import GridExecutor

from checks.grader.grading.outcomes import rebuilt_error
from checks.grader.sandbox import answers, child, virtual
from checks.grader.sandbox.values import decode, encode_inputs
from checks.host.cells import CellError
from checks.host.notebook import Candidate, Notebook
from checks.judge.attempt import Attempt
from checks.judge.launches import OutOfBounds
from kernels.runtime import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="a child has Triton's interpreter")


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """What a child knows of the lesson's other exercises: nothing yet."""
    monkeypatch.setattr(child._Others, "keep_state", {})
    monkeypatch.setattr(child._Others, "lacking", set())
    monkeypatch.setattr(child._Others, "cells_lack", False)
    monkeypatch.setattr(child, "missed", set())
    return child._Others


# a call with numbers

CELL = """
import threading
import torch
import triton
import triton.language as tl
go_on = threading.Event()
@triton.jit
def doubled(x_ptr, out_ptr, N, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offs, 2 * tl.load(x_ptr + offs, mask=offs < N), mask=offs < N)
def by_kernel(x, n):
    out = torch.empty_like(x)
    doubled[(2,)](x, out, x.numel(), BLOCK=2)
    return out
def and_torch(x, n):
    return by_kernel(x, n).neg().neg()
def by_torch(x, n):
    by_kernel(x, n)
    return x * 2
def raises(x, n):
    by_kernel(x, n)
    return x[n + 5]
def changes(x, n):
    return x.mul_(2)
def itself(x, n):
    return by_kernel(x, n), x
def leaves(x, n):
    for name in "gfedcb":
        open(name, "w").close()
    threading.Thread(target=go_on.wait).start()
    return by_kernel(x, n)
"""
WRONG, DOUBLED, ZEROS = None, [2.0, 4.0, 6.0], [0.0, 0.0, 0.0]


@pytest.fixture(scope="module")
def notebook():
    notebook = Notebook()
    notebook.run([], [CELL], True, contextlib.nullcontext)
    assert not notebook.errors
    return notebook


@pytest.fixture
def call(monkeypatch, notebook, tmp_path):
    """A function of the cell called in a mode, as `serve` has it done."""
    launch = GridExecutor.__call__

    def by_torch(self, *args, **kwargs):  # what Triton does in a launch is nobody's work
        torch.ones(2).cosh()
        return launch(self, *args, **kwargs)

    monkeypatch.setattr(GridExecutor, "__call__", by_torch)
    monkeypatch.chdir(tmp_path)
    child._follow_launches()
    Path("a").touch()

    def called(mode: str, name: str, maps: bool = False, x=(1.0, 2.0, 3.0)) -> tuple[dict, list]:
        described, payload = encode_inputs({"x": torch.tensor(x), "n": 2})
        asked = {"mode": mode, "name": name, "wrapper": None, "candidate": 0, "inputs": described, "through": None,
                 "maps": maps, "timeout_s": 60}
        answer, raw = child._MODES[mode](notebook, asked, payload)
        return answer, decode([*answer["outputs"], *(one for *_, one in answer["maps"])], raw)

    return called


@pytest.mark.parametrize("mode, name, numbers, operators", [
    ("plain", "by_kernel", DOUBLED, {"aten::empty_like"}), ("no launches", "by_kernel", WRONG, {"aten::empty_like"}),
    ("decoys", "by_kernel", DOUBLED, {"aten::empty_like", "aten::copy_"}),
    ("plain", "and_torch", DOUBLED, {"aten::empty_like", "aten::neg"}),
    ("no launches", "by_torch", DOUBLED, {"aten::mul.Tensor"}),
    ("plain", "changes", DOUBLED, {"aten::mul_.Tensor"}), ("decoys", "changes", ZEROS, {"aten::mul_.Tensor"})])
def test_a_call_in_each_mode(call, mode, name, numbers, operators):
    """Without launches a kernel's result is never there; decoys become real when something is launched."""
    answer, (value, *_) = call(mode, name)
    assert (value.tolist() == numbers) if numbers else value.tolist() != DOUBLED
    assert operators <= answer["operators"].keys() and answer["error"] is None
    assert "aten::cosh" not in answer["operators"], "of a launch"
    assert len(answer["launches"]) == (mode != "no launches" and name != "changes")
    assert answer["changed"] == (["x"] if (mode, name) == ("plain", "changes") else []) and answer["broken"] == []


@pytest.mark.parametrize("mode", ["plain", "no launches", "decoys"])
def test_after_a_call_that_raised_the_next_is_plain(call, mode):
    answer, found = call(mode, "raises")
    assert answer["error"]["type"] == "IndexError" and answer["error"]["line"] == "return x[n + 5]" and not found
    assert (child._Case.before_launch, child._Case.without_launches, child._Case.launching) == (None, False, False)
    answer, (value,) = call("plain", "by_kernel")
    assert value.tolist() == DOUBLED and answer["launches"][0]["kernel"] == "doubled"


def test_what_a_call_says_of_its_launches(call):
    answer, (out, x, stored, other, loaded) = call("plain", "itself", maps=True)
    assert out.tolist() == DOUBLED and x.tolist() == [1, 2, 3] and answer["aliases"] == ["x"]
    assert [one[:2] for one in answer["maps"]] == [["stored", 0], ["stored", 1], ["loaded", "x"]]
    assert (stored.tolist(), other.tolist(), loaded.tolist()) == ([True] * 3, [False] * 3, [True] * 3)
    (launch,) = answer["launches"]
    assert sorted(launch["traffic"]) == [["load", "x_ptr", 12], ["store", "out_ptr", 12]] == sorted(launch["footprint"])
    assert launch["accesses"] == 4
    assert call("plain", "itself")[0]["maps"] == [] and call("plain", "by_kernel")[0]["aliases"] == []
    assert json.dumps(answer)


def test_what_a_call_leaves_behind(call, notebook):
    answer, _ = call("plain", "by_kernel")
    assert (answer["threads"], answer["files"]) == (0, []), "what was there before is nobody's"
    answer, _ = call("plain", "leaves")
    notebook.namespace["go_on"].set()
    assert (answer["threads"], answer["files"]) == (1, ["b", "c", "d", "e", "f"])


def test_a_progress_bar_s_thread_is_nobody_s_work(monkeypatch):
    class Watching(threading.Thread):
        pass

    go_on = threading.Event()
    thread = Watching(target=go_on.wait)
    thread.start()
    monkeypatch.setitem(sys.modules, "tqdm._monitor", types.SimpleNamespace(TMonitor=None))  # other tests made bars
    before = child._threads_left()
    monkeypatch.setitem(sys.modules, "tqdm._monitor", types.SimpleNamespace(TMonitor=Watching))
    assert child._threads_left() == before - 1
    go_on.set()
    thread.join()


def test_an_autotuned_kernel_takes_its_first_configuration(monkeypatch):
    monkeypatch.setattr(Autotuner, "__init__", lambda self, configs: setattr(self, "configs", configs))
    child._one_config_is_enough()
    for interpret, left in ((True, [1]), (False, [1, 2, 3])):
        monkeypatch.setitem(vars(child.triton.knobs.runtime), "interpret", interpret)
        assert Autotuner([1, 2, 3]).configs == left


# which function


def asked_of(monkeypatch, *found: Candidate, **more) -> Callable:
    asked = {"name": "f", "wrapper": None, "candidate": 0, "through": None} | more
    monkeypatch.setattr(Notebook, "candidates", lambda _, *given: [*found] if given == ("f", asked["wrapper"]) else [])
    return child._function(Notebook(), asked)


def test_what_is_called_for_a_candidate(monkeypatch):
    def f(x):
        return x + 1

    def other(x):
        return x + 2

    def own(x):
        return 10 * x

    code = "def around(x):\n    return -f(x)\n\ndef tried(function, x):\n    return function(x) / 2\n"
    both = Candidate(f), Candidate(other, own)
    assert asked_of(monkeypatch, *both)(1) == 2 and asked_of(monkeypatch, *both, candidate=1)(1) == 10
    assert asked_of(monkeypatch, *both, wrapper="around", entry_code=code)(1) == -2, "our wrapper around theirs"
    assert asked_of(monkeypatch, *both, wrapper="around", entry_code=code, candidate=1)(1) == 10, "their own first"
    for index, value in enumerate((1.0, 1.5)):
        assert asked_of(monkeypatch, *both, through="tried", entry_code=code, candidate=index)(x=1) == value
    with pytest.raises(IndexError):
        asked_of(monkeypatch, Candidate(f), candidate=1)


# other exercises of the lesson


def test_what_other_exercises_may_have_to_do_with_it(others, monkeypatch):
    """State that one of several keeps, and names that are missing for another's sake."""
    for keeps, known, matter in (({}, "f", False), ({("f", 0): True}, "f", False), ({("g", 0): True}, "f", True),
                                 ({("g", 0): False}, "f", False), ({("g", 0): False, ("f", 1): True}, "f", True)):
        others.keep_state = keeps
        assert others.may_matter(known) is matter
    others.keep_state, others.lacking = {}, {"g"}
    assert (others.may_matter("f"), others.may_matter("g")) == (False, True)
    others.lacking, others.cells_lack = set(), True
    assert others.may_matter("f")
    answer, _ = child._influenced(None, {"name": "f"}, b"")
    assert answer == {"influenced": True}


@pytest.mark.parametrize("error, gone, lacks", [
    (None, [], False), (None, ["kernels.cost.gemv_bytes"], True), ({"type": "ValueError"}, [], False),
    *(({"type": kind}, [], True) for kind in ("NameError", "AttributeError", "ImportError", "ModuleNotFoundError"))],
    ids=str)
def test_which_answers_lack_a_name(others, error, gone, lacks):
    child.missed.update(gone)
    others.note_answer({"name": "f"}, {"error": error})
    assert others.lacking == ({"f"} if lacks else set()) and not child.missed


def test_a_function_s_state_is_looked_at_once(others, monkeypatch):
    seen = []
    monkeypatch.setattr(child, "keeps_state", lambda one: seen.append(one) or one == "wrapper")
    for index, candidate in enumerate((Candidate("a"), Candidate("b", "wrapper"), Candidate("c"))):
        for _ in range(2):
            others.note_call({"name": "f", "candidate": index}, candidate)
    assert others.keep_state == {("f", 0): False, ("f", 1): True, ("f", 2): False}
    assert seen.count("a") == seen.count("b") == 1


@pytest.mark.parametrize("ours, gone, lacks", [([True], ["a"], False), ([False], ["a"], True), ([False], [], False),
                                               ([], ["a"], True)], ids=str)
def test_what_a_student_s_own_cell_lacks(others, ours, gone, lacks):
    """What the lesson's own cells lack does not matter. Whatever a cell does, what is lent takes its place after it."""
    lent: list[int] = []
    with pytest.raises(KeyError), child._cell(iter(ours), lambda: lent.append(1)):
        child.missed.update(gone)
        raise KeyError
    assert others.cells_lack is lacks and lent == [1] and not child.missed
    with child._cell(iter([False]), lambda: None):
        pass
    assert others.cells_lack is lacks, "it stays so"


def test_a_cell_that_goes_on_is_ended(monkeypatch):
    monkeypatch.setattr(child, "CELL_S", 0.01)
    with pytest.raises(TimeoutError), child._cell(iter([False]), lambda: None):
        while True:
            pass


def test_ours_takes_the_place_of_what_a_cell_defines():
    namespace, standing = {"f": 1, "g": 5}, {}
    lent = {"f": "def f():\n    return 2\n"}
    child._lend(lent, namespace, standing)
    ours = namespace["f"]
    child._lend(lent, namespace, standing)
    assert ours() == 2 and namespace["f"] is ours and namespace["g"] == 5, "not anew where it stands"
    namespace["f"] = 3
    child._lend(lent, namespace, standing)
    assert namespace["f"]() == 2 and namespace["f"] is standing["f"] is not ours


# frames


def test_a_child_s_answers(monkeypatch, others):
    def leave(notebook, asked, data):
        raise SystemExit(3)

    notebook = types.SimpleNamespace(errors=[CellError(n, "E", "t", None) for n in range(101)])
    monkeypatch.setattr(child, "_run", lambda job: notebook if job["cells"] else 1 / 0)
    monkeypatch.setattr(child, "_MODES", {"plain": lambda *given: ({"is": given[0] is notebook}, given[2]), "leave": leave})
    (greeting, _), *answered = served(
        child.serve, ({"cells": ["x"]}, b""), ({"mode": "plain", "name": "f", "nonce": "1"}, b"abc"),
        ({"mode": "leave", "name": "g", "nonce": "2"}, b""), ({"mode": "odd", "name": "h", "nonce": "3"}, b""))
    assert greeting["ready"] is True and greeting["nonce"] is None and len(greeting["errors"]) == 100
    assert greeting["errors"][7] == {"cell": 7, "type": "E", "text": "t", "line": None}
    assert answered[0] == ({"is": True, "nonce": "1"}, b"abc")
    assert [(one["nonce"], one["outputs"], one["error"]["type"]) for one, _ in answered[1:]] == [
        ("2", [], "SystemExit"), ("3", [], "KeyError")]
    (said, _), = served(child.serve, ({"cells": []}, b""), ({"mode": "plain"}, b""))
    assert said["error"]["type"] == "ZeroDivisionError" and said["nonce"] is None and "ready" not in said


def test_what_a_child_says_of_candidates(monkeypatch, others):
    def f():
        return g()

    def g():
        return 1

    others.lacking.add("f")
    monkeypatch.setattr(Candidate, "used", lambda self, names: set(names) if self.own_wrapper else set())
    found = {("f", "w"): [Candidate(f), Candidate(g, f)]}
    monkeypatch.setattr(Notebook, "candidates", lambda _, *given: found[given])
    answer, payload = child._candidates(Notebook(), {"name": "f", "wrapper": "w", "others": ["b", "a"]}, b"")
    assert answer == {"influenced": True, "candidates": [{"own_wrapper": False, "function": "f", "uses": []},
                                                         {"own_wrapper": True, "function": "g", "uses": ["a", "b"]}]}


# a call recorded


def test_a_recording_is_made_on_layouts_alone(notebook):
    described, _ = encode_inputs({"x": torch.zeros(16)[::3][:4], "n": 7})
    asked = {"name": "and_torch", "wrapper": None, "candidate": 0, "inputs": described, "through": None, "timeout_s": 60}
    answer, payload = child._record(notebook, asked, b"")
    assert answer.keys() == {"recording", "constants"} and json.dumps(answer)
    notebook.namespace["looks"] = lambda x, n: x.sum().item()
    answer, _ = child._record(notebook, asked | {"name": "looks"}, b"")
    assert answer.keys() == {"needs_numbers"} and len(answer["needs_numbers"]) <= 300
    seen = []
    notebook.namespace["seen"] = lambda x, n: (seen.append((x.dtype, x.shape, x.stride(), n)), x + 1)[1]
    child._record(notebook, asked | {"name": "seen"}, b"")
    assert [str(one) for one in seen[0]] == ["torch.float32", "torch.Size([4])", "(3,)", "7"]


# what is said, and what can be imported


def test_the_first_cause_of_an_error_is_said():
    place = ("store", "y_ptr", (0, 0, 0), 9, 1)
    bounds = OutOfBounds("load", "x_ptr", (1, 2, 3), (4,), 5, (6,), 7, True, False, (place,))
    outer, middle = ValueError("outer"), KeyError("middle")
    outer.__cause__, middle.__cause__ = middle, bounds
    said = answers.describe_error(outer, "x" * 400)
    assert (said["type"], said["text"], said["line"]) == ("OutOfBounds", str(bounds)[:2000], "x" * 300)
    assert rebuilt_error(json.loads(json.dumps(said))).same_as(bounds)
    assert answers.describe_error(ValueError("t" * 3000), None) == {"type": "ValueError", "text": "t" * 2000, "line": None}


def test_of_what_raised_no_output_is_sent():
    one, part = torch.zeros(4), torch.ones(9)
    tried = Attempt({"x": one, "n": 3}, (one[1:], part, part[2:], 5))
    answer, payload = answers.answer_for(tried, maps=True)
    assert answer["aliases"] == ["x"] and answer["maps"] == [] and len(answer["outputs"]) == 4 and len(payload) == 4 * 19
    tried.error, tried.line = KeyError("k"), "x[0]"
    answer, payload = answers.answer_for(tried, maps=True)
    assert (answer["outputs"], payload, answer["error"]["line"]) == ([], b"", "x[0]")


def test_only_what_is_given_can_be_imported(monkeypatch):
    """Of `checks` everything is there and does nothing; a name that our modules lack is noted."""
    monkeypatch.setattr(virtual, "missed", set())
    finder = virtual._Given({"kernels": "", "kernels.cost": "A = 1\ndef f():\n    return A\n"}, check := lambda: 7)
    names = "kernels", "kernels.cost", "kernels.hello", "checks", "checks.a.b", "torch"
    specs = {name: finder.find_spec(name) for name in names}
    assert {name: spec and spec.submodule_search_locations is not None for name, spec in specs.items()} == {
        "kernels": True, "kernels.cost": False, "kernels.hello": None, "checks": True, "checks.a.b": True, "torch": None}
    made = {name: module_from_spec(spec) for name, spec in specs.items() if spec}
    for module in made.values():
        finder.exec_module(module)
    assert made["kernels.cost"].f() == 1 and inspect.getsource(made["kernels.cost"].f) == "def f():\n    return A\n"
    assert made["checks"].check is check and made["checks.a.b"].anything() is None
    for module, name in (("kernels.cost", "gemv_bytes"), ("kernels.cost", "__wrapped__"), ("kernels", "cost"),
                         ("kernels", "gemv")):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute '{name}'"):
            getattr(made[module], name)
    assert virtual.missed == {"kernels.cost.gemv_bytes", "kernels.gemv"}
