"""The answer with one thing changed, and a wrong function that does the same."""

import inspect

import pytest

from checks.exercises import EXERCISES
from checks.judge.source import define
from checks.judge.variations import variations
from checks.judge.verdict import judge


@pytest.fixture
def no_repair(monkeypatch):
    """As in the grader, which runs no changed source of a student's."""
    monkeypatch.setattr("checks.judge.diagnosis.repaired", lambda *_: None)


@pytest.mark.usefixtures("no_repair")
@pytest.mark.parametrize(("name", "body", "said"), [
    ("roofline_us", "return max(2 * flops / (tflops * 1e6), num_bytes / (gb_per_s * 1e3))", "were twice what it should be"),
    ("graph_us", "return launch_us + kernel_us.sum().item() + (len(kernel_us) - 1) / gap_us", "`/` stood where `*` belongs"),
    ("wave_efficiency", "p = -(-M // BLOCK_M) * -(-N // BLOCK_M) + 0 * BLOCK_N\n    return p / (-(-p // at_once) * at_once)",
     "`BLOCK_M` stood where `BLOCK_N` belongs")])
def test_a_wrong_function_is_said_in_terms_of_the_answer(name, body, said):
    exercise = EXERCISES[name]
    head = f"def {name}({', '.join(inspect.signature(exercise.answer_function()).parameters)}):"
    verdict = judge(exercise, define(f"{head}\n    {body}\n", name, dict(vars(exercise.module))))
    assert not verdict.passed and f"{name}: It comes out as if " in verdict.message and said in verdict.message


def test_each_variation_is_another_program_that_python_reads():
    found = list(variations("def f(a, b):\n    '''Doc.'''\n    return max(a // 2, -b) + (a < b)\n"))
    assert len({one.source for one in found}) == len(found) > 30
    for one in found:
        compile(one.source, "variation", "exec")
    large = {one.sentence for one in variations("def f(a):\n    return a * 1e12\n")}
    assert "1e+12 stood where 1e+12 belongs" not in large and "1e+09 stood where 1e+12 belongs" in large
    assert any("return max(b // 2, -b) + (a < b)" in one.source and one.sentence == "`b` stood where `a` belongs"
               for one in found)


@pytest.mark.parametrize(("length", "said"), [(59, "a" * 59), (60, "a" * 57 + "...")])
def test_a_long_piece_of_source_is_cut_and_says_so(length, said):
    sentences = [one.sentence for one in variations(f"def f(b):\n    return -{'a' * (length - 1)}\n")]
    assert f"`-{said[1:]}` had lost its sign" in sentences


@pytest.mark.parametrize(("right", "changed", "sentence"), [
    ("a / b", "a", "`a` were not divided by `b`"), ("a / b", "a / b / b", "`a` were divided by `b` twice"),
    ("a / b", "b / a", "`a / b` were inverted"), ("a // b", "-(-a // b)", "`a // b` were rounded up"),
    ("a * b", "b", "the factor `a` were left out"), ("a * b", "a * b * a", "the factor `a` were there twice"),
    ("a + b", "a", "`b` were left out"), ("a + b", "a + b + a", "`a` were counted twice"),
    ("a - b", "a", "`b` were left out"), ("a - b", "b - a", "the two sides of `a - b` were swapped"),
    ("a % b", "a // b", "`//` stood where `%` belongs, in `a % b`"), ("a * b", "4 * (a * b)", "were 4 times what it should"),
    ("a <= b", "a < b", "`<` stood where `<=` belongs, in `a <= b`"), ("a and b", "b", "only `b` were asked"),
    ("-a", "a", "`-a` had lost its sign"), ("a.T", "a", "`a` were not transposed"), ("a[b]", "a", "`a` stood where `a[b]`"),
    ("max(a, b)", "a + b", "the parts of `max(a, b)` were added up"), ("max(a, b)", "b", "`b` were taken alone, without"),
    ("a.sum(dim=0)", "a.sum(dim=1)", "`dim=1` stood where `dim=0` belongs"), ("a.abs()", "a", "`.abs` were left out"),
    ("a.sum()", "a.mean()", "`mean` stood where `sum` belongs"), ("math.ceil(a)", "a", "`ceil` were left out")])
def test_each_variation_is_what_its_sentence_says(right, changed, sentence):
    found = [one.sentence for one in variations(f"def f(a, b):\n    return {right}\n")
             if one.source == f"def f(a, b):\n    return {changed}\n"]
    assert any(sentence in one for one in found), found


SIGNS = {"+": "- *", "-": "+", "*": "/ +", "/": "* //", "//": "/ %", "%": "//", "**": "*", "<": "<= >", "<=": "< >=",
         ">": ">= <", ">=": "> <=", "==": "!=", "!=": "==", "&": "|"}
CALLS = {"max": "min sum mean", "min": "max sum", "sum": "max mean prod", "mean": "sum median amax", "amax": "amin mean sum",
         "median": "mean", "any": "all", "all": "any", "ceil": "floor round", "floor": "ceil round", "round":
         "floor ceil trunc",
         "log10": "log log2", "log2": "log log10", "log": "log10 log2", "double": "float half", "float": "half bfloat16",
         "square": "abs", "exp": "exp2", "log_softmax": "softmax"}


def sentences(right: str, changed: str) -> list[str]:
    changed = f"def f(a, b):\n    return {changed}\n"
    return [one.sentence for one in variations(f"def f(a, b):\n    return {right}\n") if one.source == changed]


@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_that_may_stand_for_another(sign):
    for other in SIGNS[sign].split():
        assert sentences(f"a {sign} b", f"a {other} b") == [f"`{other}` stood where `{sign}` belongs, in `a {sign} b`"]


@pytest.mark.parametrize("name", CALLS)
def test_a_function_that_may_stand_for_another(name):
    for other in CALLS[name].split():
        assert sentences(f"a.{name}(b)", f"a.{other}(b)") == [f"`{other}` stood where `{name}` belongs"]


@pytest.mark.parametrize("name", ["abs", "float", "double", "round", "clamp", "square", "sqrt", "sum", "mean", "unique"])
def test_a_call_that_may_be_left_out(name):
    assert sentences(f"a.{name}(b)", "a") == [f"`.{name}` were left out, in `a.{name}(b)`"]
    for module in ("math", "torch", "tl", "statistics"):
        assert sentences(f"{module}.{name}(a)", "a") == [f"`{name}` were left out"]
        assert sentences(f"{module}.{name}(a, b)", "a") == [] == sentences(f"{module}.{name}(a)", module)


@pytest.mark.parametrize(("right", "changed", "said"), [
    *((f"a {sign} b", f"{factor} * (a {sign} b)", f"`a {sign} b` were {word} what it should be") for sign in "*/" for factor,
    word in (
        ("2", "twice"), ("0.5", "half"), ("4", "4 times"), ("8", "8 times"), ("1000", "1,000 times"))),
    ("a + b", "2 * (a + b)", None), ("a // b", "b // a", "`a // b` were inverted"), ("a + b", "b", "`a` were left out"),
    ("a + b", "a + b + b", "`b` were counted twice"), ("a * b", "a", "the factor `b` were left out"), ("a - b", "b", None),
    ("a * b", "a * b * b", "the factor `b` were there twice"), ("a or b", "a", "only `a` were asked"), ("a / b", "-(-a / b)",
    None),
    ("a % b", "b % a", "the two sides of `a % b` were swapped"), ("min(a, b)", "a + b",
    "the parts of `min(a, b)` were added up"),
    ("min(a, b)", "a", "`a` were taken alone, without the `min`"), ("max(a, b)", "min(a, b)",
    "`min` stood where `max` belongs"),
    ("sum(a)", "max(a)", "`max` stood where `sum` belongs"), ("sum(a)", "mean(a)", None), ("max(a)", "a", None),
    ("a + 3", "a + 4", "4 stood where 3 belongs"), ("a + 3", "a + 2", "2 stood where 3 belongs"), ("a + 3", "a + 0",
    "0 stood where 3"),
    ("a + 3", "a + 3000", "3000 stood where 3 belongs"), ("a + 3000", "a + 3", "3 stood where 3000 belongs"),
    ("a + 3", "a + 0.003", None), ("a + 3.0", "a + 0.003", "0.003 stood where 3 belongs"), ("a + True", "a + 2", None),
    *((f"a + {n}.0", f"a + {other}.0", f"{other} stood where {n} belongs") for n in (77,)
      for other in (1, 2, 4, 8, 0, 10, 20, 127, 128, 255, 256, 78, 76, 77000)),
    ("a.sum(axis=1)", "a.sum(axis=0)", "`axis=0` stood where `axis=1` belongs"), ("a.sum(dim=2)", "a.sum(dim=-1)", None),
    ("a < b < 3", "a <= b < 3", None), ("a", "b", "`b` stood where `a` belongs"), ("c", "a", None)])
def test_a_variation_is_made_where_it_is_meant(right, changed, said):
    assert sentences(right, changed) == ([] if said is None else [said]) or said and said in "".join(sentences(right,
        changed))
