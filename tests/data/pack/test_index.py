"""The index of a packed dataset: what it gives, and what is said where it cannot be trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet.data.check import check_dataset
from gtdnet.data.decode import read_frames
from gtdnet.data.formats import detect_format, list_splits, read_annotations
from gtdnet.data.pack.index import changed_files, find_clips
from gtdnet.data.pack.write import PackOptions, pack
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer.find import find_videos


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    write_dataset(root / "data", format="list", edition="easy", train=3, validation=2, size=32,
                  workers=1)  # fmt: skip
    pack(PackOptions(str(root / "data"), str(root / "packed"), workers=1))
    return root / "packed"


@pytest.fixture
def packed(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "packed"))


def test_it_is_recognised_and_can_be_moved(packed: Path) -> None:
    moved = packed.rename(packed.with_name("elsewhere"))
    assert detect_format(moved) == "packed"
    assert list_splits(moved) == ("train", "validation")
    found = read_annotations(moved, "validation", "list")  # what the original was does not matter
    assert found.format == "packed"
    first = found.records[0]
    assert first.path == str(moved / "clips-00000.zip" / "videos" / f"{Path(first.id).name}.mp4")
    read_frames(first.path, lambda n: np.arange(n))
    with pytest.raises(InputError, match=r"has no test split \(it has train, validation\)"):
        read_annotations(moved, "test")


def names(paths: list[Path] | None, root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in paths or ())


def test_find_clips(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [f"clips-00000.zip/videos/{i}.mp4" for i in range(1, 6)]
    monkeypatch.chdir(packed.parent)
    for inside, expected in {
        "": everything,
        "videos": everything,
        "videos/1.mp4": everything[:1],
        "clips-00000.zip": everything,
        "clips-00000.zip/videos": everything,
        "clips-00000.zip/videos/2.mp4": everything[1:2],
        "videos/[12].mp4": everything[:2],
        "clips-00000.zip/*/3.*": everything[2:3],
        "videos/1": [],
        "vid": [],
    }.items():
        found = find_clips(packed / inside)
        assert names(found, packed) == expected, inside
        relative = find_clips(Path("packed", inside))
        assert names(relative, Path("packed")) == expected, inside
    (packed.parent / "plain").mkdir()
    for other in (packed.parent, packed.parent / "plain", packed.parent / "plain" / "none.mp4"):
        assert find_clips(other) is None


def test_a_clip_is_read_by_its_name_in_the_original(packed: Path) -> None:
    frames, num_frames = read_frames(packed / "videos" / "1.mp4", lambda n: np.arange(n))
    assert len(frames) == num_frames >= 12
    for name in ("videos/6.mp4", "videos", "other/1.mp4"):
        with pytest.raises(DecodeError, match="there is no such file or folder"):
            read_frames(packed / name, lambda n: np.arange(n))


def test_find_videos(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [f"packed/clips-00000.zip/videos/{i}.mp4" for i in range(1, 6)]
    monkeypatch.chdir(packed.parent)
    for pattern in (
        "packed",
        ".",
        "packed/*.zip",
        "pack*",
        "packed/videos",
        "packed/clips-00000.zip",
    ):
        assert [path.as_posix() for path in find_videos([pattern])] == everything, pattern
    assert [p.as_posix() for p in find_videos(["packed/videos/4.mp4", "packed"])][:2] == [
        everything[3], everything[0],
    ]  # fmt: skip
    with pytest.raises(InputError, match="check the path"):
        find_videos(["packed/none"])


def test_a_manifest_and_a_list_of_packed_clips(packed: Path, tmp_path: Path) -> None:
    report = check_dataset(packed, workers=0, manifest=tmp_path / "good.json")
    assert report.ok
    assert report.splits["train"].fps == {"12": 3}
    assert report.splits["train"].seconds is not None
    found = read_annotations(tmp_path / "good.json", "train")
    assert (len(found.records), len(found.missing)) == (3, 0)
    clips = [record.path for record in found.records]
    (tmp_path / "train.txt").write_text(f"{clips[0]} 0\n{clips[1]} 1\n{clips[1]}x 1\n")
    found = read_annotations(tmp_path / "train.txt")
    assert [record.path for record in found.records] == clips[:2]
    assert len(found.missing) == 1


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        index = json.loads((root / "pack.json").read_text())
        change(index)
        (root / "pack.json").write_text(json.dumps(index))

    return write


def clip(root: dict[str, Any]) -> dict[str, Any]:
    return root["splits"]["train"]["clips"][0]


def replaced(path: str, content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / path).write_bytes(content)

    return write


DAMAGED = r"the index \S+/pack\.json is damaged; copy it again, or pack the dataset again"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "clips-00000.zip").unlink(),
            r"the shard \S+/clips-00000\.zip can't be opened \(No such file or directory\); its "
            r"clips, from videos/\d\.mp4 on, can't be read; copy it again",
        ),
        (replaced("clips-00000.zip", b"PK"), r"clips-00000\.zip has 2 bytes instead of \d+; its"),
        (replaced("pack.json", b"{"), DAMAGED),
        (replaced("pack.json", b"[1]"), DAMAGED),
        (replaced("pack.json", b"\xff"), DAMAGED),
        (replaced("pack.json", b"[" * 100_000), DAMAGED),
        (edit(lambda i: i.update(gtdnet_pack=2)), "is of version 2, not 1; pack the dataset again"),
        (edit(lambda i: i["shards"][0].update(name="../clips-00000.zip")), DAMAGED),
        (edit(lambda i: i["shards"][0].update(name=3)), DAMAGED),
        (edit(lambda i: i.pop("splits")), DAMAGED),
        (edit(lambda i: i.pop("class_names")), DAMAGED),
        (edit(lambda i: i.update(class_names=[1, 2, 3] * 9)), DAMAGED),
        (edit(lambda i: i.update(class_names=None)), DAMAGED),
        (edit(lambda i: i.update(class_names="a name of many letters")), DAMAGED),
        (edit(lambda i: i.update(splits=5)), DAMAGED),
        (edit(lambda i: clip(i).update(label=99)), DAMAGED),
        (edit(lambda i: clip(i).update(label="1")), DAMAGED),
        (edit(lambda i: clip(i).update(id=None)), DAMAGED),
        (edit(lambda i: clip(i).update(clip=None)), DAMAGED),
        (edit(lambda i: clip(i).update(clip="clips-00000.zip")), DAMAGED),
        (edit(lambda i: clip(i).update(clip="../../etc/passwd")), DAMAGED),
        (edit(lambda i: clip(i).update(clip="clips-00000.zip/../../../a.mp4")), DAMAGED),
        (edit(lambda i: clip(i).update(clip="/etc/passwd")), DAMAGED),
    ],
)  # fmt: skip
def test_damage_is_one_plain_sentence(
    packed: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(packed)
    with pytest.raises(InputError, match=message):
        read_annotations(packed, "train")
    assert detect_format(packed) == "packed"


def test_check_finds_every_changed_file(packed: Path) -> None:
    assert list(changed_files(packed)) == []
    shard = packed / "clips-00000.zip"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    assert list(changed_files(packed)) == [str(shard)]
    report = check_dataset(packed, workers=0)
    found = {f.code: f for f in report.findings}
    assert set(found) >= {"checksum", "unreadable"}
    assert found["checksum"].examples == (str(shard),)
    assert f"{shard}/videos/" in found["unreadable"].examples[0]
    assert (
        "is damaged in clips-00000.zip (its checksum does not match)"
        in (found["unreadable"].examples[0])
    )
    (packed / "SHA256SUMS").write_bytes(b"\xff\xb6  clips-00000.zip\n" * 3)
    assert len(list(changed_files(packed))) == 2
    (packed / "SHA256SUMS").unlink()
    assert len(list(changed_files(packed))) == 2
    assert list(changed_files(packed.parent)) == []
