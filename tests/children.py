"""Processes that tests start."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def hearing_ctrl_c() -> Iterator[None]:
    """What is started inside the block gets SIGINT, also where the suite ignores it, as in the background.

    A preexec_fn would make Popen fork, and a process that has mapped more than the machine's memory cannot fork.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
