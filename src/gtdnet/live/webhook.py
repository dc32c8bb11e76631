"""Telling another program of events by HTTP, without ever waiting for it."""

from __future__ import annotations

import base64
import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from gtdnet.errors import InputError, check_choice
from gtdnet.live.words import shown_url

_MOST = 256  # messages that wait; what comes then is dropped and counted
_TRIES = 3
_PAUSE = 0.5  # seconds before the second try, twice that before the third
_TIMEOUT = 5.0  # seconds of a try


class Webhook:
    """POSTs JSON objects to an address, in order, in a thread of its own.

    Redirections are not followed. A name and password in the address are sent as basic
    authentication.

    Args:
        url: http or https.

    Attributes:
        counts: how many messages were "sent", "failed" after all tries, and "dropped" because too
            many waited.
        error: why the last failed.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, url: str) -> None:
        check_choice("protocol of the webhook", url.partition("://")[0].lower(), ("http", "https"))
        self.name = shown_url(url)
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        self._url = urlunsplit(parts._replace(netloc=host, fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": "gtdnet"}
        if at:
            given = ":".join(unquote(part) for part in user.partition(":")[::2])
            self._headers["Authorization"] = f"Basic {base64.b64encode(given.encode()).decode()}"
        try:
            self._request(b"{}")
        except ValueError as error:
            raise InputError(f"the webhook {self.name} is no address; check it") from error
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue(_MOST)
        self._stop = threading.Event()
        self.counts = {"sent": 0, "failed": 0, "dropped": 0}
        self.error = ""
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Have it sent; returns at once."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self.counts["dropped"] += 1

    def close(self, patience: float = 3.0) -> None:
        """Wait some seconds for what is still to be sent; the rest counts as dropped."""
        until = time.monotonic() + patience
        while self._queue.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)
        self._stop.set()
        self._thread.join(0.1)
        self.counts["dropped"] += self._queue.unfinished_tasks

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
            is_sent = self._post(json.dumps(message).encode())
            if self._stop.is_set():
                return  # counted by close
            self.counts["sent" if is_sent else "failed"] += 1
            self._queue.task_done()

    def _post(self, body: bytes) -> bool:
        for attempt in range(_TRIES):
            if attempt and self._stop.wait(_PAUSE * 2 ** (attempt - 1)):
                return False
            try:
                with self._opener.open(self._request(body), timeout=_TIMEOUT):
                    return True
            except urllib.error.HTTPError as error:
                error.close()
                self.error = f"it answers {error.code} {error.reason}"
                if error.code < 500 and error.code not in (408, 429):
                    return False  # the same again would get the same
            except (http.client.InvalidURL, UnicodeError):
                # What they say shows the address with all that may be secret in it.
                self.error = "it is no address; write spaces and other letters in it as %20"
                return False
            except Exception as error:  # of sockets, TLS, HTTP; nothing of it may end the thread
                reason = getattr(error, "reason", error)
                self.error = str(getattr(reason, "strerror", None) or reason)
        return False

    def _request(self, body: bytes) -> urllib.request.Request:
        return urllib.request.Request(self._url, body, self._headers, method="POST")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
