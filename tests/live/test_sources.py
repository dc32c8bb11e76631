"""What is meant by the words of a command, and what may be read."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet.errors import DecodeError, InputError
from gtdnet.live.remote import CameraSource, UrlSource
from gtdnet.live.sources import FileSource, Patience, RawSource, Source, parse_sources, shown_url

WORDS = {
    "clip.mp4": FileSource("clip.mp4", "clip.mp4"),
    "some/where/clip.mp4": FileSource("clip.mp4", "some/where/clip.mp4"),
    "0": CameraSource("video0", "/dev/video0"),
    "/dev/video2": CameraSource("video2", "/dev/video2"),
    "door=1": CameraSource("door", "/dev/video1"),
    "a=b.mp4": FileSource("a", "b.mp4"),
    "rtsp://h/x": UrlSource("rtsp://h/x", "rtsp://h/x"),
    "RTSP://me:pw@h:8554/x?k=v": UrlSource("rtsp://h:8554/x", "RTSP://me:pw@h:8554/x?k=v"),
    "yard=https://me@h/x.m3u8#f": UrlSource("yard", "https://me@h/x.m3u8#f"),
    "http://[::1]:80/x": UrlSource("http://[::1]:80/x", "http://[::1]:80/x"),
}


@pytest.mark.parametrize("word", WORDS)
def test_words(word: str) -> None:
    assert parse_sources([word]) == [WORDS[word]]


def test_options_go_to_those_that_need_them() -> None:
    file, camera, raw = parse_sources(["a.mp4", "0", "-"], size="64x48", rate=10, realtime=True)
    assert file == FileSource("a.mp4", "a.mp4", 10, True)
    assert camera == CameraSource("video0", "/dev/video0", (64, 48), 10)
    assert raw == RawSource("stdin", (64, 48), 10, True)
    assert [s.is_timely for s in (file, camera, raw)] == [True, True, True]
    assert [s.is_live for s in (file, camera, raw)] == [False, True, False]


def test_names_differ() -> None:
    names = [source.name for source in parse_sources(["a/x.mp4", "b/x.mp4", "x.mp4"])]
    assert names == ["x.mp4", "x.mp4 (2)", "x.mp4 (3)"]


def test_a_file_whose_name_looks_like_another_thing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("7", "a=b.mp4"):
        Path(name).write_bytes(b"")
    assert parse_sources(["7", "a=b.mp4"]) == [
        FileSource("7", "7"),
        FileSource("a=b.mp4", "a=b.mp4"),
    ]


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        ([], {}, "there is nothing to watch"),
        (["-"], {}, "raw frames on stdin (-) have no size and rate of their own; give both"),
        (["-", "b=-"], {"size": "4x4", "rate": 1}, "stdin (-) was given twice"),
        (["udp://h:1"], {}, "unknown protocol 'udp': choose one of rtsp, rtsps, http, https"),
        (["file:///etc/passwd"], {}, "unknown protocol 'file'"),
        (["rtsp://:554/x"], {}, "an address (rtsp://...) names no host"),
        (["rtsp://me:p@ss:w@rd:x/"], {}, "an address (rtsp://...) names no host"),
        (["a.mp4"], {"size": "640"}, "size must be WIDTHxHEIGHT in pixels, as 640x480, got '640'"),
        (["a.mp4"], {"size": "0x4"}, "size must be WIDTHxHEIGHT in pixels"),
        (["a.mp4"], {"rate": 0.0}, "rate must be positive, got 0.0"),
    ],
)
def test_words_that_are_none(words: list[str], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_sources(words, **options)
    assert str(caught.value).startswith(sentence)
    assert "p@ss" not in str(caught.value)


def test_nothing_secret_is_shown() -> None:
    assert shown_url("rtsp://me:pw@h:554/a?token=t#f") == "rtsp://h:554/a"


# ---------------------------------------------------------------------------------------- reading


def read(source: Source, **patience: float) -> list[tuple[float | None, tuple[int, ...]]]:
    shots = source.shots(threading.Event(), Patience(**patience))
    return [(shot.timestamp, shot.rgb().shape) for shot in shots if shot]


def test_raw_frames() -> None:
    frames = np.arange(3 * 4 * 6 * 3, dtype=np.uint8).reshape(3, 4, 6, 3)
    source = RawSource("stdin", (6, 4), 10.0, file=io.BytesIO(frames.tobytes()))
    shots = [shot for shot in source.shots(threading.Event(), Patience()) if shot]
    assert [shot.timestamp for shot in shots] == [0, 0.1, 0.2]
    assert (np.stack([shot.rgb() for shot in shots]) == frames).all()


def test_raw_frames_of_another_size() -> None:
    source = RawSource("stdin", (6, 4), 10.0, file=io.BytesIO(bytes(100)))
    with pytest.raises(DecodeError, match=r"ends with 28 bytes of a frame of 72; give the size"):
        read(source)


def test_a_folder_of_pictures_has_no_rate(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (32, 24)).save(tmp_path / f"{number}.png")
    with pytest.raises(DecodeError, match="how fast its frames follow each other; give --rate"):
        read(FileSource("x", str(tmp_path)))
    assert [time for time, _ in read(FileSource("x", str(tmp_path), 2.0))] == [0, 0.5, 1]


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(DecodeError, match="cannot be opened"):
        read(CameraSource("video99", "/dev/video99"))


PLAYLIST = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:0
#EXTINF:1.0,
{}
#EXT-X-ENDLIST
"""


def test_a_playlist_leads_to_http_alone(
    tmp_path: Path, paint: Callable[..., Path], station: Callable[[Path], Any]
) -> None:
    video = paint(tmp_path / "a.ts", [("red", 0.5)])
    server = station(video)
    server.files["/a.ts"] = video.read_bytes()
    base = server.url.partition("/live")[0]
    for leads_to in ("a.ts", f"{base}/a.ts"):
        server.files["/x.m3u8"] = PLAYLIST.format(leads_to).encode()
        assert len(read(UrlSource("x", f"{base}/x.m3u8"), silence=2)) == 10
    for leads_to in (f"file://{video}", f"concat:{video}", f"subfile,,:{video}", "data:,x"):
        server.files["/x.m3u8"] = PLAYLIST.format(leads_to).encode()
        with pytest.raises(DecodeError):
            assert not read(UrlSource("x", f"{base}/x.m3u8"), silence=2)


def test_a_text_that_names_files_is_no_stream(
    tmp_path: Path, paint: Callable[..., Path], station: Callable[[Path], Any]
) -> None:
    video = paint(tmp_path / "a.ts", [("red", 0.5)])
    server = station(video)
    server.content = f"ffconcat version 1.0\nfile '{video}'\n".encode()
    with pytest.raises(DecodeError, match="cannot be opened"):
        read(UrlSource("x", server.url), silence=2)
