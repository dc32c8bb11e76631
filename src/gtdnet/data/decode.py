"""Exact frames from video files and frame folders.

A clip is sampled by index, so an index must mean the same frame on every machine and every run.
Headers lie about the number of frames, and seeking lands on other frames than asked for in some
files (MPEG-4 in AVI), therefore: count the packets (cheap), choose indices, decode from the start
with one thread, convert only the chosen frames, stop after the last one. A frame that can't be
decoded is a `DecodeError`; it is never replaced by another one.

Frames come as a player would show them: rotation metadata and non-square pixels are applied, and
colours follow the colour space and range that the file states.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from gtdnet.data.pack.index import find_clips
from gtdnet.data.pack.shards import PackedClip, packed_clip
from gtdnet.data.transforms import resize_frames
from gtdnet.errors import DecodeError

Chooser = Callable[[int], np.ndarray]
"""Number of frames -> int64 indices [T], in any order, repeats allowed.

A pure function: it is called a second time when a file turns out to hold fewer frames than packets.
"""

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"}
    | {".ts", ".mts", ".ogv", ".gif"}
)

_REPLACE = "re-encode or replace the file"
NUMBERED_IMAGE = re.compile(r"(.*?)(\d+)\.(?:jpe?g|png)", re.IGNORECASE)
# swscale starts one thread per core since PyAV 16, which makes small frames twice as slow.
_ONE_THREAD: dict[str, Any] = (
    {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
)


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds out about a clip; height and width in pixels as displayed."""

    num_frames: int
    height: int
    width: int
    fps: float | None
    duration: float | None  # seconds
    codec: str


def probe(path: str | Path) -> VideoInfo:
    """Count the frames of a clip and decode its first one; raises `DecodeError`.

    ``num_frames`` is the number of packets: the few files with packets that give no picture hold
    less, which `read_frames` finds out.
    """
    path = Path(path)
    if packed := _packed(path):
        _, rgb = next(_packed_frames(packed, np.zeros(1, np.int64)))
        entry = packed.entry
        num_frames = entry.packets or entry.frames
        height, width = rgb.shape[:2]
        return VideoInfo(num_frames, height, width, entry.fps, entry.seconds, "mjpeg")
    if _is_folder(path):
        images = _image_sequence(path)
        _, rgb = next(_folder_frames(path, images, np.zeros(1, np.int64)))
        codec = "png" if images[0].suffix.lower() == ".png" else "mjpeg"
        return VideoInfo(len(images), rgb.shape[0], rgb.shape[1], None, None, codec)
    num_frames = _count_packets(path)
    _, rgb = next(_video_frames(path, np.zeros(1, np.int64), num_frames))
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        else:
            duration = container.duration / av.time_base if container.duration else None
        return VideoInfo(
            num_frames,
            rgb.shape[0],
            rgb.shape[1],
            float(rate) if rate else None,
            duration,
            stream.codec_context.codec.name,
        )


def read_frames(path: str | Path, choose: Chooser) -> tuple[torch.Tensor, int]:
    """Decode the frames that ``choose(number of frames)`` asks for, in its order.

    Returns uint8 [T, 3, H, W] (channels last in memory) and the number of frames that ``choose``
    was given. Raises `DecodeError`; IndexError for indices outside the clip.
    """
    path = Path(path)
    if packed := _packed(path):
        num_frames = packed.entry.packets or packed.entry.frames
        indices = _chosen(choose, max(1, num_frames))
        if packed.entry.packets and indices.max() >= packed.entry.frames > 0:
            num_frames = packed.entry.frames
            indices = _chosen(choose, num_frames)
        return _gather(_packed_frames(packed, np.unique(indices)), indices), num_frames
    if _is_folder(path):
        images = _image_sequence(path)
        indices = _chosen(choose, len(images))
        return _gather(_folder_frames(path, images, np.unique(indices)), indices), len(images)
    num_frames = _count_packets(path)
    while True:
        indices = _chosen(choose, num_frames)
        try:
            frames = _gather(_video_frames(path, np.unique(indices), num_frames), indices)
        except _FewerFrames as fewer:
            num_frames = fewer.num_frames
        else:
            return frames, num_frames


def iter_frames(path: str | Path) -> Iterator[np.ndarray]:
    """All frames in order, each uint8 [H, W, 3].

    A file that breaks off gives the frames before the break, then `DecodeError`.
    """
    path = Path(path)
    if packed := _packed(path):
        frames = _packed_frames(packed, None)
    elif _is_folder(path):
        frames = _folder_frames(path, _image_sequence(path), None)
    else:
        frames = _video_frames(path, None, None)
    for _, rgb in frames:
        yield rgb


def count_frames(path: str | Path) -> int:
    """The number of frames that indices are first chosen from, not decoded; raises `DecodeError`.

    For a video file this is the number of packets.
    """
    path = Path(path)
    if packed := _packed(path):
        return packed.entry.packets or packed.entry.frames
    return len(_image_sequence(path)) if _is_folder(path) else _count_packets(path)


def scan_frames(path: str | Path, broken: dict[int, str]) -> Iterator[tuple[int, np.ndarray]]:
    """(index, [H, W, 3]) of every frame that `read_frames` could give, in order.

    Single frames that it could not are left out, and ``broken`` gets the reason of each. Raises
    `DecodeError` where decoding breaks off, after the frames before the break.
    """
    path = Path(path)
    if packed := _packed(path):
        return _packed_frames(packed, None, broken)
    if _is_folder(path):
        return _folder_frames(path, _image_sequence(path), None, broken)
    return _video_frames(path, None, _count_packets(path), broken)


class _FewerFrames(Exception):
    """Decoding ended cleanly before the last chosen frame."""

    def __init__(self, num_frames: int) -> None:
        super().__init__(num_frames)
        self.num_frames = num_frames


def _chosen(choose: Chooser, num_frames: int) -> np.ndarray:
    indices = np.asarray(choose(num_frames), dtype=np.int64)
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"the chosen indices must have shape [T], T >= 1, not {indices.shape}")
    if indices.min() < 0 or indices.max() >= num_frames:
        raise IndexError(f"frame indices {indices.tolist()} of a clip of {num_frames} frames")
    return indices


def _gather(frames: Iterator[tuple[int, np.ndarray]], indices: np.ndarray) -> torch.Tensor:
    clip: np.ndarray | None = None
    for index, rgb in frames:
        if clip is None:
            clip = np.empty((len(indices), *rgb.shape), np.uint8)
        clip[indices == index] = rgb
    if clip is None:
        raise ValueError("no frame was chosen")
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def _is_folder(path: Path) -> bool:
    """Whether this is a folder (else a regular, readable, non-empty file); raises DecodeError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DecodeError(path, "there is no such file or folder; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(path, f"it can't be opened ({reason}); check the path") from None
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        raise DecodeError(path, "it is neither a file nor a folder; give a video file")
    if status.st_size == 0:
        raise DecodeError(path, "the file is empty (0 bytes); download or encode it again")
    if not os.access(path, os.R_OK):
        raise DecodeError(path, "there is no permission to read it; change its permissions")
    return False


# Video files


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its best video stream, set to decode with one thread."""
    try:
        # As a file: URL, a name such as "http:a.mp4" isn't taken for a protocol; the whitelist
        # keeps playlists named *.mp4 from opening anything on the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.error.FFmpegError as error:
        raise DecodeError(
            path, f"it is not a readable video ({error.strerror}); {_REPLACE}"
        ) from None
    with container:
        stream = container.streams.best("video")
        # FFmpeg renders plain text as video, and takes the cover of a song for one.
        if (
            not isinstance(stream, VideoStream)
            or container.format.name == "tty"
            or stream.disposition & Disposition.attached_pic
        ):
            raise DecodeError(path, "it holds no video stream; give a video file")
        if getattr(stream, "codec_context", None) is None:
            raise DecodeError(path, f"its video codec is not supported; {_REPLACE}")
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        yield container, stream


class _Packets:
    """Iterates over the packets of a stream and knows afterwards whether the file was whole."""

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._total = 0
        self._last_is_cut = False

    def __iter__(self) -> Iterator[Packet]:
        for packet in self._container.demux(self._stream):
            # AVI marks a dropped frame by an empty packet, which a decoder would take for the end.
            if packet.size:
                self._total += 1
                self._last_is_cut = packet.is_corrupt
                yield packet

    def check_whole(self) -> None:
        """Raise `DecodeError` if the file breaks off before the end its header states."""
        size, stated = self._path.stat().st_size, _stated_size(self._path)
        whole, listed = self._total - self._last_is_cut, self._stream.frames
        is_short = stated is not None and stated > size and (not listed or whole < listed)
        if self._last_is_cut or is_short or (listed and not whole):
            of = f" of {listed}" if listed else ""
            reason = f"the file is cut off after {whole}{of} frames"
            raise DecodeError(self._path, f"{reason}; download it again, or {_REPLACE}")


def _count_packets(path: Path) -> int:
    """Packets of the best video stream that give a picture, without decoding."""
    with _opened(path) as (container, stream):
        packets = _Packets(path, container, stream)
        is_vp8 = stream.codec_context.codec.name in ("vp8", "libvpx")
        count = 0
        try:
            for packet in packets:
                # Edit lists discard packets; VP8 marks frames that are only referred to.
                shown = not is_vp8 or memoryview(packet)[0] & 0x10  # pyright: ignore[reportArgumentType]
                count += bool(shown and not packet.is_discard)
        except av.error.FFmpegError as error:
            reason = f"reading failed after {count} frames ({error.strerror})"
            raise DecodeError(path, f"{reason}; {_REPLACE}") from None
        packets.check_whole()
    if not count:
        raise DecodeError(path, f"its video stream holds no frames; {_REPLACE}")
    return count


def _video_frames(
    path: Path,
    wanted: np.ndarray | None,
    num_frames: int | None,
    broken: dict[int, str] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """(index, [H, W, 3]) of the wanted frames, given sorted, or of all where ``wanted`` is None.

    Raises `_FewerFrames` if decoding ends before the last wanted frame. Where ``broken`` is given,
    frames that are damaged by themselves are noted there instead of ending it all.
    """
    last = int(wanted[-1]) if wanted is not None else None
    pending = set(wanted.tolist()) if wanted is not None else None
    show: _Display | None = None
    index = 0
    with _opened(path) as (container, stream):
        packets = _Packets(path, container, stream)
        try:
            for frame in _decoded(packets, stream):
                show = show or _Display(frame, stream.sample_aspect_ratio)
                if pending is None or index in pending:
                    if not frame.is_corrupt:
                        yield index, show(frame)
                    elif broken is None:
                        raise DecodeError(path, f"frame {index} is damaged; {_REPLACE}")
                    else:
                        broken[index] = f"frame {index} is damaged; {_REPLACE}"
                if index == last:
                    return
                index += 1
        except av.error.FFmpegError as error:
            packets.check_whole()
            of = f" of {num_frames}" if num_frames else ""
            reason = f"decoding failed after {index}{of} frames ({error.strerror})"
            raise DecodeError(path, f"{reason}; {_REPLACE}") from None
        packets.check_whole()
    if index == 0:
        raise DecodeError(path, f"none of its frames can be decoded; {_REPLACE}")
    if last is not None:
        raise _FewerFrames(index)


def _decoded(packets: _Packets, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in packets:
        yield from stream.decode(packet)
    yield from stream.decode(None)


class _Display:
    """Decoded frame -> RGB [H, W, 3] as a player shows it.

    The first frame of the video fixes size and orientation; later ones of another size are scaled.
    """

    def __init__(self, first: VideoFrame, sample_aspect_ratio: Any) -> None:
        ratio = float(sample_aspect_ratio or 1)
        if not 1 / 4 <= ratio <= 4:  # no camera makes such pixels: a broken header
            ratio = 1.0
        self._size = (first.height, max(1, round(first.width * ratio)))
        self._orientation = _orientation(first)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        rgb = self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray()
        if rgb.shape[:2] != self._size:
            picture = torch.from_numpy(rgb).permute(2, 0, 1)[None]
            rgb = resize_frames(picture, self._size)[0].permute(1, 2, 0).numpy()
        transpose, flip_y, flip_x = self._orientation
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
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


def _stated_size(path: Path) -> int | None:
    """Bytes the file should have by its own header: MP4/MOV, Matroska/WebM, AVI; else None."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            return size + 8 if 0 < size < 0xFFFFFFFF else None
        if head[:4] == b"\x1a\x45\xdf\xa3":  # an EBML header, then one Segment
            length, width = _ebml_size(head[4:12])
            segment = 4 + width + (length or 0)
            file.seek(segment)
            head = file.read(12)
            if head[:4] != b"\x18\x53\x80\x67":
                return None
            length, width = _ebml_size(head[4:12])
            return None if length is None else segment + 4 + width + length
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return None
        start = 0
        while len(head) >= 8:  # boxes: 32-bit size and type, or 1 and a 64-bit size after it
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8:  # 0: up to the end of the file
                return None
            if head[4:8] == b"mdat" and start + size > path.stat().st_size:
                return start + size
            start += size
            file.seek(start)
            head = file.read(16)
    return None


def _ebml_size(data: bytes) -> tuple[int | None, int]:
    """A variable-length size and the bytes it took; None for an unknown size (live recordings)."""
    width = 9 - data[0].bit_length() if data and data[0] else 8
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width


# Folders of frames


def _image_sequence(folder: Path) -> list[Path]:
    """The numbered pictures of a folder in the order of their numbers; raises DecodeError."""
    try:
        with os.scandir(folder) as entries:
            matches = [m for e in entries if (m := NUMBERED_IMAGE.fullmatch(e.name))]
    except OSError as error:
        raise DecodeError(folder, f"it can't be listed ({error.strerror})") from None
    # Optical flow is commonly kept beside the pictures, as flow_x_00001.jpg.
    matches = [m for m in matches if not m[1].startswith((".", "flow"))]
    if not matches:
        reason = "it holds no numbered pictures such as 00001.jpg; extract the frames into it"
        raise DecodeError(folder, reason)
    if len(prefixes := sorted({m[1] for m in matches})) > 1:
        reason = f"it mixes several sequences ({', '.join(map(repr, prefixes[:3]))}); keep one"
        raise DecodeError(folder, reason)
    matches.sort(key=lambda m: int(m[2]))
    for before, after in itertools.pairwise(matches):
        if int(after[2]) != int(before[2]) + 1:
            reason = f"{before[0]} is followed by {after[0]}; extract its frames again"
            raise DecodeError(folder, reason)
    return [folder / m[0] for m in matches]


def _folder_frames(
    folder: Path,
    images: list[Path],
    wanted: np.ndarray | None,
    broken: dict[int, str] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """As `_video_frames`, from pictures, which can be opened one by one."""
    shape: tuple[int, ...] | None = None
    for index in range(len(images)) if wanted is None else wanted.tolist():
        try:
            rgb = _decode_image(images[index])
        except DecodeError as error:
            if broken is None:
                raise
            broken[index] = f"{images[index].name}: {error.reason}"
            continue
        if broken is None and shape not in (None, rgb.shape):
            reason = f"its pictures differ in size ({images[index].name}); extract its frames again"
            raise DecodeError(folder, reason)
        shape = rgb.shape
        yield index, rgb


def _decode_image(path: Path) -> np.ndarray:
    """RGB [H, W, 3] of a JPEG or PNG file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError(path, f"the picture can't be read ({error.strerror})") from None
    # FFmpeg fills the missing part of a cut-off picture with grey, without an error.
    if data[:2] == b"\xff\xd8":
        codec, whole = "mjpeg", data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    elif data[:4] == b"\x89PNG":
        codec, whole = "png", b"IEND" in data[-64:]
    else:
        raise DecodeError(path, "it is not a JPEG or PNG picture; extract the frames again")
    if not whole:
        raise DecodeError(path, "the picture is cut off; extract the frames again")
    try:
        # A new decoder each: the PNG one adds the previous picture to the next (FFmpeg 8).
        decoder = VideoCodecContext.create(codec, "r")
        decoder.thread_count = 1
        frames = decoder.decode(Packet(data))
    except av.error.FFmpegError as error:
        reason = f"the picture can't be decoded ({error.strerror}); extract the frames again"
        raise DecodeError(path, reason) from None
    if len(frames) != 1:
        raise DecodeError(path, "the picture can't be decoded; extract the frames again")
    return _Display(frames[0], None)(frames[0])


# Packed clips


def _packed(path: Path) -> PackedClip | None:
    """The packed clip that a path names, its shard included or left out; None if it is no such."""
    clip = packed_clip(path)
    if clip is None and not os.path.lexists(path):
        found = find_clips(path) or ()
        clip = next((packed_clip(c) for c in found if c.name == path.name), None)
    return clip


def _packed_frames(
    clip: PackedClip, wanted: np.ndarray | None, broken: dict[int, str] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """As `_video_frames`, from the JPEG pictures of a packed clip."""
    entry = clip.entry
    if not entry.frames:
        raise DecodeError(clip.path, entry.why_broken(0) or "it holds no frames")
    indices = range(entry.frames) if wanted is None else wanted.tolist()
    if broken is not None:
        broken.update(entry.broken or {})
        indices = [index for index in indices if index not in broken]
    decoder = VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    show: _Display | None = None
    shape: tuple[int, ...] | None = None
    for index, data in clip.read(indices):
        try:
            frames = decoder.decode(Packet(data))
        except av.error.FFmpegError as error:
            reason = f"frame {index} can't be decoded ({error.strerror}); pack the dataset again"
            raise DecodeError(clip.path, reason) from None
        if len(frames) != 1:
            reason = f"frame {index} can't be decoded; pack the dataset again"
            raise DecodeError(clip.path, reason)
        size = (frames[0].height, frames[0].width)
        if shape not in (None, size):
            reason = f"its pictures differ in size (frame {index}); extract its frames again"
            raise DecodeError(clip.path, reason)
        shape = size
        show = show or _Display(frames[0], None)
        yield index, show(frames[0])
