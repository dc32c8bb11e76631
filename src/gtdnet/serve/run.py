"""The server from its start to its end."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from gtdnet.errors import InputError, check_at_least, check_positive
from gtdnet.serve import connections
from gtdnet.serve.app import make_app
from gtdnet.serve.camera import MAX_BYTES, Cameras
from gtdnet.serve.collecting import Collector
from gtdnet.serve.connections import CameraConnection, HttpConnection, most_connections, oversee
from gtdnet.serve.decoder import DecoderLimits
from gtdnet.serve.guard import Guard
from gtdnet.serve.models import Models, load_models
from gtdnet.serve.options import ServeOptions
from gtdnet.serve.service import Limits, Service
from gtdnet.text import say
from gtdnet.workers import Terminated, num_cores

TOKEN = "GTDNET_TOKEN"
"""The environment variable with the token."""
WINDOWS = 3000
"""Of a video, at most."""
_KEEP_ALIVE = 5  # seconds between two requests of a connection
_LEAST_TOKEN = 16  # characters


def serve(options: ServeOptions, ready: Callable[[str], object] = lambda url: None) -> None:
    """Serve until Ctrl-C or SIGTERM, and then finish what was taken.

    Args:
        options: what is asked for.
        ready: is given the address when requests are taken.

    Raises:
        ValueError: bad options, a model that cannot be loaded, or a port that is taken.
        KeyboardInterrupt: it was told to end, and has.
    """
    token = check(options)
    listening = listen(options.host, options.port)
    try:
        models = load_models(
            options.models, options.device, engine=options.engine, precision=options.precision
        )
        server = Server(options, models, token)
        try:
            told = server.run(listening, ready)
        finally:
            server.close()
    finally:
        listening.close()
    answered = "ended; what was taken was answered"
    raise Terminated(answered) if told == signal.SIGTERM else KeyboardInterrupt(answered)


def check(options: ServeOptions) -> str | None:
    """The token; InputError for options that make no sense or would not be safe."""
    check_positive(
        max_megabytes=options.max_megabytes,
        max_seconds=options.max_seconds,
        timeout=options.timeout,
        camera_idle=options.camera_idle,
    )
    check_at_least(1, queue=options.queue, decoders=options.decoders, max_pixels=options.max_pixels)
    check_at_least(64, decoder_memory=options.decoder_memory)
    check_at_least(0, cameras=options.cameras)
    if not options.models and options.collect is None:
        raise InputError("there is nothing to serve; give a model, or --collect FOLDER")
    if options.classes is not None and options.collect is None:
        raise InputError("--classes goes with --collect; give both")
    if not 0 <= options.port < 65536:
        raise InputError(f"port must be from 0 to 65535, got {options.port}")
    for name in ("certificate", "key"):
        file = getattr(options, name)
        if file is not None and not Path(file).is_file():
            raise InputError(f"--{name} {file}: there is no such file; check the path")
    if options.key is not None and options.certificate is None:
        raise InputError("--key goes with --certificate; give both")
    token = options.token or os.environ.get(TOKEN) or None
    if token is None and not is_loopback(options.host):
        raise InputError(
            f"--host {options.host} can be reached from other machines; give a --token that "
            f"requests must bring, or set {TOKEN}"
        )
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isprintable()):
        raise InputError(
            f"the token must have at least {_LEAST_TOKEN} characters, got {len(token)}; make one "
            f'with: python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    if token is not None and not (token.isascii() and " " not in token):
        raise InputError("the token must be of ASCII letters and signs, without spaces")
    return token


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    try:
        kind, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(kind, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(
            f"--host {host}: is no address of this machine ({error.strerror or error})"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        remedy = "give another --port" if error.errno == errno.EADDRINUSE else "choose another"
        raise InputError(
            f"{host} port {port}: cannot be listened on ({error.strerror}); {remedy}"
        ) from error
    listening.setblocking(False)
    return listening


class Server:
    """All parts of a running server."""

    def __init__(self, options: ServeOptions, models: Models, token: str | None) -> None:
        self._options = options
        number = options.decoders or max(1, min(4, num_cores() // 2))
        limits = Limits(options.max_megabytes, options.timeout, options.queue)
        decoding = DecoderLimits(
            options.max_pixels, options.max_seconds, WINDOWS, options.decoder_memory
        )
        self.service = Service(models, limits, decoding, number)
        self.cameras = Cameras(
            models,
            options.cameras,
            options.camera_idle,
            options.device,
            options.precision,
            self.service.metrics,
            lambda why: self.service.metrics.killed.labels(why).inc(),
        )
        try:
            self.collector = self._collector()
        except BaseException:
            self.cameras.close()
            self.service.close()
            raise
        app = make_app(self.service, self.cameras, self.collector, lambda: not self.guard.is_ending)
        names = [name.strip() for name in (options.names or "").split(",") if name.strip()]
        if not _is_address(options.host):
            names.append(options.host)
        self.connections: Set[Any] = set()
        self._most = most_connections()
        self.guard = Guard(
            app,
            names,
            token,
            self.service.metrics,
            lambda: len(self.connections) > self._most,
        )
        self._told: int | None = None
        self._tell: Callable[[int], object] = lambda number: None

    def _collector(self) -> Collector | None:
        options, metrics = self._options, self.service.metrics
        if options.collect is None:
            return None
        return Collector(
            options.collect,
            options.classes,
            options.collect_seconds,
            options.collect_megabytes,
            options.camera_idle,
            metrics,
            lambda why: metrics.killed.labels(why).inc(),
        )

    def end(self) -> None:
        """As SIGTERM does; from any thread."""
        self._tell(signal.SIGTERM)

    def run(self, listening: socket.socket, ready: Callable[[str], object]) -> int | None:
        """Serve until a signal comes; returns which one."""
        scheme = "https" if self._options.certificate else "http"
        host, port = listening.getsockname()[:2]
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        asyncio.run(self._serve(listening, lambda: ready(url)))
        return self._told

    def close(self) -> None:
        self.cameras.close()
        if self.collector:
            self.collector.close()
        self.service.close()

    async def _serve(self, listening: socket.socket, ready: Callable[[], object]) -> None:
        options, loop = self._options, asyncio.get_running_loop()
        config = uvicorn.Config(
            self.guard,
            http=type("Connection", (HttpConnection,), {"most": self._most}),
            ws=CameraConnection,
            ws_max_size=MAX_BYTES,
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=max(8, self._most // 8),  # so many are accepted at once
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=5,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )
        server, told = _Uvicorn(config), asyncio.Event()
        self.connections = server.server_state.connections
        logging.getLogger("uvicorn.error").addFilter(_is_news)

        def tell(number: int) -> None:
            if self._told is not None:  # told twice: at once
                server.should_exit = server.force_exit = True
            self._told = number
            told.set()

        self._tell = partial(loop.call_soon_threadsafe, tell)
        if options.certificate:
            # Until TLS is agreed on, uvicorn knows of no connection.
            listen_on: Any = loop.create_server
            patient = partial(listen_on, ssl_handshake_timeout=connections.FIRST_REQUEST)
            loop.create_server = patient  # type: ignore[method-assign]
        with _signals(self._tell):
            serving = asyncio.ensure_future(server.serve([listening]))
            overseeing = asyncio.ensure_future(oversee(self.connections))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            ready()
            ending = asyncio.ensure_future(told.wait())
            await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not serving.done():
                self.guard.end()
                self.cameras.end()
                if self.collector:
                    self.collector.end()
                if self.service.at_hand:
                    say(f"ending; {self.service.at_hand} at hand are answered first")
                idle = asyncio.ensure_future(self.service.wait_idle(options.timeout + 10))
                await asyncio.wait({serving, idle}, return_when=asyncio.FIRST_COMPLETED)
                idle.cancel()
                server.should_exit = True
            await serving
            overseeing.cancel()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@contextmanager
def _signals(tell: Callable[[int], object]) -> Any:
    """Ctrl-C and SIGTERM tell; not where this is not the main thread, which then handles them."""

    def handle(number: int, frame: FrameType | None) -> None:
        tell(number)

    try:
        before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn takes a WebSocket that was refused with an answer for one that was forgotten."""
    return "without completing handshake" not in record.msg


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, without its handling of signals: ours finishes what was taken."""

    @contextmanager
    def capture_signals(self) -> Any:
        yield
