"""Single clips: what each is taken for, what is odd about it, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gtdnet.data.check.clips import ClipFacts, fatal, inspect_clip
from gtdnet.data.check.findings import is_odd_size
from gtdnet.data.decode import VideoInfo, frame_times, probe
from gtdnet.errors import DecodeError
from gtdnet.text import counted, one_line, printable

_EVEN = 0.1  # of a step between frames: closer ones are alike


@dataclass(frozen=True)
class ClipReport:
    """One clip; ``error`` is the reason where it is broken, and what is known comes before it.

    Attributes:
        container: FFmpeg's name; "pictures" of a folder of them; "" of what cannot be opened.
        height: in pixels as displayed, as ``width``; ``stored`` is [width, height] in the file.
        fps: as the file states it.
        num_frames: that decode, up to the first that does not.
        seconds: by the timestamps, or as the file states it.
        rotation: degrees by which the stored pictures are turned clockwise to be shown.
        is_mirrored: whether left and right change places, after that.
        remarks: what is odd, in a sentence each.
    """

    path: str
    container: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    stored: tuple[int, int] | None = None
    fps: float | None = None
    num_frames: int = 0
    seconds: float | None = None
    rotation: int = 0
    is_mirrored: bool = False
    remarks: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"ok": self.error is None, **asdict(self)}


def look_at(path: str, num_segments: int = 8) -> ClipReport:
    """Decode a clip to its end and say what it is; of fewer frames than that it is short."""
    facts = inspect_clip(path)
    report = ClipReport(path, num_frames=facts.num_frames, error=facts.error)
    try:
        info, times = probe(path), frame_times(path)
    except DecodeError:
        return report
    stored = info.stored
    if stored is not None:
        report = replace(
            report,
            container=_container(stored.container, path),
            stored=(stored.width, stored.height),
            rotation=stored.rotation,
            is_mirrored=stored.is_mirrored,
        )
    return replace(
        report,
        container=report.container or "pictures",
        codec=stored.codec if stored else info.codec,
        width=info.width,
        height=info.height,
        fps=info.fps,
        seconds=info.duration if times is None else float(times[-1]),
        remarks=tuple(_remarks(facts, info, times, num_segments)),
    )


def fatal_report(path: str, why: str) -> ClipReport:
    """What is known of a clip whose process died each time."""
    return ClipReport(path, error=fatal(path, why).error)


def format_clips(reports: Sequence[ClipReport]) -> str:
    """The same as text for people."""
    lines: list[str] = []
    for report in reports:
        lines.append(report.path)
        lines += [f"  {name:8}  {one_line(text)}" for name, text in _lines(report)]
    broken = sum(report.error is not None for report in reports)
    found = f"{counted(len(reports), 'clip')}, {broken or 'none'} broken"
    return printable("\n".join([*lines, "", f"{'Not OK' if broken else 'OK'}: {found}."]))


def _lines(report: ClipReport) -> Iterator[tuple[str, str]]:
    if report.error is not None:
        yield "broken", report.error
    if report.codec:
        yield "is", f"{report.codec} in {report.container}"
        yield "picture", _picture(report)
        rate = f", {report.fps:.4g} frames/s" if report.fps else ""
        seconds = f", {report.seconds:.2f} s" if report.seconds is not None else ""
        before = " before the break" if report.error is not None else ""
        yield "frames", f"{report.num_frames}{before}{rate}{seconds}"
    for remark in report.remarks:
        yield "remark", remark
    if report.error is None:
        yield "whole", "every frame decodes"


def _picture(report: ClipReport) -> str:
    turned = f"turned by {report.rotation} degrees" if report.rotation else ""
    parts = [turned, "mirrored" if report.is_mirrored else ""]
    if report.stored not in (None, (report.width, report.height)):
        parts.append(f"stored as {report.stored[0]}x{report.stored[1]}")
    beside = ", ".join(filter(None, parts))
    return f"{report.width}x{report.height}{f' ({beside})' if beside else ''}"


def _container(names: str, path: str) -> str:
    """The one of FFmpeg's names for a container that the file's suffix has, or the first."""
    known, suffix = names.split(","), path.rpartition(".")[2].lower()
    return suffix if suffix in known else known[0]


def _remarks(
    facts: ClipFacts, info: VideoInfo, times: np.ndarray | None, num_segments: int
) -> Iterator[str]:
    if info.stored and info.stored.streams > 1:
        yield f"it holds {info.stored.streams} video streams, of which one is read"
    if info.stored and _has_odd_pixels(info):
        yield "its pixels are not square; it is read as it is shown"
    if is_odd_size(info.width, info.height):
        yield "its pictures are very small or long; a square crop leaves little of them"
    if facts.error is None and facts.num_frames != info.num_frames:
        yield f"it says that it has {info.num_frames} frames"
    if facts.error is None and facts.num_frames < num_segments:
        yield f"it has fewer than {num_segments} frames, which then repeat evenly"
    if facts.gaps:
        yield f"{counted(facts.gaps, 'gap')} in time, where frames may have been lost"
    if info.stored and times is None:
        yield "it does not say when its frames are shown"
    if times is not None:
        yield from _odd_times(times, info, bool(facts.gaps))


def _has_odd_pixels(info: VideoInfo) -> bool:
    stored = info.stored
    if stored is None:
        return False
    shown = {info.width, info.height}
    return not shown <= {stored.width, stored.height}


def _odd_times(times: np.ndarray, info: VideoInfo, has_gaps: bool) -> Iterator[str]:
    """What is odd about the times of frames, [frames + 1] in seconds."""
    steps = np.diff(times)[:-1]
    if not len(steps):
        return
    if together := int((steps <= 0).sum()):
        yield f"{counted(together, 'frame')} at the time of the one before"
    step = float(np.median(steps))
    uneven = float(np.mean(np.abs(steps - step) > _EVEN * step)) if step else 1.0
    if uneven > _EVEN and not has_gaps:
        yield (
            f"its rate is not constant: {1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms "
            f"between frames (median {1000 * step:.0f})"
        )
    if info.fps and step and not 0.8 < info.fps * step < 1.25 and uneven <= _EVEN:
        yield f"it says {info.fps:.4g} frames/s, but its times say {1 / step:.4g}"
    if info.duration and abs(info.duration - times[-1]) > max(0.5, 0.1 * times[-1]):
        yield f"it says that it takes {info.duration:.2f} s, but its times say {times[-1]:.2f}"
