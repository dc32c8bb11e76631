"""Which frame comes back, and what is said where none can.

The clips made here show frame i as an even grey of 20 + 10 i, so that every frame tells its index.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.sidedata.sidedata import Type as SideDataType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gtdnet.data.decode import count_frames, iter_frames, open_clip, probe, read_frames, scan_frames
from gtdnet.data.pack.shards import ClipEntry, NewClip, write_shard
from gtdnet.data.readers.display import orientation
from gtdnet.data.readers.packed import PackedReader
from gtdnet.data.readers.pictures import PictureReader
from gtdnet.data.readers.video import VideoReader
from gtdnet.errors import DecodeError

VIDEOS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "videos"
needs_videos = pytest.mark.skipif(not VIDEOS.is_dir(), reason="the collection of videos is absent")

NUM_FRAMES = 20
CODECS = {
    "a.mp4": "libx264",
    "a.avi": "mpeg4",
    "a.webm": "libvpx-vp9",
    "a.mkv": "libvpx",
    "a.mov": "mjpeg",
}


def grey(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), 20 + 10 * index, np.uint8)


def encode(path: Path, codec: str, frames: list[np.ndarray], format: str | None = None) -> Path:
    """Encode RGB frames; the index of an MP4 comes first, as in downloads made for streaming."""
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", format=format, options=options) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module", params=CODECS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / request.param
    return encode(path, CODECS[request.param], [grey(i) for i in range(NUM_FRAMES)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(tmp_path_factory.mktemp("frames"), range(12))


def save_pictures(folder: Path, indices: range, name: str = "{:05d}.jpg") -> Path:
    folder.mkdir(exist_ok=True)
    codec = "png" if name.endswith("png") else "mjpeg"
    for index in indices:
        path = folder / name.format(index + 1)
        encode(path, codec, [grey(index)], format="image2")
    return folder


def pick(*indices: int) -> Callable[[int], np.ndarray]:
    return lambda num_frames: np.array(indices)


def shown(frames: torch.Tensor | list[np.ndarray]) -> list[int]:
    """The indices that the grey levels tell."""
    return [round((float(np.asarray(frame).mean()) - 20) / 10) for frame in frames]


def test_each_kind_of_clip_has_its_reader(clip: Path, folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"".join(data := [path.read_bytes() for path in sorted(folder.iterdir())]))
    new = NewClip("a/b", ClipEntry(0, 12), part, tuple(map(len, data)))
    write_shard(tmp_path / "clips-00000.zip", [new])
    packed = tmp_path / "clips-00000.zip/a/b"
    kinds = {clip: (VideoReader, 20), folder: (PictureReader, 12), packed: (PackedReader, 12)}
    for path, (kind, num_frames) in kinds.items():
        assert type(open_clip(path)) is kind
        assert count_frames(path) == num_frames
        broken: dict[int, str] = {}
        found = dict(scan_frames(path, broken))
        assert (list(found), broken) == (list(range(num_frames)), {})
        assert shown(list(found.values())) == list(range(num_frames))


def test_chosen_frames_in_chosen_order(clip: Path) -> None:
    indices = [7, 0, 19, 7, 3, 3]
    frames, num_frames = read_frames(clip, pick(*indices))
    assert (num_frames, frames.shape, frames.dtype) == (NUM_FRAMES, (6, 3, 48, 64), torch.uint8)
    assert shown(frames) == indices
    assert frames.permute(0, 2, 3, 1).is_contiguous()


def test_all_frames(clip: Path) -> None:
    frames = list(iter_frames(clip))
    assert shown(frames) == list(range(NUM_FRAMES))
    assert {(f.shape, f.dtype.name) for f in frames} == {((48, 64, 3), "uint8")}


def test_probe(clip: Path) -> None:
    info = probe(clip)
    assert (info.num_frames, info.height, info.width, info.fps) == (NUM_FRAMES, 48, 64, 10.0)
    assert info.duration == pytest.approx(2.0, abs=0.11)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=9))
def test_reading_is_taking_from_all_frames(clip: Path, indices: list[int]) -> None:
    frames, _ = read_frames(clip, pick(*indices))
    assert np.array_equal(frames.permute(0, 2, 3, 1), np.stack(list(iter_frames(clip)))[indices])


@pytest.mark.parametrize("indices", [(20,), (-1,)])
def test_indices_outside_the_clip(clip: Path, indices: tuple[int, ...]) -> None:
    with pytest.raises(IndexError, match="of a clip of 20 frames"):
        read_frames(clip, pick(*indices))


def test_fewer_frames_than_packets_are_chosen_from_anew(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoReader, "count", lambda self: 30)
    asked = []

    def choose(num_frames: int) -> np.ndarray:
        asked.append(num_frames)
        return np.array([0, num_frames - 1])

    frames, num_frames = read_frames(clip, choose)
    assert (asked, num_frames, shown(frames)) == ([30, NUM_FRAMES], NUM_FRAMES, [0, 19])


def test_vp8_frames_that_are_not_shown_are_not_counted(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.webm", "libvpx", [grey(i) for i in range(NUM_FRAMES)])
    with av.open(str(source)) as old, av.open(str(tmp_path / "b.webm"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for index, packet in enumerate(old.demux(video=0)):
            if packet.size:
                data = bytearray(bytes(packet))
                if index in (5, 11):
                    data[0] &= ~0x10  # the show_frame bit, RFC 6386, 9.1
                copy = av.Packet(bytes(data))
                copy.pts, copy.dts = packet.pts, packet.dts
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.stream = stream
                new.mux(copy)
    frames, num_frames = read_frames(tmp_path / "b.webm", lambda n: np.arange(n))
    assert num_frames == NUM_FRAMES - 2
    assert shown(frames) == [i for i in range(NUM_FRAMES) if i not in (5, 11)]


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_cut_off_files(clip: Path, tmp_path: Path, share: float) -> None:
    cut = tmp_path / clip.name
    cut.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    if clip.suffix == ".avi" and share > 0.9:
        assert read_frames(cut, pick(19))[1] == NUM_FRAMES  # only the index at the end is lost
        return
    with pytest.raises(DecodeError, match=r"cut off|not a readable video"):
        read_frames(cut, pick(0))
    seen: list[np.ndarray] = []
    with pytest.raises(DecodeError):
        seen.extend(iter_frames(cut))


def test_iteration_gives_what_comes_before_the_break(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(NUM_FRAMES)]
    clip = encode(tmp_path / "a.mov", "mjpeg", frames)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    seen = 0
    with pytest.raises(DecodeError, match=r"cut off after \d+ of 20 frames"):
        for _ in iter_frames(clip):
            seen += 1
    assert 6 <= seen <= 12


# Matrix rows (a, b), (c, d) of a display matrix and where the picture's four quarters go:
# 1 2 / 3 4 as stored, read row by row as shown.
ORIENTATIONS = [
    ((1, 0, 0, 1), [1, 2, 3, 4]),
    ((0, 1, -1, 0), [3, 1, 4, 2]),  # a phone held upright: a quarter turn clockwise
    ((-1, 0, 0, -1), [4, 3, 2, 1]),
    ((0, -1, 1, 0), [2, 4, 1, 3]),
    ((-1, 0, 0, 1), [2, 1, 4, 3]),  # mirrored, as by a front camera
]


@pytest.mark.parametrize(("matrix", "quarters"), ORIENTATIONS)
def test_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int], quarters: list[int]
) -> None:
    stored = np.kron(np.array([[1, 2], [3, 4]]), np.ones((32, 48))) * 50
    picture = np.repeat(stored.astype(np.uint8)[..., None], 3, axis=2)
    clip = encode(tmp_path / "a.mp4", "libx264", [picture])
    data = bytearray(clip.read_bytes())
    a, b, c, d = (65536 * x for x in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    clip.write_bytes(data)
    (frame,), _ = read_frames(clip, pick(0))
    height, width = frame.shape[1:]
    assert (height, width) == ((96, 64) if matrix[0] == 0 else (64, 96))
    centres = frame[0, [height // 4, -height // 4]][:, [width // 4, -width // 4]]
    assert (centres.flatten() / 50).round().tolist() == quarters
    assert next(iter_frames(clip)).strides[-1] == 1
    assert (probe(clip).height, probe(clip).width) == (height, width)


def test_half_turned_matrices_snap_to_quarter_turns() -> None:
    nearly = struct.pack("=9i", 100, 65000, 0, -65000, 100, 0, 0, 0, 1 << 30)
    frame: Any = SimpleNamespace(side_data={SideDataType.DISPLAYMATRIX: nearly})
    assert orientation(frame) == (True, False, True)


@pytest.mark.parametrize(
    ("ratio", "width"), [(Fraction(4, 3), 85), (Fraction(1, 2), 32), (Fraction(100), 64)]
)
def test_pixel_aspect_ratio(tmp_path: Path, ratio: Fraction, width: int) -> None:
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(grey(index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, _ = read_frames(clip, pick(2))
    assert frames.shape == (1, 3, 48, width)
    assert shown(frames) == [2]


def test_size_change_midway(tmp_path: Path) -> None:
    """Later frames are scaled to the size of the first."""
    parts = [
        encode(tmp_path / f"{i}.h264", "libx264", [grey(i, *size)] * 3, format="h264").read_bytes()
        for i, size in enumerate([(48, 64), (96, 160)])
    ]
    clip = tmp_path / "joined.h264"
    clip.write_bytes(b"".join(parts))
    frames, num_frames = read_frames(clip, lambda n: np.arange(n))
    assert (num_frames, frames.shape[2:]) == (6, (48, 64))
    assert shown(frames) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", ["{:05d}.jpg", "img_{:d}.JPG", "frame{:03d}.png", "{:06d}.jpeg"])
def test_folders_of_frames(tmp_path: Path, name: str) -> None:
    save_pictures(tmp_path, range(12), name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "flow_x_00001.jpg").write_text("x")
    frames, num_frames = read_frames(tmp_path, pick(10, 0, 10, 9))
    assert (num_frames, shown(frames)) == (12, [10, 0, 10, 9])
    assert shown(list(iter_frames(tmp_path))) == list(range(12))
    info = probe(tmp_path)
    assert (info.num_frames, info.height, info.width, info.fps) == (12, 48, 64, None)


def _gap(folder: Path) -> None:
    (folder / "00003.jpg").unlink()


def _two_sequences(folder: Path) -> None:
    save_pictures(folder, range(2), "img_{:05d}.jpg")


def _cut_picture(folder: Path) -> None:
    data = (folder / "00002.jpg").read_bytes()
    (folder / "00002.jpg").write_bytes(data[:-10])


def _text_picture(folder: Path) -> None:
    (folder / "00002.jpg").write_text("not a picture")


def _other_size(folder: Path) -> None:
    encode(folder / "00002.jpg", "mjpeg", [grey(1, 96, 64)], format="image2")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_gap, "00002.jpg is followed by 00004.jpg"),
        (_two_sequences, "several sequences ('', 'img_')"),
        (_cut_picture, "the picture is cut off"),
        (_text_picture, "not a JPEG or PNG"),
        (_other_size, "differ in size (00002.jpg)"),
    ],
)
def test_spoilt_folders(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(save_pictures(tmp_path, range(5)))
    with pytest.raises(DecodeError) as raised:
        read_frames(tmp_path, pick(0, 1))
    assert reason in raised.value.reason


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("no video\n" * 99)


def _playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode(None)])


def _headless(path: Path) -> None:
    encode(path, "libx264", [grey(i) for i in range(9)])
    path.write_bytes(path.read_bytes().replace(b"moov", b"junk"))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: None, "there is no such file or folder"),
        (_empty, "the file is empty"),
        (_text, "not a readable video"),
        (_playlist, "not a readable video"),
        (_headless, "not a readable video"),
        (_sound, "holds no video stream"),
        (os.mkfifo, "neither a file nor a folder"),
        (Path.mkdir, "holds no numbered pictures"),
    ],
)
@pytest.mark.parametrize(
    "use", [lambda path: read_frames(path, pick(0)), probe, lambda path: next(iter_frames(path))]
)
def test_what_is_no_video(
    tmp_path: Path,
    write: Callable[[Path], None],
    reason: str,
    use: Callable[[Path], Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "a.mp4"
    write(path)
    capfd.readouterr()
    with pytest.raises(DecodeError) as raised:
        use(path)
    assert reason in raised.value.reason
    assert raised.value.path == str(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_text_is_not_rendered_as_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("FFmpeg would draw this text\n" * 99)
    with pytest.raises(DecodeError):
        read_frames(tmp_path / "a.txt", pick(0))


def test_name_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.mp4", "libx264", [grey(3)]).rename(tmp_path / "http:a %03d.mp4")
    monkeypatch.chdir(tmp_path)
    assert shown(read_frames("http:a %03d.mp4", pick(0))[0]) == [3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", [grey(0)])
    path.chmod(0)
    with pytest.raises(DecodeError, match="no permission"):
        read_frames(path, pick(0))


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DecodeError(Path("a.mp4"), "it is broken")))
    assert (error.path, error.reason, str(error)) == (
        "a.mp4",
        "it is broken",
        "a.mp4: it is broken",
    )


# Displayed (frames, height, width).
WILD = {
    "decord__unordered.mov": (4, 50, 50),
    "decord__video_180.mov": (3, 320, 568),
    "decord__video_90.mov": (3, 568, 320),
    "mmaction2__demo.mp4": (280, 256, 427),
    "mmaction2__part_0.mp4": (32, 256, 455),
    "mmaction2__test.avi": (164, 240, 320),
    "moviepy__big_buck_bunny_432_433.webm": (24, 720, 1280),
    "moviepy__bitmap.mp4": (5, 1, 1),
    "moviepy__chaplin.mp4": (241, 360, 640),
    "moviepy__no_duration.webm": (74, 720, 1280),
    "mp4parser__MOV00006.3gp": (222, 144, 192),
    "mp4parser__count-video.mp4": (245, 480, 640),
    "mp4parser__foreman-hevc-384.mp4": (248, 720, 1280),
    "torchcodec__av1_video.mkv": (125, 360, 640),
    "torchcodec__bt709_full_range.mp4": (30, 720, 1280),
    "torchcodec__h264_10bits.mp4": (30, 200, 200),
    "torchcodec__h265_10bits.mp4": (30, 200, 200),
    "torchcodec__h265_video.mp4": (10, 128, 128),
    "torchcodec__nasa_13013.mp4": (390, 270, 480),
}


@needs_videos
@pytest.mark.parametrize("name", WILD)
def test_videos_in_the_wild(name: str) -> None:
    num_frames, height, width = WILD[name]
    frames, counted = read_frames(VIDEOS / name, lambda n: np.array([n - 1, 0]))
    assert (counted, frames.shape) == (num_frames, (2, 3, height, width))


BROKEN = {
    "decord__corrupted.mp4": "decoding failed after 28 of 50 frames",
    "moviepy__result.webm": "the file is empty",
    "text_named_mp4.mp4": "not a readable video",
    "truncated_half_faststart.mp4": "cut off after 6 of 23 frames",
    "truncated_no_moov.mp4": "not a readable video",
}


@needs_videos
@pytest.mark.parametrize("name", BROKEN)
def test_broken_videos(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DecodeError) as raised:
        read_frames(VIDEOS / name, lambda n: np.arange(0, n, 7))
    assert BROKEN[name] in raised.value.reason
    assert capfd.readouterr() == ("", "")
