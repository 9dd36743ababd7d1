"""What a student may read of a result: the course says which items show their message, and no hidden size leaks."""

from functools import cache

from checks.grader.course import Course, read_course
from checks.grader.results import FAULT, UNREAD, ExerciseResult, SubmissionResult
from checks.judge.trial import PASSED

SIGNS = {"right": "✓", "wrong": "✗", "not reached": "·"}


@cache
def default_course() -> Course:
    return read_course()


def items_for_student(one: ExerciseResult, course: Course | None = None) -> list[dict]:
    """The rubric's lines of one exercise: sign, title, points, and the message where the course shows it."""
    course = course or default_course()
    lines = []
    for item in course.items:
        state = one["items"].get(item.name)
        if state is None or item.visibility == "nothing":
            continue
        lines.append({"sign": SIGNS[state["result"]], "result": state["result"], "title": item.title,
                      "earned": state["earned"], "possible": state["possible"],
                      "message": state["message"] if item.visibility == "message" else ""})
    return lines


def messages_for_student(one: ExerciseResult, course: Course | None = None) -> list[str]:
    """Sentences on one exercise that its student may read."""
    return [said.removeprefix(f"{one['exercise']}: ") for said in _said(one, course)]


def sentences_on_all(result: SubmissionResult) -> list[str]:
    """Sentences on a whole submission that its student may read: its files, lateness, a bonus."""
    said = [f"{_capitalised(problem)}." for problem in result["problems"]]
    for lesson, seconds in result.get("late_seconds", {}).items():
        taken = result.get("late_taken", {}).get(lesson, 0.0)
        said.append(f"Lesson {lesson.replace('_', ' ')} was handed in {lateness(seconds)} late: "
                    + (f"{taken:g} points were taken off." if taken else "no points were taken off."))
    if "bonus" in result:
        said.append(f"Your instructor added {result['bonus']:g} points: {result.get('bonus_reason', '')}")
    return said


def _capitalised(sentence: str) -> str:
    """With a capital, unless the name of a file comes first."""
    return sentence[:1].upper() + sentence[1:] if sentence.partition(" ")[0].isalpha() else sentence


def lateness(seconds: float) -> str:
    """How late, in words."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _said(one: ExerciseResult, course: Course | None) -> list[str]:
    if one.get("override"):
        graded = [] if one["status"] in (FAULT, UNREAD, "held") else _said(one | {"override": ""}, course)
        return [f"Your instructor set the points: {one['override']}", *graded]
    if one.get("comment"):
        return [*_said(_without_comment(one), course), f"Your instructor: {one['comment']}"]
    if one["status"] == FAULT:
        return ["This exercise could not be graded yet: the fault is the grader's, and no points are lost."]
    if one["status"] == UNREAD:
        return ["This exercise was not found in the files that could be read: see the list above. No points are lost yet."]
    lines = items_for_student(one, course)
    if one["status"] in (PASSED, "held") or not lines:
        return [one["message"]]
    wrong = [line for line in lines if line["result"] == "wrong"]
    return [line["message"] or f"{line['title']}: not yet." for line in wrong] or [one["status"]]


def _without_comment(one: ExerciseResult) -> ExerciseResult:
    return one | {"comment": ""}


def notices_for_student(one: ExerciseResult) -> list[str]:
    return [f"Note: {notice}." for notice in one["notices"]]
