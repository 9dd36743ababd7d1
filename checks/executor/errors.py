"""What can go wrong before a kernel has run to its end, and how far a run may go."""

from dataclasses import dataclass


class ExecutorError(Exception):
    """Anything that this package raises about a kernel or its text."""


class CompileError(ExecutorError):
    """Triton's front end refused the kernel; the message is its last word and the line it is about."""


class Malformed(ExecutorError):
    """The text is no module of TTIR, or its types contradict each other."""


class Unsupported(ExecutorError):
    """The text holds an operation that is not executed here; `operation` names it."""

    def __init__(self, operation: str, reason: str = ""):
        self.operation, self.reason = operation, reason
        super().__init__(f"{operation} is not executed here{': ' + reason if reason else ''}")


class LimitExceeded(ExecutorError):
    """A run took more time or memory, or made more output, than its `Limits` allow."""


@dataclass(frozen=True)
class Limits:
    """How far a run may go. The text is a stranger's: it may loop for ever or ask for more memory than there is."""

    seconds: float = 60.0  # of a run, checked before each operation
    tile: int = 1 << 20  # elements of one tile, as many as Triton allows
    text: int = 1 << 22  # characters of a module
    depth: int = 64  # of regions and calls in each other
    notes: int = 100  # faults, races and prints that are kept, each; all are counted
    memory: int = 1 << 31  # bytes of the values of the programs that run together, estimated
    accesses: int = 1 << 24  # lanes that a trace keeps


DEFAULT_LIMITS = Limits()
