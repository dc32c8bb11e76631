"""One clip, decoded to its end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gtdnet.data.decode import frame_times, probe, scan_frames
from gtdnet.errors import DecodeError

# FFmpeg's names of decoders of codecs that number no pictures: a lost one leaves a gap in time.
_UNNUMBERED = ("mpeg4", "vp8", "vp9", "libdav1d", "libaom-av1", "av1", "libvpx", "libvpx-vp9")


@dataclass(frozen=True)
class ClipFacts:
    """What decoding one clip showed. ``error`` is the reason where it can't be decoded.

    ``gaps``: how many steps between frames are longer than the others, where nothing else tells
    of pictures that are gone.
    """

    path: str
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float | None = None
    codec: str = ""
    digest: str | None = None
    is_empty: bool = False
    gaps: int = 0
    error: str | None = None


def inspect_clip(path: str) -> ClipFacts:
    """Decode a clip to its end.

    The digest covers every fourth pixel of every fourth row of all frames: equal for copies and
    for the same stream in another container, not for re-encodings.
    """
    digest = hashlib.blake2b(digest_size=16)
    facts = ClipFacts(path)
    try:
        info = probe(path)
        facts = replace(facts, height=info.height, width=info.width, fps=info.fps, codec=info.codec)
        digest.update(f"{info.width}x{info.height}".encode())
        broken: dict[int, str] = {}
        for index, frame in scan_frames(path, broken):
            if broken:
                break
            if frame.shape[:2] != (info.height, info.width):
                reason = f"its pictures differ in size (frame {index}); extract its frames again"
                raise DecodeError(path, reason)
            digest.update(frame[::4, ::4].tobytes())
            facts = replace(facts, num_frames=index + 1)
        if broken:
            raise DecodeError(path, broken[min(broken)])
    except DecodeError as error:
        is_empty = Path(path).is_file() and Path(path).stat().st_size == 0
        # A broken picture names itself, not its folder.
        name = "" if error.path == path else f"{Path(error.path).name}: "
        return replace(facts, error=name + error.reason, is_empty=is_empty)
    gaps = _gaps(path) if facts.codec in _UNNUMBERED else 0
    return replace(facts, digest=digest.hexdigest(), gaps=gaps)


def fatal(path: str, why: str) -> ClipFacts:
    """What is known of a clip whose process died each time."""
    return ClipFacts(path, error=f"its process died each time that it was decoded ({why})")


def _gaps(path: str) -> int:
    """Steps of two or more of a frame's time, in a clip where nearly all steps are alike."""
    times = frame_times(path)
    if times is None or len(times) < 12:
        return 0
    steps = np.diff(times)[:-1]
    step = float(np.median(steps))
    if np.mean(np.abs(steps - step) <= step / 4) < 0.9:  # of no constant rate
        return 0
    return int((steps > 1.75 * step).sum())
