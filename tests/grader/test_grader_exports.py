"""What platforms, mails and tables get of a gradebook."""

import csv
import json

import pytest
from grading import exercise, result

from checks.grader import results
from checks.grader.course import DEFAULT, read_course
from checks.grader.gradebook import Gradebook
from checks.grader.output.exports import export, unknown_to
from checks.grader.overrides import Override, apply_overrides


def made(graded: list[dict], **more) -> Gradebook:
    return Gradebook(read_course(), graded, **more)


def test_lateness_in_the_table(tmp_path):
    late = {"late_seconds": {"a": 86_400.0, "b": 216_000.0}, "late_taken": {"a": 0.25, "b": 0.5}, "bonus": 2.0}
    (path,) = export("csv", made([result("ada") | late, result("bob") | {"late_seconds": {}, "late_taken": {}}]), tmp_path)
    with path.open(newline="") as file:
        _, *found = csv.DictReader(file)
    assert [(one["late_days"], one["late_taken"], one["bonus"]) for one in found] == [("2.5", "0.75", "2.0"), ("", "", "")]


@pytest.mark.parametrize("kind", ["gradescope", "mail", "junit"])
@pytest.mark.parametrize("visibility, shown", [("message", True), ("result", False)])
def test_what_the_course_shows_is_what_every_platform_gets(tmp_path, kind, visibility, shown):
    path = tmp_path / "course.toml"
    path.write_text(DEFAULT.read_text().replace('hidden = "result"', f'hidden = "{visibility}"'))
    wrong = {"result": "wrong", "message": "N=4711", "earned": 0.0, "possible": 1.0}
    failed = result("ada", exercise(status="failed", items={"hidden": wrong}))
    texts = [file.read_text() for file in export(kind, Gradebook(read_course(path), [failed]), tmp_path)]
    assert any("4711" in text for text in texts) == shown


def test_a_fault_that_a_person_has_decided_on_has_a_score(tmp_path):
    by_hand = {("ada", "programs_needed"): Override(0.5, "by hand", 2)}
    for status in (results.FAULT, results.UNREAD):
        found = apply_overrides([result("ada", exercise(points=None, status=status))], by_hand)
        (path,) = export("gradescope", made(found), tmp_path)
        assert json.loads(path.read_text())["score"] == 0.5


def test_the_json_has_what_was_noticed_and_warned_of(tmp_path):
    (path,) = export("json", made([result("ada")], notices=["a file"], warnings=["a date"]), tmp_path)
    assert json.loads(path.read_text())["notices"] == ["a file", "a date"]


def test_whose_address_is_not_known():
    found = [result("ada") | {"email": "ada@x.org"}, result("bob") | {"email": "", "ids": {"canvas": "1"}}, result("eva")]
    assert {kind: unknown_to(kind, made(found)) for kind in ("mail", "canvas", "moodle")} == {
        "mail": ["bob", "eva"], "canvas": ["ada", "eva"], "moodle": ["ada", "bob", "eva"]}
