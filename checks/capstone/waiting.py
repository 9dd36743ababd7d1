"""A bar below a cell that takes long."""

import sys
from typing import Any

WIDTH = 20


class Bar:
    """In a notebook, one line that says how many of `total` steps are done. Elsewhere nothing is shown."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self._shown = -1
        self._handle: Any = None
        self._show()

    def advance(self) -> None:
        """One more step is done."""
        self.done += 1
        self._show()

    def text(self) -> str:
        full = WIDTH * self.done // self.total
        return f"{'█' * full}{'░' * (WIDTH - full)} {self.done} of {self.total} {self.what}"

    def _show(self) -> None:
        full = WIDTH * self.done // self.total
        if full == self._shown or not _in_notebook():
            return
        self._shown = full
        from IPython.display import display

        bundle: dict[str, Any] = {"text/plain": self.text()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def _in_notebook() -> bool:
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")
