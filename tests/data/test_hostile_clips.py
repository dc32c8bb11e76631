"""What cameras, strangers and lossy networks put into clips: one of them costs itself alone."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.check import inspect_clip
from gtdnet.data.decode import VideoReader, count_frames, iter_frames, probe, read_frames
from gtdnet.errors import DecodeError


def encode(path: Path, codec: str, frames: list[np.ndarray], **options: Any) -> Path:
    """Encode RGB frames, ten a second."""
    with av.open(str(path), "w", format=options.pop("format", None)) as container:
        title = options.pop("title", None)
        stream: Any = container.add_stream(codec, rate=options.pop("rate", 10))
        if title:
            container.metadata["title"] = title
            stream.metadata["handler_name"] = title
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
        stream.codec_context.thread_count = 1
        stream.options = {name: str(value) for name, value in options.items()}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def moving(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Noise that slides to the left, so that a lost picture shows in those after it."""
    noise = np.random.default_rng(0).integers(0, 255, (height, width + 4 * count, 3), np.uint8)
    return [np.ascontiguousarray(noise[:, 4 * i : 4 * i + width]) for i in range(count)]


def jpeg(path: Path, picture: np.ndarray) -> bytes:
    return encode(path, "mjpeg", [picture], format="image2", pix_fmt="yuvj420p").read_bytes()


def with_exif(data: bytes, orientation: int) -> bytes:
    """The JPEG file with an EXIF block that holds the orientation alone."""
    tiff = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, orientation, 0)
    block = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def quarters(picture: np.ndarray) -> list[int]:
    """The grey levels of the four quarters of [H, W, 3], over 50."""
    height, width = picture.shape[:2]
    centres = picture[[height // 4, -height // 4]][:, [width // 4, -width // 4], 0]
    return [round(value / 50) for value in centres.flatten().tolist()]


FOUR = np.repeat(
    np.kron(np.array([[1, 2], [3, 4]]) * 50, np.ones((32, 48)))[..., None], 3, axis=2
).astype(np.uint8)


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, [1, 2, 3, 4]),
        (2, [2, 1, 4, 3]),
        (3, [4, 3, 2, 1]),
        (4, [3, 4, 1, 2]),
        (5, [1, 3, 2, 4]),
        (6, [3, 1, 4, 2]),  # a phone held upright: a quarter turn clockwise
        (7, [4, 2, 3, 1]),
        (8, [2, 4, 1, 3]),
    ],
)
def test_pictures_of_cameras_are_turned_as_their_exif_says(
    tmp_path: Path, orientation: int, seen: list[int]
) -> None:
    data = with_exif(jpeg(tmp_path / "x.jpg", FOUR), orientation)
    (tmp_path / "x.jpg").unlink()
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    frames, _ = read_frames(tmp_path, lambda n: np.arange(n))
    assert frames.shape == ((2, 3, 96, 64) if orientation > 4 else (2, 3, 64, 96))
    assert quarters(frames[1].permute(1, 2, 0).numpy()) == seen


CONTAINERS = {
    ".mp4": "mpeg4",
    ".mov": "libx264",
    ".avi": "mpeg4",
    ".mkv": "mpeg4",
    ".webm": "libvpx",
    ".flv": "flv",
    ".wmv": "wmv2",
    ".ogv": "libvpx",
    ".ts": "mpeg2video",
}


@pytest.mark.parametrize("foreign", ["café né".encode("latin-1"), "视频标题".encode("gbk")])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_titles_in_any_encoding(tmp_path: Path, suffix: str, foreign: bytes) -> None:
    codec, title = CONTAINERS[suffix], "#" * len(foreign)
    try:
        path = encode(tmp_path / f"a{suffix}", codec, moving(3), title=title)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"PyAV here writes no {suffix} ({error})")
    path.write_bytes(path.read_bytes().replace(title.encode(), foreign))
    assert len(list(iter_frames(path))) == 3
    assert probe(path).num_frames == 3


@pytest.mark.parametrize(
    "error", [ValueError("31 is not\na valid Type"), RuntimeError("x"), OSError(), MemoryError()]
)
def test_whatever_a_decoder_raises_costs_the_clip_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = encode(tmp_path / "a.avi", "mjpeg", moving(3), pix_fmt="yuvj420p")

    def broken(*_: object) -> None:
        raise error

    for part in ("count", "frames"):
        with monkeypatch.context() as patch:
            patch.setattr(VideoReader, part, broken)
            with pytest.raises(DecodeError) as raised:
                read_frames(path, lambda n: np.arange(n))
            assert raised.value.path == str(path)
            assert type(error).__name__ in raised.value.reason
            assert "\n" not in raised.value.reason
            assert inspect_clip(str(path)).error
    assert count_frames(path) == 3
