"""What cameras, strangers and lossy networks put into clips: one of them costs itself alone."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gtdnet.data.check import inspect_clip
from gtdnet.data.dataset import Augmentation, TrainClips, read_views, sample_rng
from gtdnet.data.decode import (
    VIDEO_SUFFIXES,
    VideoReader,
    count_frames,
    iter_frames,
    probe,
    read_frames,
    scan_frames,
)
from gtdnet.data.formats import VideoRecord
from gtdnet.data.readers import damage, video
from gtdnet.data.sampling import eval_indices, train_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import (
    eval_views,
    jitter_brightness_contrast,
    random_crop,
    random_multiscale_crop,
)
from gtdnet.errors import DecodeError


def encode(path: Path, codec: str, frames: list[np.ndarray], **options: Any) -> Path:
    """Encode RGB frames, ten a second."""
    gone = options.pop("gone", None)  # a packet that is left out
    with av.open(str(path), "w", format=options.pop("format", None)) as container:
        title = options.pop("title", None)
        stream: Any = container.add_stream(codec, rate=options.pop("rate", 10))
        if title:
            container.metadata["title"] = title
            stream.metadata["handler_name"] = title
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 20
        stream.options = {name: str(value) for name, value in options.items()}
        packets = []
        for frame in frames:
            packets += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            if number != gone:
                container.mux(packet)
    return path


def moving(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    """Coloured squares that slide to the left, so that a lost picture shows in those after it."""
    squares = np.random.default_rng(0).integers(0, 255, (height // 8, width // 2, 3), np.uint8)
    noise = squares.repeat(8, axis=0).repeat(8, axis=1)
    return [np.ascontiguousarray(noise[:, 3 * i : 3 * i + width]) for i in range(count)]


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
    ".mts": "libx264",
    ".mpg": "mpeg1video",
    ".mpeg": "mpeg2video",
    ".m4v": "libx264",
    ".3gp": "mpeg4",
    ".gif": "gif",
    ".m2ts": "libx264",
    ".m2t": "mpeg2video",
    ".asf": "wmv2",
    ".3g2": "mpeg4",
    ".f4v": "libx264",
}
FORMATS = {".mts": "mpegts", ".m2ts": "mpegts", ".m2t": "mpegts", ".m4v": "mp4", ".f4v": "mp4"}


@pytest.mark.parametrize("foreign", ["café né".encode("latin-1"), "视频标题".encode("gbk")])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_titles_in_any_encoding(tmp_path: Path, suffix: str, foreign: bytes) -> None:
    codec, title = CONTAINERS[suffix], "#" * len(foreign)
    pix_fmt, format = "rgb8" if codec == "gif" else "yuv420p", FORMATS.get(suffix)
    path = tmp_path / f"a{suffix}"
    encode(path, codec, moving(3), title=title, pix_fmt=pix_fmt, format=format, rate=25)
    path.write_bytes(path.read_bytes().replace(title.encode(), foreign))
    assert len(list(iter_frames(path))) == 3
    assert probe(path).num_frames == 3


def test_all_suffixes_have_been_tried() -> None:
    assert set(CONTAINERS) == VIDEO_SUFFIXES


NAMING = {
    "ffconcat": "ffconcat version 1.0\nfile {video}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video}\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="0"><BaseURL>{video}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "subtitles": "1\n00:00:00,000 --> 00:00:09,000\n{video}\n",
    "ass": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,{video}",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{video}"/>'
    "</svg>",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n{video}",
    "text": "{video} is a video\n" * 99,
}


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".gif", ".txt"])
@pytest.mark.parametrize("kind", NAMING)
def test_a_text_that_names_a_video_is_none(tmp_path: Path, kind: str, suffix: str) -> None:
    encode(tmp_path / "b.ts", "mpeg2video", moving(3), rate=25)
    path = tmp_path / f"a{suffix}"
    path.write_text(NAMING[kind].format(video="b.ts"))
    with pytest.raises(DecodeError, match="not a readable video"):
        read_frames(path, lambda n: np.arange(n))


def test_a_name_is_no_pattern_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(tmp_path / "x.jpg", FOUR))
    (tmp_path / "%d.jpg").write_text("the pictures")
    with pytest.raises(DecodeError, match="not a readable video"):
        read_frames(tmp_path / "%d.jpg", lambda n: np.arange(n))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_pictures_that_are_no_files(tmp_path: Path, make: Callable[[Path], None]) -> None:
    for number in (1, 3):
        jpeg(tmp_path / f"{number}.jpg", FOUR)
    make(tmp_path / "2.jpg")
    with pytest.raises(DecodeError, match="the picture is no file"):
        read_frames(tmp_path, lambda n: np.arange(n))
    assert "no file" in (inspect_clip(str(tmp_path)).error or "")


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


LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("libx264", {"x264-params": "keyint=20:scenecut=0:bframes=0:ref=1"}),
    "h264 with B": ("libx264", {"x264-params": "keyint=20:scenecut=0:bframes=2:b-adapt=0"}),
    "hevc": ("libx265", {"x265-params": "keyint=20:scenecut=0:bframes=0:log-level=0"}),
    "hevc with B": (
        "libx265",
        {"x265-params": "keyint=20:scenecut=0:bframes=2:b-adapt=0:log-level=0"},
    ),
    "mpeg2": ("mpeg2video", {"sc_threshold": 10**9}),
    "mpeg2 with B": ("mpeg2video", {"sc_threshold": 10**9, "bf": 2}),
}


def scanned(path: Path) -> tuple[dict[int, bytes], dict[int, str]]:
    """The frames that are given, by index, and those that are broken."""
    broken: dict[int, str] = {}
    return {index: frame.tobytes() for index, frame in scan_frames(path, broken)}, broken


def must_be_damaged_until_the_next_keyframe(path: Path, whole: Path, first: int) -> None:
    right = set(scanned(whole)[0].values())
    given, broken = scanned(path)
    assert len(right) == 60
    assert all(frame in right for frame in given.values())  # nothing smeared is given
    assert first - 3 <= min(broken) <= first + 1
    assert 36 <= max(broken) <= 40  # keyframes lie near 0, 20 and 40
    assert 10 <= len(broken) <= 19
    with pytest.raises(DecodeError, match=f"frame {max(broken)} is damaged"):
        read_frames(path, lambda n: np.array([0, max(broken)]))
    read_frames(path, lambda n: np.array([0, min(broken) - 1, max(broken) + 1]))
    assert "is damaged" in (inspect_clip(str(path)).error or "")


@pytest.mark.parametrize("lost", ["half", "end", "beginning", "all"])
@pytest.mark.parametrize("kind", LOSSY)
def test_what_is_lost_on_the_way_spreads_to_the_next_keyframe(
    tmp_path: Path, kind: str, lost: str
) -> None:
    codec, options = LOSSY[kind]
    whole = encode(tmp_path / "whole.ts", codec, moving(60), rate=25, **options)
    data = whole.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    pictures: list[list[int]] = []  # the packets of each
    for number, packet in enumerate(packets):
        if packet[1] & 31 == 1 and packet[2] == 0:  # the stream's number: 256
            if packet[1] & 64:
                pictures.append([])
            pictures[-1].append(number)
    of = pictures[25]
    gone = {"half": of[len(of) // 2 :], "end": of[-1:], "beginning": of[:1], "all": of}[lost]
    path = tmp_path / "lost.ts"
    path.write_bytes(b"".join(packet for i, packet in enumerate(packets) if i not in gone))
    must_be_damaged_until_the_next_keyframe(path, whole, 25)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("kind", LOSSY)
def test_a_picture_that_is_gone_damages_those_up_to_the_next_keyframe(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    codec, options = LOSSY[kind]
    whole = encode(tmp_path / f"whole{suffix}", codec, moving(60), rate=25, **options)
    # Others refer to the picture of packet 25.
    path = encode(tmp_path / f"a{suffix}", codec, moving(60), rate=25, gone=25, **options)
    must_be_damaged_until_the_next_keyframe(path, whole, 25)


@pytest.mark.parametrize("format", ["gray", "gray10le", "gray12le", "gray16le"])
@pytest.mark.parametrize("is_limited", [True, False])
def test_grey_of_limited_range(tmp_path: Path, format: str, is_limited: bool) -> None:
    bits = {"gray": 8, "gray10le": 10, "gray12le": 12, "gray16le": 16}[format]
    luma = np.repeat([16, 235], 32)[None].repeat(48, axis=0) << (bits - 8)
    picture: Any = luma.astype(np.uint8 if bits == 8 else np.uint16)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, format
        stream.codec_context.color_range = 1 if is_limited else 2
        frame = av.VideoFrame.from_ndarray(picture, format=format)
        frame.color_range = 1 if is_limited else 2
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (shown,) = iter_frames(path)
    assert shown[0, [0, -1]].tolist() == (
        [[0] * 3, [255] * 3] if is_limited else [[16] * 3, [235] * 3]
    )


def test_what_cameras_put_behind_a_picture(tmp_path: Path) -> None:
    data = jpeg(tmp_path / "1.jpg", moving(1)[0])
    for number, more in enumerate([data, b"\0" * 99, b"\xff\xda notes", b"\xff\xd9\xff\xda"], 2):
        (tmp_path / f"{number}.jpg").write_bytes(with_exif(data, 1) + more)
    frames = list(iter_frames(tmp_path))
    assert len(frames) == 5
    assert all(np.array_equal(frame, frames[0]) for frame in frames)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_pictures_that_are_cut_off(tmp_path: Path, share: float) -> None:
    data = with_exif(jpeg(tmp_path / "1.jpg", moving(1)[0]), 1)
    (tmp_path / "1.jpg").write_bytes(data[: round(len(data) * share)])
    with pytest.raises(DecodeError, match="cut off"):
        list(iter_frames(tmp_path))


def test_a_picture_that_lacks_a_part(tmp_path: Path) -> None:
    data = jpeg(tmp_path / "1.jpg", moving(1)[0])
    (tmp_path / "1.jpg").write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 400 :])
    with pytest.raises(DecodeError, match="can't be decoded"):
        list(iter_frames(tmp_path))


CAMERA_JPEGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimised": {"optimize": True, "quality": 60},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "full colour": {"subsampling": 0},
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", CAMERA_JPEGS)
def test_no_whole_picture_is_called_damaged(tmp_path: Path, kind: str, mode: str) -> None:
    for number, size in enumerate([(96, 128), (17, 33), (8, 8), (61, 50), (1, 9)]):
        for shade, picture in enumerate([moving(1, 96, 128)[0], FOUR, FOUR * 0, FOUR * 0 + 255]):
            path = tmp_path / f"{number}{shade}" / "1.jpg"
            path.parent.mkdir()
            rows, columns = size
            image = Image.fromarray(np.resize(picture, (96, 128, 3))[:rows, :columns]).convert(mode)
            image.save(path, "JPEG", **{"quality": 90, **CAMERA_JPEGS[kind]})
            path.write_bytes(with_exif(path.read_bytes(), 1) + b"notes")
            assert scanned(path.parent)[1] == {}


def test_check_finds_damaged_scans(tmp_path: Path) -> None:
    rng, found, refused = np.random.default_rng(0), 0, 0
    photo = np.cumsum(np.cumsum(rng.normal(0, 6, (96, 128, 3)), axis=0), axis=1)
    picture = (128 + 90 * np.sin(photo / 60) + rng.normal(0, 8, photo.shape)).clip(0, 255)
    path = tmp_path / "1.jpg"
    Image.fromarray(picture.astype(np.uint8)).save(path, quality=85)
    data = path.read_bytes()
    for _ in range(60):
        place = int(rng.integers(data.rfind(b"\xff\xda") + 20, len(data) - 60))
        path.write_bytes(data[:place] + data[place + 50 :])
        broken = scanned(tmp_path)[1]
        found += bool(broken)
        try:
            read_frames(tmp_path, lambda n: np.arange(n))
        except DecodeError:
            refused += 1
            assert broken
        assert all("damaged" in reason or "decoded" in reason for reason in broken.values())
    assert found > refused > 0  # reading for training has no time for all of it


@pytest.mark.parametrize("size", [(96, 128), (150, 90), (37, 61), (240, 427)])
@pytest.mark.parametrize("multiscale", [True, False])
def test_frames_reduced_one_by_one_are_those_reduced_together(
    tmp_path: Path, size: tuple[int, int], multiscale: bool
) -> None:
    path = encode(tmp_path / "a.avi", "mjpeg", moving(9, *size), pix_fmt="yuvj420p")
    spec = ClipSpec(("a", "b"), num_segments=4, short_side=48, crop_size=32)
    whole, _ = read_frames(path, lambda n: eval_indices(spec, n, 2).reshape(-1))
    assert torch.equal(read_views(str(path), spec, 2, 3), eval_views(whole, spec, 3))
    record, augmentation = VideoRecord("a", str(path), 0), Augmentation(multiscale=multiscale)
    (view,) = TrainClips([record], spec, augmentation, seed=3)[2, 0].views  # pyright: ignore
    rng = sample_rng(3, 2, 0)
    chosen = int(rng.integers(2**63))
    frames, _ = read_frames(path, lambda n: train_indices(spec, n, np.random.default_rng(chosen)))
    frames = (random_multiscale_crop if multiscale else random_crop)(frames, spec, rng)
    if rng.random() < augmentation.flip:
        frames = frames.flip(-1)
    if augmentation.brightness:
        frames = jitter_brightness_contrast(frames, augmentation.brightness, rng)
    assert torch.equal(view, frames)


@pytest.mark.parametrize("suffix", [".avi", ".png", ".jpg"])
def test_a_limit_on_pixels(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if suffix == ".avi":
        path = encode(tmp_path / "a.avi", "mpeg4", moving(3))
    else:
        path, codec = tmp_path, "png" if suffix == ".png" else "mjpeg"
        pix_fmt = "rgb24" if suffix == ".png" else "yuvj420p"
        encode(tmp_path / f"1{suffix}", codec, moving(1), format="image2", pix_fmt=pix_fmt)
    monkeypatch.setenv("GTDNET_MAX_PIXELS", str(96 * 128))
    assert next(iter_frames(path)).shape == (96, 128, 3)
    monkeypatch.setenv("GTDNET_MAX_PIXELS", str(96 * 128 - 1))
    with pytest.raises(DecodeError, match="128x96 have more pixels than the limit of 12287"):
        next(iter_frames(path))


def test_pictures_too_long_to_resize(tmp_path: Path) -> None:
    pictures = [np.zeros((2, 2000, 3), np.uint8)]
    encode(tmp_path / "1.png", "png", pictures, format="image2", pix_fmt="rgb24")
    with pytest.raises(DecodeError, match="longer than 512:1"):
        next(iter_frames(tmp_path))


def test_a_small_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mkv", "libx264", moving(30))
    opened: list[Path] = []
    plain = video._open
    monkeypatch.setattr(video, "_open", lambda path: opened.append(path) or plain(path))
    once, _ = read_frames(path, lambda n: np.arange(n))
    assert len(opened) == 1
    monkeypatch.setattr(video, "_MAX_KEPT", 0)
    twice, _ = read_frames(path, lambda n: np.arange(n))
    assert len(opened) == 3
    assert torch.equal(once, twice)


@pytest.mark.parametrize(
    ("codec", "options"), [*LOSSY.values(), ("libvpx", {"auto-alt-ref": 1, "lag-in-frames": 9})]
)
def test_decoding_stops_at_the_last_chosen_frame(
    tmp_path: Path, codec: str, options: dict[str, Any]
) -> None:
    path = encode(tmp_path / "a.mkv", codec, moving(60), rate=25, **options)
    for last in range(8, 14):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            fed: list[int] = []
            packets = (fed.append(p.size) or p for p in container.demux(stream) if p.size)
            pictures = damage.Pictures(packets, stream, last)
            assert next(picture for picture in pictures if picture[0] == last)[1]
            assert not pictures.is_short
            assert len(fed) <= last + 3 + stream.codec_context.reorder_depth
