"""One clip decoded to its end and encoded as JPEG pictures: what the worker processes do."""

from __future__ import annotations

import io
import secrets
from contextlib import suppress
from pathlib import Path

import numpy as np

from gtdnet.data.decode import count_frames, frame_times, probe, scan_frames
from gtdnet.data.pack.plan import Job
from gtdnet.data.pack.shards import MAX_BYTES, ClipEntry, NewClip
from gtdnet.data.sampling import ROUNDING
from gtdnet.errors import DecodeError

_MEMBER = 200  # bytes that a picture takes of a shard, at most, beside itself and its clip's name


def encode(task: tuple[Job, Path]) -> NewClip:
    """Decode every frame of a job's clip and write it as JPEG to a file, the clip's part."""
    job, part = task
    packets, end, reason = 0, 0, None
    broken: dict[int, str] = {}
    sizes: list[int] = []
    shape: tuple[int, ...] = ()
    room = MAX_BYTES
    with part.open("wb") as file:
        try:
            packets = count_frames(job.path)
            for index, frame in scan_frames(job.path, broken):
                picture = _reduced(frame, job.short_side)
                shape = shape or picture.shape
                data = _jpeg(picture, job)
                room -= len(data) + 2 * len(job.name.encode()) + _MEMBER
                if room < 0:
                    raise DecodeError(job.path, "its pictures take over 2 GB; cut it into clips")
                file.write(data)
                sizes.append(len(data))
                end = index + 1
        except DecodeError as error:
            is_own = error.path == job.path  # a broken picture names itself, not its folder
            reason = error.reason if is_own else f"{Path(error.path).name}: {error.reason}"
    end = max([end, *(index + 1 for index in broken)])
    frames = max(packets, end) if reason else end
    fps = seconds = times = None
    if end:
        with suppress(DecodeError):  # its first frame may be damaged
            info = probe(job.path)
            fps, seconds = info.fps, info.duration
            times = _uneven(frame_times(job.path), fps)
    packets = packets if end and packets != frames else None
    if times and len(times) != (packets or frames) + 1:
        times = None
    entry = ClipEntry(
        start=0,
        frames=frames,
        packets=packets,
        height=shape[0] if shape else None,
        width=shape[1] if shape else None,
        fps=fps,
        seconds=seconds,
        end=end if reason else None,
        reason=reason,
        broken=broken or None,
        times=times,
    )
    return NewClip(job.name, entry, part, tuple(sizes))


def encode_apart(task: tuple[Job, Path]) -> NewClip:
    """The same, its part in a file of a new name: on several machines one that was given up for
    lost may still write while another does it again."""
    job, part = task
    return encode((job, part.with_name(f"{part.name}-{secrets.token_hex(8)}")))


def fatal(task: tuple[Job, Path], why: str) -> NewClip:
    """What is packed of a clip whose process died each time: that it is broken."""
    job, part = task
    part.write_bytes(b"")
    reason = f"its process died each time that it was decoded ({why})"
    return NewClip(job.name, ClipEntry(start=0, frames=0, end=0, reason=reason), part, ())


def _uneven(times: np.ndarray | None, fps: float | None) -> list[float] | None:
    """Times that the stated rate does not tell."""
    if times is None:
        return None
    if fps and np.abs(times - np.arange(len(times)) / fps).max() <= ROUNDING:
        return None
    return times.round(4).tolist()


def _reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    """The frame [H, W, 3] with its shorter side reduced as :func:`resize_short_side` does it."""
    height, width = frame.shape[:2]
    short = min(height, width)
    if short <= short_side:
        return frame
    from gtdnet.data.transforms import resize_picture

    size = (round(height * short_side / short), round(width * short_side / short))
    return resize_picture(frame, size)


def _jpeg(picture: np.ndarray, job: Job) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    try:
        Image.fromarray(picture).save(buffer, "JPEG", quality=job.quality, subsampling="4:2:0")
    except OSError as error:
        reason = f"its frames can't be written as JPEG ({error}); leave it out"
        raise DecodeError(job.path, reason) from None
    return buffer.getvalue()
