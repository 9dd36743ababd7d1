"""Which submissions are alike: in code whose names do not matter, beyond the lesson and the answer."""

import re

import pytest
from grading import exercise_cell

from checks.exercises import EXERCISES
from checks.grader.intake.submissions import Cell, Submission
from checks.grader.output import similarity
from checks.grader.output.similarity import alike, fingerprints, pairs, table
from checks.judge.source import answer_source

QUANTIZE = EXERCISES["quantize_int8_perrow_torch"]


def handed_in(**sources: str) -> list[Submission]:
    """A submission of QUANTIZE by each student."""
    return [Submission(name, [Cell(exercise_cell(QUANTIZE, source), "a.ipynb", 0)]) for name, source in sources.items()]


OWN = ("def quantize_int8_perrow_torch(x):\n    total = []\n    for row in x.float():\n"
       "        most = max(abs(float(v)) for v in row)\n"
       "        if most == 0:\n            total.append((row * 0, 0.0))\n            continue\n"
       "        unit = most / 127\n        numbers = [int(round(float(v) / unit)) for v in row]\n"
       "        total.append((torch.tensor(numbers), unit))\n"
       "    return torch.stack([a for a, _ in total]).to(torch.int8), torch.tensor([b for _, b in total])\n")


def test_similarity_sees_through_renaming():
    copied = OWN.replace("total", "acc").replace("most", "m").replace("numbers", "qs") + "# mine\n"
    other = ("def quantize_int8_perrow_torch(x):\n    scale = x.float().abs().amax(1) / 127\n"
             "    while scale.isnan().any():\n"
             "        scale = scale.nan_to_num(0)\n    return torch.zeros_like(x).to(torch.int8).add(3), "
             "scale.sqrt().square()\n")
    submissions = handed_in(ada=OWN, bob=copied, eva=other, jon=answer_source(QUANTIZE.name))
    assert list(alike(submissions, QUANTIZE)) == [("ada", "bob")]


def test_a_pair_is_listed_with_what_is_alike_in_it():
    assert table(pairs([], {QUANTIZE.name: QUANTIZE})) == ["no two submissions are alike beyond the lesson and the answer"]
    assert table(pairs(handed_in(ada=OWN, bob=OWN), {QUANTIZE.name: QUANTIZE})) == [
        "ada and bob: quantize_int8_perrow_torch 100 %"]


def test_pairs_alike_in_most_exercises_come_first(monkeypatch):
    found = {"b": {("ada", "bob"): 0.7, ("eva", "jon"): 0.8}, "c": {("eva", "jon"): 1.0, ("ada", "eva"): 0.6}}
    exercises = {name: type("Named", (), {"name": name}) for name in found}
    monkeypatch.setattr(similarity, "alike", lambda _, exercise: found[exercise.name])
    assert table(pairs([], exercises)) == ["eva and jon: b 80 %, c 100 %", "ada and bob: b 70 %", "ada and eva: c 60 %"]


STUB = 'def quantize_int8_perrow_torch(x):\n    raise NotImplementedError("TODO: about 5 lines")\n'


@pytest.mark.parametrize(("ada", "bob", "common", "likeness"), [
    (range(10), range(2, 12), (), 8 / 12), (range(10), range(3, 13), (), None), (range(8), range(8), (), 1.0),
    (range(7), range(7), (), None), (range(20), range(40), (), None), (range(10), range(10), range(3), None),
    (range(20), range(10, 22), range(10), 10 / 12)],
    ids=["most in common", "too little in common", "just long enough", "too short", "one has more of its own",
         "too short without the lesson's", "alike but for the lesson's"])
@pytest.mark.parametrize("of", ["lesson", "answer"])
def test_how_much_must_be_in_common(monkeypatch, ada, bob, common, likeness, of):
    prints = {"# ada": ada, "# bob": bob, of: common}
    monkeypatch.setattr(similarity, "lesson_cells", lambda _: ["lesson"])
    monkeypatch.setattr(similarity, "answer_source", lambda _: "answer")
    monkeypatch.setattr(similarity, "fingerprints", lambda source: set(prints.get(source.strip().split("\n")[-1], ())))
    assert alike(handed_in(ada="pass\n# ada", bob="pass\n# bob"), QUANTIZE) == (
        {} if likeness is None else {("ada", "bob"): likeness})
    assert alike(handed_in(ada=f"{STUB}# ada", bob=f"{STUB}# bob"), QUANTIZE) == {}, "not attempted"


@pytest.mark.parametrize(("shared", "seen"), [(11, False), (19, True)])
def test_how_long_a_run_of_tokens_is_seen_anywhere(monkeypatch, shared, seen):
    monkeypatch.setattr(similarity, "_tokens", str.split)
    run = [f"t{i}" for i in range(shared)]
    for before in range(12):
        a, b = (fingerprints(" ".join([f"{own}{i}" for i in range(before)] + run + [f"{own}_{i}" for i in range(30)]))
                for own in "xy")
        assert bool(a & b) == seen


CODE = "def f(x):\n    y = x.amax(1) / 127\n    return [y, x.sum(0), x + 1, x * y, -x]\n"


@pytest.mark.parametrize(("other", "same"), [
    (re.sub(r"\bx\b", "rows", CODE).replace("y", "scale"), True), (CODE + "# a comment\n", True),
    (CODE.replace("127", "128"), False), (CODE.replace("amax", "amin"), False),
    (CODE.replace("x +", "x -"), False), (CODE.replace("def f", "def def f"), False)])
def test_what_tells_two_texts_apart(other, same):
    assert (fingerprints(other) == fingerprints(CODE)) == same


def test_code_that_is_no_python_is_compared_by_its_words():
    broken = CODE.replace("def f", "def def f")
    assert fingerprints(broken) == fingerprints(broken.replace(" ", "  "))
    assert not fingerprints(broken) & fingerprints("def def g(a, b): return a is not b")


@pytest.mark.parametrize("source", ["x = " + "0 + " * 3000 + "1", "x" + ".a" * 3000, "(" * 300, "\0"])
def test_no_text_is_too_odd_to_be_compared(source):
    assert fingerprints(source)


def test_of_a_long_constant_the_beginning_is_compared():
    text = CODE.replace("127", repr("a" * 40))
    assert fingerprints(text) == fingerprints(text.replace("a" * 40, "a" * 19 + "b" * 21))
    assert fingerprints(text) != fingerprints(text.replace("a" * 40, "a" * 18 + "b" * 22))


def test_both_texts_of_a_pair_stand_on_a_page(tmp_path):
    submissions = handed_in(ada="x = '<b>'\n\ty = 2", bob="z = 3\x1b")
    path = similarity.write_page(tmp_path, submissions, {("ada", "bob"): [(QUANTIZE.name, 0.756), ("programs_needed", 1.0)]})
    assert path == tmp_path / "pages" / "similar.html"
    text = path.read_text()
    assert "x = &#39;&lt;b&gt;&#39;\n\ty = 2" in text and "z = 3\\x1b" in text and "76 %" in text and "100 %" in text
