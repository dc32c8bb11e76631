"""A web server of a folder that answers range requests and remembers what it was asked."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Store:
    """``asked``: (method, name of file, first byte, bytes) of each request that was answered.

    ``failing`` is how many of the next requests of a name get the status 503, ``refused`` names
    get 403, and without ``has_ranges`` files are given whole.
    """

    folder: Path
    url: str = ""
    asked: list[tuple[str, str, int, int]] = field(default_factory=list)
    failing: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    has_ranges: bool = True

    def gets(self, name: str) -> list[tuple[int, int]]:
        """First byte and bytes of the GET requests of a file."""
        return [(start, n) for method, of, start, n in self.asked if (method, of) == ("GET", name)]


@contextmanager
def serving(folder: Path) -> Iterator[Store]:
    """The folder at ``url``, until the end of the context."""
    store = Store(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(is_head=False)

        def do_HEAD(self) -> None:
            self._answer(is_head=True)

        def _answer(self, is_head: bool) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if path.name in store.refused:
                return self._say(403)
            if store.failing[path.name]:
                store.failing[path.name] -= 1
                return self._say(503)
            if not path.is_file():
                return self._say(404)
            data, start = path.read_bytes(), 0
            size = len(data)
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match and store.has_ranges:
                start = int(match[1])
                data = data[start : int(match[2]) + 1]
            store.asked.append((self.command, path.name, start, len(data)))
            ranged = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{size}"}
            self._say(206 if match and store.has_ranges else 200, data, is_head, ranged)

        def _say(
            self,
            status: int,
            data: bytes = b"",
            is_head: bool = False,
            headers: dict[str, str] | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items() if status == 206 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if not is_head:
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store.url = f"http://127.0.0.1:{server.server_port}"
        yield store
        server.shutdown()
