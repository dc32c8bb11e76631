"""``predict --draw``: a video with the answers drawn on it, H.264 in MP4.

Rotation and the shape of pixels are applied; each frame is shown when it was in the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from gtdnet.infer.answers import SHOWN, Window
from gtdnet.infer.fonts import font_file
from gtdnet.infer.picture import COLOURS, borders, shown_classes
from gtdnet.infer.render import percent
from gtdnet.text import printable

_TICKS = 90_000  # a second: exact for all common frame rates
_LEGIBLE = 240  # pixels of the shorter side; smaller pictures are drawn larger


def draw_video(
    video: Clip,
    path: str | Path,
    windows: Sequence[Window],
    *,
    fps: float | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> str | None:
    """Write the video with the classes of its windows, atomically; memory does not grow with it.

    At each moment the window with the nearest centre is shown. ``advance`` is called with the
    number of frames just done. Returns why the video breaks off, or None.

    Raises:
        ValueError: it cannot be written.
    """
    reader = ClipReader(video)
    times = seconds_of(reader, fps)
    edges, labels = borders(windows)[1:-1], _Labels(windows)
    reason = None
    with atomic_path(path) as temporary:
        writer = _Writer(temporary)
        try:
            for index, rgb in reader.frames():
                start = float(times[min(index, len(times) - 1)])
                end = float(times[min(index + 1, len(times) - 1)])
                shown = int(np.searchsorted(edges, start, side="right"))
                writer.write(labels.on(_legible(rgb), shown), start, end)
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


class _Writer:
    """Encodes frames, RGB [H, W, 3], with the times at which they are shown."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        options = {"preset": "veryfast", "crf": "20"}
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


class _Labels:
    """The best classes of each window, drawn once for each and laid over the frames."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        labels = [label for label, _ in shown_classes(windows)]
        self._colours = dict(zip(labels, COLOURS, strict=False))
        self._key: object = None
        self._strips = np.empty(0, np.float32), np.empty(0, np.float32)

    def on(self, rgb: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        if self._key != (index, rgb.shape):
            strip = np.asarray(self._strip(index, rgb.shape[1], rgb.shape[0]), np.float32)
            alpha = strip[..., 3:] / np.float32(255)
            self._key, self._strips = (index, rgb.shape), (strip[..., :3] * alpha, 1 - alpha)
        colour, rest = self._strips
        out = rgb.copy()
        out[-len(colour) :] = out[-len(colour) :] * rest + colour + 0.5
        return out

    def _strip(self, index: int, width: int, height: int) -> Image.Image:
        """The lower end of a picture: a bar, the probability and the name of each class."""
        scores = self._windows[index].scores[:SHOWN]
        size = max(9, min(round(min(width, height) / 18), height // (len(scores) + 2)))
        line, gap = round(1.45 * size), round(0.5 * size)
        strip = Image.new("RGBA", (width, min(height, line * len(scores) + gap)), (0, 0, 0, 165))
        draw = ImageDraw.Draw(strip)
        plain = ImageFont.truetype(font_file("0 %"), size)
        bar, number = round(0.16 * width), gap + round(draw.textlength("100.0 %", plain))
        for row, score in enumerate(scores):
            top = gap // 2 + row * line
            colour = self._colours.get(score.label, "#9aa3ad")
            box = (gap, top + 0.3 * line, gap + bar, top + 0.7 * line)
            draw.rectangle(box, fill=(255, 255, 255, 60))
            draw.rectangle((*box[:2], gap + bar * score.probability, box[3]), fill=colour)
            middle, text = top + line / 2, printable(score.name).replace("\n", " ")
            end = gap + bar + number
            draw.text((end, middle), percent(score.probability), "white", plain, anchor="rm")
            font, room = ImageFont.truetype(font_file(text), size), width - end - 2 * gap
            while len(text) > 1 and draw.textlength(text, font) > room:
                text = f"{text.rstrip('…')[:-1].rstrip()}…"
            draw.text((end + gap, middle), text, "white", font, anchor="lm")
        return strip


def _legible(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small picture as many times as large as text in it needs."""
    height, width = rgb.shape[:2]
    times = -(-_LEGIBLE // min(height, width)) if max(height, width) < 4 * _LEGIBLE else 1
    times = min(times, max(1, 8 * _LEGIBLE // max(height, width)))
    return rgb if times == 1 else resize_picture(rgb, (height * times, width * times))
