"""The parsed module: functions of blocks of operations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from checks.executor.errors import Malformed
from checks.executor.types import Type

TERMINATORS = ("scf.yield", "tt.return", "tt.reduce.return", "tt.scan.return", "tt.map_elementwise.return", "scf.condition",
               "cf.br", "cf.cond_br", "ub.unreachable")


@dataclass(frozen=True)
class Place:
    """A line of a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(eq=False)
class Block:
    label: str = ""
    args: list[str] = field(default_factory=list)
    types: list[Type] = field(default_factory=list)
    ops: list["Op"] = field(default_factory=list)


@dataclass(eq=False)
class Op:
    """`%results = name %operands {attributes} : types`, with regions. `words` is the text between name and types."""

    name: str
    results: list[str]
    operands: list[str]
    words: str
    strings: list[str]
    attributes: dict[str, Any]
    operand_types: list[Type]  # as far as they are printed
    types: list[Type]  # of the results
    regions: list[list[Block]] = field(default_factory=list)
    edges: list[tuple[str, list[str]]] = field(default_factory=list)  # of a branch: label and what its block is given
    place: Place | None = None
    dead: tuple[str, ...] = ()  # values that nothing reads after this operation
    size: int = 0  # bytes of an element, of a load, store or atomic
    steps: int | None = None  # of a load's or store's pointer: how much neighbours along the last axis differ, if known
    run: Callable[..., Any] = lambda *_: None  # (execution, env, active), set when the module is made ready

    @property
    def type(self) -> Type:
        """Of the only result."""
        if not self.types:
            raise Malformed(f"{self.name} has no type of a result")
        return self.types[0]

    def attribute(self, name: str) -> Any:
        if name not in self.attributes:
            raise Malformed(f"{self.name} lacks the attribute {name}")
        return self.attributes[name]

    def loop(self) -> tuple[str, list[str], list[str], list[str]]:
        """Of `scf.for %i = %lo to %hi step %s iter_args(%a = %init, ...)`: %i, [%lo, %hi, %s], the inits, the %a."""
        return self.operands[0], self.operands[1:4], self.operands[5::2], self.operands[4::2]


@dataclass(eq=False)
class Function:
    name: str
    args: list[str]
    types: list[Type]
    blocks: list[Block]


def all_ops(blocks: list[Block]) -> Iterator[Op]:
    """Those of nested regions too."""
    for block in blocks:
        for op in block.ops:
            yield op
            for region in op.regions:
                yield from all_ops(region)
