"""Pairs of submissions whose code is alike once names are made the same and the lesson's own lines are taken out.

A table for a person: short exercises have few right answers, so only pairs that are alike in several longer ones say much.
Fingerprints by winnowing: Schleimer, Wilkerson, Aiken, "Winnowing: local algorithms for document fingerprinting", SIGMOD
2003.
"""

import ast
import hashlib
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from checks.grader.intake.library import lesson_cells
from checks.grader.intake.submissions import Submission, find_exercise_cell, is_stub, normal_form
from checks.grader.intake.text import printable
from checks.grader.output.rendering import write_from_template
from checks.judge.exercise import Exercise
from checks.judge.source import answer_source

GRAM, WINDOW = 12, 8  # tokens of a fingerprint; how many neighbours share one
LEAST = 8  # fingerprints of its own that a text needs to say anything
ALIKE = 0.6


Pairs = dict[tuple[str, str], list[tuple[str, float]]]  # by two students, the exercises that are alike and how much


def pairs(submissions: list[Submission], exercises: dict[str, Exercise]) -> Pairs:
    """The pairs that are alike, those that are in most exercises first."""
    found: Pairs = defaultdict(list)
    for exercise in exercises.values():
        for pair, likeness in alike(submissions, exercise).items():
            found[pair].append((exercise.name, likeness))
    return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0])))


def table(found: Pairs) -> list[str]:
    """A line for each pair."""
    lines = [f"{a} and {b}: " + ", ".join(f"{name} {100 * likeness:.0f} %" for name, likeness in exercises)
             for (a, b), exercises in found.items()]
    return lines or ["no two submissions are alike beyond the lesson and the answer"]


def write_page(grades: Path, submissions: list[Submission], found: Pairs) -> Path:
    """GRADES/pages/similar.html: for each pair, the two texts of each exercise side by side. Returns its path."""
    by_name = {submission.student: submission for submission in submissions}

    def source(student: str, exercise: str) -> str:
        cell = find_exercise_cell(by_name[student], exercise).cell
        return printable(cell.source, lines=True) if cell else ""

    shown = [(pair, [(name, likeness, [source(student, name) for student in pair]) for name, likeness in exercises])
             for pair, exercises in found.items()]
    return write_from_template("similar.html", grades / "pages" / "similar.html", {"pairs": shown})


def alike(submissions: list[Submission], exercise: Exercise) -> dict[tuple[str, str], float]:
    """(student, student) -> share of fingerprints in common, for pairs above ALIKE."""
    common = set()
    for cell in lesson_cells(exercise.lesson):
        common |= fingerprints(cell)
    common |= fingerprints(answer_source(exercise.name))  # those who found the same answer did not copy
    prints = {}
    for submission in submissions:
        found = find_exercise_cell(submission, exercise.name).cell
        if found is not None and not is_stub(found.source):
            own = fingerprints(found.source) - common
            if len(own) >= LEAST:
                prints[submission.student] = own
    found_pairs = {}
    for a, b in combinations(sorted(prints), 2):
        likeness = len(prints[a] & prints[b]) / len(prints[a] | prints[b])
        if likeness >= ALIKE:
            found_pairs[a, b] = likeness
    return found_pairs


def fingerprints(source: str) -> set[int]:
    """Hashes of runs of tokens, names made the same, comments and docstrings left out."""
    tokens = _tokens(source)
    hashes = [int.from_bytes(hashlib.blake2b(" ".join(tokens[i:i + GRAM]).encode(), digest_size=8).digest(), "big")
              for i in range(max(1, len(tokens) - GRAM + 1))]
    return {min(hashes[i:i + WINDOW]) for i in range(max(1, len(hashes) - WINDOW + 1))}


def _tokens(source: str) -> list[str]:
    try:
        nodes = list(_in_order(ast.parse(normal_form(source))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source.split()
    tokens = []
    for node in nodes:
        match node:
            case ast.Name() | ast.arg():
                tokens.append("name")
            case ast.Attribute(attr=attribute):
                tokens.append("." + attribute)
            case ast.Constant(value=value):
                tokens.append(repr(value)[:20])
            case ast.expr_context():
                pass
            case _:
                tokens.append(type(node).__name__)
    return tokens


def _in_order(node: ast.AST):
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
