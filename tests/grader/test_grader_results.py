"""Results as files, and what is made of them: overrides, exports, pages, feedback. Nothing is run here."""

import contextlib
import csv
import json
import re
from xml.etree import ElementTree

import pytest
from grading import ADD, NEEDED

from checks.exercises import EXERCISES
from checks.grader import results
from checks.grader.course import DEFAULT, read_course
from checks.grader.gradebook import Gradebook
from checks.grader.grader import Grader
from checks.grader.intake.submissions import Submission
from checks.grader.output import pages
from checks.grader.output.exports import export
from checks.grader.output.feedback import items_for_student, messages_for_student, notices_for_student
from checks.grader.output.pages import write_pages
from checks.grader.output.rendering import FIELD, histogram, picture
from checks.grader.overrides import Override, apply_overrides, read_overrides
from checks.grader.settings import Settings


def result(student: str, points: float | None = 1.0, status: str = "passed", **more) -> dict:
    one = {"exercise": "programs_needed", "lesson": "00_hello_triton", "status": status, "points": points, "possible": 1.0,
           "message": "programs_needed: <b>said</b>", "mistake": None, "items": {}, "flags": [], "notices": [],
           "picture": None, "seconds": 0.1} | more
    return {"schema": results.SCHEMA, "student": student, "key": "k", "submission": "d", "problems": [], "late": {},
            "points": points or 0.0, "possible": 1.0, "exercises": [one], "isolation": ["limits"],
            "environment": {"python": "3", "torch": "2", "triton": "3"}}


def book(graded: list[dict], **more) -> Gradebook:
    return Gradebook(read_course(), graded, **more)


def test_names_make_different_files(tmp_path):
    names = ["ada", "Ada", "../ada", "a/b", "é", "a%2Fb", "=cmd()", ".hidden", "a b"]
    paths = {results.result_path(tmp_path, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path / "students" for path in paths)
    for name in names:
        results.write_result(tmp_path, result(name))
    assert [r["student"] for r in results.read_results(tmp_path)] == sorted(names)


def test_a_broken_result_is_none(tmp_path):
    path = tmp_path / "x.json"
    whole = {"schema": results.SCHEMA, "student": "ada", "key": "k", "exercises": []}
    path.write_text(json.dumps(whole))
    assert results.read_result(path) == whole
    lacking = [json.dumps({name: value for name, value in whole.items() if name != one}) for one in whole]
    for text in ("", "{", "[]", json.dumps(whole | {"schema": results.SCHEMA - 1}), *lacking):
        path.write_text(text)
        assert results.read_result(path) is None
    path.write_bytes(b"\xff")
    assert results.read_result(path) is results.read_result(tmp_path / "none.json") is None


def test_overrides(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,programs_needed,0.5,seen in person\n")
    graded = apply_overrides([result("ada", 0.0, "held"), result("bob")], read_overrides(tmp_path))
    assert [r["points"] for r in graded] == [0.5, 1.0]
    assert graded[0]["exercises"][0]["graded_points"] == 0.0
    assert "seen in person" in messages_for_student(graded[0]["exercises"][0])[0]
    for text, said in (("ada,programs_needed,much,why", "line 2: points"), ("ada,programs_needed,1,", "needs a reason"),
                       ("ada,programs_needed,1, ", "needs a reason"),
                       ("ada,programs_needed,1", "needs a reason"), ("ada,programs_needed", "needs a reason")):
        (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\n" + text)
        with pytest.raises(ValueError, match=said):
            read_overrides(tmp_path)
    with pytest.raises(ValueError, match="no exercise `x` of `ada`"):
        apply_overrides([result("ada")], {("ada", "x"): Override(1.0, "why", 2)})


def test_exports(tmp_path):
    graded = [result("ada"), result("=cmd()", 0.0, "failed"), result("eva", None, results.FAULT)]
    (table,) = export("csv", book(graded), tmp_path, None)
    rows = table.read_text().splitlines()
    assert rows[1].startswith("max points,1.0,1.0,1.0,")
    assert rows[2].startswith("ada,1.0,1.0,1.0,0,,,,")
    assert rows[3].startswith("'=cmd()")
    assert rows[4].startswith("eva,,1.0,,0,programs_needed,,,"), "a fault of the grader is no zero"
    suites = ElementTree.parse(export("junit", book(graded), tmp_path, None)[0]).getroot()
    assert [suite.get("failures") + suite.get("errors") for suite in suites] == ["00", "10", "01"]
    files = export("gradescope", book(graded), tmp_path, None)
    assert json.loads(files[0].read_text())["score"] == 1.0
    assert "score" not in json.loads(files[2].read_text())
    assert len(json.loads(export("json", book(graded), tmp_path, None)[0].read_text())["results"]) == 3


def test_pages_show_no_hidden_test_and_run_nothing(tmp_path):
    items = {"public": {"result": "right", "message": "", "earned": 0.6, "possible": 0.6},
             "hidden": {"result": "wrong", "message": "N=4711", "earned": 0.0, "possible": 0.4}}
    picture = {"of": [2, 4], "output": 0, "rows": [[0, 1, 0, 0], [0, 0, 0, 1]]}
    graded = [result("<script>alert(1)</script>", 0.6, "failed", items=items, picture=picture,
                     flags=[{"kind": "reaches out", "text": "<i>"}]), result("eva", None, results.FAULT)]
    (page,) = write_pages(tmp_path, book(graded))
    pages = [page, *(tmp_path / "pages" / "students").glob("*.html")]
    assert len(pages) == 3
    for path in pages:
        text = path.read_text()
        assert "<script" not in text and "<i>" not in text and "4711" not in text
        assert "Content-Security-Policy" in text


# one constructor, one file


def test_a_new_result_has_every_field_and_no_points(tmp_path):
    new = results.new_exercise_result(ADD, 3.0, message="why")
    assert set(new) == results.ExerciseResult.__required_keys__
    assert (new["exercise"], new["lesson"], new["possible"]) == ("vector_add_kernel", "00_hello_triton", 3.0)
    assert (new["status"], new["points"], new["message"]) == ("failed", 0.0, "why")
    other = results.new_exercise_result(ADD, 3.0)
    new["flags"].append({"kind": "a", "text": "b"})
    assert other["flags"] == [], "no list is shared"


def test_a_result_is_read_as_it_was_written(tmp_path):
    with_umlaut = result("ädä", message="“quoted”\n2")
    results.write_result(tmp_path, with_umlaut)
    path = results.result_path(tmp_path, "ädä")
    assert results.read_result(path) == with_umlaut
    assert "ädä" in path.read_text(), "readable for a person"
    with pytest.raises(ValueError, match="holds no results"):
        results.read_results(tmp_path / "nothing")


def test_a_submission_of_broken_exercises(tmp_path):
    """What a student gets whose submission took the grader's processes down: no points, none lost."""
    grader = Grader(Settings(3, exercises=("programs_needed", "vector_add_kernel")))
    said = grader.fault_result(Submission("ada", digest="d"), "died")
    assert set(said) == results.SubmissionResult.__required_keys__
    assert [(one["status"], one["points"]) for one in said["exercises"]] == [(results.FAULT, None)] * 2
    assert [one["message"] for one in said["exercises"]] == ["died"] * 2
    assert (said["points"], said["isolation"], said["gpu"]) == (0.0, [], None)


@pytest.mark.parametrize("wanted, possible", [
    ((), sum(exercise.points for exercise in EXERCISES.values())), (("programs_needed",), NEEDED.points),
    (("vector_add_kernel", "programs_needed"), NEEDED.points + ADD.points)])
def test_points_possible_are_those_of_graded_exercises(wanted, possible):
    assert Grader(Settings(3, exercises=wanted)).fault_result(Submission("ada"), "")["possible"] == possible


def test_late_is_what_was_changed_after_the_deadline(tmp_path):
    course = tmp_path / "course.toml"
    course.write_text(DEFAULT.read_text().replace("[deadlines]", "[deadlines]\n00_hello_triton = 2026-10-01T12:00:00+02:00\n"
                                                  "01_gemv_fp16 = 2026-10-02T00:00:00Z"))
    grader, noon = Grader(Settings(3, course)), 1790848800.0  # 2026-10-01, 10:00 UTC
    for modified, late in ((None, (False, False)), (noon, (False, False)), (noon + 1, (True, False)), (2e9, (True, True))):
        found = grader.late(Submission("ada", modified=modified))
        assert found == dict(zip(("00_hello_triton", "01_gemv_fp16"), late, strict=True)), modified


# overrides


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "as a spreadsheet saves it, with a BOM"])
def test_overrides_are_read_in_any_order_of_columns(tmp_path, start):
    text = 'reason,points,exercise,student\r\n" seen, twice ",2.5,vector_add_kernel,ädä\r\n'
    (tmp_path / "overrides.csv").write_bytes(start + text.encode())
    assert read_overrides(tmp_path) == {("ädä", "vector_add_kernel"): Override(2.5, "seen, twice", 2)}


@pytest.mark.parametrize(("text", "points"), [("2,5", 2.5), ("2.5", 2.5), ("0", 0.0), ("", None)])
def test_points_are_written_with_a_comma_or_a_point(tmp_path, text, points):
    (tmp_path / "overrides.csv").write_text(f"student;exercise;points;reason\nada;programs_needed;{text};seen\n")
    assert read_overrides(tmp_path)["ada", "programs_needed"].points == points


def test_overrides_need_their_columns(tmp_path):
    assert read_overrides(tmp_path) == {}
    (tmp_path / "overrides.csv").write_text("student,exercise,points\nada,programs_needed,1\n")
    with pytest.raises(ValueError, match="the columns student, exercise, points, reason"):
        read_overrides(tmp_path)


def test_an_override_changes_its_exercise_and_the_sum_of_a_copy():
    before = result("ada", 1.0)
    before["exercises"].append(before["exercises"][0] | {"exercise": "vector_add_kernel", "points": 0.25, "possible": 2.0})
    (after,) = apply_overrides([before], {("ada", "vector_add_kernel"): Override(2.0, "why", 2)})
    assert [one["points"] for one in after["exercises"]] == [1.0, 2.0]
    assert after["points"] == 3.0
    assert after["exercises"][1]["override"] == "why" and "override" not in after["exercises"][0]
    assert before["exercises"][1]["points"] == 0.25 and before["points"] == 1.0


def test_a_fault_counts_nothing_in_the_sum():
    assert results.total([result("a", 1.5)["exercises"][0], result("a", None)["exercises"][0]]) == 1.5
    assert results.total([result("a", 0.1)["exercises"][0], result("a", 0.2)["exercises"][0]]) == 0.3


# exports


def test_the_columns_of_the_table(tmp_path):
    ada = result("ada", 1.0, flags=[{"kind": "a", "text": "b"}] * 2)
    ada["exercises"].append(ada["exercises"][0] | {"exercise": "vector_add_kernel", "points": 2.0, "override": "why"})
    fault = result("eva", None, results.FAULT)
    by_hand = {("jon", "programs_needed"): Override(0.5, "by hand", 2)}
    forgiven = apply_overrides([result("jon", None, results.FAULT)], by_hand)
    (path,) = export("csv", book([ada, fault, *forgiven]), tmp_path, tmp_path / "to.csv")
    assert path == tmp_path / "to.csv"
    rest = [*[""] * 5, "yes"]
    assert list(csv.reader(path.open())) == [
        ["student", "points", "possible", "programs_needed", "vector_add_kernel", "flags", "infrastructure_errors",
         "overridden", "not_read", "name", "section", "late_days", "late_taken", "bonus", "handed_in"],
        ["max points", "2.0", "2.0", "1.0", "1.0", *[""] * 10],
        ["ada", "1.0", "1.0", "1.0", "2.0", "4", "", "vector_add_kernel", "", *rest],
        ["eva", "", "1.0", "", "", "0", "programs_needed", "", "", *rest],
        ["jon", "0.5", "1.0", "0.5", "", "0", "", "programs_needed", "", *rest]]


def test_the_table_has_the_exercises_of_all_students(tmp_path):
    (path,) = export("csv", book([result("ada"), result("bob", exercise="vector_add_kernel")]), tmp_path)
    assert [row[3:5] for row in csv.reader(path.open())] == [
        ["programs_needed", "vector_add_kernel"], ["1.0", "1.0"], ["1.0", ""], ["", "1.0"]]


@pytest.mark.parametrize("to", [None, "elsewhere"])
def test_gradescope_s_files_lie_by_student(tmp_path, to):
    files = export("gradescope", book([result("ada"), result("a/b")]), tmp_path / "grades", to and tmp_path / to)
    folder = tmp_path / (to or "grades/gradescope")
    assert files == [folder / "ada" / "results.json", folder / "a%2Fb" / "results.json"]


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_no_name_is_a_formula(tmp_path, name):
    (path,) = export("csv", book([result(name)]), tmp_path, None)
    with path.open(newline="") as file:
        assert list(csv.reader(file))[2][0] == "'" + name


def test_what_junit_says_of_each_exercise(tmp_path):
    graded = [result("a\x00b", 0.0, "failed", message="programs_needed: wrong\x07"), result("eva", None, results.FAULT)]
    (path,) = export("junit", book(graded), tmp_path, None)
    failed, fault = ElementTree.parse(path).getroot()
    assert failed.get("name") == "a\ufffdb" and failed.get("tests") == "1"
    case = failed.find("testcase")
    assert (case.get("classname"), case.get("name"), case.get("time")) == ("00_hello_triton", "programs_needed", "0.1")
    assert (case.find("failure").get("message"), case.find("failure").text) == ("failed", "wrong\ufffd")
    assert case.find("error") is None
    assert fault.find("testcase/error").get("message") == results.FAULT and fault.find("testcase/failure") is None


@pytest.mark.parametrize(("status", "counted"), [
    ("passed", ("0", "0")), ("failed", ("1", "0")), ("timeout", ("1", "0")), ("missing", ("1", "0")),
    (results.FAULT, ("0", "1")), (results.UNREAD, ("0", "1"))])
def test_junit_counts_each_exercise_once(tmp_path, status, counted):
    (suite,) = ElementTree.parse(export("junit", book([result("ada", None, status)]), tmp_path, None)[0]).getroot()
    assert (suite.get("failures"), suite.get("errors")) == counted
    assert tuple(str(len(suite.findall(f"testcase/{kind}"))) for kind in ("failure", "error")) == counted


def test_what_gradescope_is_given(tmp_path):
    graded = [result("ada", 0.25, "failed"), result("bob"), result("eva", None, results.FAULT)]
    failed, passed, fault = (json.loads(path.read_text()) for path in export("gradescope", book(graded), tmp_path, None))
    assert failed["score"] == 0.25
    (one,) = failed["tests"]
    assert (one["score"], one["max_score"], one["status"], one["visibility"]) == (0.25, 1.0, "failed", "visible")
    assert one["name"] == "00_hello_triton: programs_needed"
    assert passed["tests"][0]["status"] == "passed"
    assert fault["visibility"] == "hidden" and "programs_needed" in fault["output"]


# what a student reads


def item(state: str, message: str = "", earned: float = 0.0) -> dict:
    return {"result": state, "message": message, "earned": earned, "possible": 1.0}


@pytest.mark.parametrize("visibility, line", [("message", ("✗", "N=4711")), ("result", ("✗", "")), ("nothing", None)])
def test_the_course_decides_what_a_student_sees_of_an_item(tmp_path, visibility, line):
    path = tmp_path / "course.toml"
    path.write_text(DEFAULT.read_text().replace('hidden = "result"', f'hidden = "{visibility}"'))
    one = result("ada", 0.5, "failed", items={"public": item("right", "fine", 1.0), "hidden": item("wrong", "N=4711")})
    lines = items_for_student(one["exercises"][0], read_course(path))
    assert (lines[0]["sign"], lines[0]["message"], lines[0]["earned"]) == ("✓", "fine", 1.0)
    assert [(shown["sign"], shown["message"]) for shown in lines[1:]] == ([] if line is None else [line])


@pytest.mark.parametrize("one, said", [
    ({"status": "passed"}, ["<b>said</b>"]), ({"status": "held"}, ["<b>said</b>"]), ({"status": "crashed"}, ["<b>said</b>"]),
    ({"status": "failed", "override": "seen"}, ["Your instructor set the points: seen", "<b>said</b>"]),
    ({"status": "held", "override": "seen"}, ["Your instructor set the points: seen"]),
    ({"status": results.UNREAD, "override": "seen"}, ["Your instructor set the points: seen"]),
    ({"status": results.FAULT},
     ["This exercise could not be graded yet: the fault is the grader's, and no points are lost."]),
    ({"status": "failed", "items": {"public": item("wrong", "programs_needed: off by 1"), "hidden": item("wrong", "N=47")}},
     ["off by 1", "right on sizes that the lesson does not show: not yet."]),
    *(({"status": status, "items": {"public": item("right"), "economical": item("wrong", "too much")}}, ["<b>said</b>"])
      for status in ("held", "passed")),
    ({"status": "timeout", "items": {"public": item("not reached")}}, ["timeout"])])
def test_the_sentences_on_one_exercise(one, said):
    assert messages_for_student(result("ada", **one)["exercises"][0]) == said


def test_notices_are_sentences():
    assert notices_for_student(result("ada", notices=["it was edited"])["exercises"][0]) == ["Note: it was edited."]


# pages


def bars(drawn) -> list[str]:
    """The number above each tenth, empty for none."""
    return re.findall(r'text-anchor="middle">(\d*)</text><text', str(drawn))


@pytest.mark.parametrize("points, tenth", [(0.0, 0), (0.99, 0), (1.0, 1), (5.5, 5), (8.99, 8), (9.0, 9), (10.0, 9)])
def test_every_score_has_its_bar(points, tenth):
    wanted = [""] * 10
    wanted[tenth] = "2"
    assert bars(histogram([points / 10] * 2)) == wanted


def test_bars_are_as_high_as_students_are_many():
    found = [tuple(map(float, one)) for one in re.findall(r'y="([\d.]+)" width="52" height="([\d.]+)"',
                                                          str(histogram([0.05, 0.05, 0.55])))]
    assert [height for _, height in found] == [120.0, 0, 0, 0, 0, 60.0, 0, 0, 0, 0]
    assert {y + height for y, height in found} == {140.0}, "all stand on the axis"


def test_what_the_class_page_counts():
    graded = [result("ada", 1.0), result("bob", 0.0, "failed", mistake="off by one"), result("eva", 0.0, "not attempted"),
              result("jon", 0.5, "held", flags=[{"kind": "a", "text": "b"}]), result("kim", None, results.FAULT),
              result("lea", 0.0, "missing", mistake=None)]
    for one in graded:
        one["exercises"].append(one["exercises"][0] | {"exercise": "vector_add_kernel", "points": 0.0, "status": "failed",
                                                       "mistake": "no mask", "flags": []})
    shown = pages._class(book(graded))
    hardest, easier = shown["exercises"]
    assert (hardest["name"], easier["name"]) == ("vector_add_kernel", "programs_needed")
    assert (easier["passed"], easier["tried"], easier["mean"]) == (1, 4, 0.3), "what was not graded is no zero"
    assert (easier["mistake"], hardest["mistake"]) == ("off by one", "no mask")
    assert shown["mistakes"] == [(("vector_add_kernel", "no mask"), 6), (("programs_needed", "off by one"), 1)]
    assert [(student, one["exercise"]) for student, one in shown["flagged"]] == [("jon", "programs_needed")]
    assert [students for _, students in shown["faults"]] == [["kim"]] and shown["faulty"] == {"kim"}
    assert (shown["median"], shown["possible"]) == (0.0, 1.0)


@pytest.mark.parametrize(("points", "median"), [
    ([(1.0, 0.5), (0.0, 0.5)], 1.0), ([(1.0, None), (1.0, 1.0), (0.5, 0.0)], 1.25), ([(None, 1.0)], None),
    ([(None, None), (0.0, 0.0)], 0.0)])
def test_a_lesson_s_median_is_of_those_graded_whole(points, median):
    graded = [result(str(number), first) for number, (first, _) in enumerate(points)]
    for one, (_, second) in zip(graded, points, strict=True):
        one["exercises"].append(one["exercises"][0] | {"exercise": "vector_add_kernel", "points": second, "possible": 3.0})
    assert pages._lessons(graded) == [("00_hello_triton", median, 4.0)]


def test_points_on_a_page_have_two_digits(tmp_path):
    write_pages(tmp_path, book([result("ada", 2 / 3, "failed")]))
    assert "0.67 of 1 points" in (tmp_path / "pages" / "students" / "ada.html").read_text()


def test_the_picture_shows_what_is_wrong_where_it_is():
    drawn = str(picture({"of": [2, 4], "output": 0, "rows": [[0, 1, 0, 0], [0, 0, 0, 1]]}))
    size = 32
    assert re.findall(r'<rect x="(\d+)" y="(\d+)"', drawn) == [(str(size), "0"), (str(3 * size), str(size))]
    assert "shape 2 × 4" in drawn
    assert picture(None) is None


def test_a_picture_of_many_columns_has_fields_that_can_be_seen():
    drawn = str(picture({"of": [1, 512], "output": 0, "rows": [[0] * 255 + [1]]}))
    assert f'<rect x="{255 * FIELD}" y="0" width="{FIELD}"' in drawn


@pytest.mark.parametrize(("status", "sign"), [("passed", "✓"), ("not attempted", "○"), ("missing", "○"), ("failed", "✗")])
def test_a_page_tells_what_is_wrong_from_what_is_not_there(status, sign):
    ((_, (one,), _),) = pages._student(result("ada", 0.0, status), read_course())["lessons"]
    assert one["sign"] == sign


def test_a_page_counts_outputs_from_one(tmp_path):
    map_of_errors = {"of": [1, 2], "output": 1, "rows": [[0, 1]]}
    write_pages(tmp_path, book([result("ada", 0.0, "failed", picture=map_of_errors)]))
    assert "Where output 2 is wrong" in (tmp_path / "pages" / "students" / "ada.html").read_text()


def test_pages_are_of_the_course_that_is_given(tmp_path):
    path = tmp_path / "course.toml"
    path.write_text('title = "Another"\n[rubric.public]\nweight = 1\n')
    (page,) = write_pages(tmp_path, Gradebook(read_course(path), [result("ada")]))
    assert "Another: the class" in page.read_text()


def test_the_class_page_links_each_student_s(tmp_path):
    (page,) = write_pages(tmp_path, book([result("a/b c")]))
    (link,) = re.findall(r'href="students/([^"]+)"', page.read_text())
    assert link == "a%252Fb%20c.html", "the file is called a%2Fb c.html"


def test_the_class_page_lists_what_is_held_and_each_isolation():
    graded = [result("ada", 0.0, "held"), result("bob") | {"isolation": ["seccomp", "limits"]}, result("eva")]
    shown = pages._class(book(graded))
    assert [student for student, _ in shown["flagged"]] == ["ada"]
    assert shown["levels"] == ["limits", "seccomp, limits"]


def test_the_hardest_exercise_is_that_of_the_smallest_share():
    one = result("ada", 1.0)
    one["exercises"].append(one["exercises"][0] | {"exercise": "vector_add_kernel", "points": 2.0, "possible": 8.0})
    hardest, _ = pages._class(book([one]))["exercises"]
    assert hardest["name"] == "vector_add_kernel"


@pytest.mark.parametrize("points, fine", [
    ("0", True), ("999999", True), ("1000000", False), ("-0.5", False), ("nan", False)])
def test_how_many_points_a_line_may_give(tmp_path, points, fine):
    (tmp_path / "overrides.csv").write_text(f"student,exercise,points,reason\nada,bonus,{points},x\n")
    with contextlib.nullcontext() if fine else pytest.raises(ValueError, match="from 0 up"):
        assert read_overrides(tmp_path)["ada", "bonus"].points == float(points)
