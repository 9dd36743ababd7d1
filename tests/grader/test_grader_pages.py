"""What the pages make of a gradebook, and how a text becomes HTML."""

import pytest
from grading import exercise, result

from checks.grader import results
from checks.grader.course import read_course
from checks.grader.gradebook import Gradebook
from checks.grader.output import pages, rendering
from checks.grader.output.pages import write_pages

FAULT = {"points": None, "status": results.FAULT}


def shown(*graded: dict) -> dict:
    return pages._class(Gradebook(read_course(), list(graded)))


@pytest.mark.parametrize("text, html", [
    ("a < b & `c<d>`", "a &lt; b &amp; <code>c&lt;d&gt;</code>"), ("`a` and `b`", "<code>a</code> and <code>b</code>"),
    ("one ` alone", "one ` alone"), ("<script>`</script>`", "&lt;script&gt;<code>&lt;/script&gt;</code>")])
def test_a_sentence_is_escaped_before_its_names_are_code(text, html):
    assert rendering._marked(text) == html


def test_a_student_s_text_is_nowhere_html(tmp_path):
    said = "<img src=x>"
    one = exercise(status="failed", points=0.0, message=said, notices=[said], source=said, mistake=said,
                   flags=[{"kind": said, "text": said}])
    fault = exercise("vector_add_kernel", message=said, **FAULT)
    write_pages(tmp_path, Gradebook(read_course(), [result(said, one, fault, problems=[said], name=said)], notices=[said],
                                    withdrawn=[said], warnings=[said]))
    texts = [path.read_text() for path in (tmp_path / "pages").rglob("*.html")]
    assert len(texts) == 2 and not any("<img" in text for text in texts)


def test_who_is_graded_in_part_counts_in_no_median_and_no_bar():
    part = result("ada", exercise(points=2.0), exercise("vector_add_kernel", **FAULT))
    found = shown(part, result("bob", exercise(points=1.0)), result("eve", exercise(points=0.0)))
    assert found["median"] == 0.5 and found["open"] == {"ada"}
    assert str(found["histogram"]).count('height="120.0"') == 2 and "1 from 0 %, 1 from 50 %" in str(found["histogram"])


def test_what_meets_most_students_comes_first():
    found = shown(*(result(student, exercise(message=message, **FAULT)) for student, message in
                    (("ada", "rare"), ("bob", "often"), ("eve", "often"))))
    assert [(message, who) for (_, message), who in found["faults"]] == [("often", ["bob", "eve"]), ("rare", ["ada"])]


@pytest.mark.parametrize("status, source", [("not attempted", ""), ("failed", "x = 1"), ("held", "x = 1")])
def test_a_stub_is_not_shown_as_work(status, source):
    one = exercise(status=status, points=0.0, source="x = 1")
    ((_, (found,), _),) = pages._student(result("ada", one), read_course())["lessons"]
    assert found["source"] == source


def test_what_was_not_read_was_not_tried():
    statuses = ("failed", "held", "missing", "not attempted", results.UNREAD)
    (row,) = shown(*(result(status, exercise(points=None, status=status)) for status in statuses))["exercises"]
    assert row["tried"] == 2


def test_a_notice_that_one_exercise_has_twice_is_its_own():
    _, (one, _), shared = pages._once("00", [exercise(notices=["a", "a", "b"]), exercise(notices=["b"])])
    assert one["notices"] == ["a", "a"] and shared == ["b"]
