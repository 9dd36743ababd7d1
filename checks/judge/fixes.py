"""A function's source with one thing in it changed that may have been the mistake, the likeliest first.

Likely is what brings the source nearer to the answer's, in how often each operator, number, argument and operation stands in
it.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from checks.judge.changes import changes_in
from checks.judge.scope import Scope

_BUILTINS = ("sum", "max", "min", "abs", "round", "len", "sorted", "set", "int", "range", "divmod")


def fixes(source: str, answer: str, line: str | None = None) -> Iterator[tuple[str, str, object]]:
    """Each change of one thing in a function's `source`, with its sentence; the same in several places is one thing, too.

    The third is equal for those that are as likely.

    First come those in `line`, where an error was raised, and those that bring the source nearest to the `answer`.

    Raises SyntaxError where `source` is no Python, and ValueError where it is no function.
    """
    tree, wanted = ast.parse(source), ast.parse(answer).body[0]
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or not isinstance(wanted, ast.FunctionDef):
        raise ValueError("no function")
    for one in (function, wanted):
        if ast.get_docstring(one):
            one.body = one.body[1:] or [ast.Pass()]
    scope, count = Scope(function, wanted), _Tokens(wanted)
    goal, mine, lines = count(*wanted.body), count(*function.body), source.split("\n")
    counted: dict[ast.AST, Counter[str]] = {}  # many changes are of one node
    found: list[tuple[tuple[bool, int], str, list[_Change]]] = []
    alike: dict[str, list[_Change]] = {}
    for old, new, sentence in changes_in(function, scope):
        if old not in counted:
            counted[old] = count(old)
        change = _Change(old, new, counted[old], count(new))
        if (scope.kernel and not isinstance(new, ast.Constant)
                and any(token not in goal for token in change.more - change.less)):
            continue  # each kernel takes a while: only what the answer has too
        elsewhere = line is not None and lines[getattr(old, "lineno", 1) - 1].strip() != line
        found.append(((elsewhere, _distance(mine, goal, [change])), sentence, [change]))
        alike.setdefault(sentence.split(", in `")[0], []).append(change)
    for sentence, changes in alike.items():
        if 1 < len(changes) < 9:
            said = f"{sentence.rstrip('.')}, in {len(changes)} places."
            found.append(((True, _distance(mine, goal, changes)), said, changes))
    seen = {ast.unparse(tree)}
    for rank, sentence, changes in sorted(found, key=lambda fix: fix[0]):
        text = ast.unparse(_changed(tree, {change.old: change.new for change in changes})) + "\n"
        if text not in seen:
            seen.add(text)
            yield text, sentence[0].upper() + sentence[1:], rank


@dataclass(frozen=True)
class _Change:
    old: ast.AST
    new: ast.AST
    less: Counter[str]  # tokens of the two
    more: Counter[str]


def _distance(mine: Counter[str], goal: Counter[str], changes: list[_Change]) -> int:
    tokens = mine.copy()
    for change in changes:
        tokens.subtract(change.less)
        tokens.update(change.more)
    return sum(abs(tokens[token] - goal[token]) for token in tokens.keys() | goal.keys())


def _changed(node: Any, new: dict[ast.AST, ast.AST]) -> Any:
    """A copy of a tree with other nodes for some of its own; what is the same in both is shared."""
    if isinstance(node, list):
        items = [_changed(item, new) for item in node]
        return items if any(a is not b for a, b in zip(items, node, strict=True)) else node
    if not isinstance(node, ast.AST):
        return node
    if node in new:
        return new[node]
    other = {field: changed for field, value in ast.iter_fields(node) if (changed := _changed(value, new)) is not value}
    if not other:
        return node
    made = copy.copy(node)
    for field, value in other.items():
        setattr(made, field, value)
    return made


class _Tokens:
    """Counts how often each operator, number, argument and operation stands in a part of a function."""

    def __init__(self, answer: ast.FunctionDef):
        self.arguments = {argument.arg for argument in answer.args.args}

    def __call__(self, *parts: ast.AST) -> Counter[str]:
        return Counter(token for part in parts for node in ast.walk(part) if (token := self._token(node)) is not None)

    def _token(self, node: ast.AST) -> str | None:
        match node:
            case ast.operator() | ast.unaryop() | ast.cmpop() | ast.boolop() | ast.Break() | ast.Return():
                return type(node).__name__
            case ast.Constant(value=int() | float() as value):
                return repr(float(value))
            case ast.Attribute(attr=name):
                return name
            case ast.Name(id=name) if name in self.arguments or name in _BUILTINS:
                return name
        return None
