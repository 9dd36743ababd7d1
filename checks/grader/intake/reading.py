"""The process that reads submissions, a stranger's bytes, with limits of memory and time: started as a script.

    reading.py ROOT SOCKET MEMORY_BYTES SECONDS

It has the standard library alone, runs nothing of what it reads, and answers each frame of paths with one of cells. Where a
submission ends it, `reader.py` starts another.
"""

import gc
import hashlib
import itertools
import json
import os
import resource
import signal
import socket
import sys
import types
from collections.abc import Collection
from pathlib import Path

MEMORY_BYTES = 1 << 30
SECONDS = 10  # for one submission; a whole course takes 0.1
CARD_LIMIT = 1 << 20  # bytes of a report card
NAMED_LIMIT = 50  # sentences on one submission


def prepare(root: str, memory_bytes: int) -> None:
    """Let modules of `checks` be imported one by one, without what the packages' own __init__ import."""
    for name in ("checks", "checks.grader", "checks.grader.intake", "checks.grader.sandbox"):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(Path(root, *name.split(".")))]
    gc.disable()  # JSON and syntax trees have no cycles, and to look for some takes longer than to read
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(paths: list[Path]) -> dict:
    """The cells [source, file, index] of a submission, and what is to be said of its files."""
    from checks.grader.intake.archives import CARD, Walk
    from checks.grader.intake.formats import CELLS_LIMIT, CODE_LIMIT, cells_of, harms

    walk, digest, cards, latest, size = Walk(), hashlib.sha256(), [], None, 0
    cells: list[tuple[str, str, int]] = []
    times: dict[str, float] = {}
    empty: list[str] = []
    for shown, data, modified in walk.files(paths):
        name = own_name(shown, times)
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        latest = max(latest or 0, modified)
        times[name] = modified
        if name.lower().endswith(CARD):
            cards.append([name, data[:CARD_LIMIT].decode("latin-1")])
            continue
        try:
            found = cells_of(name, data)
        except (ValueError, MemoryError) as error:
            walk.unread.append(f"{name} cannot be read: {error or 'it is too large'}")
            continue
        walk.unread += found.unread
        walk.ignored += found.ignored
        if not found.unread and not any(source.strip() for source in found.sources):
            empty.append(f"{name} has no code cell" if not found.sources else f"{name} has nothing in its code cells")
        for index, source in enumerate(found.sources):
            harm = harms(source)
            if harm is None and (len(cells) == CELLS_LIMIT or size + len(source) > CODE_LIMIT):
                harm = f"the {CELLS_LIMIT:,} cells or {CODE_LIMIT:,} characters before it are all that is read"
            if harm is None:
                cells.append((source, name, index))
                size += len(source)
            else:
                walk.unread.append(f"cell {index + 1} of {name} was not read: {harm}")
    return {"cells": cells, "cards": cards, "unread": first(walk.unread), "ignored": first(walk.ignored),
            "empty": first(empty), "digest": digest.hexdigest(), "modified": latest, "times": times}


def own_name(name: str, taken: Collection[str]) -> str:
    """`a.py`, or `(2) a.py` where another file of the submission is shown under this name."""
    if name not in taken:
        return name
    folder, slash, last = name.rpartition("/")
    return next(other for n in itertools.count(2) if (other := f"{folder}{slash}({n}) {last}") not in taken)


def first(sentences: list[str]) -> list[str]:
    """The first few, and how many more there are."""
    left = len(sentences) - NAMED_LIMIT
    return sentences if left <= 0 else [*sentences[:NAMED_LIMIT], f"… and {left:,} more of this kind"]


def main() -> None:
    prepare(sys.argv[1], int(sys.argv[3]))
    import checks.grader.intake.archives
    import checks.grader.intake.formats  # noqa: F401  before it is timed
    from checks.grader.sandbox import wire

    sock = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grader, which closes the socket
    wire.send(sock, {"ready": True})
    while True:
        try:
            asked, _ = wire.receive(sock, 0)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[4]))  # ends this process
        try:
            answer = read([Path(os.fsdecode(bytes.fromhex(path))) for path in asked["paths"]])
        except MemoryError:
            answer = {"failed": True}
        wire.send(sock, {}, json.dumps(answer).encode())
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
