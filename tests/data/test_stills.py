"""Videos whose pictures stand alone: a damaged one is refused, and no other."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from PIL import Image

from gtdnet.data.check import inspect_clip
from gtdnet.data.decode import read_frames, scan_frames
from gtdnet.errors import DecodeError

pytestmark = pytest.mark.filterwarnings("error")


def pictures(count: int = 8, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Soft shapes with some noise that slide to the left."""
    rng = np.random.default_rng(0)
    photo = np.cumsum(np.cumsum(rng.normal(0, 6, (height, width + 3 * count, 3)), axis=0), axis=1)
    scene = (128 + 90 * np.sin(photo / 60) + rng.normal(0, 8, photo.shape)).clip(0, 255)
    return [scene[:, 3 * i : 3 * i + width].astype(np.uint8) for i in range(count)]


def jpeg(picture: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def write(path: Path, packets: Sequence[bytes], codec: str = "mjpeg", **format: Any) -> Path:
    """A video of these packets, ten a second, of pictures of 96x128."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, format.get("pix_fmt", "yuvj420p")
        for number, data in enumerate(packets):
            packet = Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return path


def coded(codec: str, pix_fmt: str) -> list[bytes]:
    """The pictures as FFmpeg codes them."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 128, 96, pix_fmt
    context.time_base, context.thread_count = Fraction(1, 10), 1
    context.options = {"strict": "-2"}
    packets: list[Packet] = []
    for picture in pictures():
        packets += context.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    return [bytes(packet) for packet in [*packets, *context.encode(None)]]


def scanned(path: Path) -> tuple[dict[int, bytes], dict[int, str]]:
    """The frames that are given, by index, and those that are broken."""
    broken: dict[int, str] = {}
    return {index: frame.tobytes() for index, frame in scan_frames(path, broken)}, broken


DAMAGE = {
    "lacks a part": lambda data: data[: len(data) // 3] + data[2 * len(data) // 3 :],
    "cut off": lambda data: data[: len(data) // 2],
    "cut off and ended": lambda data: data[: len(data) // 2] + b"\xff\xd9",
    "no header": lambda data: bytes(200) + data[200:],
    "no scan": lambda data: data[:200],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", [".avi", ".mov", ".mkv"])
def test_a_damaged_jpeg_within_a_video_is_refused_alone(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    packets = [jpeg(picture) for picture in pictures()]
    whole, none = scanned(write(tmp_path / f"whole{suffix}", packets))
    packets[3] = DAMAGE[damage](packets[3])
    path = write(tmp_path / f"a{suffix}", packets)
    given, broken = scanned(path)
    assert none == {}
    assert list(broken) == [3]
    assert given == {index: frame for index, frame in whole.items() if index != 3}
    with pytest.raises(DecodeError, match="frame 3 is damaged"):
        read_frames(path, lambda n: np.arange(n))
    read_frames(path, lambda n: np.array([0, 2, 4, n - 1]))
    assert "frame 3 is damaged" in (inspect_clip(str(path)).error or "")


def test_check_looks_where_the_scans_end(tmp_path: Path) -> None:
    rng, found, refused = np.random.default_rng(0), 0, 0
    packets = [jpeg(picture, quality=85) for picture in pictures()]
    damaged = []
    for data in packets:
        place = int(rng.integers(data.rfind(b"\xff\xda") + 20, len(data) - 60))
        damaged.append(data[:place] + data[place + 50 :])
    path = write(tmp_path / "a.avi", damaged)
    found = len(scanned(path)[1])
    (tmp_path / "clip").mkdir()
    for number in scanned(path)[1]:  # all refused, or found by looking into the scan alone
        (tmp_path / "clip/1.jpg").write_bytes(damaged[number])
        assert "1.jpg: the picture " in (inspect_clip(str(tmp_path / "clip")).error or "")
    for index in range(8):
        try:
            read_frames(path, lambda n, index=index: np.array([index]))
        except DecodeError:
            refused += 1
    assert 8 >= found > refused > 0


def without_tables(data: bytes) -> bytes:
    """A JPEG file without its Huffman tables, as AVI files have it."""
    kept, place = data[:2], 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        kept += data[place:end] if data[place + 1] != 0xC4 else b""
        place = end
    return kept + data[place:]


def with_segment(marker: int, content: bytes) -> Any:
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    return lambda data: data[:2] + segment + data[2:]


CAMERAS: dict[str, Any] = {
    "plain": lambda data: data,
    "no Huffman tables": without_tables,
    "AVI1": lambda data: with_segment(0xE0, b"AVI1" + bytes(10))(without_tables(data)),
    "no end marker": lambda data: data[:-2],
    "zeros behind": lambda data: data + bytes(99),
    "ones behind": lambda data: data + b"\xff" * 99,
    "zeros for the end marker": lambda data: data[:-2] + bytes(99),
    "ones before the end marker": lambda data: data[:-2] + b"\xff" * 9 + data[-2:],
    "another picture behind": lambda data: data + data,
    "notes behind": lambda data: data + b"notes \xff\xda\xff\xc4abc",
    "zeros before": lambda data: bytes(3) + data,
    "bytes of a marker": with_segment(0xE3, bytes(range(256))),
    "EXIF": with_segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "a damaged EXIF": with_segment(0xE1, b"Exif\0\0" + b"no such thing"),
    "a damaged ICC profile": with_segment(0xE2, b"ICC_PROFILE\0\0\0"),
    "several pictures (MPF)": with_segment(0xE2, b"MPF\0II*\0"),
    "Adobe": with_segment(0xEE, b"Adobe\0\x64"),
    "an empty note": with_segment(0xFE, b""),
    "a note": with_segment(0xFE, b"\xff\xd8 hello \xff\xd9"),
}
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "optimised": {"optimize": True},
    "full colour": {"subsampling": 0},
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_what_cameras_write_is_whole(tmp_path: Path, camera: str) -> None:
    for kind, options in KINDS.items():
        if "tables" in camera + kind or (camera == "AVI1" and kind != "baseline"):
            options = {}
        packets = [jpeg(picture, **options) for picture in pictures(3)]
        whole, _ = scanned(write(tmp_path / "whole.avi", packets))
        path = write(tmp_path / "a.avi", [CAMERAS[camera](data) for data in packets])
        given, broken = scanned(path)
        assert (broken, len(given)) == ({}, 3)
        if "ICC" not in camera and "Adobe" not in camera:
            assert given == whole


def fields(picture: np.ndarray) -> list[bytes]:
    return [jpeg(picture[0::2]), jpeg(picture[1::2])]


@pytest.mark.parametrize("field", [0, 1])
def test_fields_do_not_change_places_behind_a_damaged_one(tmp_path: Path, field: int) -> None:
    packets = [fields(picture) for picture in pictures()]
    whole, none = scanned(write(tmp_path / "whole.avi", [b"".join(both) for both in packets]))
    packets[3][field] = DAMAGE["lacks a part"](packets[3][field])
    given, broken = scanned(write(tmp_path / "a.avi", [b"".join(both) for both in packets]))
    assert (none, list(broken)) == ({}, [3])
    assert given == {index: frame for index, frame in whole.items() if index != 3}


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("mjpeg", "yuvj444p", ".avi"),
        ("ljpeg", "yuvj420p", ".avi"),
        ("jpegls", "rgb24", ".nut"),
        ("jpegls", "gray", ".nut"),
        ("png", "rgb24", ".mov"),
        ("png", "rgba", ".nut"),
        ("amv", "yuvj420p", ".avi"),
    ],
)
def test_what_ffmpeg_writes_is_whole_and_damage_is_refused(
    tmp_path: Path, codec: str, pix_fmt: str, suffix: str
) -> None:
    packets = coded(codec, pix_fmt)
    whole, none = scanned(write(tmp_path / f"whole{suffix}", packets, codec, pix_fmt=pix_fmt))
    assert (none, len(whole)) == ({}, 8)
    packets[3] = packets[3][: len(packets[3]) // 2]
    path = write(tmp_path / f"a{suffix}", packets, codec, pix_fmt=pix_fmt)
    given, broken = scanned(path)
    assert list(broken) == [3]
    assert given == {index: frame for index, frame in whole.items() if index != 3}
    assert (given, broken) == scanned(path)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("cfhd", "yuv422p10le", ".avi"),
        ("flashsv", "bgr24", ".flv"),
        ("flashsv2", "bgr24", ".flv"),
    ],
)
def test_codecs_that_show_what_lay_in_memory_are_refused(
    tmp_path: Path, codec: str, pix_fmt: str, suffix: str
) -> None:
    path = write(tmp_path / f"a{suffix}", coded(codec, pix_fmt), codec, pix_fmt=pix_fmt)
    with pytest.raises(DecodeError, match="is not read, for damage in it shows"):
        read_frames(path, lambda n: np.arange(n))
    assert "is not read" in (inspect_clip(str(path)).error or "")
