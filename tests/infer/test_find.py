"""find_videos: files, folders and patterns to a natural order without repetitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError
from gtdnet.infer.find import find_videos


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "a/clip2.mp4", "a/clip10.MP4", "a/notes.txt", "a/b/deep.webm", "a/.hidden/x.mp4",
        "a/.partial.mp4", "frames/one/00001.jpg", "frames/one/00002.jpg", "frames/two/img_1.png",
        "odd[1].mp4", "named.bin", "empty/readme.txt",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a/clip2.mp4"], ["a/clip2.mp4"]),
        (["named.bin"], ["named.bin"]),
        (["odd[1].mp4"], ["odd[1].mp4"]),
        (["a"], ["a/b/deep.webm", "a/clip2.mp4", "a/clip10.MP4"]),
        (["a/*"], ["a/b/deep.webm", "a/clip2.mp4", "a/clip10.MP4"]),
        (["a/*.mp4"], ["a/clip2.mp4"]),
        (["**/*.webm"], ["a/b/deep.webm"]),
        (["frames"], ["frames/one", "frames/two"]),
        (["frames/two"], ["frames/two"]),
        (["frames/t*"], ["frames/two"]),
        (["a/clip10.MP4", "a"], ["a/clip10.MP4", "a/b/deep.webm", "a/clip2.mp4"]),
    ],
)
def test_found(root: Path, patterns: list[str], expected: list[str]):
    assert [path.as_posix() for path in find_videos(patterns)] == expected
    absolute = find_videos([root / pattern for pattern in patterns])
    assert absolute == [root / path for path in expected]


@pytest.mark.parametrize("pattern", ["none.mp4", "a/*.avi", "empty", "a/notes*"])
def test_nothing_found(root: Path, pattern: str):
    with pytest.raises(InputError, match="check the path") as error:
        find_videos(["a", pattern])
    assert str(error.value).startswith(pattern)


def test_linked_folders_are_read_as_training_reads_them(tmp_path: Path) -> None:
    for name in ("elsewhere/a.mp4", "frames/1/00001.jpg", "data/train/down/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    train = tmp_path / "data/train"
    (train / "up").symlink_to(tmp_path / "elsewhere")
    (train / "still").symlink_to("../../frames")
    found = find_videos([tmp_path / "data"])
    assert found == [train / name for name in ("down/b.mp4", "still/1", "up/a.mp4")]
    assert found == sorted(Path(r.path) for r in read_annotations(tmp_path / "data").records)


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "/", "../two"])
def test_links_that_lead_back(tmp_path: Path, target: str) -> None:
    root = tmp_path / "data"
    for name in ("one", "two"):
        (root / "train" / name).mkdir(parents=True)
        (root / "train" / name / "a.mp4").touch()
    (root / "train/one/back").symlink_to(target)
    (root / "train/two/back").symlink_to("../one")
    for read in (lambda: find_videos([root]), lambda: read_annotations(root)):
        with pytest.raises(InputError, match="a folder that it lies in; remove the link"):
            read()
