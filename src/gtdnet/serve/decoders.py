"""The processes that decode, seen from the server: each does one thing at a time, or is killed."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.serve import decoder, wire
from gtdnet.serve.decoder import DecoderLimits
from gtdnet.serve.refusal import Refusal
from gtdnet.workers import signals_held

_LOOK = 0.1  # seconds between two looks whether to stop


class Stopped(Exception):
    """Time is over, or nobody waits for the answer any more."""


@dataclass
class Until:
    """When to stop: at a time of time.monotonic(), or when it is told."""

    deadline: float
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        return self.cancelled.is_set() or time.monotonic() >= self.deadline

    def check(self) -> None:
        if self.is_over:
            raise Stopped


@dataclass(frozen=True)
class VideoJob:
    """What is wanted of a video: window and stride in seconds, or None; ``auto``: if it is long."""

    path: str
    spec: ClipSpec
    window: float | None = None
    stride: float | None = None
    auto: bool = False
    clips: int = 1
    crops: int = 1


@dataclass(frozen=True)
class Views:
    """A window, or the whole: uint8 [V, T*f, 3, crop, crop]; seconds [T] of the first clip."""

    start: float | None
    end: float | None
    views: Tensor
    times: list[float | None]


@dataclass(frozen=True)
class Found:
    """Of the whole video; seconds are None where it does not say. ``decoding``: seconds."""

    seconds: float | None
    frames: int
    decoding: float


class Decoder:
    """One process."""

    def __init__(self, limits: DecoderLimits) -> None:
        context = _context()
        with signals_held():
            ours, theirs = context.Pipe()
            self._process = context.Process(
                target=decoder.main, args=(theirs, limits), daemon=True, name="gtdnet-decoder"
            )
            self._process.start()
        theirs.close()
        self._connection: Connection = ours
        self.is_idle = True

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def video(self, job: VideoJob, until: Until) -> Iterator[Views | Found]:
        """The views of its windows in order, then :class:`Found`.

        Raises:
            Refusal: it cannot be decoded, or not within the limits.
            Stopped: see :class:`Until`.
        """
        spec, self.is_idle = job.spec.to_dict(), False
        wire.send(self._connection, {"do": "video", **vars(job), "spec": spec})
        while True:
            message, content = self._next(until)
            if "done" in message:
                self.is_idle = True
                seconds, frames = message["seconds"], int(message["frames"])
                yield Found(seconds, frames, float(message["decoding"]))
                return
            views = torch.from_numpy(_array(content, message["shape"]))
            yield Views(message["start"], message["end"], views, message["times"])

    def picture(self, jpeg: bytes, until: Until) -> NDArray[np.uint8]:
        """RGB [H, W, 3]; raises as :meth:`video`."""
        self.is_idle = False
        wire.send(self._connection, {"do": "picture"}, jpeg)
        message, content = self._next(until)
        self.is_idle = True
        return _array(content, message["shape"])

    def _next(self, until: Until) -> tuple[dict[str, Any], bytes]:
        while not self._connection.poll(_LOOK):
            until.check()
        until.check()
        message, content = wire.receive(self._connection)
        if "refused" in message:
            self.is_idle = True
            code, reason = str(message["refused"]), str(message["reason"])
            raise Refusal(422, code, f"The video was not read: {reason}.")
        return message, content

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


class Decoders:
    """Some of them, each for one at a time; one that was killed or died is replaced at once."""

    def __init__(
        self, number: int, limits: DecoderLimits, killed: Callable[[str], None] = lambda why: None
    ) -> None:
        self.limits, self.number = limits, number
        self._killed, self._closed = killed, False
        self._all: set[Decoder] = set()
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for _ in range(number):
            self._start()

    @contextmanager
    def one(self, until: Until) -> Iterator[Decoder]:
        """A process for a job.

        Raises:
            Refusal: it died over it.
            Stopped: there was none in time, or the job was stopped; the process is killed then.
        """
        while True:
            until.check()
            try:
                taken = self._free.get(timeout=_LOOK)
            except queue.Empty:
                self._fill()  # if one could not be started when it was due
                continue
            if taken.is_alive:
                break
            self._replace(taken, "died")
        why = "stopped"
        try:
            yield taken
        except (EOFError, OSError, ValueError) as error:
            why = "died"
            raise Refusal(
                422,
                "decoder_died",
                "The video was not read: the decoder broke down over it; re-encode it.",
            ) from error
        finally:
            if taken.is_idle:
                self._free.put(taken)
            else:
                self._replace(taken, why)

    def processes(self) -> list[int]:
        """Their process ids."""
        return [one.pid for one in self._all if one.pid]

    def close(self) -> None:
        self._closed = True
        for one in list(self._all):
            one.kill()
        self._all.clear()

    def _start(self) -> None:
        one = Decoder(self.limits)
        self._all.add(one)
        self._free.put(one)

    def _replace(self, one: Decoder, why: str) -> None:
        self._all.discard(one)
        one.kill()
        self._killed(why)
        self._fill()

    def _fill(self) -> None:
        """Start as many as there should be, unless the system has no room for them now."""
        with self._lock, suppress(OSError):
            while not self._closed and len(self._all) < self.number:
                self._start()


def _context() -> Any:
    """How processes start: forked from one that has imported what they need and runs no threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gtdnet.serve.decoder"])
    return context


def _array(content: bytes, shape: Any) -> NDArray[np.uint8]:
    # A copy: torch wants memory that can be written to.
    return np.frombuffer(bytearray(content), np.uint8).reshape([int(n) for n in shape])
