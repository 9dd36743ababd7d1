"""What may be meant by an exercise's function, and that trying one way changes nothing for the next."""

import contextlib

import pytest

from checks.host.notebook import Candidate, Notebook

GIVEN = "def launch(x):\n    return kernel(x)\n"
KERNEL = "def kernel(x):\n    return x + 1\n"


def notebook(*cells: str, checked: tuple = ()) -> Notebook:
    ran = Notebook()
    ran.run([GIVEN], cells, numbers=True)
    assert not ran.errors
    for name in checked:
        ran.check(ran.namespace[name])
    return ran


@pytest.mark.parametrize("fails", [False, True])
def test_a_wrapper_is_bound_to_a_kernel_for_one_call(fails):
    names: dict = {}
    exec(KERNEL + GIVEN, names)
    before = names["kernel"]

    def other(x):
        if fails:
            raise KeyError(x)
        return x + 100

    call = Candidate(other, names["launch"]).bound_wrapper("kernel")
    if fails:
        with pytest.raises(KeyError):
            call(1)
    else:
        assert call(1) == 101
    assert names["kernel"] is before and names["launch"](1) == 2


def test_a_wrapper_counts_where_it_is_the_student_s_own():
    (alone,) = notebook(KERNEL).candidates("kernel", "launch")
    assert alone.own_wrapper is None and alone.function(1) == 2
    (same,) = notebook(KERNEL, GIVEN).candidates("kernel", "launch")
    assert same.own_wrapper is None, "the lesson's, run again"
    without, own = notebook(KERNEL, GIVEN.replace("kernel(x)", "2 * kernel(x)")).candidates("kernel", "launch")
    assert without.own_wrapper is None and own.bound_wrapper("kernel")(1) == 4
    assert notebook("x = 1").candidates("kernel", "launch") == []


@pytest.mark.parametrize(("given", "mine", "own"), [
    ("kernel(x) * 2", "kernel(x) * 3", True), ("kernel(x) + 0.5", "kernel(x) - 0.5", True), ("x.a", "x.b", True),
    ("kernel(x) * 2", "kernel(x)  *  2  # mine", False)])
def test_a_wrapper_is_one_s_own_where_any_part_of_it_is(given, mine, own):
    ran = Notebook()
    ran.run([GIVEN.replace("kernel(x)", given)], [KERNEL, GIVEN.replace("kernel(x)", mine)], numbers=True)
    assert [one.own_wrapper is not None for one in ran.candidates("kernel", "launch")] == [False, True][:1 + own]


def test_what_was_checked_comes_before_the_name_at_the_end():
    ran = notebook(KERNEL, checked=("kernel",))
    ran.namespace["kernel"] = lambda x: x + 7
    assert [one.function(1) for one in ran.candidates("kernel", None)] == [2, 8]


def test_what_was_checked_counts_whatever_its_name_meant():
    ran = notebook(KERNEL)
    old, ran.namespace["kernel"] = ran.namespace["kernel"], lambda x: x + 7
    ran.check(old)
    assert [one.function(1) for one in ran.candidates("kernel", None)] == [2, 8]
    ran.check()
    ran.check(ran.namespace["kernel"])  # a lambda, which has another name
    assert [one.function(1) for one in ran.candidates("kernel", None)] == [2, 8]


def test_what_is_the_same_counts_once():
    assert len(notebook(KERNEL, checked=("kernel",)).candidates("kernel", "launch")) == 1
    own = GIVEN.replace("kernel(x)", "2 * kernel(x)")
    ran = notebook(KERNEL, own, checked=("kernel", "launch"))
    assert [one.own_wrapper is not None for one in ran.candidates("kernel", "launch")] == [False, True]
    for nothing in ("launch = 3", "launch = 'kernel'", "del launch"):
        assert [one.own_wrapper for one in notebook(KERNEL, nothing).candidates("kernel", "launch")] == [None]


def test_what_was_checked_may_be_the_wrapper():
    """What the kernel's name meant then counts, whatever it means at the end."""
    ran = notebook(KERNEL, GIVEN, checked=("launch",))
    ran.namespace["kernel"] = lambda x: x + 7
    assert [one.function(1) for one in ran.candidates("kernel", "launch")] == [2, 8]
    assert notebook(KERNEL, checked=("kernel",)).candidates("launch", None) == [], "the lesson's own"


def test_errors_are_those_of_the_student_s_cells_each_limited():
    limits = []

    @contextlib.contextmanager
    def limit():
        limits.append(len(limits))
        yield

    ran = Notebook()
    ran.run(["1 / 0", GIVEN], ["x = 1", "y = x.nothing"], True, limit)
    assert [(error.cell, error.type) for error in ran.errors] == [(1, "AttributeError")]
    assert limits == [0, 1, 2, 3]


USING = """
def alone(x): return first(x)
def helper(x): return second(x) + again(x)
def again(x): return helper(x)
def both(x): return first(x) + helper(x)
def first(x): return third(x)
def launch(x): return alone(x) + kernel(x)
"""


@pytest.mark.parametrize(("name", "used"), [
    ("alone", {"first"}), ("helper", {"second"}), ("both", {"first", "second"}), ("launch", {"first"}), ("first",
    {"third"})])
def test_which_exercises_a_function_uses(name, used):
    exec(USING, names := {})
    wanted = "first", "second", "third", "fourth"
    assert Candidate(names[name]).used(wanted) == used
    assert Candidate(len, names[name]).used(wanted) == used, "by the wrapper around it"
    assert Candidate(names["again"], names[name]).used(wanted) == used | {"second"}


@pytest.mark.parametrize(("functions", "found"), [(1, True), (2, True), (90, True), (102, False), (300, False)])
def test_how_far_calls_are_followed(functions, found):
    chain = [f"def f{i}(x): return f{i + 1}(x)" for i in range(functions - 1)]
    exec("\n".join([*chain, f"def f{functions - 1}(x): return first(x)"]), names := {})
    assert Candidate(names["f0"]).used(("first", "second")) == ({"first"} if found else set())


def test_a_wrapper_may_call_a_kernel_of_other_cells():
    exec(GIVEN, names := {})
    kernel = notebook(KERNEL).candidates("kernel", None)[0].function
    call = Candidate(kernel, names["launch"]).bound_wrapper("kernel")
    assert call(1) == 2 == call(x=1) and names["kernel"] is kernel
    assert Candidate(kernel).name == "kernel" and Candidate(3).name == ""
