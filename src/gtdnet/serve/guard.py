"""What every request passes first, and what every answer carries."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from gtdnet.hosts import is_meant
from gtdnet.serve.metrics import Metrics
from gtdnet.serve.refusal import Refusal, ending, full

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# The page draws from its own server alone; its style is a file, and pictures come inside JSON.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
PUBLIC = {
    "/", "/collect", "/page.css", "/page.js", "/shared.js", "/collect.js", "/icon.svg",
    "/v2/health/live", "/v2/health/ready",
}  # fmt: skip
"""What needs no token: the page without its answers, and whether the server lives."""
SUBPROTOCOL = "gtdnet"
_TOKEN = "bearer."  # of the subprotocol by which a browser brings its token, in base64url

_LINGER, _SILENT = 5.0, 0.5  # seconds: of what still comes after a refusal, and of silence in it


class Guard:
    """Host, Origin and token of each request; after :meth:`end` new ones are refused.

    Args:
        app: what the others go on to.
        names: host names that are ours, but for localhost and addresses.
        token: that a request must bring, or None.
        metrics: gets every request.
        is_full: whether there are too many connections.
    """

    def __init__(
        self,
        app: App,
        names: Iterable[str],
        token: str | None,
        metrics: Metrics,
        is_full: Callable[[], bool],
    ) -> None:
        self._app, self._metrics, self._is_full = app, metrics, is_full
        self._names = {name.casefold() for name in names}
        self._token = None if token is None else token.encode()
        self.is_ending = False

    def end(self) -> None:
        """Refuse what comes from now on."""
        self.is_ending = True

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        headers = _headers(scope)
        try:
            self._check(scope, headers)
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.code).inc()
            if scope["type"] == "websocket":
                await receive()
                return await _refuse_websocket(scope, send, refusal)
            return await self._counted(scope, receive, send, answer(refusal))
        if scope["type"] == "websocket":
            return await self._app(scope, receive, send)
        await self._counted(scope, receive, send, self._app)

    async def _counted(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, app: App
    ) -> None:
        started, status = time.monotonic(), 0

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message.get("headers", ())}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name, value) for name, value in more if name not in own),
                ]
            await send(message)

        async def noting() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                scope["gtdnet.read"] = True
            return message

        try:
            await app(scope, noting, counting)
        finally:
            route = route_of(scope["path"])
            self._metrics.requests.labels(route, str(status or 499)).inc()  # 499: they went away
            self._metrics.seconds.labels(route).observe(time.monotonic() - started)

    def _check(self, scope: MutableMapping[str, Any], headers: dict[str, list[str]]) -> None:
        """Raise Refusal for a request that is not meant for us, or may not be made."""
        if self._is_full():
            raise full()
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not is_meant(hosts[0], self._names):
            given = hosts[0][:100] if hosts else ""
            raise Refusal(
                421,
                "wrong_host",
                f"This server is not called {given!r}; use its address, or start it with --names.",
            )
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes:
            check_origin(headers.get("origin", []), hosts[0])
        path = scope["path"]
        if self._token is not None and path not in PUBLIC:
            given = _given_token(headers)
            if given is None or not hmac.compare_digest(given, self._token):
                raise Refusal(
                    401,
                    "no_token",
                    "This server wants its token; send it as Authorization: Bearer TOKEN.",
                )
        if self.is_ending and path not in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            raise ending()


def check_origin(origins: list[str], host: str) -> None:
    """Raise Refusal where a browser says that another site's page made this request."""
    if origins and (len(origins) > 1 or _netloc(origins[0]).casefold() != host.casefold()):
        raise Refusal(
            403,
            "wrong_origin",
            f"Pages of {origins[0][:100]!r} may not use this server; open its own page.",
        )


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        return ""


def _given_token(headers: dict[str, list[str]]) -> bytes | None:
    """The token of a request: in a header, or of a browser's WebSocket in a subprotocol."""
    for value in headers.get("authorization", []):
        scheme, _, token = value.partition(" ")
        if scheme.casefold() == "bearer":
            return token.strip().encode("latin-1")
    for value in headers.get("sec-websocket-protocol", []):
        for word in map(str.strip, value.split(",")):
            if word.startswith(_TOKEN):
                coded = word[len(_TOKEN) :]
                try:
                    return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
                except ValueError:
                    return None
    return None


def _headers(scope: MutableMapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def route_of(path: str) -> str:
    """A path as metrics count it: names of models, and what nobody knows, are not told apart."""
    if path.startswith("/v2/models/"):
        return "/v2/models/M/ready" if path.endswith("/ready") else "/v2/models/M"
    known = {"/v1/predict", "/v1/models", "/v2", "/metrics", "/openapi.json", *PUBLIC}
    return path if path in known else "other"


# ------------------------------------------------------------------------------------- refusing


def answer(refusal: Refusal) -> App:
    """The application that refuses, so that whoever still sends hears of it.

    A connection that is closed while something comes is reset, and the answer with it is lost. So
    the answer goes out, and what comes is read and dropped for some seconds before the end.
    """
    content = json.dumps(refusal.to_json()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))}
    headers |= {name.lower(): value for name, value in refusal.headers().items()}

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        is_read = scope.get("gtdnet.read", False) or not _has_body(scope)
        more = {} if is_read else {"connection": "close"}
        pairs = [(k.encode(), v.encode()) for k, v in {**headers, **more}.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await send({"type": "http.response.body", "body": content, "more_body": not is_read})
        if not is_read:
            await _drop(receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def _has_body(scope: MutableMapping[str, Any]) -> bool:
    headers = _headers(scope)
    return "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"]


async def _drop(receive: Receive) -> None:
    until = time.monotonic() + _LINGER
    while time.monotonic() < until:
        try:
            message = await asyncio.wait_for(receive(), _SILENT)
        except asyncio.TimeoutError:
            return
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _refuse_websocket(scope: MutableMapping[str, Any], send: Send, refusal: Refusal) -> None:
    """Answer a handshake with the status and the sentence."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008, "reason": refusal.code})
    content = json.dumps(refusal.to_json()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    headers += [(k.lower().encode(), v.encode()) for k, v in refusal.headers().items()]
    await send(
        {"type": "websocket.http.response.start", "status": refusal.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": content, "more_body": False})
