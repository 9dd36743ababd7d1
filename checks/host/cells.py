"""Runs a notebook's cells from top to bottom, as Jupyter does, on tensors without data and without launching a kernel.

What cells define is what counts; what they print, draw or measure is not. A statement that raises, as those do that look at
numbers where there are none, does not keep the next one from running.
"""

import ast
import codeop
import contextlib
import io
import itertools
import linecache
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from torch._subclasses.fake_tensor import FakeTensorMode

from checks.executor.source import source_lines
from checks.host.recorder import discarding_launches

RUNS_ITS_BODY = {"time", "timeit", "capture", "prun"}  # cell magics that execute the cell, whatever else they do
_serial = itertools.count()


@dataclass(frozen=True)
class CellError:
    """Why a statement of a cell did not run to its end."""

    cell: int
    type: str
    text: str
    line: str | None  # of the cell, as typed


def run_cells(cells: Sequence[str], namespace: dict[str, Any], numbers: bool = False,
              limit: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext) -> list[CellError]:
    """Execute the sources of code cells in `namespace`, one after the other. Returns the errors, in order.

    A cell that is no Python at all runs nothing. `namespace` gets `get_ipython` and `display`, as in a notebook. With
    `numbers` the tensors that cells make have data; launches do nothing either way. Each cell runs inside `limit()`.
    """
    without_data = contextlib.nullcontext() if numbers else FakeTensorMode(allow_non_fake_inputs=True)
    shell = _Shell(namespace)
    namespace.update(get_ipython=lambda: shell, display=lambda *_, **__: None)
    errors = []
    with without_data, discarding_launches(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, source in enumerate(cells):
            shell.errors = []
            try:
                with limit():
                    shell.run(source)
            except BaseException as error:  # such as of the limit
                shell.errors.append(error)
            errors += [_described(index, error) for error in shell.errors]
    return errors


class _Shell:
    """What a cell's magics reach: those that time or capture run their code, all others do nothing."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.user_ns, self.errors = namespace, list[BaseException]()
        self._transformer, self._compile = TransformerManager(), codeop.Compile()  # which remembers `from __future__`

    def run(self, source: str) -> None:
        text = self._transformer.transform_cell(source)
        file = f"<cell {next(_serial)}>"
        linecache.cache[file] = (len(text), None, source_lines(text), file)
        for statement in _statements(text, file):
            try:
                exec(self._compile(statement, file, "exec"), self.user_ns)
            except TimeoutError:
                raise
            except BaseException as error:  # SystemExit and KeyboardInterrupt end a statement and no notebook
                self.errors.append(error)

    def run_cell_magic(self, name: str, line: str, body: str) -> None:
        if name in RUNS_ITS_BODY:
            self.run(body)

    def run_line_magic(self, name: str, line: str, *_: Any) -> None:
        if name == "time" and line:
            self.run(line)

    def system(self, command: str) -> None:
        """`!command`: no program is started."""

    def getoutput(self, command: str, *_: Any, **__: Any) -> list[str]:
        """`lines = !command`: nothing was printed."""
        return []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def _statements(text: str, file: str) -> Iterator[str]:
    """The top-level statements, each at its place among empty lines; those that share a line together."""
    lines, places = text.split("\n"), list[list[int]]()
    for node in ast.parse(text, file).body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        if places and first <= places[-1][1]:
            places[-1][1] = node.end_lineno or first
        else:
            places.append([first, node.end_lineno or first])
    for first, last in places:
        yield "\n" * (first - 1) + "\n".join(lines[first - 1:last]) + "\n"


def _described(index: int, error: BaseException) -> CellError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<cell ")]
    line = frames[-1].line if frames else error.text if isinstance(error, SyntaxError) else None
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return CellError(index, type(error).__name__, text[:2000], line.strip()[:300] if line else None)
