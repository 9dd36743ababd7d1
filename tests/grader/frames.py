"""A child's end of a conversation, held in the process of a test."""

import contextlib
import socket
from collections.abc import Callable

from checks.grader.sandbox import wire


def served(serve: Callable, *frames: tuple[dict, bytes]) -> list[tuple[dict, bytes]]:
    """What `serve` answers to these frames until the grader hangs up."""
    ours, theirs = socket.socketpair()
    for frame in frames:
        wire.send(theirs, *frame)
    theirs.shutdown(socket.SHUT_WR)
    with contextlib.suppress(EOFError):
        serve(ours)
    ours.shutdown(socket.SHUT_WR)
    found = []
    with contextlib.suppress(EOFError):
        while True:
            found.append(wire.receive(theirs, 1 << 20))
    return found
