"""Text of TTIR to functions.

The text is a stranger's: what does not parse raises Malformed, nothing else, and each line takes time in proportion to its
length, whatever it holds.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

from checks.executor.errors import LimitExceeded, Limits, Malformed
from checks.executor.ir import TERMINATORS, Block, Function, Op, Place
from checks.executor.types import Type

NAME = re.compile(r"%[\w$.-]+(?:#\d+)?")
STRING_END = re.compile(r'(?:[^"\\]|\\.)*+"')
FUNCTION = re.compile(r'tt\.func (public |private |)@([\w.$]+|"\d+")\(')


class Parser:
    """`functions` by name; `kernel` is the name of the public one."""

    def __init__(self, text: str, limits: Limits):
        if len(text) > limits.text:
            raise LimitExceeded(f"the text has {len(text)} characters, more than {limits.text}")
        self.functions: dict[str, Function] = {}
        self.kernel = ""
        self._limits, self._depth, self._at = limits, 0, 0
        self._lines = self._numbered(text)
        try:
            self._module()
        except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise Malformed(f"line {self._at} cannot be read: {type(error).__name__}: {error}") from None
        except Malformed as error:
            raise Malformed(f"line {self._at}: {error}") from None
        if not self.kernel:
            raise Malformed("there is no public function")

    def _numbered(self, text: str) -> Iterator[str]:
        for self._at, line in enumerate(text.splitlines(), 1):
            if line := line.strip():
                yield line

    def _module(self) -> None:
        for line in self._lines:
            bare, strings = _without_strings(line)
            if head := FUNCTION.match(bare):
                if not _without_place(bare)[0].endswith("{"):
                    raise Malformed("a function without a body")
                names, types = _arguments(bare[head.end():].partition(")")[0])
                name = strings[int(head[2][1:-1])] if head[2].startswith('"') else head[2]
                self.functions[name] = Function(name, names, types, self._region()[0])
                for kind in types:
                    self._within_limits(kind)
                if head[1] != "private ":
                    self.kernel = name
            elif not bare.startswith(("module", "}", "#")):
                raise Malformed(f"an unknown line outside functions: {line[:80]!r}")

    def _region(self) -> tuple[list[Block], str]:
        """The blocks up to the closing brace, and the line that has it."""
        self._depth += 1
        if self._depth > self._limits.depth:
            raise LimitExceeded(f"regions lie more than {self._limits.depth} deep in each other")
        blocks = [Block()]
        for line in self._lines:
            if line.startswith("}"):
                if not blocks[-1].ops or blocks[-1].ops[-1].name not in TERMINATORS:
                    blocks[-1].ops.append(Op("scf.yield", [], [], "", [], {}, [], []))  # not printed where it yields nothing
                self._depth -= 1
                return blocks, line
            if label := re.match(r"\^(\w+)", line):
                given = line[label.end():].partition("(")[2].rpartition("):")[0]
                names, types = _arguments(given)
                block = Block(label[1], names, types)
                if len(blocks) == 1 and not blocks[0].ops:
                    blocks[0] = block
                else:
                    blocks.append(block)
            else:
                blocks[-1].ops.append(self._op(line))
        raise Malformed("a region has no end")

    def _op(self, line: str) -> Op:
        bare, strings = _without_strings(line)
        bare, place = _without_place(bare)
        results, bare = _results(bare)
        name, bare = _op_name(bare, strings)
        regions = []
        while bare.endswith("{"):
            bare = bare[:-1].rstrip(" (")
            blocks, tail = self._region()
            tail, tail_strings = _without_strings(tail, len(strings))
            strings += tail_strings
            tail, place = _without_place(tail)
            regions.append(blocks)
            tail = re.sub(r"^\}\)? ?(else|do)? ?", "", tail)
            bare = f"{bare} {tail}".strip()
        words, attributes = _attributes(bare, strings)
        op = Op(name, results, [], "", strings, attributes, [], [], regions, [], place)
        _operands_and_types(op, words)
        for kind in op.types:
            self._within_limits(kind)
        return op

    def _within_limits(self, kind: Type) -> None:
        if kind.size > self._limits.tile:
            raise LimitExceeded(f"a tile of {kind.shape} has more than {self._limits.tile} elements")


def _without_strings(line: str, first: int = 0) -> tuple[str, list[str]]:
    """The line with the number of each string in its place, and the strings: they may hold anything."""
    strings: list[str] = []
    pieces, end = [], 0
    while (start := line.find('"', end)) >= 0:
        found = STRING_END.match(line, start + 1)
        if not found:
            raise Malformed("a string is not closed")
        pieces += [line[end:start], f'"{first + len(strings)}"']
        strings.append(line[start + 1:found.end() - 1])
        end = found.end()
    return "".join([*pieces, line[end:]]), strings


def _without_place(line: str) -> tuple[str, Place | None]:
    """The line without the ` //FILE:LINE` behind it. A file's name may hold ` //`, an operation does not."""
    before, mark, place = line.partition(" //")
    file, _, number = place.rpartition(":")
    return (before, Place(file, int(number))) if mark and number.isdecimal() and len(number) < 10 else (line, None)


def _results(line: str) -> tuple[list[str], str]:
    found = re.match(r"((?:%[\w$.-]+(?::\d+)?(?:, )?)+) = ", line)
    if not found:
        return [], line
    results: list[str] = []
    for name in found[1].split(", "):
        name, _, count = name.partition(":")
        results += [f"{name}#{i}" for i in range(min(int(count), 10_000))] if count else [name]
    return results, line[found.end():]


def _op_name(line: str, strings: list[str]) -> tuple[str, str]:
    if quoted := re.match(r'"(\d+)"', line):
        return strings[int(quoted[1])], line[quoted.end():]
    found = re.match(r"[\w.]+", line)
    if not found:
        raise Malformed(f"no operation: {line[:80]!r}")
    return found[0], line[found.end():]


def _arguments(text: str) -> tuple[list[str], list[Type]]:
    """`%a: T {attribute}, %b: U`, of a function or a block."""
    parts = [part.strip().partition(": ") for part in split_outside(text, ",") if part.strip()]
    return [name for name, *_ in parts], [Type(kind.partition("{")[0].strip()) for *_, kind in parts]


def split_outside(text: str, separator: str) -> list[str]:
    """Split where no bracket is open. `->` closes nothing."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "(<[{":
            depth += 1
        elif c in ")]}" or c == ">" and text[i - 1:i] != "-":
            depth -= 1
        elif c == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _attributes(line: str, strings: list[str]) -> tuple[str, dict[str, Any]]:
    """The line without `{...}` and `<{...}>`, and what these say."""
    attributes: dict[str, Any] = {}
    pieces, depth, start = [], 0, 0
    for i, c in enumerate(line):
        if c == "{":
            if depth == 0:
                pieces.append(line[start:i])
                start = i + 1
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                for entry in split_outside(line[start:i], ","):
                    key, _, value = entry.strip().partition(" = ")
                    attributes[key] = _attribute(value, strings)
                start = i + 1
    if depth:
        raise Malformed("a brace is not closed")
    pieces.append(line[start:])
    for i in range(len(pieces) - 1):
        if pieces[i].endswith("<") and pieces[i + 1].startswith(">"):
            pieces[i], pieces[i + 1] = pieces[i][:-1], pieces[i + 1][1:]
    return " ".join(piece.strip() for piece in pieces).strip(), attributes


def _attribute(value: str, strings: list[str]) -> Any:
    if array := re.fullmatch(r"array<i\d+: (.*)>", value):
        return [int(i) for i in array[1].split(", ")]
    value = value.split(" : ")[0]
    if re.fullmatch(r"-?\d{1,20}", value):
        return int(value)
    if re.fullmatch(r'"\d+"', value):
        return strings[int(value[1:-1])]
    return {"true": True, "false": False, "": True}.get(value, value)


def _operands_and_types(op: Op, line: str) -> None:
    if op.name in ("cf.br", "cf.cond_br"):
        for target in line.split("^")[1:]:
            label, bracket, given = target.partition("(")
            passed = given.partition(" : ")[0] if bracket else ""
            op.edges.append((label.partition(",")[0].strip(), NAME.findall(passed)))
        op.operands, op.words = NAME.findall(line.partition("^")[0]), line
        return
    if op.name == "arith.constant":
        values, _, kinds = line.rpartition(" : ")
        values, kinds = (values, kinds) if values else (line, "i1")
    elif op.name == "tt.print":  # `tt.print "x" {...} : %a, %b : T, U`
        before, _, kinds = line.partition(" : ")
        values, _, kinds = kinds.partition(" : ")
        values = f"{before} {values}"
    elif op.name in ("scf.for", "scf.if"):  # `... -> (T, U)  : i32`
        values, arrow, kinds = line.partition("->")
        kinds = arrow + split_outside(kinds, ":")[0]
    else:
        values, colon, kinds = f" {line}".partition(" : ")
        if not colon:  # without operands: `... -> T`
            values, arrow, kinds = line.partition("->")
            kinds = arrow + kinds
    op.operands, op.words = NAME.findall(values), values.strip()
    op.operand_types, op.types = _types(op, kinds.strip())


def _types(op: Op, text: str) -> tuple[list[Type], list[Type]]:
    """Of operands and of results, as they are printed; what is printed differs from operation to operation."""
    before, arrow, after = _around_arrow(text)
    inputs = _type_list(before.replace(" * ", ", "))
    if arrow:
        outputs = _type_list(after)
        return inputs, outputs * 2 if op.name == "tt.split" else outputs
    if not op.results or not inputs:
        return inputs, []
    if op.name in ("arith.cmpi", "arith.cmpf"):
        return inputs, [inputs[0].with_elem("i1")]
    if op.name == "tt.load":
        return inputs, [inputs[0].pointed()]
    if op.name == "tt.addptr":
        return inputs, inputs[:1]
    if op.name in ("arith.mulsi_extended", "arith.mului_extended"):
        return inputs, inputs * 2
    return inputs, inputs[-1:]


def _around_arrow(text: str) -> tuple[str, str, str]:
    depth = 0
    for i, c in enumerate(text):
        if c in "(<":
            depth += 1
        elif c == ")" or c == ">" and text[i - 1:i] != "-":
            depth -= 1
        elif depth == 0 and (text.startswith("->", i) or text.startswith(" to ", i)):
            return text[:i], "->", text[i + (2 if c == "-" else 4):]
    return text, "", ""


def _type_list(text: str) -> list[Type]:
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return [_type(part.strip()) for part in split_outside(text, ",") if part.strip()]


def _type(text: str) -> Type:
    """A kernel has few types in many places, and nothing changes them."""
    return _kept_type(text) if len(text) < 100 else Type(text)


_kept_type = functools.lru_cache(maxsize=512)(Type)
