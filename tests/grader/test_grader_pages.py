"""What the pages make of a gradebook, and how a text becomes HTML."""

import itertools
import re

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
    three = [exercise(notices=notices) for notices in (["c", "b", "d"], ["b", "c"], ["a"])]
    assert pages._once("00", three)[2] == ["b", "c"], "two of three share them"
    assert [one["notices"] for one in pages._once("00", three)[1]] == [["d"], [], ["a"]]


# what the pages are filled in with


def test_a_student_s_page_has_what_is_known_of_each_exercise():
    flags = {"notices": ["edited"], "picture": {"of": [1, 2], "output": 1, "rows": [[0, 1]]}}
    decided = exercise("vector_add_kernel", points=2.0, status="failed", override="seen", source="y = 2")
    other = exercise("gemv_bytes", "01_gemv_fp16", points=None, status=results.UNREAD)
    course, ones = read_course(), (exercise(points=0.5, **flags), decided, other)
    found = pages._student(result("ada", *ones, name="Ada L"), course)
    assert (found["name"], found["open"], found["course"]) == ("Ada L", True, course)
    assert [(lesson, len(ones)) for lesson, ones, _ in found["lessons"]] == [("00_hello_triton", 2), ("01_gemv_fp16", 1)]
    (one, two), (three,) = (ones for _, ones, _ in found["lessons"])
    assert (one["sign"], one["earned"], one["notices"], one["picture_of"]) == ("✓", 0.5, ["Note: edited."], 2)
    assert (two["sign"], two["status"], two["source"]) == ("✓", "passed", "y = 2")
    assert (two["picture"], two["picture_of"]) == (None, 1)
    assert (three["sign"], three["earned"], three["source"]) == ("○", 0.0, "")
    assert pages._student(result("ada"), course)["name"] == "ada" and not pages._student(result("ada"), course)["open"]


def test_the_class_page_has_what_is_known_of_the_class():
    ones = [exercise(points=points, status=status, mistake=mistake) for points, status, mistake in (
        (2.0, "passed", None), (0.0, "failed", "a"), (1.5, "failed", "b"), (0.5, "failed", "b"))]
    graded = [result(name, one, isolation=levels) for name, one, levels in zip(
        "abcd", ones, (["x", "y"], [], ["x"], ["x"]), strict=True)]
    graded[1] |= {"problems": ["a.pdf was not read"], "name": "Bo"}
    graded.append(result("e", exercise(points=None, status=results.UNREAD, message="not found")))
    found = shown(*graded)
    (row,) = found["exercises"]
    assert (row["mean"], row["median"], row["possible"], row["passed"], row["mistake"]) == (1.0, 1.0, 2.0, 1, "b")
    assert (row["name"], row["lesson"], row["tried"]) == ("programs_needed", "00_hello_triton", 4)
    assert found["problems"] == [("b", ["a.pdf was not read"])] and found["names"]["b"] == "Bo" and found["names"]["a"] == ""
    assert found["unread"] == [("e", "programs_needed", "not found")] and found["open"] == {"e"} and found["faults"] == []
    assert found["levels"] == ["limits", "x", "x, y"] and found["median"] == 1.0
    assert found["mistakes"] == [(("programs_needed", "b"), 2), (("programs_needed", "a"), 1)]
    assert found["lessons"] == [("00_hello_triton", 1.0, 2.0)] and found["possible"] == 2.0
    nothing = shown(result("e", exercise(points=None, **{"status": results.FAULT})))
    assert (nothing["median"], nothing["exercises"][0]["mean"], nothing["exercises"][0]["median"]) == (None, None, None)
    many = exercise(mistake=None) | {"exercise": "x"}
    assert len(shown(*(result(str(n), many | {"exercise": str(n), "mistake": "m"}) for n in range(20)))["mistakes"]) == 15


@pytest.mark.parametrize("shares, most", [([0.05], 1), ([0.05, 0.05, 0.95, 1.0, 1.2, -0.1], 3), ([], 1)], ids=str)
def test_a_histogram_s_bars_and_labels(shares, most):
    """Each bar has its number above it and its tenth below it; the small one has bars alone."""
    counts = [sum(min(9, max(0, int(10 * share))) == tenth for share in shares) for tenth in range(10)]
    drawn, small = str(rendering.histogram(shares)), str(rendering.histogram(shares, small=True))
    bars = [tuple(map(float, one)) for one in re.findall(r'"bar" x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"', drawn)]
    texts = [(float(x), float(y), text) for x, y, text in re.findall(r'<text x="(.+?)" y="(.+?)".*?>(.*?)</text>', drawn)]
    assert len(bars) == 10 and len(texts) == 20
    for tenth, (count, (x, y, width, height)) in enumerate(zip(counts, bars, strict=True)):
        (label_x, label_y, label), (below_x, below_y, below) = texts[2 * tenth:2 * tenth + 2]
        assert (label, below) == (str(count or ""), f"{10 * tenth}–{10 * tenth + 10} %")
        assert height == pytest.approx(120 * count / most, abs=0.1) and y + height == pytest.approx(140, abs=0.1)
        assert label_x == below_x == x + width / 2 and label_y == pytest.approx(y - 5, abs=0.1) and below_y > 140
    assert all(one[0] + one[2] <= other[0] for one, other in itertools.pairwise(bars)) and bars[-1][0] + bars[-1][2] < 660
    heights = [float(one) for one in re.findall(r'height="(.+?)"/>', small)]
    assert heights == pytest.approx([30 * count / most for count in counts], abs=0.1) and "<text" not in small
    assert [float(one) for one in re.findall(r' x="(.+?)"', small)] == [12.0 * tenth for tenth in range(10)]
    said = ", ".join(f"{count} from {10 * tenth} %" for tenth, count in enumerate(counts) if count) or "nobody"
    assert f'aria-label="Histogram: {said}"' in drawn and f'aria-label="Histogram: {said}"' in small


@pytest.mark.parametrize("value, text", [
    (None, "–"), (0.0, "0"), (2 / 3, "0.67"), (1.0, "1"), (12.346, "12.35"), (0.004, "0")])
def test_points_as_they_are_shown(value, text):
    assert rendering._points(value) == text


def test_names_of_lessons_and_pages():
    assert rendering._lesson("07b_fused_mlp") == "07b fused mlp"
    assert rendering.page(result("a/b")) == "a%2Fb.html" and rendering._link(result("a/b")) == "a%252Fb.html"
