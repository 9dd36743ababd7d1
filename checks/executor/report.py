"""What a run tells."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from checks.executor.ir import Place

Program = tuple[int, int, int]


@dataclass(frozen=True)
class Fault:
    """An access that must not be, or an assertion that did not hold. The access did not happen."""

    what: str  # "out-of-bounds load", "store outside every tensor", "load of what was never written", "assertion failed: x"
    tensor: str | None
    program: Program  # the first that did it
    lane: tuple[int, ...]
    offset: int | None  # elements from the tensor's start
    count: int  # lanes at fault in this access, over the programs that ran together
    place: Place | None
    masked: bool = False  # whether the access had a mask

    def __str__(self) -> str:
        where = f" of `{self.tensor}` at offset {self.offset}" if self.tensor else ""
        return f"{self.what}{where}: program {self.program}, lane {self.lane}, {self.place or 'unknown line'}"


@dataclass(frozen=True)
class Race:
    """Two programs that touch one place in no order: the result depends on which comes first."""

    what: str
    tensor: str
    program: Program
    other: Program | None  # None for several
    offset: int
    place: Place | None

    def __str__(self) -> str:
        other = "several programs" if self.other is None else f"program {self.other}"
        lane = "one of its other lanes" if self.other == self.program else other
        said = self.what.replace("another program", other).replace("another lane", lane)
        return f"program {self.program} {said}: `{self.tensor}` at offset {self.offset}, {self.place or 'unknown line'}"


@dataclass(frozen=True)
class Print:
    """`tl.device_print`: the text, and for each program that printed its values."""

    text: str
    programs: list[Program]
    values: list[np.ndarray]  # each (program, *tile)
    place: Place | None


@dataclass(frozen=True)
class Access:
    """A load or a store of one program, for pictures."""

    kind: str  # "load" or "store"
    tensor: str
    program: Program
    offsets: np.ndarray  # elements from the tensor's start, one per lane
    live: np.ndarray  # the lanes that its mask lets through
    itemsize: int
    place: Place | None


@dataclass(frozen=True)
class Accesses:
    """The same load or store of all programs that ran together; its arrays are (x, y, z, *tile)."""

    kind: str
    tensor: str
    first: Program  # program [0, 0, 0] of the arrays
    offsets: np.ndarray
    live: np.ndarray
    itemsize: int
    place: Place | None

    def by_program(self) -> Iterator[Access]:
        """One for each program with a live lane."""
        x, y, z = self.offsets.shape[:3]
        for index in np.ndindex(x, y, z):
            if self.live[index].any():
                program = (self.first[0] + index[0], self.first[1] + index[1], self.first[2] + index[2])
                offsets, live = self.offsets[index], self.live[index]
                yield Access(self.kind, self.tensor, program, offsets, live, self.itemsize, self.place)


@dataclass
class Report:
    """Of one launch. Counters are by the argument's name."""

    faults: list[Fault] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)
    prints: list[Print] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # "faults", "races", "prints" beyond the limit
    loaded_bytes: Counter[str] = field(default_factory=Counter)  # that live lanes asked for, repeats counted
    stored_bytes: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)  # by programs, with at least one live lane
    stores: Counter[str] = field(default_factory=Counter)
    idle: int = 0  # loads and stores of programs with all lanes off, which touch nothing
    atomics: int = 0  # by programs, each of which counts as a load and as a store too
    written: dict[str, np.ndarray] = field(default_factory=dict)  # bool in the tensor's shape, of tensors that were written
    loaded: dict[str, np.ndarray] = field(default_factory=dict)  # the same of loads, where asked for
    trace: list[Accesses] = field(default_factory=list)  # where asked for
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        """No fault and no race."""
        return not self.faults and not self.races

    def accesses(self) -> Iterator[Access]:
        """The trace, program by program within each access."""
        for accesses in self.trace:
            yield from accesses.by_program()
