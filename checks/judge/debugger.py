"""A debugger that a notebook drives from a list, so that a lesson can show one and still run from top to bottom."""

import io
import pdb
import sys
from typing import Any


def scripted_debugger(*commands: str) -> pdb.Pdb:
    """A `pdb` that takes these commands where a kernel calls its `set_trace()`, and prints each with what it says."""
    debugger = _Scripted(stdin=io.StringIO("\n".join(commands) + "\n"), stdout=sys.stdout, readrc=False)
    debugger.use_rawinput = False  # not the keyboard
    debugger.prompt = ""
    return debugger


class _Scripted(pdb.Pdb):
    def print_stack_entry(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: in a notebook the place is a temporary file's name."""

    def precmd(self, line: str) -> str:
        if not line.startswith("_pdbcmd"):  # from Python 3.13 on pdb gives itself a command first
            print(f"(Pdb) {line}", file=self.stdout)
        return super().precmd(line)
