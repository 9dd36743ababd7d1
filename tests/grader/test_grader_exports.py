"""What platforms, mails and tables get of a gradebook."""

import csv
import json
from xml.etree import ElementTree

import pytest
from grading import HELLO, exercise, result

from checks.grader import results
from checks.grader.course import DEFAULT, read_course
from checks.grader.gradebook import Gradebook
from checks.grader.output.exports import _canvas, export, unknown_to
from checks.grader.output.feedback import sentences_on_all
from checks.grader.overrides import Override, apply_overrides
from checks.grader.roster import Roster, Student


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


def test_a_platform_s_number_is_the_roster_s_or_a_file_s():
    roster = Roster({"ada": Student("ada", ids={"moodle": "21"}), "bob": Student("bob", ids={"canvas": "12"})})
    numbers = {"ada": "1", "bob": "2", "eva": "3", "zed": ""}
    found = [result(name, ids={"canvas": number}) for name, number in numbers.items()]
    rows = list(csv.reader(_canvas(made(found, roster=roster), "A").splitlines()))
    assert [(row[0], row[1]) for row in rows[2:]] == [("ada", "1"), ("bob", "12"), ("eva", "3")], "the roster's comes first"
    assert unknown_to("moodle", made(found, roster=roster)) == ["bob", "eva", "zed"]


# every format, cell by cell

FILES = {"csv": "grades.csv", "json": "grades.json", "junit": "junit.xml", "canvas": "canvas.csv", "moodle": "moodle.csv"}
ROSTERED = Roster({"s1": Student("s1", "Ada L", "ada@x.org", "A", "ada7", ids={"canvas": "11", "moodle": "21"}),
                   "s2": Student("s2", "Li", "", "B", ids={"moodle": "22"})})
ITEMS = {"public": {"result": "wrong", "message": "off by 1", "earned": 0.0, "possible": 1.0},
         "economical": {"result": "wrong", "message": "too\nmuch", "earned": 0.0, "possible": 1.0}}


def known() -> Gradebook:
    """Two of a roster, and one who is known by the names of files alone."""
    wrong = exercise(points=0.5, status="failed", items=ITEMS, flags=[{"kind": "a", "text": "b"}] * 2)
    other = exercise("vector_add_kernel", points=1.25, override="seen", possible=3.0)
    more = {"name": "Ada L", "email": "ada@x.org", "section": "A", "problems": ["x.pdf was not read"], "bonus": 0.25,
            "late_seconds": {HELLO: 100_000.0}, "late_taken": {HELLO: 0.5}, "points": 1.5}
    return made([result("s1", wrong, other, **more), result("s2", exercise(), name="Li", section="B"),
                 result("zed", exercise(), ids={"canvas": "99"})], roster=ROSTERED,
                absent=[Student("s9", "Bo", section="C")], withdrawn=["old"], notices=["a file"])


def cells(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("kind, name", FILES.items())
def test_where_each_format_is_written(tmp_path, kind, name):
    assert export(kind, known(), tmp_path) == [tmp_path / name] == list(tmp_path.iterdir())
    assert export(kind, known(), tmp_path, tmp_path / "to") == [tmp_path / "to"]
    assert (tmp_path / "to").read_bytes() == (tmp_path / name).read_bytes()


def test_where_files_for_each_student_are_written(tmp_path):
    names = ["s1", "s2", "zed"]
    for to in (None, tmp_path / "to"):
        folder = to or tmp_path / "gradescope"
        assert export("gradescope", known(), tmp_path, to) == [folder / name / "results.json" for name in names]
        folder = to or tmp_path / "mail"
        assert export("mail", known(), tmp_path, to) == [folder / "mail.csv", *(folder / f"{name}.txt" for name in names)]


def test_the_table_s_cells(tmp_path):
    header, most, ada, li, zed, absent = cells(*export("csv", known(), tmp_path))
    assert header == ["student", "points", "possible", "programs_needed", "vector_add_kernel", "flags",
                      "infrastructure_errors", "overridden", "not_read", "name", "section", "late_days", "late_taken",
                      "bonus", "handed_in"]
    assert most == ["max points", "5.0", "5.0", "2.0", "3.0", *[""] * 10]
    assert ada == ["s1", "1.5", "5.0", "0.5", "1.25", "2", "", "vector_add_kernel", "", "Ada L", "A", "1.16", "0.5", "0.25",
                   "yes"]
    assert li == ["s2", "1.0", "2.0", "1.0", "", "0", "", "", "", "Li", "B", "", "", "", "yes"]
    assert zed[9:11] == ["", ""] and absent == ["s9", "", "5.0", *[""] * 6, "Bo", "C", "", "", "", "nothing"]


def test_canvas_s_cells(tmp_path):
    rows = cells(*export("canvas", known(), tmp_path, None, "INT8"))
    assert rows == [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "INT8"],
                    ["    Points Possible", "", "", "", "", "5.0"], ["Ada L", "11", "", "ada7", "A", "1.5"],
                    ["zed", "99", "", "", "", "1.0"]]
    assert cells(*export("canvas", known(), tmp_path))[0][-1] == read_course().title


def test_moodle_s_cells(tmp_path):
    header, ada, li = cells(*export("moodle", known(), tmp_path))
    assert header == ["Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Last modified (grade)",
                      "Feedback comments"]
    assert ada[:6] == ["Participant 21", "Ada L", "ada@x.org", "1.5", "5.0", ""] and ada[6].count("\n") == 2
    assert li == ["Participant 22", "Li", "", "1.0", "2.0", "", ""]
    by_mail = made([result("bob", email="bob@x.org"), result("eve")])
    assert cells(*export("moodle", by_mail, tmp_path))[1:] == [["", "bob", "bob@x.org", "1.0", "2.0", "", ""]]


def test_a_mail_s_lines(tmp_path):
    table, text, *_ = export("mail", known(), tmp_path)
    title = read_course().title
    assert cells(table)[:2] == [["student", "name", "email", "file", "subject"],
                                ["s1", "Ada L", "ada@x.org", "s1.txt", f"{title}: your points"]]
    assert cells(table)[3] == ["zed", "", "", "zed.txt", f"{title}: your points"]
    assert text.read_text() == (
        f"{title}: 1.5 of 5 points\n\nx.pdf was not read.\n"
        "Lesson 00 hello triton was handed in 28 hours late: 0.5 points were taken off.\n"
        "Your instructor added 0.25 points: \n\n"
        "programs_needed (00_hello_triton): failed, 0.5 of 2\n"
        "    off by 1\n    too\n    much\n\nvector_add_kernel (00_hello_triton): failed, 1.25 of 3\n"
        "    Your instructor set the points: seen\n    said\n")
    open_one = made([result("eva", exercise(points=None, status=results.FAULT))])
    _, text = export("mail", open_one, tmp_path)
    assert text.read_text().startswith(
        f"{title}: not graded yet\n\nprograms_needed (00_hello_triton): infrastructure error, – of 2\n")


def test_the_json_s_fields(tmp_path):
    found = json.loads(export("json", known(), tmp_path)[0].read_text())
    assert found.pop("results") == known().results
    assert found == {"schema": results.SCHEMA, "notices": ["a file"], "withdrawn": ["old"],
                     "absent": [{"student": "s9", "name": "Bo", "section": "C"}]}


def test_what_junit_and_gradescope_say_of_several_mistakes(tmp_path):
    (suite, *_) = ElementTree.parse(*export("junit", known(), tmp_path)).getroot()
    assert suite.find("testcase/failure").text == "off by 1\ntoo\nmuch" and suite.get("tests") == "2"
    assert [case.get("name") for case in suite.findall("testcase")] == ["programs_needed", "vector_add_kernel"]
    ada = json.loads(export("gradescope", known(), tmp_path)[0].read_text())
    assert (ada["score"], ada["visibility"]) == (1.5, "visible") and ada["output"].count("\n") == 2
    assert [(one["output"], one["status"], one["max_score"]) for one in ada["tests"]] == [
        ("off by 1\ntoo\nmuch", "failed", 2.0), ("Your instructor set the points: seen\nsaid", "failed", 3.0)]
    unread = made([result("eva", exercise(points=None, status=results.UNREAD), problems=["a.rar was not read"])])
    (path,) = export("gradescope", unread, tmp_path)
    assert json.loads(path.read_text()) == {"visibility": "visible", "output": (
        "Some work could not be read, so there are no points yet.\na.rar was not read.")}


def test_sentences_on_a_whole_submission():
    late = {"late_seconds": {HELLO: 120.0, "01_gemv_fp16": 7200.0}, "late_taken": {"01_gemv_fp16": 0.25}}
    one = result("ada", problems=["nothing was handed in", "a.ipynb is empty", "ab/ was not read", ""]) | late
    assert sentences_on_all(one | {"bonus": 2.0, "bonus_reason": "for a bug"}) == [
        "Nothing was handed in.", "a.ipynb is empty.", "ab/ was not read.", ".",
        "Lesson 00 hello triton was handed in 2 minutes late: no points were taken off.",
        "Lesson 01 gemv fp16 was handed in 2 hours late: 0.25 points were taken off.",
        "Your instructor added 2 points: for a bug"]
