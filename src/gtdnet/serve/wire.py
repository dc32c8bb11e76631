"""Messages between the server and a process that decodes: JSON, and bytes behind it.

Nothing that comes from there is unpickled: what decodes strangers' videos may have been taken over.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any

_MOST_JSON = 1 << 20  # bytes
MOST_BYTES = 1 << 30
"""Bytes of one message: the views of a window, or a picture."""


def send(connection: Connection, message: dict[str, Any], content: bytes = b"") -> None:
    """``content`` goes behind the message, whose ``bytes`` says how many there are."""
    connection.send_bytes(json.dumps({**message, "bytes": len(content)}).encode())
    if len(content):
        connection.send_bytes(content)


def receive(connection: Connection) -> tuple[dict[str, Any], bytes]:
    """The next message and its content.

    Raises:
        EOFError, OSError: the other end is gone, or sends more than it may.
        ValueError: what came is no message.
    """
    message = json.loads(connection.recv_bytes(_MOST_JSON))
    if not isinstance(message, dict) or not isinstance(message.get("bytes"), int):
        raise ValueError("no message")
    content = connection.recv_bytes(MOST_BYTES) if message["bytes"] else b""
    if len(content) != message["bytes"]:
        raise ValueError("a message is not as long as it says")
    return message, content
