"""A shard is a plain ZIP file, gives what was written, and notices every byte that is not."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.decode import probe, read_frames
from gtdnet.data.pack.shards import (
    MANIFEST,
    ClipEntry,
    NewClip,
    packed_clip,
    read_shard,
    write_shard,
)
from gtdnet.errors import DecodeError, InputError

PICTURES = {  # by clip; stand-ins for JPEG files, which shards do not look into
    "val/up/a.mp4": [b"first", b"second picture", b"3"],
    "val/ü/b": [b"x"],
}


def new_clip(folder: Path, name: str, pictures: list[bytes], **entry: Any) -> NewClip:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / str(len(list(folder.iterdir())))
    part.write_bytes(b"".join(pictures))
    values = {"start": 0, "frames": len(pictures), **entry}
    return NewClip(name, ClipEntry(**values), part, tuple(map(len, pictures)))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    clips = [new_clip(tmp_path / "parts", name, p, fps=10.0) for name, p in PICTURES.items()]
    write_shard(tmp_path / "clips-00000.zip", clips)
    assert not list((tmp_path / "parts").iterdir())
    return tmp_path / "clips-00000.zip"


def read(path: Path, *indices: int) -> dict[int, bytes]:
    clip = packed_clip(path)
    assert clip is not None
    return dict(clip.read(indices))


def test_layout(shard: Path) -> None:
    with zipfile.ZipFile(shard) as archive:
        assert archive.testzip() is None
        members = [(m.filename, m.file_size, m.compress_type) for m in archive.infolist()]
        assert members[:-1] == [
            ("val/up/a.mp4/00001.jpg", 5, zipfile.ZIP_STORED),
            ("val/up/a.mp4/00002.jpg", 14, zipfile.ZIP_STORED),
            ("val/up/a.mp4/00003.jpg", 1, zipfile.ZIP_STORED),
            ("val/ü/b/00001.jpg", 1, zipfile.ZIP_STORED),
        ]
        assert archive.infolist()[-1].filename == "manifest.json"
        assert {m.date_time for m in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("manifest.json")) == {
            "gtdnet_shard": 1,
            "clips": {
                "val/up/a.mp4": {"start": 0, "frames": 3, "fps": 10.0},
                "val/ü/b": {"start": 3 * (46 + 22), "frames": 1, "fps": 10.0},
            },
        }


def test_single_frames(shard: Path) -> None:
    assert read(shard / "val/up/a.mp4", 1) == {1: b"second picture"}
    assert read(shard / "val/up/a.mp4", 0, 2) == {0: b"first", 2: b"3"}
    assert read(shard / "val/ü/b", 0) == {0: b"x"}
    assert list(read_shard(shard)) == list(PICTURES)


def test_what_leads_into_no_shard(tmp_path: Path) -> None:
    folder = tmp_path / "odd.zip"
    folder.mkdir()
    assert packed_clip(Path("a/b.mp4")) is None
    assert packed_clip(Path("a/b.zip")) is None
    assert packed_clip(folder / "clip.mp4") is None


def test_broken_frames_have_no_picture_and_keep_their_numbers(tmp_path: Path) -> None:
    clip = new_clip(
        tmp_path / "parts", "a", [b"0", b"2", b"3"],
        frames=9, packets=10, end=5, reason="it broke off", broken={1: "one", 4: "four"},
    )  # fmt: skip
    write_shard(tmp_path / "clips-00000.zip", [clip])
    path = tmp_path / "clips-00000.zip" / "a"
    assert read(path, 0, 2, 3) == {0: b"0", 2: b"2", 3: b"3"}
    with zipfile.ZipFile(tmp_path / "clips-00000.zip") as archive:
        names = archive.namelist()
    assert names == ["a/00001.jpg", "a/00003.jpg", "a/00004.jpg", "manifest.json"]
    for index, reason in {1: "one", 4: "four", 5: "it broke off", 8: "it broke off"}.items():
        with pytest.raises(DecodeError, match=f"its original was broken: {reason}, then pack"):
            read(path, 0, index)
    entry = read_shard(tmp_path / "clips-00000.zip")["a"]
    assert (entry.stored, entry.packets, entry.broken) == (3, 10, {1: "one", 4: "four"})


def test_more_members_than_the_end_of_the_directory_can_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 20)  # instead of 65,535
    pictures = [b"%d" % i for i in range(30)]
    clips = [new_clip(tmp_path / "parts", name, pictures) for name in "ab"]
    write_shard(tmp_path / "clips-00000.zip", clips)
    assert b"PK\6\6" in (tmp_path / "clips-00000.zip").read_bytes()  # ZIP64's end of directory
    assert read(tmp_path / "clips-00000.zip" / "b", 0, 29) == {0: b"0", 29: b"29"}


def test_numbers_of_six_digits() -> None:
    entry = ClipEntry(0, 100_000)
    assert entry.picture("a", 0) == "a/000001.jpg"
    assert entry.picture("a", 99_999) == "a/100000.jpg"
    assert ClipEntry(0, 99_999, packets=100_000).picture("a", 0) == "a/000001.jpg"


def test_the_size_that_is_planned_is_the_size_that_is_written(tmp_path: Path) -> None:
    clips = [new_clip(tmp_path / "parts", name, p) for name, p in PICTURES.items()]
    planned = sum(clip.num_bytes() for clip in clips)
    write_shard(tmp_path / "clips-00000.zip", clips)
    with zipfile.ZipFile(tmp_path / "clips-00000.zip") as archive:
        manifest = archive.getinfo(MANIFEST).file_size + 2 * len(MANIFEST) + 76
    assert (tmp_path / "clips-00000.zip").stat().st_size == planned + manifest + 22


@pytest.mark.parametrize("change", [0x01, 0x80])
def test_a_changed_byte_anywhere_is_noticed_or_harmless(
    shard: Path, tmp_path: Path, change: int
) -> None:
    whole = shard.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        other = tmp_path / f"{place}.zip"
        other.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        for name, pictures in PICTURES.items():
            try:
                found = read(other / name, *range(len(pictures)))
            except DecodeError as error:
                assert error.path == str(other / name)
                assert other.name in error.reason
                assert "pack the dataset again" in error.reason
                noticed += 1
            else:
                assert found == dict(enumerate(pictures))
        other.unlink()
    assert noticed > len(whole) / 2


def test_a_shard_that_is_cut_off_anywhere_is_noticed(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    for length in range(len(whole)):
        other = tmp_path / f"{length}.zip"
        other.write_bytes(whole[:length])
        with pytest.raises(DecodeError, match="is damaged"):
            read(other / "val/up/a.mp4", 0)
        with pytest.raises(InputError, match="is damaged"):
            read_shard(other)
        other.unlink()


def test_a_shard_that_is_replaced_is_read_anew(shard: Path, tmp_path: Path) -> None:
    path = shard / "val/ü/b"
    assert read(path, 0) == {0: b"x"}
    write_shard(shard, [new_clip(tmp_path / "parts", "val/ü/b", [b"new"])])
    os.utime(shard, ns=(0, 0))
    assert read(path, 0) == {0: b"new"}


def test_what_is_not_there(shard: Path) -> None:
    with pytest.raises(DecodeError, match=r"its shard clips-00001\.zip can't be opened \(No such"):
        packed_clip(shard.with_name("clips-00001.zip") / "a")
    for name in ("val/up", "val/up/a.mp4/00001.jpg", "../clips-00000.zip/val/up/a.mp4", "x"):
        with pytest.raises(DecodeError, match="there is no such clip"):
            packed_clip(Path(f"{shard}/{name}"))


GOOD = {"start": 0, "frames": 3}


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"gtdnet_shard": 2, "clips": {}}',
        *(
            json.dumps({"gtdnet_shard": 1, "clips": clips}).encode()
            for clips in (
                [], {"a": 1}, {"a": {}},
                {"a": {**GOOD, "frames": -1}}, {"a": {**GOOD, "start": -9}},
                {"a": {**GOOD, "start": 1.5}}, {"a": {**GOOD, "fps": "x"}}, {"a": {**GOOD, "b": 1}},
                {"a": {**GOOD, "broken": {"x": 1}}}, {"a": {**GOOD, "broken": [1]}},
                {"a": {**GOOD, "end": 1}}, {"a": {**GOOD, "frames": 10**30, "start": 10**30}},
                {"a": {**GOOD, "start": 1}}, {"a": {**GOOD, "frames": 100_000}},
                {"a": {**GOOD, "start": 46 + 13}}, {"../../a": GOOD},
            )
        ),
    ],
)  # fmt: skip
def test_a_manifest_that_lies_harms_nothing(tmp_path: Path, manifest: bytes) -> None:
    shard = tmp_path / "clips-00000.zip"
    with zipfile.ZipFile(shard, "w") as archive:
        for name in ("a/00001.jpg", "a/00002.jpg", "a/00003.jpg"):
            archive.writestr(name, b"content")
        archive.writestr(MANIFEST, manifest)
    with pytest.raises(DecodeError, match=r"clips-00000\.zip"):
        read(shard / "a", 2)


def test_compressed_members_are_not_read(tmp_path: Path) -> None:
    shard = tmp_path / "clips-00000.zip"
    with zipfile.ZipFile(shard, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps({"gtdnet_shard": 1, "clips": {"a": GOOD}}))
    with pytest.raises(DecodeError, match="it is compressed"):
        packed_clip(shard / "a")


def jpeg(grey: int, height: int = 32) -> bytes:
    encoder = av.VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = height, 48, "yuvj420p"
    encoder.time_base = 1  # type: ignore[assignment]
    frame = av.VideoFrame.from_ndarray(np.full((height, 48, 3), grey, np.uint8), format="rgb24")
    return b"".join(bytes(p) for f in (frame, None) for p in encoder.encode(f))


def test_decoding(tmp_path: Path) -> None:
    pictures = [jpeg(20 * i) for i in range(10)]
    write_shard(
        tmp_path / "clips-00000.zip",
        [
            new_clip(tmp_path / "p", "a", pictures, fps=12.5, seconds=0.8),
            new_clip(tmp_path / "p", "fewer", pictures[:6], packets=8),
            new_clip(tmp_path / "p", "sizes", [jpeg(0), jpeg(0, 16)]),
            new_clip(tmp_path / "p", "text", [b"no JPEG file"]),
            new_clip(tmp_path / "p", "none", [], end=0, reason="it is empty"),
        ],
    )
    shard = tmp_path / "clips-00000.zip"
    frames, num_frames = read_frames(shard / "a", lambda n: np.array([9, 0, 3, 3]))
    assert (tuple(frames.shape), num_frames) == ((4, 3, 32, 48), 10)
    assert np.abs(frames.float().mean((1, 2, 3)).numpy() - [180, 0, 60, 60]).max() < 2
    info = probe(shard / "a")
    assert (info.num_frames, info.height, info.width) == (10, 32, 48)
    assert (info.fps, info.duration) == (12.5, 0.8)
    # As of a video with packets that give no picture: a second choice only where it is needed.
    asked: list[int] = []
    choose = lambda n: (asked.append(n), np.array([n - 1]))[1]  # noqa: E731
    assert read_frames(shard / "fewer", choose)[1] == 6
    assert asked == [8, 6]
    assert read_frames(shard / "fewer", lambda n: np.array([5]))[1] == 8
    for name, reason in {
        "sizes": "differ in size",
        "text": "frame 0 can't be decoded",
        "none": "its original was broken: it is empty",
    }.items():
        with pytest.raises(DecodeError, match=reason):
            read_frames(shard / name, lambda n: np.arange(n))


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 1000])
def test_more_or_fewer_pictures_than_the_manifest_says(shard: Path, frames: int) -> None:
    with zipfile.ZipFile(shard) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    manifest["clips"]["val/up/a.mp4"]["frames"] = frames
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(shard, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DecodeError, match=f"has not the {frames} pictures of it that it says"):
        read(shard / "val/up/a.mp4", 0)
    assert read(shard / "val/ü/b", 0) == {0: b"x"}
