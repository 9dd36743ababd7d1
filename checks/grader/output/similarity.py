"""Pairs of submissions whose code is alike once names are made the same and the lesson's own lines are taken out.

A table for a person: short exercises have few right answers, so only pairs that are alike in several longer ones say much.
Fingerprints by winnowing: Schleimer, Wilkerson, Aiken, "Winnowing: local algorithms for document fingerprinting", SIGMOD
2003.
"""

import ast
import hashlib
from collections import defaultdict
from itertools import combinations

from checks.grader.intake import extract
from checks.grader.intake.library import lesson_cells
from checks.grader.intake.submissions import Submission, find_exercise_cell, is_stub
from checks.judge.exercise import Exercise
from checks.judge.source import answer_source

GRAM, WINDOW = 12, 8  # tokens of a fingerprint; how many neighbours share one
LEAST = 8  # fingerprints of its own that a text needs to say anything
ALIKE = 0.6


def table(submissions: list[Submission], exercises: dict[str, Exercise]) -> list[str]:
    """Lines on the pairs that are alike, most exercises first, and on the exact copies among them."""
    pairs = defaultdict(list)
    for exercise in exercises.values():
        for (a, b), likeness in alike(submissions, exercise).items():
            pairs[a, b].append((exercise.name, likeness))
    lines = [f"{a} and {b}: " + ", ".join(f"{name} {100 * likeness:.0f} %" for name, likeness in found)
             for (a, b), found in sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0]))]
    return lines or ["no two submissions are alike beyond the lesson and the answer"]


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
    pairs = {}
    for a, b in combinations(sorted(prints), 2):
        likeness = len(prints[a] & prints[b]) / len(prints[a] | prints[b])
        if likeness >= ALIKE:
            pairs[a, b] = likeness
    return pairs


def fingerprints(source: str) -> set[int]:
    """Hashes of runs of tokens, names made the same, comments and docstrings left out."""
    tokens = _tokens(source)
    hashes = [int.from_bytes(hashlib.blake2b(" ".join(tokens[i:i + GRAM]).encode(), digest_size=8).digest(), "big")
              for i in range(max(1, len(tokens) - GRAM + 1))]
    return {min(hashes[i:i + WINDOW]) for i in range(max(1, len(hashes) - WINDOW + 1))}


def _tokens(source: str) -> list[str]:
    try:
        tree = ast.parse(extract.normal_form(source))
    except SyntaxError:
        return source.split()
    tokens = []
    for node in _in_order(tree):
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
