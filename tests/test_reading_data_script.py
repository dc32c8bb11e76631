"""benchmarks/reading_data.py: both datasets, the same at any time, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.decode import probe, read_frames
from gtdnet.data.formats import read_annotations


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("reading_data")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """long.mp4 of five seconds, 100 frames that grow brighter, and short.mp4 of half a second."""
    folder = tmp_path_factory.mktemp("videos")
    for name, length in (("long.mp4", 100), ("short.mp4", 10)):
        with av.open(str(folder / name), "w") as container:
            stream: Any = container.add_stream("mpeg4", rate=20)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            for number in range(length):
                picture = np.full((32, 48, 3), 20 + 2 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return folder


def call(script: ModuleType, videos: Path, output: Path, *words: str) -> int:
    return script.main(["--videos", str(videos), "--output", str(output), *words])


def test_copies_and_four_seconds_of_vp9(
    script: ModuleType, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LINES", 16)
    options = ("--names", "long.mp4", "--clips", "2")
    assert call(script, videos, tmp_path / "a", *options) == 0
    assert call(script, videos, tmp_path / "b", *options) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert [file.as_posix() for file in files] == [
        "h264/long.mp4", "h264/train.txt",
        "vp9/long-0.webm", "vp9/long-1.webm", "vp9/train.txt",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    (copy,) = read_annotations(tmp_path / "a" / "h264", "train").records
    assert Path(copy.path).read_bytes() == (videos / "long.mp4").read_bytes()
    clips = read_annotations(tmp_path / "a" / "vp9", "train").records
    assert [clip.label for clip in clips] == [0, 0]
    # Of 100 frames at 20 a second: 48 frames from the first one on, and 48 up to the last one.
    for clip, start in zip(clips, (0, 21), strict=True):
        info = probe(clip.path)
        assert (info.codec, info.num_frames, info.fps) in (
            ("vp9", 48, 12.0),
            ("libvpx-vp9", 48, 12.0),
        )
        assert (info.height, info.width) == (16, 24)
        frames, _ = read_frames(clip.path, np.arange)
        wanted = 20 + 2 * (start + np.arange(48) * 20 // 12)
        assert np.abs(frames.float().mean((1, 2, 3)).numpy() - wanted).max() < 6


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["none.mp4"], "{videos}/none.mp4: there is no such file or folder; check the path"),
        (["short.mp4"], "{videos}/short.mp4 has no 4 seconds of video; give a longer one"),
    ],
)
def test_videos_that_are_refused_leave_nothing(
    script: ModuleType,
    videos: Path,
    tmp_path: Path,
    names: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(script, videos, tmp_path / "out", "--names", *names) == 2
    told = f"benchmarks/reading_data.py: {message.format(videos=videos)}\n"
    assert capsys.readouterr().err == told
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused(
    script: ModuleType, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, videos, tmp_path) == 2
    assert capsys.readouterr().err == (
        f"benchmarks/reading_data.py: {tmp_path} exists already; choose another --output, or "
        "remove it\n"
    )
    assert call(script, videos, tmp_path / "out", "--clips", "0") == 2
    assert "--clips must be at least 1, got 0" in capsys.readouterr().err
