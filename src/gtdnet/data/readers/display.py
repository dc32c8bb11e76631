"""Decoded frames as a player shows them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter

# swscale starts one thread per core since PyAV 16, which makes small frames twice as slow.
_ONE_THREAD: dict[str, Any] = (
    {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
)


# Luma of limited range, 16 to 235, to 0 to 255.
_FULL_RANGE = ((np.arange(256) - 16) * (255 / 219)).round().clip(0, 255).astype(np.uint8)


def _any_type(cls: type[SideDataType], number: int) -> SideDataType:
    """A kind of side data that PyAV has no name for, as EXIF (31) in PyAV 18."""
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{number}", number
    return member


# PyAV lists the side data of a frame by kind, and would list none if it does not know one of them.
if "_missing_" not in vars(SideDataType):
    SideDataType._missing_ = classmethod(_any_type)  # pyright: ignore[reportAttributeAccessIssue]


class Display:
    """Decoded frame -> RGB [H, W, 3], its rotation and the shape of its pixels applied.

    The first frame of the video fixes size and orientation; later ones of another size are scaled.
    """

    def __init__(self, first: VideoFrame, sample_aspect_ratio: Any = None) -> None:
        ratio = float(sample_aspect_ratio or 1)
        if not 1 / 4 <= ratio <= 4:  # no camera makes such pixels: a broken header
            ratio = 1.0
        self._size = (first.height, max(1, round(first.width * ratio)))
        self._orientation = orientation(first)
        self._reformatter = VideoReformatter()

    @property
    def turn(self) -> tuple[int, bool]:
        """Degrees by which pictures are turned clockwise, and whether they are mirrored then."""
        transpose, flip_y, flip_x = self._orientation
        is_mirrored = transpose ^ flip_y ^ flip_x
        half = 180 * flip_y
        return (half + 90 if transpose else half) % 360, is_mirrored

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        rgb = self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()
        if frame.format.name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            rgb = _FULL_RANGE[rgb]  # swscale takes every grey for one of full range
        if rgb.shape[:2] != self._size:
            from gtdnet.data.transforms import resize_picture

            rgb = resize_picture(rgb, self._size)
        transpose, flip_y, flip_x = self._orientation
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then flip y, flip x) from the display matrix; angles snap to quarter turns.

    The matrix [[a, b, .], [c, d, .], ...] in 16.16 fixed point takes (x, y) to
    (a x + c y, b x + d y): libavutil/display.h.
    """
    side_data: Any = frame.side_data
    try:
        matrix = side_data[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return False, False, False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0
