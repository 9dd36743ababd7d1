"""checks/host/cells.py: cells run as a notebook runs them."""

import contextlib
import inspect
import warnings

import pytest
import torch

from checks.host.cells import run_cells

LINES = "a = 1\n%matplotlib inline\nb = 2\n"


@pytest.mark.parametrize(("cells", "name", "value"), [
    (["a = 1", "b = a + 1"], "b", 2), ([LINES], "b", 2),
    (["a = !ls\nb = len(a)"], "b", 0), (["!pip install x\nb = 3"], "b", 3),
    (["%%time\nb = 4"], "b", 4), (["%%bash\nrm -rf x", "b = 5"], "b", 5), (["%timeit -n 3 1 + 1\nb = 6"], "b", 6),
    (["%time b = 7"], "b", 7), (["b = 1", "%time"], "b", 1), (["%%timeit -n 3\nb = 13"], "b", 13),
    (["%%capture seen\nb = 14"], "b", 14), (["%%prun\nb = 15"], "b", 15), (["b = 8", "b = b ** 2"], "b", 64), (["b = []",
    "b.append(1)", "b.append(2)"], "b", [1, 2]),
    (["configs = [w for w in (1, 2)]"], "configs", [1, 2]), (["x = (10\n     % 4)\n%timeit 1"], "x", 2),
    (["def f():\n    return 1", "def f():\n    return 2", "b = f()"], "b", 2), (["?print\nb = 9"], "b", 9),
    (["b = 1\nb += 1; c = b"], "c", 2), (["b = 1; c = (\n    b + 1)\nb = 5"], "c", 2),
    (["b = 1; c = [\n    b]; b = 2; c += [\n    b]\nc += [3]"], "c", [1, 2, 3]),
    (["seen = []\nadd = seen.append\n@(add(1) or staticmethod)\n@(add(2) or staticmethod)\ndef b():\n    return 3"],
     "seen", [1, 2]), ([f"b = {' + '.join(['1'] * 2000)}"], "b", 2000),
    (["from __future__ import annotations", "def f(x: nowhere):\n    return 12\nb = f(0)"], "b", 12),
    (["b = hasattr(get_ipython(), '__array__')"], "b", False), (["b = get_ipython().magic('matplotlib')"], "b", None),
    (["display(1)\nget_ipython().user_ns['b'] = 10"], "b", 10), (["print('\\ud800')\nb = 11"], "b", 11)])
def test_cells_mean_what_they_mean_in_a_notebook(cells, name, value):
    namespace = {}
    assert run_cells(cells, namespace) == [] and namespace[name] == value


@pytest.mark.parametrize(("cell", "kind", "line"), [
    ("b = 1\n1 / (b - 1)\nb = 0", "ZeroDivisionError", "1 / (b - 1)"),
    ("b = 0\nimport sys\nsys.exit()", "SystemExit", "sys.exit()"),
    ("b = 0\ndef f(:", "SyntaxError", "def f(:"),
    ("b = 0\ndef f():\n    return b / 0\nf()", "ZeroDivisionError", "return b / 0"),
    ("b = 0\nimport json\njson.loads('x')", "JSONDecodeError", "json.loads('x')"),
    ("b = 0\nraise KeyboardInterrupt", "KeyboardInterrupt", "raise KeyboardInterrupt")])
def test_a_statement_that_fails_is_told_and_the_next_one_runs(cell, kind, line):
    namespace = {"b": 0}
    (error,) = run_cells(["a = 1", cell, "c = b"], namespace)
    assert (error.cell, error.type, error.line) == (1, kind, line) and namespace["c"] == 0


@pytest.mark.parametrize("error", [
    "TimeoutError('long')", "ValueError('wrong')", "SystemExit(1)", "KeyboardInterrupt()"])
def test_a_time_limit_ends_its_cell_other_errors_a_statement(error):
    namespace = {}
    errors = run_cells([f"a = 1\nraise {error}\nb = 2", "c = 3"], namespace)
    assert [(found.cell, found.type) for found in errors] == [(0, error.partition("(")[0])]
    assert (namespace["a"], "b" in namespace, namespace["c"]) == (1, "Timeout" not in error, 3)


def test_a_long_error_is_cut():
    namespace, line = {}, "raise ValueError('" + "x" * 3000 + "')"
    errors = run_cells([line, "y = (1\n", "def f(a, a): pass"], namespace)
    assert [(error.type, len(error.text), len(error.line or "")) for error in errors[:1]] == [("ValueError", 2000, 300)]
    assert [error.cell for error in errors] == [0, 1, 2]
    assert errors[2].text == "duplicate argument 'a' in function definition"


def test_each_cell_runs_inside_the_limit():
    seen = []

    @contextlib.contextmanager
    def limit():
        seen.append("begins")
        yield
        seen.append("ends")
        if len(seen) > 4:
            raise TimeoutError("too long in all")

    namespace = {"seen": seen}
    errors = run_cells(["seen.append(1)", "seen.append(2)"], namespace, limit=limit)
    assert seen == ["begins", 1, "ends", "begins", 2, "ends"]
    assert [(error.cell, error.type, error.text, error.line) for error in errors] == [
        (1, "TimeoutError", "too long in all", None)]


def test_what_cells_print_and_warn_of_is_not_seen(capsys):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run_cells(["print(1)", "import warnings\nwarnings.warn('odd')", "import sys\nsys.stdout.write('2')"],
            {}) == []
    assert capsys.readouterr().out == "" and not seen


@pytest.mark.parametrize("numbers", [False, True])
def test_tensors_have_data_if_asked_for(numbers):
    errors = run_cells(["import torch\nb = torch.arange(3)", "c = b.tolist()"], namespace := {}, numbers)
    assert [error.cell for error in errors] == [1] * (not numbers) and namespace.get("c") == ([0, 1, 2] if numbers else None)


def test_tensors_with_data_that_were_there_before_may_be_used():
    assert run_cells(["z = x + torch.ones(3)", "z += x"], {"x": torch.ones(3), "torch": torch}) == []


def test_nothing_is_computed_and_no_kernel_runs():
    namespace = {}
    errors = run_cells([
        "import torch\nfrom kernels.hello import vector_add\nx = torch.randn(4)\ny = vector_add(x, x)\nprint(y)",
        "z = float(y[0])",
        "import triton\nimport triton.language as tl\n@triton.jit\ndef k(p, N: tl.constexpr):\n    tl.store(p, N)",
        "k[1,](x, 3)"], namespace)
    assert [(error.cell, error.type) for error in errors] == [(1, "DataDependentOutputException")]
    assert type(namespace["y"]).__name__ == "FakeTensor" and namespace["y"].shape == (4,)
    assert inspect.getsource(namespace["k"].fn).startswith("@triton.jit\ndef k(p")
