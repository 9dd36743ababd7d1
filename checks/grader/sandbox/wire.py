"""Frames between the grader and a child: a JSON header and raw bytes, each with its length in front.

Whoever reads a frame says how large it may be and by when it must be there. Standard library only: the child has it too.
"""

import json
import socket
import struct
import time

HEADER_LIMIT = 4 << 20  # bytes of JSON; an honest header has a few hundred thousand, most of them compiled text


class ProtocolError(Exception):
    """What came is no frame, or one larger than asked for."""


def send(sock: socket.socket, header: dict, payload: bytes = b"") -> None:
    text = json.dumps(header).encode()
    sock.sendall(struct.pack(">IQ", len(text), len(payload)) + text)
    sock.sendall(payload)


def receive(sock: socket.socket, payload_limit: int, deadline: float | None = None) -> tuple[dict, bytes]:
    """The next frame. Raises EOFError when the other side is gone, TimeoutError past `deadline` (time.monotonic()),
    ProtocolError for anything that is not a frame within the limits."""
    header, payload = struct.unpack(">IQ", _exactly(sock, 12, deadline))
    if header > HEADER_LIMIT or payload > payload_limit:
        raise ProtocolError(f"a frame of {header} and {payload} bytes")
    try:
        fields = json.loads(_exactly(sock, header, deadline))
    except (ValueError, RecursionError):
        raise ProtocolError("a frame whose header is not JSON") from None
    if not isinstance(fields, dict):
        raise ProtocolError("a frame whose header is not an object")
    return fields, bytes(_exactly(sock, payload, deadline))


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytearray:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
        part = sock.recv(min(1 << 20, size - len(data)))
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return data
