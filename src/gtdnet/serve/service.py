"""The way of a request: its bytes into a file, a decoder, the model, the answer; within limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any

from starlette.requests import ClientDisconnect

from gtdnet.serve.answers import Query, Spent, answer
from gtdnet.serve.decoder import DecoderLimits
from gtdnet.serve.decoders import Decoders, Stopped, Until
from gtdnet.serve.metrics import Metrics
from gtdnet.serve.models import Models
from gtdnet.serve.refusal import (
    Refusal,
    busy,
    gone_away,
    no_room,
    out_of_time,
    silent,
    too_large,
    too_slow_upload,
)
from gtdnet.serve.spool import Spool

SILENCE = 10.0
"""Seconds after which an upload that stands still is refused."""
_SPARE = 5.0  # seconds that a thread gets to notice that time is over


@dataclass(frozen=True)
class Limits:
    """As the options of the same names."""

    max_megabytes: float
    timeout: float
    queue: int

    @property
    def bytes(self) -> int:
        return int(self.max_megabytes * 1e6)


class Service:
    """What answers videos.

    Args:
        models: those that are served.
        limits: of requests.
        decoder_limits: of the processes that decode.
        decoders: how many there are.
    """

    def __init__(
        self, models: Models, limits: Limits, decoder_limits: DecoderLimits, decoders: int
    ) -> None:
        self.models, self.limits, self.metrics = models, limits, Metrics()
        self.spool = Spool()
        self.decoders = Decoders(decoders, decoder_limits, self._count_killed)
        self.at_hand = 0
        self._threads = ThreadPoolExecutor(decoders, "gtdnet-answer")
        self._idle = asyncio.Event()
        self._idle.set()

    async def predict(
        self,
        model: str | None,
        query: Query,
        stated: int | None,
        body: AsyncIterator[bytes],
        gone: Callable[[], Awaitable[Any]],
    ) -> dict[str, Any] | bytes:
        """The answer to a video.

        Args:
            model: its name.
            query: what is asked.
            stated: bytes that the request says it has, if it does.
            body: its bytes.
            gone: returns when nobody waits for the answer any more.

        Raises:
            Refusal: there is none, and why.
        """
        served = self.models.named(model)
        if stated is not None and stated > self.limits.bytes:
            raise too_large(self.limits.max_megabytes)
        deadline = time.monotonic() + self.limits.timeout
        async with self._admitted():
            with self.spool.file() as (file, path):
                await self._upload(body, file, deadline)
                until, spent = Until(deadline), Spent()

                def work() -> dict[str, Any] | bytes:
                    self.metrics.waiting.dec()
                    return answer(served, self.decoders, path, query, until, spent)

                try:
                    return await self._run(work, until, gone)
                finally:
                    if spent.decoding:
                        self.metrics.decoding.observe(spent.decoding)
                    if spent.inference:
                        self.metrics.inference.labels(served.name).observe(spent.inference)

    async def _upload(self, body: AsyncIterator[bytes], file: IO[bytes], deadline: float) -> None:
        """The bytes into the file, counted as they come, whatever the request said of them."""
        size = 0
        chunks = body.__aiter__()
        while True:
            left = deadline - time.monotonic()
            try:
                chunk = await asyncio.wait_for(chunks.__anext__(), max(0.0, min(left, SILENCE)))
            except StopAsyncIteration:
                break
            except ClientDisconnect:
                raise gone_away() from None
            except asyncio.TimeoutError:
                if left > SILENCE:
                    raise silent(SILENCE) from None
                raise too_slow_upload(self.limits.timeout) from None
            size += len(chunk)
            self.metrics.received.inc(len(chunk))
            if size > self.limits.bytes:
                raise too_large(self.limits.max_megabytes)
            try:
                await asyncio.to_thread(_write, file, chunk)
            except OSError:
                raise no_room() from None
        if not size:
            raise Refusal(
                400, "empty", "There is no video in the request; send its bytes as the body."
            )

    async def _run(
        self, work: Callable[[], Any], until: Until, gone: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do work in a thread; stop it when time is over or nobody waits for it."""
        self.metrics.waiting.inc()
        future = self._threads.submit(work)
        result = asyncio.wrap_future(future)
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait(
                {result, left},
                timeout=max(0.0, until.deadline - time.monotonic()) + _SPARE,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if result.done():
                return result.result()
            until.cancelled.set()
            if future.cancel():  # nobody had begun
                self.metrics.waiting.dec()
            else:
                await asyncio.wait({result})  # the file stays open while it is read
                result.exception()  # it is of no interest any more
            if left.done():
                raise gone_away()
            raise out_of_time(self.limits.timeout)
        except Stopped:
            raise out_of_time(self.limits.timeout) from None
        finally:
            left.cancel()
            result.cancel()

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self.at_hand >= self.limits.queue:
            raise busy()
        self.at_hand += 1
        self._idle.clear()
        self.metrics.at_hand.inc()
        try:
            yield
        finally:
            self.at_hand -= 1
            self.metrics.at_hand.dec()
            if not self.at_hand:
                self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing is at hand; whether that was in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.decoders.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.spool.close()

    def _count_killed(self, why: str) -> None:
        self.metrics.killed.labels(why).inc()


def _write(file: IO[bytes], chunk: bytes) -> None:
    """All of it, to an unbuffered file."""
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]
