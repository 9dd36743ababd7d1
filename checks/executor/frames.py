"""Messages between processes: JSON, as bytes through pipes."""

import json
import os
import select
import time
from typing import Any

MOST = 1 << 36  # bytes of a message


def write(descriptor: int, message: Any) -> None:
    """Raises OSError when nobody reads any more."""
    data = json.dumps(message).encode()
    view = memoryview(len(data).to_bytes(8) + data)
    while view:
        view = view[os.write(descriptor, view[:1 << 20]):]


def read(descriptor: int, deadline: float | None = None) -> Any:
    """Raises EOFError at the end, TimeoutError when the message is not there by `deadline` of `time.monotonic`."""
    return json.loads(_bytes(descriptor, int.from_bytes(_bytes(descriptor, 8, deadline)), deadline))


def _bytes(descriptor: int, size: int, deadline: float | None) -> bytes:
    if size > MOST:
        raise EOFError
    data = bytearray()
    while len(data) < size:
        if deadline and not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(descriptor, min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
