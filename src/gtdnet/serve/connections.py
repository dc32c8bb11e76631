"""What connections may cost: how many there are, and that who stands still is let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CONNECTIONS = 512
"""At a time, at most; more are told 503, and beyond a quarter more they are closed."""
FIRST_REQUEST = 15.0
"""Seconds in which a whole request must have come, whatever of it trickles in."""
UNTAKEN = 30.0
"""Seconds that an answer may wait to be read."""
READ = 1 << 15
"""Bytes that are read of a connection before it is another's turn: in chunks of one byte each they
take some tenths of a second to parse."""
_LOOK = 0.5  # seconds between two looks


def most_connections() -> int:
    """At a time: so many that half of the files that this process may open are left."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else -1
    return CONNECTIONS if files < 0 else max(16, min(CONNECTIONS, files // 2))


class _Patience:
    """What both kinds of connections are watched by."""

    transport: asyncio.Transport
    _asked_since: float | None = None
    _untaken_since: float | None = None

    @property
    def is_asking(self) -> bool:
        """Whether a request is at hand; else it is the client's turn."""
        raise NotImplementedError

    def is_over(self, now: float) -> bool:
        """Whether it has stood still for too long; called again and again."""
        # Closing waits until all is read, so that is no end for who never reads.
        self._untaken_since = _since(
            self._untaken_since, self.transport.get_write_buffer_size() > 0, now
        )
        self._asked_since = _since(self._asked_since, not self.is_asking, now)
        return _has_lasted(self._untaken_since, UNTAKEN, now) or _has_lasted(
            self._asked_since, FIRST_REQUEST, now
        )


def _since(before: float | None, is_so: bool, now: float) -> float | None:
    return None if not is_so else now if before is None else before


def _has_lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


class HttpConnection(_Patience, H11Protocol):
    """uvicorn's, watched. ``most``: connections at a time, of both kinds."""

    most: ClassVar[int] = CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = READ  # type: ignore[attr-defined]  # asyncio's, else 256 KiB
        if len(self.connections) > self.most + self.most // 4:
            transport.abort()  # before files cannot be opened any more

    @property
    def is_asking(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def handle_websocket_upgrade(self, event: Any) -> None:
        super().handle_websocket_upgrade(event)
        # websockets reads the request once more. It waits for a body, and answers nothing where it
        # finds too many headers, or too long ones.
        taken: Any = self.transport.get_protocol()
        if not taken.handshake_initiated:
            self.send_400_response("This is no handshake of a WebSocket.")


class CameraConnection(_Patience, WebSocketsSansIOProtocol):
    """uvicorn's, watched; that pictures come is looked after where they are wanted."""

    @property
    def is_asking(self) -> bool:
        return self.handshake_initiated

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # no pong: those that nobody reads would fill the memory


async def oversee(connections: Collection[Any]) -> None:
    """End those that are over, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK)
        now = time.monotonic()
        for connection in list(connections):
            if connection.is_over(now):
                connection.transport.abort()
