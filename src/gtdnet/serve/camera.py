"""A camera over a WebSocket: JPEGs come, answers go; the newest picture wins.

client   a picture (binary, JPEG), and another when the one before is answered
server   first what it wants: {"model", "rate": pictures a second, "side": pixels, "how"}
         then for each picture that it looked at {"seen": pictures that came so far, "time"},
         and of those that the model was shown {"scores", "event", "ended"}
         at the end {"error", "code"}, if it is the server who ends
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock
from typing import Any

import torch
from fastapi import WebSocket, WebSocketDisconnect

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.infer.answers import best_of
from gtdnet.infer.live import WINDOW, LiveModel, open_live
from gtdnet.live.events import EventDetector
from gtdnet.serve.decoder import DecoderLimits
from gtdnet.serve.decoders import Decoders, Stopped, Until
from gtdnet.serve.guard import SUBPROTOCOL
from gtdnet.serve.metrics import Metrics
from gtdnet.serve.models import Models, Served
from gtdnet.serve.refusal import Refusal, busy, ending

MAX_BYTES = 1 << 20
"""Of a picture."""
MAX_PIXELS = 1920 * 1080
MEMORY = 512
"""MiB for decoding pictures."""
_SECONDS = 5.0  # for decoding one picture
_PATIENCE = 1.0  # seconds in which another camera may go
_RATES = (5.0, 25.0)  # pictures a second: at least, at most
_VIDEO_RATE = 25.0  # frames a second of the videos that "dense" clips are taken from
_CLOSING = {"busy": 1013, "ending": 1001, "idle": 1000}  # codes of WebSockets; else 1008


class Cameras:
    """Watches some cameras at a time, each a stream of a model.

    Args:
        models: those that may be asked for.
        number: cameras at a time.
        idle: seconds without a picture after which one is let go.
        device, precision: of the models.
        metrics: get every picture.
    """

    def __init__(
        self,
        models: Models,
        number: int,
        idle: float,
        device: str,
        precision: str | None,
        metrics: Metrics,
        killed: Callable[[str], None],
    ) -> None:
        self._models, self._number, self._idle = models, number, idle
        self._device, self._precision, self._metrics = device, precision, metrics
        self._free = set(range(number))
        self._live: dict[str, LiveModel] = {}
        self._opening = Lock()
        limits = DecoderLimits(MAX_PIXELS, 0, 0, MEMORY)
        self._decoders = Decoders(1, limits, killed) if number else None
        self._threads = ThreadPoolExecutor(2, "gtdnet-camera")
        self._sessions: set[_Session] = set()

    async def watch(self, socket: WebSocket, model: str | None, topk: int) -> None:
        """Follow one camera until it goes, stands still, or the server ends."""
        await accept(socket)
        slot: int | None = None
        try:
            served = self._models.named(model)
            slot = await self._slot()
            self._metrics.cameras.inc()
            live = await self._in_thread(self._open, served)
            session = _Session(socket, served, live, slot, topk, self)
            self._sessions.add(session)
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.code).inc()
            await say_goodbye(socket, refusal)
        except (WebSocketDisconnect, RuntimeError):  # the latter: it is closed already
            pass
        finally:
            if slot is not None:
                self._free.add(slot)
                self._metrics.cameras.dec()

    async def _slot(self) -> int:
        """A stream of the models; who changes the model closes one camera and opens the next."""
        until = time.monotonic() + _PATIENCE
        while not self._free:
            if not self._number:
                raise _no_cameras()
            if time.monotonic() > until:
                raise busy()
            await asyncio.sleep(0.05)
        return self._free.pop()

    def end(self) -> None:
        """Let all go."""
        for session in self._sessions:
            session.end(ending())

    def close(self) -> None:
        if self._decoders:
            self._decoders.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    def _open(self, served: Served) -> LiveModel:
        """The model with as many streams as there may be cameras; read when first asked for."""
        with self._opening:
            if served.name not in self._live:
                self._live[served.name] = open_live(
                    served.source,
                    self._number,
                    self._device,
                    precision=self._precision,
                    window=window_of(served.spec),
                )
            return self._live[served.name]

    def look(
        self, served: Served, live: LiveModel, slot: int, jpeg: bytes, at: float
    ) -> torch.Tensor | None:
        """Probabilities [K] after a picture, or None where the model need not see it."""
        if not live.due(slot, at):
            return None
        assert self._decoders is not None
        until = Until(time.monotonic() + _SECONDS)
        try:
            with self._decoders.one(until) as decoder:
                picture = decoder.picture(jpeg, until)
        except Stopped:
            raise Refusal(
                503, "out_of_time", "A picture was not decoded in time; try again."
            ) from None
        try:
            with served.lock:
                return live.scores([picture], streams=[slot], times=[at])[0]
        except InputError as error:
            raise Refusal(500, "no_numbers", f"The model gave no answer: {error}.") from error


class _Session:
    """One camera."""

    def __init__(
        self,
        socket: WebSocket,
        served: Served,
        live: LiveModel,
        slot: int,
        topk: int,
        cameras: Cameras,
    ) -> None:
        self._socket, self._served, self._live, self._slot = socket, served, live, slot
        self._topk, self._cameras = topk, cameras
        self._newest: bytes | None = None
        self._came, self._refusal = asyncio.Event(), None
        self._seen, self._started = 0, time.monotonic()
        self._detector = EventDetector(served.spec, every=None)

    def end(self, refusal: Refusal) -> None:
        """Say this and close, after the picture at hand."""
        self._refusal = refusal
        self._came.set()

    async def run(self) -> None:
        spec = self._served.spec
        await self._socket.send_json(
            {
                "model": self._served.name,
                "rate": rate_of(spec),
                "side": min(640, spec.short_side),
                "how": self._live.describe(),
            }
        )
        self._live.reset([self._slot])
        receiving = asyncio.ensure_future(self._receive())
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                if self._refusal:
                    raise self._refusal
                if receiving.done():
                    return receiving.result()
                if self._newest is not None:
                    jpeg, self._newest = self._newest, None
                    await self._answer(jpeg)
        finally:
            receiving.cancel()

    async def _receive(self) -> None:
        try:
            while True:
                message = await asyncio.wait_for(self._socket.receive(), self._cameras._idle)
                if message["type"] == "websocket.disconnect":
                    return
                picture = message.get("bytes")
                if not picture:
                    raise Refusal(400, "no_picture", "A camera sends JPEGs, and nothing else.")
                self._seen += 1
                if self._newest is not None:
                    self._cameras._metrics.dropped.inc()
                self._newest = picture
                self._came.set()
        except asyncio.TimeoutError:
            seconds = self._cameras._idle
            raise Refusal(
                408, "idle", f"No picture came for {seconds:g} seconds, so the camera was let go."
            ) from None
        finally:
            self._came.set()

    async def _answer(self, jpeg: bytes) -> None:
        began, seen = time.monotonic(), self._seen
        at = began - self._started
        cameras, spec = self._cameras, self._served.spec
        scores = await cameras._in_thread(
            cameras.look, self._served, self._live, self._slot, jpeg, at
        )
        message: dict[str, Any] = {"seen": seen, "time": round(at, 3)}
        if scores is not None:
            events = self._detector.update(at, scores.numpy())
            smoothed = torch.from_numpy(self._detector.smoothed).float()
            message["scores"] = [s._asdict() for s in best_of(smoothed, spec, self._topk)]
            message["event"] = self._open_event(events)
            message["ended"] = [asdict(event) for event in events if event.kind == "end"]
            cameras._metrics.frames.inc()
            cameras._metrics.frame_seconds.observe(time.monotonic() - began)
        await self._socket.send_json(message)

    _event: dict[str, Any] | None = None

    def _open_event(self, events: list[Any]) -> dict[str, Any] | None:
        """What goes on now, JSON-ready; None: nothing that the model is sure of."""
        for event in events:
            if event.kind == "begin":
                self._event = asdict(event)
            elif self._event and event.id == self._event["id"]:
                self._event = None
        return self._event


def window_of(spec: ClipSpec) -> float:
    """Seconds that a model looks back at a camera: as long as its clips."""
    if spec.sampling.startswith("dense"):
        return spec.num_segments * spec.frame_interval / _VIDEO_RATE
    return WINDOW if spec.rate is None else spec.num_segments / spec.rate


def rate_of(spec: ClipSpec) -> float:
    """Pictures that a camera should send in a second: twice as many as the model sees."""
    least, most = _RATES
    return round(min(most, max(least, 2 * spec.frames_per_clip / window_of(spec))), 2)


def _no_cameras() -> Refusal:
    return Refusal(404, "no_cameras", "This server watches no cameras; send it videos.")


async def accept(socket: WebSocket) -> None:
    """Take a browser's connection, by the name that it gives the token under."""
    wanted = socket.headers.get("sec-websocket-protocol", "").split(",")
    is_ours = SUBPROTOCOL in map(str.strip, wanted)
    await socket.accept(SUBPROTOCOL if is_ours else None)


async def say_goodbye(socket: WebSocket, refusal: Refusal) -> None:
    """The sentence, and the end."""
    try:
        await socket.send_json(refusal.to_json())
        await socket.close(_CLOSING.get(refusal.code, 1008), refusal.code)
    except (WebSocketDisconnect, RuntimeError):
        pass
