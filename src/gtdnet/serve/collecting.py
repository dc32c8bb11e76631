"""Clips cut on the page: a camera's pictures come over a WebSocket, the files lie here.

client   {"do": "start", "name": class}, {"do": "stop"}, {"do": "drop"} or {"do": "undo"}
         and while a clip is being cut pictures (binary, JPEG), in their order
server   first {"folder", "classes": [{"key", "name"}], "counts", "recording", "seconds": of a clip
         at most, "rate": pictures a second, "side": pixels}
         after each picture {"seen": pictures that came so far}
         after the others, and when a clip is as long as it may be, {"counts", "recording", "kept":
         the class of the clip that has just been kept, or null}
         at the end {"error", "code"}, if it is the server who ends
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from numpy.typing import NDArray
from PIL import Image

from gtdnet.collect.clips import classes_of, there
from gtdnet.collect.recording import Recording
from gtdnet.collect.session import STOP, UNDO, Action, Session
from gtdnet.errors import InputError, check_positive
from gtdnet.files import alone_in, check_place
from gtdnet.serve.camera import MAX_PIXELS, MEMORY, accept, say_goodbye
from gtdnet.serve.decoder import DecoderLimits
from gtdnet.serve.decoders import Decoders, Stopped, Until
from gtdnet.serve.metrics import Metrics
from gtdnet.serve.refusal import Refusal, ending

RATE, SIDE = 20.0, 480
"""Pictures a second, and their shorter side, that the page should send."""
_SECONDS, _STARTING = 5.0, 30.0  # for decoding one picture; for the first one of all
_PATIENCE = 1.0  # seconds in which another page may go
_FREE = 200e6  # bytes of the disk that stay free


class Collector:
    """One sitting at a time, before the camera of whoever opens the page.

    Args:
        folder: of the clips, FOLDER/CLASS/*.mp4; nobody else writes to it until :meth:`close`.
        classes: names with commas between; None: the folders that are there.
        seconds: of a clip, at most.
        megabytes: of all clips in the folder, at most.
        idle: seconds without a picture after which a clip that is being cut is dropped.
        metrics: get every clip and refusal.
        killed: is told why a decoding process had to go.

    Raises:
        ValueError: a value out of range, no classes, or a folder that cannot be had.
    """

    def __init__(
        self,
        folder: str,
        classes: str | None,
        seconds: float,
        megabytes: float,
        idle: float,
        metrics: Metrics,
        killed: Callable[[str], None],
    ) -> None:
        check_positive(collect_seconds=seconds, collect_megabytes=megabytes)
        self.folder = Path(folder)
        if self.folder.is_file():
            raise InputError(f"{folder} is a file; give a folder for the clips")
        check_place(self.folder)
        names = classes_of(classes, self.folder)
        self._session = Session(names, seconds=0, countdown=0, have=there(self.folder, names))
        self._recording = Recording(self._session, self.folder)
        self._keys = {name: key for key, name in self._session.keys.items()}
        self._seconds, self._megabytes, self._idle = seconds, megabytes, idle
        self._metrics = metrics
        self._began = 0.0  # the clip that is being cut
        self._is_taken, self._is_ending = False, asyncio.Event()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(alone_in(self.folder, "choose another folder"))
            self._decoders = Decoders(1, DecoderLimits(MAX_PIXELS, 0, 0, MEMORY), killed)
            self._thread = ThreadPoolExecutor(1, "gtdnet-collect")
            self._stack = stack.pop_all()

    async def sit(self, socket: WebSocket) -> None:
        """Cut clips until the page goes, or the server ends."""
        await accept(socket)
        try:
            await self._take()
            try:
                await self._run(socket)
            finally:
                await self._in_thread(self._drop)
                self._is_taken = False
        except Refusal as refusal:
            self._metrics.refused.labels(refusal.code).inc()
            await say_goodbye(socket, refusal)
        except (WebSocketDisconnect, RuntimeError):  # the latter: it is closed already
            pass

    def end(self) -> None:
        """Let the page go; what is not whole is dropped."""
        self._is_ending.set()

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._recording.close()
        self._decoders.close()
        self._stack.close()

    async def _take(self) -> None:
        until = time.monotonic() + _PATIENCE
        while self._is_taken:
            if time.monotonic() > until:
                raise Refusal(503, "busy", "Another page is collecting here; close it first.", 5)
            await asyncio.sleep(0.05)
        self._is_taken = True

    async def _run(self, socket: WebSocket) -> None:
        about = {
            "folder": str(self.folder),
            "classes": [{"key": key, "name": name} for name, key in self._keys.items()],
            "seconds": self._seconds,
            "rate": RATE,
            "side": SIDE,
        }
        # Its process is there before anybody waves in vain.
        await self._in_thread(self._decoded, _black(), _STARTING)
        await socket.send_json({**about, **self._state(None)})
        seen, told = 0, asyncio.ensure_future(self._is_ending.wait())
        try:
            while (message := await self._next(socket, told)) is not None:
                picture = message.get("bytes")
                if picture is None:
                    kept = await self._in_thread(self._do, message.get("text") or "")
                    await socket.send_json(self._state(kept))
                    continue
                seen += 1
                is_over, kept = await self._in_thread(self._picture, picture)
                await socket.send_json({"seen": seen})
                if is_over:
                    await socket.send_json(self._state(kept))
        finally:
            told.cancel()

    async def _next(self, socket: WebSocket, told: asyncio.Future[Any]) -> Any:
        """What the page says; None: it is gone."""
        patience = self._idle if self._session.recording else None
        coming = asyncio.ensure_future(socket.receive())
        await asyncio.wait({coming, told}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            if told.done():
                raise ending()
            raise Refusal(
                408, "idle", f"No picture came for {patience:g} seconds, so the clip was dropped."
            )
        message = coming.result()
        return None if message["type"] == "websocket.disconnect" else message

    def _state(self, kept: str | None) -> dict[str, Any]:
        session = self._session
        return {"counts": session.counts, "recording": session.recording, "kept": kept}

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    # ------------------------------------------------------------------------------- in the thread

    def _do(self, text: str) -> str | None:
        """The class of the clip that was kept by it."""
        try:
            asked = json.loads(text)
            what, name = asked["do"], asked.get("name")
        except (ValueError, KeyError, TypeError, AttributeError):
            what, name = None, None
        session, now = self._session, time.monotonic()
        if what == "start" and name in self._keys:
            if session.recording:
                return None
            self._check_room()
            self._began = now
            return self._acted(session.press(self._keys[name], now))
        if what == "stop":
            return self._acted(session.press(STOP, now)) if session.recording else None
        if what == "undo":
            return self._acted(session.press(UNDO, now))
        if what == "drop":
            return self._acted(session.lost())
        raise Refusal(400, "bad_message", f"The server does not understand {text[:100]!r}.")

    def _picture(self, jpeg: bytes) -> tuple[bool, str | None]:
        """Whether the clip ends with it, and its class if it was kept."""
        now = time.monotonic()
        if not self._session.recording:  # sent before the page heard of the end
            return False, None
        if now - self._began >= self._seconds:
            return True, self._acted(self._session.press(STOP, now))
        try:
            self._recording.picture(lambda: self._decoded(jpeg), now)
        except (InputError, OSError) as error:
            self._drop()
            raise Refusal(507, "not_written", f"The clip was dropped: {error}.") from error
        return False, None

    def _decoded(self, jpeg: bytes, seconds: float = _SECONDS) -> NDArray[np.uint8]:
        until = Until(time.monotonic() + seconds)
        try:
            with self._decoders.one(until) as decoder:
                return decoder.picture(jpeg, until)
        except Stopped:
            raise Refusal(
                503, "out_of_time", "A picture was not decoded in time; try again."
            ) from None

    def _acted(self, actions: list[Action]) -> str | None:
        before = len(self._recording.written)
        try:
            self._recording.do(actions)
        except (InputError, OSError) as error:
            if any(action.kind == "keep" for action in actions):
                self._session.forget_last()
            self._drop()
            raise Refusal(507, "not_written", f"The clip was not written: {error}.") from error
        if len(self._recording.written) <= before:
            return None
        self._metrics.collected.inc()
        return self._recording.written[-1].parent.name

    def _drop(self) -> None:
        self._session.lost()
        self._recording.close()

    def _check_room(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # it may have gone meanwhile
            taken = sum(path.stat().st_size for path in self.folder.glob("*/*.mp4"))
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise Refusal(
                507, "not_written", f"The server's folder cannot be used: {error.strerror}."
            ) from error
        if taken >= 1e6 * self._megabytes:
            raise Refusal(
                507,
                "no_room",
                f"The folder holds {self._megabytes:g} MB of clips, which is as much as it may; "
                f"start the server with more --collect_megabytes.",
            )
        if free < _FREE:
            raise Refusal(507, "no_room", "The server's disk is nearly full; make room on it.")


def _black() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "JPEG")
    return content.getvalue()
