"""Files that were cut off are never taken for shorter clips, whatever their container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.data.decode import read_frames
from gtdnet.data.readers.whole import stated_size
from gtdnet.errors import DecodeError

KINDS: dict[str, tuple[str, str, dict[str, str]]] = {  # codec, container, the container's options
    "a.gif": ("gif", "gif", {}),
    "a.flv": ("flv", "flv", {}),
    "b.flv": ("h264", "flv", {}),
    "a.ogv": ("vp8", "ogg", {}),
    "a.mpg": ("mpeg2video", "mpeg", {}),
    "b.mpg": ("mpeg2video", "vob", {}),
    "a.ts": ("h264", "mpegts", {}),
    "b.ts": ("mpeg2video", "mpegts", {}),
    "a.m2ts": ("h264", "mpegts", {"mpegts_m2ts_mode": "1"}),
    "a.wmv": ("wmv2", "asf", {}),
    "a.webm": ("vp9", "webm", {}),
    "a.mkv": ("h264", "matroska", {}),
    "live.webm": ("vp8", "webm", {"live": "1", "cluster_time_limit": "500"}),
    "live.mkv": ("h264", "matroska", {"live": "1"}),
}


def encode(
    path: Path, codec: str, container: str, options: dict[str, str], pix_fmt: str = "yuv420p"
) -> Path:
    """24 pictures of noise that slides, ten a second."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 200, 3), np.uint8)
    with av.open(str(path), "w", format=container, options=options) as file:
        stream: Any = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for i in range(24):
            picture = np.ascontiguousarray(noise[:, 3 * i : 3 * i + 64])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {
        name: encode(folder / name, *how, pix_fmt="rgb8" if name == "a.gif" else "yuv420p")
        for name, how in KINDS.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_whole(made: dict[str, Path], name: str) -> None:
    size = made[name].stat().st_size
    assert (stated_size(made[name], size) or size) <= size
    assert read_frames(made[name], lambda n: np.arange(n))[1] == 24


@pytest.mark.parametrize("name", KINDS)
@given(share=st.floats(0.05, 0.99))
@settings(max_examples=12, deadline=None)
def test_cut_files_are_not(made: dict[str, Path], name: str, share: float) -> None:
    """But what is cut between two packets of a stream, or blocks of a live recording."""
    data = made[name].read_bytes()
    end = int(len(data) * share)
    if name.endswith("mpg"):
        end += end % 2048 == 0
    if name.endswith("ts"):
        end += end % (192 if name == "a.m2ts" else 188) == 0
    if name.startswith("live"):
        with av.open(str(made[name])) as file:
            inside = [packet.pos + 8 for packet in file.demux(video=0) if packet.size]
        end = min(inside, key=lambda place: abs(place - end))
    cut = made[name].with_name(f"cut-{name}")
    cut.write_bytes(data[:end])
    with pytest.raises(DecodeError):
        read_frames(cut, lambda n: np.arange(n))


@pytest.mark.parametrize("ending", [b"", b"\0", b"\0\0\0 something behind the trailer"])
def test_what_lies_behind_a_gifs_trailer_does_not_matter(
    made: dict[str, Path], tmp_path: Path, ending: bytes
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(made["a.gif"].read_bytes() + ending)
    assert read_frames(path, lambda n: np.arange(n))[1] == 24


def test_a_gif_without_its_trailer_has_all_its_pictures(
    made: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(made["a.gif"].read_bytes()[:-1])
    assert read_frames(path, lambda n: np.arange(n))[1] == 24


MARKS = [
    *[b"", b"GIF89a", b"FLV\1", b"OggS", b"\0\0\1\xba", b"RIFF", b"\x1a\x45\xdf\xa3"],
    *[b"\0\0\0\x20ftyp", b"G" + bytes(187) + b"G"],
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
]


@given(data=st.binary(max_size=400), mark=st.sampled_from(MARKS))
@settings(deadline=None)
def test_any_bytes_have_an_answer(
    tmp_path_factory: pytest.TempPathFactory, mark: bytes, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(mark + data)
    found = stated_size(path, len(mark + data))
    assert found is None or found >= 0
