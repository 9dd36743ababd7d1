"""The course's file: what each entry means, and what holds where there is none."""

import pytest

from checks.exercises import EXERCISES
from checks.grader.course import read_course, split_points

COURSE = """
title = "Kernels"

[rubric.hidden]
weight = 1

[rubric.public]
title = "Right"
weight = 3
gate = true

[rubric.triton]

[visibility]
hidden = "nothing"

[exercise.vector_add_kernel]
points = 7.5

[exercise.programs_needed]
skip = true

[exercise.gemv_bytes]
skip = false
"""


@pytest.fixture
def course(tmp_path):
    (tmp_path / "course.toml").write_text(COURSE)
    return read_course(tmp_path / "course.toml")


def test_items_stand_in_the_order_of_grading(course):
    found = [(item.name, item.title, item.weight, item.gate, item.visibility) for item in course.items]
    assert found == [("triton", "triton", 0, False, "message"), ("public", "Right", 3, True, "message"),
                     ("hidden", "hidden", 1, False, "nothing")]
    assert course.item("hidden").weight == 1


def test_an_exercise_is_left_out_or_has_other_points(course):
    assert set(course.exercises) == set(EXERCISES) - {"programs_needed"}
    assert course.points == {name: EXERCISES[name].points for name in course.exercises} | {"vector_add_kernel": 7.5}
    assert course.total == sum(course.points.values())


def test_exercises_stand_in_the_order_of_the_lessons(course):
    lessons = [exercise.lesson for exercise in course.exercises.values()]
    assert lessons == sorted(lessons)
    assert list(course.points) == list(course.exercises)


def test_the_title_is_the_file_s(course, tmp_path):
    assert course.title == "Kernels"
    (tmp_path / "plain.toml").write_text("[rubric.public]\nweight = 1\n")
    plain = read_course(tmp_path / "plain.toml")
    assert (plain.title, plain.deadlines) == ("Course", {})
    assert plain.points == {name: exercise.points for name, exercise in EXERCISES.items()}


@pytest.mark.parametrize("number", [0, 0.0, 100, 0.5])
def test_a_number_that_is_0_or_the_most_is_taken(tmp_path, number):
    """Of points, weights and what lateness takes at most; a weight of 0 beside others."""
    (tmp_path / "c.toml").write_text(f"[late]\nmost_percent = {number}\npercent_per_day = {number}\n"
                                     f"[rubric.public]\nweight = 1\n[rubric.hidden]\nweight = {number}\n"
                                     f"[exercise.programs_needed]\npoints = {number}\nskip = false\n")
    course = read_course(tmp_path / "c.toml")
    assert course.points["programs_needed"] == course.late.most_percent == course.late.percent(1) == number
    assert course.item("hidden").weight == number and course.item("public").weight == 1


@pytest.mark.parametrize(("old", "new", "decides"), [
    ("weight = 3", "weight = 2", True), ("gate = true", "gate = false", True), ("points = 7.5", "points = 7", True),
    ("skip = true", "skip = false", True), ('title = "Right"', 'title = "Wrong"', False)])
def test_what_decides_a_result_is_in_its_key(course, tmp_path, old, new, decides):
    (tmp_path / "other.toml").write_text(COURSE.replace(old, new))
    assert (read_course(tmp_path / "other.toml").text != course.text) == decides


@pytest.mark.parametrize("text, said", [
    ("[rubric.speed]\nweight = 1", "no rubric item `speed`"), ("[rubric.public]\nweight = -1", "weight of `public`"),
    ("[rubric.public]\nweight = 1\n[exercise.nothing]\nskip = true", "`nothing`, which is no exercise"),
    ("[rubric.public]\nweight = 1\n[deadlines]\nlesson = 2026-10-01T00:00:00Z", "no lesson"),
    ("[rubric.public]\nweight = 1\n[deadlines]\n00_hello_triton = 2026-10-01T00:00:00", "offset"),
    ("[rubric.public]\nweight = 1\n[visibility]\nhidden = 'all'", "visibility of `hidden`"), ("x = ", "Invalid value"),
    ("[rubric.public]\nweight = 1\n[exercise.programs_needed]\nweight = 2", "`points` and `skip`"),
    ("", "no rubric item has"),
    ("points = 3", "unknown entry points"),
    ("[rubric.public]\nweight = inf", "the weight of `public`"), ("[rubric.public]\nweight = nan", "the weight of `public`"),
    ("[rubric.public]\nweight = true", "the weight of `public`"), ("title = '\udcff'", "can't decode byte 0xff"),
    ("[rubric.public]\nweight = 'one'", "the weight of `public` must be a number"),
    ("[rubric.public]\nweight = 1\n[exercise.programs_needed]\npoints = 'many'", "the points of `programs_needed`"),
    *((f"[rubric.public]\nweight = 1\n[exercise.programs_needed]\npoints = {odd}", "the points of `programs_needed`")
      for odd in ("''", "false", "[]", "-1", "inf")),
    ("[rubric.public]\nweight = 1\n[deadlines]\n00_hello_triton = 3", "the deadline of `00_hello_triton`"),
    ("[rubric.public]\ntitle = 'no weight'", "no rubric item has a weight")])
def test_a_wrong_course_file_is_named(tmp_path, text, said):
    path = tmp_path / "course.toml"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"course\.toml") as error:
        read_course(path)
    assert said in str(error.value)
    with pytest.raises(ValueError, match=r"none\.toml: .*No such file"):
        read_course(tmp_path / "none.toml")


@pytest.mark.parametrize(("results", "earned"), [
    ({"public": "right", "hidden": "right"}, {"public": 3.0, "hidden": 1.0}),
    ({"public": "right", "hidden": "wrong"}, {"public": 3.0, "hidden": 0.0}),
    ({"public": "wrong", "hidden": "right"}, {"public": 0.0, "hidden": 0.0}),
    ({"public": "not reached", "hidden": "right"}, {"public": 0.0, "hidden": 0.0}),
    ({"hidden": "right"}, {"hidden": 4.0}), ({"triton": "right"}, {"triton": 0.0}), ({}, {})])
def test_points_go_by_weight_to_what_is_right_behind_open_gates(course, results, earned):
    assert {name: got for name, (got, _) in split_points(course, 4.0, results).items()} == earned


def test_what_is_possible_does_not_depend_on_the_results(course):
    wrong = split_points(course, 4.0, {"public": "wrong", "hidden": "wrong", "triton": "wrong"})
    assert {name: possible for name, (_, possible) in wrong.items()} == {"triton": 0.0, "public": 3.0, "hidden": 1.0}


# the workshop's own


def test_the_course_covers_every_exercise():
    course = read_course()
    assert set(course.exercises) == set(EXERCISES)
    assert course.points == {name: e.points for name, e in EXERCISES.items()}


def test_points_are_shared_and_gates_hold():
    course = read_course()
    everything = dict.fromkeys(("triton", "public", "hidden", "economical", "compiles"), "right")
    assert sum(earned for earned, _ in split_points(course, 5, everything).values()) == pytest.approx(5)
    some = split_points(course, 5, {"public": "right", "hidden": "wrong"})
    assert sum(possible for _, possible in some.values()) == pytest.approx(5)
    for gate in ("triton", "public"):
        assert not any(earned for earned, _ in split_points(course, 5, everything | {gate: "wrong"}).values())
    assert 0 < sum(earned for earned, _ in split_points(course, 5, everything | {"economical": "wrong"}).values()) < 5
