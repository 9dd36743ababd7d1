"""Writing a file whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a draft beside `path` that takes its place at the end of the block, or is gone if the block raises.

    A reader, also after a crash, finds the old file or the whole new one. Makes the folder where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write `path` in one step; text as UTF-8."""
    with replacing(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
