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
    scope, tokens = Scope(function, wanted), _Tokens(wanted)
    goal, mine, lines = tokens.count(wanted.body), tokens.count(function.body), source.split("\n")
    found: list[tuple[tuple[bool, int], str, list[_Change]]] = []
    alike: dict[str, list[_Change]] = {}
    for old, new, sentence in changes_in(function, scope):
        change = _Change(old, new, tokens.of(old), tokens.of(new))
        if (scope.kernel and not isinstance(new, ast.Constant)
                and any(token not in goal for token in Counter(change.more) - Counter(change.less))):
            continue  # each kernel takes a while: only what the answer has too
        elsewhere = line is not None and lines[getattr(old, "lineno", 1) - 1].strip() != line
        found.append(((elsewhere, _distance(mine, goal, [change])), sentence, [change]))
        alike.setdefault(sentence.split(", in `")[0], []).append(change)
    for sentence, changes in alike.items():
        if 1 < len(changes) < 9:
            said = f"{sentence.rstrip('.')}, in {len(changes)} places."
            found.append(((True, _distance(mine, goal, changes)), said, changes))
    seen = {ast.unparse(tree)}
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for rank, sentence, changes in sorted(found, key=lambda fix: fix[0]):
        text = ast.unparse(_changed(tree, changes, above)) + "\n"
        if text not in seen:
            seen.add(text)
            yield text, sentence[0].upper() + sentence[1:], rank


@dataclass(frozen=True)
class _Change:
    old: ast.AST
    new: ast.AST
    less: tuple[str, ...]  # tokens of the two
    more: tuple[str, ...]


def _distance(mine: Counter[str], goal: Counter[str], changes: list[_Change]) -> int:
    """How much farther than `mine` it is from `goal` with these changes."""
    more: Counter[str] = Counter()
    for change in changes:
        more.update(change.more)
        more.subtract(change.less)
    return sum(abs(mine[token] + n - goal[token]) - abs(mine[token] - goal[token]) for token, n in more.items())


def _changed(tree: ast.AST, changes: list[_Change], above: dict[ast.AST, ast.AST]) -> ast.AST:
    """A copy of a tree, changed; what is the same in both is shared. `above`: the node that each of its nodes is part of."""
    new, around = {change.old: change.new for change in changes}, set()
    for node in new:
        while (outer := above.get(node)) is not None and outer not in around:
            around.add(node := outer)

    def changed(part: Any) -> Any:
        if isinstance(part, list):
            return [changed(item) for item in part]
        if not isinstance(part, ast.AST):
            return part
        if part in new or part not in around:
            return new.get(part, part)
        made = copy.copy(part)
        for field, value in ast.iter_fields(part):
            setattr(made, field, changed(value))
        return made

    return changed(tree)


class _Tokens:
    """Counts how often each operator, number, argument and operation stands in a part of a function."""

    def __init__(self, answer: ast.FunctionDef):
        self.arguments = {argument.arg for argument in answer.args.args}
        self._known: dict[ast.AST, tuple[str, ...]] = {}  # many changes are of one node, and keep its parts

    def count(self, body: list[ast.stmt]) -> Counter[str]:
        return Counter(token for statement in body for token in self.of(statement))

    def of(self, node: ast.AST) -> tuple[str, ...]:
        if node not in self._known:
            own = self._token(node)
            below = [token for child in ast.iter_child_nodes(node) for token in self.of(child)]
            self._known[node] = (*below, own) if own is not None else tuple(below)
        return self._known[node]

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
