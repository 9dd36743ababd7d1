"""The gradebook: who is in the class, what lateness and a person's decisions do, and what platforms get. Nothing runs."""

import csv
import json
from pathlib import Path

import pytest
from grading import DUE, GEMV, HELLO, SOLVED, exercise, kept, result, roster, with_course

from checks.grader import gradebook, results
from checks.grader.batch import Batch, locked
from checks.grader.command import main
from checks.grader.course import DEFAULT, lessons_named, read_course
from checks.grader.gradebook import Change, Gradebook, read_gradebook
from checks.grader.grader import Grader
from checks.grader.intake.submissions import Submission
from checks.grader.output import pages
from checks.grader.output.exports import FORMATS, export, unknown_to
from checks.grader.output.feedback import messages_for_student, sentences_on_all
from checks.grader.output.pages import write_pages
from checks.grader.overrides import Override, apply_overrides, read_overrides, status_shown
from checks.grader.settings import Settings

# the course


def test_lessons_by_number_or_name():
    assert lessons_named(["00", "01_gemv_fp16", "02"]) == [HELLO, GEMV, lessons_named(["02"])[0]]
    assert lessons_named(["07", "07b"]) == ["07_fused", "07b_fused_mlp"]
    with pytest.raises(ValueError, match="there is no lesson 77"):
        lessons_named(["00", "77"])


def test_an_assignment_is_some_lessons(tmp_path):
    course = read_course(with_course(tmp_path, '[assignment]\nlessons = ["00"]\nattempts = "best"') / "course.toml")
    assert {one.lesson for one in course.exercises.values()} == {HELLO} and course.attempts == "best"
    assert course.total == sum(one.points for one in course.exercises.values())


@pytest.mark.parametrize("text, said", [
    ("[assignment]\nlessons = ['77']", "no lesson 77"),
    ("[assignment]\nlesson = 1", "`lessons`, `attempts` and `timezone` alone"),
    ("[assignment]\nattempts = 'first'", "one of last, best"), ("[late]\nper_day = 1", "[late] may have"),
    ("[late]\npercent_per_day = -1", "late.percent_per_day"), ("late = 3", "[late] must be a table"),
    *((f"[assignment]\ntimezone = '{name}'", f"no timezone '{name}'") for name in ("Bonn", "Europe", "../Bonn", "")),
    ("[late]\nmost_percent = true", "late.most_percent"), ("[late]\nmost_percent = 101", "100 at most")])
def test_a_wrong_assignment_is_named(tmp_path, text, said):
    path = tmp_path / "course.toml"
    path.write_text(f"{text}\n[rubric.public]\nweight = 1\n")
    with pytest.raises(ValueError, match=r"course\.toml") as error:
        read_course(path)
    assert said in str(error.value)


def test_what_is_judged_decides_a_regrade(tmp_path):
    def key(text: str) -> str:
        path = tmp_path / "course.toml"
        path.write_text(DEFAULT.read_text().replace("[deadlines]", text))
        return Grader(Settings(3, path)).key(Submission("ada", digest="d"))

    same = key("[deadlines]")
    assert key("# a note\n[late]\npercent_per_day = 3\n[deadlines]") == same
    assert key("[exercise.programs_needed]\npoints = 9\n[deadlines]") != same


# what a person decides


def test_overrides_stay_within_the_points(tmp_path):
    for points, said in (("3", "has 2 points; more go into a line with the exercise `bonus`"), ("-1", "from 0 up"),
                         ("nan", "from 0 up")):
        (tmp_path / "overrides.csv").write_text(f"student,exercise,points,reason\nada,programs_needed,{points},why\n")
        with pytest.raises(ValueError, match="line 2") as error:
            apply_overrides([result("ada")], read_overrides(tmp_path))
        assert said in str(error.value)


def test_a_bonus_and_a_comment(tmp_path):
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,bonus,3,a good question\n"
                                            "ada,programs_needed,,read it again\n")
    (one,) = apply_overrides([result("ada")], read_overrides(tmp_path))
    assert (one["points"], one["bonus"], one["exercises"][0]["points"]) == (4.0, 3.0, 1.0)
    assert messages_for_student(one["exercises"][0]) == ["said", "Your instructor: read it again"]
    assert "3 points: a good question" in sentences_on_all(one)[0]
    for lines, said in (("ada,bonus,,why", "a bonus needs points"),
                        ("ada,bonus,1,why\nada,bonus,1,why", "line 3: `bonus` of `ada` is there twice"),
                        ("bob,bonus,1,why", "of a student `bob`")):
        (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\n" + lines)
        with pytest.raises(ValueError, match="overrides") as error:
            apply_overrides([result("ada")], read_overrides(tmp_path))
        assert said in str(error.value)


@pytest.mark.parametrize("lines", ["bonus,3,why\nada,programs_needed,0.5,why", "programs_needed,0.5,why\nada,bonus,3,why"])
def test_a_bonus_is_added_to_what_was_decided(tmp_path, lines):
    (tmp_path / "overrides.csv").write_text(f"student,exercise,points,reason\nada,{lines}\n")
    (one,) = apply_overrides([result("ada")], read_overrides(tmp_path))
    assert (one["points"], one["bonus"], one["exercises"][0]["points"]) == (3.5, 3.0, 0.5)


@pytest.mark.parametrize("points, status", [(2.0, "passed"), (1.0, "failed"), (0.0, "failed")])
def test_a_decision_shows_everywhere(tmp_path, points, status):
    held = result("ada", exercise(points=None, status="held"))
    book = Gradebook(read_course(), apply_overrides([held], {("ada", "programs_needed"): Override(points, "seen", 2)}))
    assert status_shown(book.results[0]["exercises"][0]) == status
    (path,) = export("gradescope", book, tmp_path)
    assert json.loads(path.read_text())["tests"][0]["status"] == status
    assert ("<failure" in export("junit", book, tmp_path)[0].read_text()) == (status == "failed")
    write_pages(tmp_path, book)
    assert f'<span class="soft">{status}</span>' in (tmp_path / "pages" / "students" / "ada.html").read_text()


# attempts, changes, withdrawal


def test_the_best_attempt_counts_where_the_course_says_so(tmp_path):
    first = result("ada", exercise(points=2.0), exercise("gemv_fp16", GEMV, points=0.0), submission="first")
    second = result("ada", exercise(points=1.0), exercise("gemv_fp16", GEMV, points=1.0), submission="second")
    kept(tmp_path, first)
    for one in (second, second):  # graded again, the same files are no attempt
        gradebook.keep_attempt(tmp_path, one)
        kept(tmp_path, one)
    assert len(list((tmp_path / "attempts" / "ada").iterdir())) == 1
    assert read_gradebook(tmp_path).results[0]["points"] == 2.0
    with_course(tmp_path, '[assignment]\nattempts = "best"')
    (best,) = read_gradebook(tmp_path).results
    assert [one["points"] for one in best["exercises"]] == [2.0, 1.0] and best["points"] == 3.0
    assert "an earlier attempt" in best["exercises"][0]["notices"][0] and not best["exercises"][1]["notices"]


def test_the_best_attempt_is_the_one_that_is_worth_most(tmp_path):
    early = result("ada", exercise(points=1.5), submission="first", handed_in={HELLO: DUE.timestamp() - 1})
    late = result("ada", exercise(points=2.0), submission="second", handed_in={HELLO: DUE.timestamp() + 1})
    unread = result("ada", exercise(points=None, status=results.UNREAD), submission="third")
    for one in (early, late, unread):
        gradebook.keep_attempt(tmp_path, one)
        kept(tmp_path, one)
    for percent, points in ((50, 1.5), (10, 1.8)):
        with_course(tmp_path, f'[assignment]\nattempts = "best"\n[late]\npercent_per_day = {percent}')
        assert [one["points"] for one in read_gradebook(tmp_path).results] == [points]


@pytest.mark.parametrize(("before", "now", "counts"), [
    (0.0, None, 0.0), (None, 0.0, 0.0), (None, None, None), (1.0, None, 1.0), (None, 1.0, 1.0), (1.0, 1.0, 1.0),
    (0.0, 0.0, 0.0)])
def test_a_graded_attempt_comes_before_one_that_was_not(tmp_path, before, now, counts):
    with_course(tmp_path, '[assignment]\nattempts = "best"')
    for name, points in (("first", before), ("second", now)):
        one = result("ada", exercise(points=points, status=results.FAULT if points is None else "passed"), submission=name)
        gradebook.keep_attempt(tmp_path, one)
        kept(tmp_path, one)
    (found,) = read_gradebook(tmp_path).results
    assert found["exercises"][0]["points"] == counts
    assert bool(found["exercises"][0]["notices"]) == (before is not None and before != now), "the last of two equal ones"


@pytest.mark.parametrize("old", [exercise(points=9.0, possible=10.0), exercise("vector_add_kernel", points=9.0)],
                         ids=["more points then", "another exercise"])
def test_an_attempt_at_something_else_is_not_compared(tmp_path, old):
    with_course(tmp_path, '[assignment]\nattempts = "best"')
    for one in (result("ada", old, submission="first"), result("ada", exercise(), submission="second")):
        gradebook.keep_attempt(tmp_path, one)
        kept(tmp_path, one)
    assert read_gradebook(tmp_path).results[0]["exercises"] == [exercise()]


def test_what_has_changed_since_the_last_grading(tmp_path):
    gradebook.keep_points(tmp_path)
    assert not (tmp_path / "before.json").exists()
    kept(tmp_path, result("ada"), result("bob"))
    gradebook.keep_points(tmp_path)
    kept(tmp_path, result("ada", exercise(points=0.0)), result("eva"))
    book = read_gradebook(tmp_path)
    assert book.changes == [Change("ada", "programs_needed", 1.0, 0.0)]
    (path,) = write_pages(tmp_path, book)
    assert "Changed since the last grading" in path.read_text()
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,programs_needed,0.5,seen\n"
                                            "bob,programs_needed,0,seen\n")
    assert read_gradebook(tmp_path).changes == book.changes, "a person's decisions are none"
    kept(tmp_path, result("ada", exercise(points=None)), result("bob", exercise("vector_add_kernel")))
    (tmp_path / "overrides.csv").unlink()
    assert read_gradebook(tmp_path).changes == [Change("ada", "programs_needed", 1.0, None)]


def test_an_interrupted_run_s_points_are_not_those_before(tmp_path, monkeypatch):
    def half(self, waiting, jobs):
        kept(self.grades, result("ada", exercise(points=float(len(waiting)))))
        raise KeyboardInterrupt

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ada.ipynb").write_text(SOLVED)
    kept(tmp_path / "g", result("ada", exercise(points=2.0)))
    monkeypatch.setattr(Batch, "_work", half)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Batch(tmp_path / "g", Settings(3), say=lambda _: None).grade(tmp_path / "sub")
    assert [one.before for one in read_gradebook(tmp_path / "g").changes] == [2.0]


def test_two_runs_do_not_grade_into_one_folder(tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ada.ipynb").write_text(SOLVED)
    with locked(tmp_path / "g"):
        assert main(["class", str(tmp_path / "sub"), "--out", str(tmp_path / "g")]) == 2
    assert "another run is grading into" in capsys.readouterr().err
    assert not (tmp_path / "g" / "batch.json").exists(), "whose seed is the other run's"


def test_who_is_removed_is_withdrawn_and_may_come_back(tmp_path, monkeypatch):
    def work(self, waiting, jobs):
        kept(self.grades, *(result(student) for student in waiting))
        waiting.clear()
        return []

    monkeypatch.setattr(Batch, "_work", work)
    grades, said = tmp_path / "grades", []

    def grade(*students: str, only: tuple[str, ...] = ()) -> list[str]:
        for path in tmp_path.glob("sub/*"):
            path.unlink()
        for student in students:
            (tmp_path / "sub").mkdir(exist_ok=True)
            (tmp_path / "sub" / f"{student}.ipynb").write_text(SOLVED)
        said.clear()
        Batch(grades, Settings(3), say=said.append).grade(tmp_path / "sub", only)
        return [one["student"] for one in read_gradebook(grades).results]

    assert grade("ada", "bob") == ["ada", "bob"]
    assert grade("ada", only=("ada",)) == ["ada", "bob"], "a run for one says nothing of the others"
    assert grade("ada") == ["ada"] and "bob: not there any more" in said[0]
    assert read_gradebook(grades).withdrawn == ["bob"]
    assert "bob" not in export("csv", read_gradebook(grades), grades)[0].read_text()
    assert grade("ada", "bob") == ["ada", "bob"] and "bob: is back" in said[0]
    (grades / "roster.csv").write_text("id\nada\nbob\nkim\n")
    assert grade("ada") == ["ada", "bob"], "the roster decides who is in the class"
    assert "handed in nothing: bob, kim" in said[0] or "handed in nothing" in " ".join(said)
    (grades / "roster.csv").write_text("id\nada\n")
    assert grade("ada") == ["ada"]


@pytest.mark.parametrize("present, students, withdrawn, said", [
    ({"ada"}, {"ada": 2.0}, {"bob": 1.0, "ada": 0.0}, ["bob: not there any more; the result is in withdrawn/ now"]),
    ({"ada", "bob"}, {"ada": 2.0, "bob": 1.0}, {"ada": 0.0}, []),
    (set(), {}, {"ada": 2.0, "bob": 1.0}, [f"{name}: not there any more; the result is in withdrawn/ now"
                                           for name in ("ada", "bob")])])
def test_who_comes_back_with_new_work_keeps_that(tmp_path, present, students, withdrawn, said):
    kept(tmp_path, result("ada", exercise(points=0.0)))
    (tmp_path / "students").rename(tmp_path / "withdrawn")
    kept(tmp_path, result("ada", exercise(points=2.0)), result("bob"))
    assert gradebook.withdraw(tmp_path, present) == said
    for folder, found in (("students", students), ("withdrawn", withdrawn)):
        there = map(results.read_result, (tmp_path / folder).glob("*.json"))
        assert {one["student"]: one["points"] for one in there} == found


# exports and pages


@pytest.fixture
def book(tmp_path):
    found = [result("s1", exercise(source="def f():\n    <b>", points=0.0), name="Ada Lovelace", email="ada@x.org"),
             result("s5", exercise(points=None, status=results.UNREAD), problems=["a.rar was not read"],
                    ids={"canvas": "15"}),
             result("=eve", ids={"moodle": "7"}, late_seconds={HELLO: 7200.0}, late_taken={HELLO: 0.25})]
    names = roster(tmp_path)
    return Gradebook(read_course(), found, names, [names.students["s4"]], ["bob"], ["x.pdf was not read: it is no notebook"])


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_canvas_gets_its_own_columns(book, tmp_path):
    header, most, *found = rows(export("canvas", book, tmp_path, assignment="INT8 (4711)")[0])
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "INT8 (4711)"]
    assert most == ["    Points Possible", "", "", "", "", "2.0"]
    ada, unread = ((row[0], row[1], row[5]) for row in found)
    assert ada == ("Ada Lovelace", "11", "0") and unread == ("s5", "15", ""), "no zero for what is not read"
    assert unknown_to("canvas", book) == ["=eve"]


def test_canvas_is_told_who_is_meant_in_each_of_its_ways(tmp_path):
    """The roster's number goes before that of a file's name."""
    names = roster(tmp_path, "id,name,section,login,canvas\ns1,Ada,A,ada,11\n")
    found = [result("s1", name="Ada", section="A", ids={"canvas": "99"}), result("eve", ids={"canvas": "12"})]
    _, _, *lines = rows(export("canvas", Gradebook(read_course(), found, names), tmp_path)[0])
    assert lines == [["Ada", "11", "", "ada", "A", "1.0"], ["eve", "12", "", "", "", "1.0"]]


def test_moodle_gets_its_worksheet(book, tmp_path):
    header, ada, eve = rows(export("moodle", book, tmp_path)[0])
    assert header == ["Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Last modified (grade)",
                      "Feedback comments"], "Moodle refuses a table without the identifier, the grade or its date"
    assert ada[:6] == ["", "Ada Lovelace", "ada@x.org", "0", "2.0", ""]
    assert eve[:5] == ["Participant 7", "'=eve", "", "1.0", "2.0"] and "0.25 points were taken off" in eve[6]


@pytest.mark.parametrize(("kind", "column"), [("csv", "points"), ("canvas", "Course"), ("moodle", "Grade")])
@pytest.mark.parametrize("status", [results.FAULT, results.UNREAD])
def test_no_platform_gets_points_of_what_is_graded_in_part(tmp_path, kind, column, status):
    """Which it would count as all."""
    half = result("ada", exercise(points=1.5), exercise("gemv_fp16", GEMV, points=None, status=status),
                  ids={"canvas": "1", "moodle": "2"})
    whole = result("bob", exercise(points=1.5), ids={"canvas": "3", "moodle": "4"})
    found = Gradebook(read_course(), [half, whole])
    with export(kind, found, tmp_path, assignment="Course")[0].open(newline="") as file:
        assert [row[column] for row in csv.DictReader(file)][-2:] == ["", "1.5"]
    first_lines = [path.read_text().partition("\n")[0] for path in export("mail", found, tmp_path)[1:]]
    assert [line.partition(": ")[2] for line in first_lines] == ["not graded yet", "1.5 of 2 points"]


def test_platforms_that_know_nobody(tmp_path):
    for kind in ("canvas", "moodle"):
        with pytest.raises(ValueError, match=f"give a roster with a column `{kind}`"):
            export(kind, Gradebook(read_course(), [result("ada")]), tmp_path)


def test_a_text_for_each_student_s_mail(book, tmp_path):
    index, *texts = export("mail", book, tmp_path)
    assert rows(index)[1] == ["s1", "Ada Lovelace", "ada@x.org", "s1.txt", f"{book.course.title}: your points"]
    ada, unread, late = (path.read_text() for path in texts)
    assert "0 of 2 points" in ada and "programs_needed (00_hello_triton): failed, 0 of 2\n    said" in ada
    assert "not graded yet" in unread and "a.rar was not read." in unread and "2 hours late" not in ada and "120" not in late


def test_the_table_names_who_handed_in_nothing(book, tmp_path):
    header, most, *found, absent = rows(export("csv", book, tmp_path)[0])
    by_column = dict(zip(header, absent, strict=True))
    assert (by_column["student"], by_column["name"], by_column["points"]) == ("s4", "José Núñez", "")
    assert by_column["handed_in"] == "nothing"
    assert [row[header.index("points")] for row in found] == ["0", "", "1.0"]
    assert dict(zip(header, found[2], strict=True))["late_days"] == "0.08"


def test_the_json_names_everybody(book, tmp_path):
    found = json.loads(export("json", book, tmp_path)[0].read_text())
    assert [one["student"] for one in found["absent"]] == ["s4"] and found["withdrawn"] == ["bob"] and found["notices"]


def test_the_class_page_leads_with_what_a_person_must_see(book, tmp_path):
    (path,) = write_pages(tmp_path, book)
    text = path.read_text()
    for said in ("1 with work that could not be read", "a.rar was not read", "x.pdf was not read", "s4 (José Núñez)",
                 "bob", "incomplete"):
        assert said in text
    assert text.index("Work that could not be read") < text.index("<h2>Scores")
    page = (tmp_path / "pages" / "students" / "s1.html").read_text()
    assert '<pre class="code">def f():\n    &lt;b&gt;</pre>' in page and "<script" not in page


def test_a_notice_of_a_whole_notebook_stands_there_once(tmp_path):
    ones = [exercise(name, notices=["the given cell is missing", name]) for name in ("programs_needed", "vector_add_kernel")]
    write_pages(tmp_path, Gradebook(read_course(), [result("ada", *ones)]))
    page = (tmp_path / "pages" / "students" / "ada.html").read_text()
    assert page.count("Note: the given cell is missing.") == 1 and page.count("Note: programs_needed.") == 1


def test_who_left_has_no_page_any_more(tmp_path):
    students = tmp_path / "pages" / "students"
    for names in (("ada", "bob"), ("ada", "eve"), ("eve",)):
        write_pages(tmp_path, Gradebook(read_course(), [result(name, exercise()) for name in names]))
        assert sorted(page.stem for page in students.iterdir()) == sorted(names)


def test_anonymous_pages_name_nobody(book, tmp_path):
    (path,) = write_pages(tmp_path, book, anonymous=True)
    texts = [one.read_text() for one in path.parent.rglob("*.html")]
    assert len(texts) == 4
    assert not any(name in text for text in texts for name in ("s1", "s5", "eve", "Ada", "ada@", "bob", "José", "a.rar"))
    found = [result("ada", exercise(points=2.0), key="z"), result("bob", key="a", submission="y"), result("eve", key="a")]
    numbered = pages._without_names(Gradebook(book.course, found)).results
    assert [(one["student"], one["key"], one["submission"]) for one in numbered] == [
        ("student 1", "a", "d"), ("student 2", "a", "y"), ("student 3", "z", "d")], "in an order that says nothing"


def test_one_lesson_of_all_that_was_graded(tmp_path):
    kept(tmp_path, result("ada", exercise(), exercise("gemv_fp16", GEMV, 2.0)))
    (one,) = read_gradebook(tmp_path, lessons=[GEMV]).results
    assert (one["points"], one["possible"], len(one["exercises"])) == (2.0, 2.0, 1)
    (tmp_path / "overrides.csv").write_text("student,exercise,points,reason\nada,programs_needed,0.5,seen\n"
                                            "ada,bonus,1,why\n")
    assert [read_gradebook(tmp_path, lessons=[lesson]).results[0]["points"] for lesson in (HELLO, GEMV)] == [1.5, 3.0]
    with pytest.raises(ValueError, match="holds no result of 02"):
        read_gradebook(tmp_path, lessons=["02"])


def test_commands_use_what_is_kept_with_the_grades(tmp_path, capsys):
    kept(with_course(tmp_path, "[late]\npercent_per_day = 50"), result("ada", handed_in={HELLO: 9e9}))
    for kind in FORMATS:
        assert main(["export", "--format", kind, str(tmp_path)]) == (2 if kind in ("canvas", "moodle") else 0)
    assert rows(tmp_path / "grades.csv")[2][1] == "0.0"
    assert main(["report", "--lesson", "00", str(tmp_path)]) == 0 and main(["report", "--anonymous", str(tmp_path)]) == 0
    assert main(["report", "--lesson", "02", str(tmp_path)]) == 2 and main(["report", "--lesson", "99", str(tmp_path)]) == 2
    assert "there is no lesson 99" in capsys.readouterr().err


def test_alike_submissions_stand_side_by_side(tmp_path, capsys):
    body = "\n".join(f"    total = total * {n} + N // (BLOCK + {n})" for n in range(20))
    for student, name in (("ada", "total"), ("bob", "sum_of_all")):
        text = f"# exercise: programs_needed\ndef programs_needed(N, BLOCK):\n    total = 0\n{body}\n    return total\n"
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / f"{student}.py").write_text(text.replace("total", name))
    assert main(["similar", str(tmp_path / "sub"), "--lesson", "00", "--out", str(tmp_path / "g")]) == 0
    assert "ada and bob: programs_needed 100 %" in capsys.readouterr().out
    page = (tmp_path / "g" / "pages" / "similar.html").read_text()
    assert "sum_of_all * 19" in page and "total * 19" in page
