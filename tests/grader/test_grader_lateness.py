"""Who is late, by how much, and who handed in nothing. Nothing runs."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from grading import DUE, GEMV, HELLO, ROSTER, exercise, kept, result, with_course

from checks.grader import gradebook, results
from checks.grader.command import main
from checks.grader.course import DEFAULT, LateRule, read_course
from checks.grader.gradebook import read_gradebook, with_lateness
from checks.grader.output.exports import gradescope_results
from checks.grader.output.feedback import lateness, sentences_on_all


@pytest.mark.parametrize("seconds, percent", [(0, 0), (600, 0), (601, 10), (86_400, 10), (86_401, 20), (5 * 86_400, 30)])
def test_the_late_rule(seconds, percent):
    assert LateRule(10, 10, 30).percent(seconds) == percent
    assert LateRule().percent(seconds) == 0


def test_what_lateness_costs_and_who_has_more_time(tmp_path):
    grades = with_course(tmp_path / "g", "[late]\npercent_per_day = 25")
    (grades / "roster.csv").write_text(ROSTER)
    ones = (exercise(), exercise("gemv_fp16", GEMV))
    at = {HELLO: DUE.timestamp() + 100_000, GEMV: 9e9}
    kept(grades, *(result(id, *ones, handed_in=at) for id in ("s1", "s2", "s4")), result("s3", *ones))
    late, more_time, unknown, by_platform = read_gradebook(grades).results
    assert (late["late_taken"], late["points"], late["late"]) == ({HELLO: 0.5}, 1.5, {HELLO: True})
    assert late["late_seconds"] == {HELLO: 100_000}
    for one in (more_time, by_platform, unknown):
        assert (one["late_taken"], one["late_seconds"], one["points"]) == ({}, {}, 2.0)
    assert "28 hours late: 0.5 points were taken off" in sentences_on_all(late)[0]


@pytest.mark.parametrize("rule, points", [((), 2.0), ((0, 10), 1.7999), ((0, 100), 0.0), ((0, 200, 200), 0.0)])
def test_lateness_takes_no_more_than_there_is(rule, points):
    lessons = (HELLO, GEMV, "02_gemm_fp16")
    course = replace(read_course(DEFAULT), late=LateRule(*rule), deadlines=dict.fromkeys(lessons, DUE))
    one = result("s1", *(exercise(lesson=lesson, points=0.66666) for lesson in lessons), points=2.0,  # 3 · 0.6667 is more
                 handed_in=dict.fromkeys(lessons, DUE.timestamp() + 60))
    late = with_lateness(one, course, None)
    assert late["points"] == points == json.loads(gradescope_results(late, course))["score"]


def test_times_of_unpacking_make_nobody_late(tmp_path, capsys):
    grades = with_course(tmp_path / "g", "[late]\npercent_per_day = 25")
    kept(grades, *(result(id, handed_in={HELLO: DUE.timestamp() + 9e6 + n}) for n, id in enumerate("abc")))
    assert [one["late_taken"] for one in read_gradebook(grades).results] == [{}] * 3
    assert main(["export", "--format", "csv", str(grades)]) == 0 and "those of unpacking" in capsys.readouterr().err
    kept(grades, result("d", handed_in={HELLO: DUE.timestamp() - 600}))
    assert [one["late_taken"] for one in read_gradebook(grades).results] == [{HELLO: 1.0}] * 3 + [{}]


@pytest.mark.parametrize("times, unpacked", [
    ([[0], [1], [599.9]], True), ([[0], [1], [600]], False), ([[0], [1]], False), ([[0, 1], [2, 3]], False),
    ([[0, 1, 2], [], []], True), ([[0, 1], [], []], False), ([[], [], []], False), ([[0, 9e5], [1], [2]], False)])
@pytest.mark.parametrize("due", [True, False])
def test_which_times_are_those_of_unpacking(tmp_path, times, unpacked, due):
    if due:
        with_course(tmp_path, "")
    lessons = (HELLO, GEMV, "02_gemm_fp16")
    kept(tmp_path, *(result(str(n), handed_in=dict(zip(lessons, one, strict=False))) for n, one in enumerate(times)))
    book = read_gradebook(tmp_path)
    assert book.warnings == ([gradebook.UNPACKED] if unpacked and due else []), "which matters to nobody without a deadline"
    assert [len(one["handed_in"]) for one in book.results] == [0 if unpacked and due else len(one) for one in times]


def test_of_canvas_s_files_its_mark_says_who_was_late(tmp_path):
    grades = with_course(tmp_path / "g", "[late]\npercent_per_day = 25")
    at, ids = {HELLO: DUE.timestamp() + 100_000}, {"canvas": "1"}
    kept(grades, result("a", handed_in=at, ids=ids), result("b", handed_in=at, ids=ids, platform_late=True))
    assert [one["late_taken"] for one in read_gradebook(grades).results] == [{}, {HELLO: 0.5}]
    (grades / "roster.csv").write_text(f"id,handed_in\na,{(DUE + timedelta(days=2)).isoformat()}\n")
    assert read_gradebook(grades).results[0]["late_taken"] == {HELLO: 0.5}, "the roster knows better"


def test_who_is_late_by_an_unknown_time_is_named(tmp_path, capsys):
    grades = with_course(tmp_path / "g", "[late]\npercent_per_day = 25")
    (grades / "roster.csv").write_text("id,handed_in\na,\nb,2026-09-01T00:00:00+00:00\nc,\n")
    kept(grades, *(result(id, ids={"canvas": id}, platform_late=True) for id in "ab"),
         result("c", ids={"canvas": "c"}, platform_late=True, handed_in={HELLO: DUE.timestamp()}), result("d"))
    (warning,) = read_gradebook(grades).warnings
    assert warning.startswith("late, says the platform, but not by how much: a.") and "`handed_in`" in warning
    assert main(["report", str(grades)]) == 0 and warning in capsys.readouterr().err
    assert "not by how much: a. Nothing was taken off; <code>handed_in</code>" in (grades / "pages/index.html").read_text()
    for rule, said in (("", []), ("[late]\npercent_per_day = 1\n", [warning])):  # the platform may have a deadline
        (grades / "course.toml").write_text(DEFAULT.read_text().replace("[deadlines]", f"{rule}[deadlines]"))
        assert read_gradebook(grades).warnings == said


@pytest.mark.parametrize("seconds, said", [(1, "1 minutes"), (3600, "60 minutes"), (5399, "90 minutes"),
                                           (5400, "2 hours"), (7200, "2 hours"), (172_799, "48 hours"),
                                           (172_800, "2.0 days"), (259_200, "3.0 days")])
def test_lateness_in_words(seconds, said):
    assert lateness(seconds) == said


def test_an_empty_folder_is_nothing_handed_in(tmp_path):
    empty = {"submission": results.NO_FILES}
    missing = exercise(points=0.0, status="missing")
    kept(tmp_path, result("ada", exercise()), result("eve", missing, **empty), result("zoe", exercise(), **empty))
    found = read_gradebook(tmp_path)
    assert [one["student"] for one in found.results] == ["ada", "zoe"] and [one.id for one in found.absent] == ["eve"]
    (tmp_path / "roster.csv").write_text("id\nzed\nada\nbob\n")
    assert [one.id for one in read_gradebook(tmp_path).absent] == ["bob", "eve", "zed"]
    (tmp_path / "roster.csv").unlink()
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\neve,programs_needed,0,never came\n")
    assert not read_gradebook(tmp_path).absent, "a person may decide on a zero"
    for bonus in (1.0, 0.0):
        (tmp_path / "overrides.csv").write_text(f"student,exercise,points,reason\neve,bonus,{bonus},was there\n")
        eve = read_gradebook(tmp_path).results[1]
        assert (eve["student"], eve["points"]) == ("eve", bonus)
        assert sentences_on_all(eve) == [f"Your instructor added {bonus:g} points: was there"]
    (tmp_path / "students" / "ada.json").unlink()
    (tmp_path / "students" / "zoe.json").unlink()
    (tmp_path / "overrides.csv").unlink()
    with pytest.raises(ValueError, match="nobody handed in"):
        read_gradebook(tmp_path)


def test_the_best_attempt_at_a_lesson_without_a_deadline(tmp_path):
    grades = with_course(tmp_path / "g", "[assignment]\nattempts = 'best'\n[late]\npercent_per_day = 50")
    at = {HELLO: DUE.timestamp() + 60, GEMV: 9e9}
    worse = result("ada", exercise(points=1.0), exercise("gemv_fp16", GEMV, points=0.5), handed_in=at)
    better = result("ada", exercise(points=1.5), exercise("gemv_fp16", GEMV, points=1.0), handed_in=at, submission="old",
                    graded_at="2026-10-01T10:20:30+00:00")
    kept(grades, better)
    gradebook.keep_attempt(grades, worse)
    kept(grades, worse)
    assert [path.name for path in grades.glob("attempts/ada/*")] == ["2026-10-01T102030+0000-old.json"]
    (found,) = read_gradebook(grades).results
    assert [one["points"] for one in found["exercises"]] == [1.5, 1.0] and found["points"] == 1.75


@pytest.mark.parametrize("extension, late", [
    ("", 60.0), ("2026-09-01T00:00:00+00:00", 60.0), (DUE.isoformat(), 60.0),
    ((DUE + timedelta(seconds=20)).isoformat(), 40.0),
    ((DUE + timedelta(days=1)).isoformat(), 0), ("1", 0)], ids=["none", "a date gone by", "the same", "20 s", "a day", "1"])
def test_more_time_is_never_less_time(tmp_path, extension, late):
    grades = with_course(tmp_path / "g", "")
    (grades / "roster.csv").write_text(f"id,extension\nada,{extension}\n")
    kept(grades, result("ada", handed_in={HELLO: DUE.timestamp() + 60}))
    assert read_gradebook(grades).results[0]["late_seconds"] == ({HELLO: late} if late else {})


def test_who_was_late_when_it_was_graded_may_have_got_more_time(tmp_path):
    late = result("ada", exercise(), exercise("gemv_fp16", GEMV), late={HELLO: True, GEMV: True},
                  handed_in={HELLO: DUE.timestamp() - 1, GEMV: 9e9})
    kept(with_course(tmp_path, ""), late)
    assert read_gradebook(tmp_path).results[0]["late"] == {HELLO: False, GEMV: False}


@pytest.mark.parametrize("points, counts", [
    (((1.9, None), (1.0, 0.5)), [1.0, 0.5]), (((None, None), (0.0, 0.0)), [0.0, 0.0]),
    (((2.0, 0.0), (1.0, 0.5)), [2.0, 0.0])])
def test_an_attempt_graded_in_part_is_no_best_one(tmp_path, points, counts):
    with_course(tmp_path, '[assignment]\nattempts = "best"')
    for name, (one, other) in zip(("first", "second"), points, strict=True):
        attempt = result("ada", exercise(points=one, notices=["seen"]), exercise("vector_add_kernel", points=other),
                         submission=name)
        gradebook.keep_attempt(tmp_path, attempt)
        kept(tmp_path, attempt)
    (found,) = read_gradebook(tmp_path).results
    assert [one["points"] for one in found["exercises"]] == counts
    earlier = ["from an earlier attempt, which got more points"] if counts == [2.0, 0.0] else []
    assert found["exercises"][0]["notices"] == ["seen", *earlier], "what was said of it is still said"


@pytest.mark.parametrize("text", ["[1]", "null", "0", '"finished"', "{", ""])
def test_what_is_kept_beside_the_grades_may_be_broken(tmp_path, text):
    for name in ("class.json", "before.json"):
        (tmp_path / name).write_text(text)
    kept(tmp_path, result("ada"))
    book = read_gradebook(tmp_path)
    assert (len(book.results), book.notices, book.changes) == (1, [], [])
