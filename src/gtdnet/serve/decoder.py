"""What runs in a child process: it decodes one video or picture after another, within limits.

It may be killed at any moment. It writes no file, takes no more memory than it is allowed, opens
the files alone that the server names, and gives back frames or one sentence.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gtdnet.data.decode import ClipReader
from gtdnet.data.readers import MAX_PIXELS, check_size
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import DecodeError
from gtdnet.infer.timeline import WindowClips, read_whole, read_windows, seconds_of
from gtdnet.serve import wire
from gtdnet.workers import start_worker

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LONG = 3.0
"""Windows in a video from which on "auto" answers by windows."""

_NO_MEMORY = ("MemoryError", "Cannot allocate memory", "allocate memory", "bad_alloc")


@dataclass(frozen=True)
class DecoderLimits:
    """Attributes: pixels of a picture, seconds of a video, windows of it, MiB of memory."""

    pixels: int
    seconds: float
    windows: int
    memory: int


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def main(connection: Connection, limits: DecoderLimits) -> None:
    """Do what comes over the connection until that is closed."""
    start_worker()
    os.environ[MAX_PIXELS] = str(limits.pixels)
    _limit(limits.memory)
    with suppress(EOFError, OSError):  # the server is gone
        while True:
            job, content = wire.receive(connection)
            try:
                if job["do"] == "picture":
                    _picture(connection, content)
                else:
                    _video(connection, job, limits)
            except _Refused as refused:
                wire.send(connection, {"refused": refused.code, "reason": refused.reason})
            except (DecodeError, MemoryError, RuntimeError) as error:  # the last: torch's
                code, reason = _why(error, limits)
                wire.send(connection, {"refused": code, "reason": reason})


def _why(error: Exception, limits: DecoderLimits) -> tuple[str, str]:
    what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    reason = error.reason if isinstance(error, DecodeError) else f"it can't be decoded ({what})"
    if any(sign in reason for sign in _NO_MEMORY):
        return "too_much_memory", (
            f"decoding it takes more than {limits.memory} MiB of memory; send a smaller one"
        )
    if "more pixels than" in reason:  # of check_size, which names a setting of the server's
        return "too_many_pixels", f"{reason.partition(';')[0]}; send a smaller one"
    return "undecodable", reason


def _limit(megabytes: int) -> None:
    """So much more memory than now, no files, no dump of memory."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            pages = int(file.read().split()[0])
        most = pages * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


# ---------------------------------------------------------------------------------------- videos


def _video(connection: Connection, job: dict[str, Any], limits: DecoderLimits) -> None:
    """The views of a video, or of each of its windows; then what is known of it."""
    started, waited = time.monotonic(), 0.0
    path, spec = job["path"], ClipSpec.from_dict(job["spec"])
    times = seconds_of(ClipReader(path), None)
    seconds, frames = float(times[-1]), len(times) - 1
    if seconds > limits.seconds:
        raise _Refused(
            "too_long",
            f"it is {seconds:.0f} seconds long, and {limits.seconds:g} are the limit; cut it",
        )
    for clip in _clips(path, spec, job, seconds, limits):
        views = clip.views.numpy()
        message = {
            "start": clip.start,
            "end": clip.end,
            "shape": views.shape,
            "times": clip.times[0].tolist(),
        }
        before = time.monotonic()
        wire.send(connection, _no_nan(message), views.tobytes())
        waited += time.monotonic() - before
    done = {"done": True, "seconds": seconds, "frames": frames}
    took = time.monotonic() - started - waited
    wire.send(connection, _no_nan({**done, "decoding": took}))


def _clips(
    path: str, spec: ClipSpec, job: dict[str, Any], seconds: float, limits: DecoderLimits
) -> Iterable[WindowClips]:
    views = {"clips": job["clips"], "crops": job["crops"]}
    window, stride = job["window"], job["stride"]
    is_known = math.isfinite(seconds)
    if window is None or (job["auto"] and not (is_known and seconds >= LONG * window)):
        return [read_whole(path, spec, **views)]
    if not is_known:
        raise _Refused(
            "no_times", "its frame rate is unknown, so it has no windows; leave window out"
        )
    if seconds / stride > limits.windows:
        raise _Refused(
            "too_many_windows",
            f"it has {seconds / stride:.0f} windows, and {limits.windows} are the limit; give a "
            f"longer stride",
        )
    return read_windows(path, spec, window, stride, **views)


def _no_nan(value: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known is None."""

    def clean(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return [clean(y) for y in x]
        return None if isinstance(x, float) and not math.isfinite(x) else x

    return {name: clean(x) for name, x in value.items()}


# -------------------------------------------------------------------------------------- pictures


def _picture(connection: Connection, content: bytes) -> None:
    picture = read_jpeg(content)
    wire.send(connection, {"shape": picture.shape}, picture.tobytes())


def read_jpeg(content: bytes) -> NDArray[np.uint8]:
    """A JPEG, RGB [H, W, 3]; DecodeError for anything else, or one that is too large."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            check_size("picture", *picture.size)
            return np.array(picture.convert("RGB"))
    except DecodeError:
        raise
    except Exception as error:
        reason = "it is not a JPEG that can be read; send JPEGs"
        raise DecodeError("picture", reason) from error
