"""``predict --draw``: a video with the answers drawn on it, H.264 in MP4.

Rotation and the shape of pixels are applied; each frame is shown when it was in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gtdnet.data.decode import Clip, ClipReader, seconds_of
from gtdnet.data.transforms import resize_picture
from gtdnet.errors import DecodeError, InputError
from gtdnet.files import atomic_path
from gtdnet.infer.answers import SHOWN, ClassScore, Decider, Window
from gtdnet.infer.fonts import font_file
from gtdnet.infer.picture import COLOURS, borders, shown_classes
from gtdnet.infer.render import percent
from gtdnet.text import printable

_TICKS = 90_000  # a second: exact for all common frame rates
GREY = "#9aa3ad"  # of classes without a colour of their own
_LAST = 0.04  # seconds for which a single frame is shown, where nothing else says
_LEGIBLE = 240  # pixels of the shorter side; smaller pictures are drawn larger


def draw_video(
    video: Clip,
    path: str | Path,
    windows: Sequence[Window],
    *,
    fps: float | None = None,
    decider: Decider | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> str | None:
    """Write the video with the classes of its windows, atomically; memory does not grow with it.

    At each moment the window with the nearest centre is shown. ``advance`` is called with the
    number of frames just done. Where the ``decider`` names none of its classes that is said.
    Returns why the video breaks off, or None.

    Raises:
        ValueError: it cannot be written.
    """
    reader = ClipReader(video)
    times = seconds_of(reader, fps)
    edges, labels = borders(windows)[1:-1], _Labels(windows, decider)
    reason = None
    with atomic_path(path) as temporary:
        writer = VideoWriter(temporary)
        try:
            for index, rgb in reader.frames():
                start = float(times[min(index, len(times) - 1)])
                end = float(times[min(index + 1, len(times) - 1)])
                shown = int(np.searchsorted(edges, start, side="right"))
                writer.write(labels.on(legible(rgb), shown), start, end)
                advance(1)
        except DecodeError as error:
            reason = error.reason
            if not writer.count:
                raise
        except av.error.FFmpegError as error:
            raise InputError(
                f"{path}: the video cannot be encoded ({error.strerror}); choose another place"
            ) from error
        finally:
            writer.close()
    return reason


class VideoWriter:
    """Encodes frames, RGB [H, W, 3] of one size, with the times at which they are shown.

    Args:
        path: of the file, *.mp4.
        in_pieces: whether what is written so far can be played at any time, a second at the end
            aside; else nothing can before it is closed.
    """

    def __init__(self, path: Path, in_pieces: bool = False) -> None:
        self.count = 0
        how = {"movflags": "+faststart"}
        if in_pieces:
            how = {"movflags": "+empty_moov+default_base_moof", "frag_duration": "1000000"}
            how |= {"flush_packets": "1"}
        self._container = av.open(str(path), "w", options=how)
        options = {"preset": "veryfast", "crf": "20"}
        if in_pieces:  # pieces have no place for the delay of bidirectional pictures
            options["bf"] = "0"
        self._stream = self._container.add_stream("libx264", rate=30, options=options)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._last = -1

    def write(self, rgb: NDArray[np.uint8], start: float, end: float) -> None:
        height, width = rgb.shape[:2]
        if not self.count:
            # Colours are stored for 2x2 pixels: an odd side grows by one that repeats its edge.
            self._stream.height, self._stream.width = height + height % 2, width + width % 2
        rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts = self._last = max(round(start * _TICKS), self._last + 1)
        frame.duration = max(1, round(end * _TICKS) - self._last)
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        if self.count:
            self._container.mux(self._stream.encode(None))
        self._container.close()


class TimedWriter:
    """Encodes frames as they come: each is written when the next says how long it was shown.

    Pictures of another size than the first are scaled to it.

    Args:
        path: of the file, *.mp4.
        called: what messages call it, where ``path`` is a temporary name.
        in_pieces: as of :class:`VideoWriter`.
    """

    def __init__(self, path: Path, called: Path, in_pieces: bool = False) -> None:
        self._writer, self._called = VideoWriter(path, in_pieces), called
        self._held: tuple[NDArray[np.uint8], float] | None = None
        self._step = _LAST

    def write(self, rgb: NDArray[np.uint8], seconds: float) -> None:
        """A frame, [H, W, 3], shown from ``seconds`` on; one that is no later is left out.

        Raises:
            ValueError: the file cannot be written.
        """
        if self._held is not None:
            before, start = self._held
            if seconds <= start:
                return
            self._step = seconds - start
            with self._saying():
                self._writer.write(before, start, seconds)
            if rgb.shape != before.shape:
                rgb = resize_picture(rgb, (before.shape[0], before.shape[1]))
        self._held = (rgb, seconds)

    def close(self) -> None:
        """Write the last frame, as long as the one before, and finish the file.

        Raises:
            ValueError: it cannot be written to its end.
        """
        with self._saying():
            try:
                if self._held is not None:
                    (rgb, start), self._held = self._held, None
                    self._writer.write(rgb, start, start + self._step)
            finally:
                self._writer.close()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            raise InputError(
                f"{self._called}: cannot be written ({error.strerror}); make room, or choose "
                f"another place"
            ) from error


class _Labels:
    """The best classes of each window, drawn once for each and laid over the frames."""

    def __init__(self, windows: Sequence[Window], decider: Decider | None = None) -> None:
        self._windows, self._decider = windows, decider
        labels = [label for label, _ in shown_classes(windows)]
        self._colours = dict(zip(labels, COLOURS, strict=False))
        self._overlay = Overlay()

    def on(self, rgb: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        scores, decider = self._windows[index].scores[:SHOWN], self._decider
        if decider is not None and not decider.named(scores):
            return self._overlay.on(rgb, scores, [GREY] * len(scores), decider.why_none(scores))
        return self._overlay.on(rgb, scores, [self._colours.get(s.label, GREY) for s in scores])


class Overlay:
    """The lower end of a picture: a bar, the probability and the name of each class.

    What was drawn is kept for the next picture, which mostly is the same.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._strips = np.empty(0, np.float32), np.empty(0, np.float32)

    def on(
        self,
        rgb: NDArray[np.uint8],
        scores: Sequence[ClassScore],
        colours: Sequence[str],
        title: str = "",
    ) -> NDArray[np.uint8]:
        """A picture with it; a line of a title stands above the classes."""
        key = (title, tuple(scores), tuple(colours), rgb.shape)
        if self._key != key:
            strip = np.asarray(_strip(scores, colours, title, rgb.shape), np.float32)
            alpha = strip[..., 3:] / np.float32(255)
            self._key, self._strips = key, (strip[..., :3] * alpha, 1 - alpha)
        colour, rest = self._strips
        out = rgb.copy()
        out[len(out) - len(colour) :] = out[len(out) - len(colour) :] * rest + colour + 0.5
        return out


def _strip(
    scores: Sequence[ClassScore], colours: Sequence[str], title: str, shape: tuple[int, ...]
) -> Image.Image:
    height, width = shape[:2]
    rows = len(scores) + bool(title)
    size = max(9, min(round(min(width, height) / 18), height // (rows + 2)))
    line, gap = round(1.45 * size), round(0.5 * size)
    strip = Image.new("RGBA", (width, min(height, line * rows + gap)), (0, 0, 0, 165))
    draw = ImageDraw.Draw(strip)
    plain = ImageFont.truetype(font_file("0 %"), size)

    def write(left: int, middle: float, text: str) -> None:
        text = printable(text).replace("\n", " ")
        font, room = ImageFont.truetype(font_file(text), size), width - left - gap
        while len(text) > 1 and draw.textlength(text, font) > room:
            text = f"{text.rstrip('…')[:-1].rstrip()}…"
        draw.text((left, middle), text, "white", font, anchor="lm")

    if title:
        write(gap, gap // 2 + line / 2, title)
    bar, number = round(0.16 * width), gap + round(draw.textlength("100.0 %", plain))
    for row, (score, colour) in enumerate(zip(scores, colours, strict=True), bool(title)):
        top = gap // 2 + row * line
        box = (gap, top + 0.3 * line, gap + bar, top + 0.7 * line)
        draw.rectangle(box, fill=(255, 255, 255, 60))
        draw.rectangle((*box[:2], gap + bar * score.probability, box[3]), fill=colour)
        middle, end = top + line / 2, gap + bar + number
        draw.text((end, middle), percent(score.probability), "white", plain, anchor="rm")
        write(end + gap, middle, score.name)
    return strip


def legible(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small picture as many times as large as text in it needs."""
    height, width = rgb.shape[:2]
    times = -(-_LEGIBLE // min(height, width)) if max(height, width) < 4 * _LEGIBLE else 1
    times = min(times, max(1, 8 * _LEGIBLE // max(height, width)))
    return rgb if times == 1 else resize_picture(rgb, (height * times, width * times))
