"""UCF101 and HMDB51: which fold is read, and what is refused. The layouts are in test_base.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gtdnet.data.check import check_dataset
from gtdnet.data.formats import detect_format, list_splits, read_annotations
from gtdnet.errors import InputError

LISTS = "ucfTrainTestlist"
SPLIT_LISTS = "testTrainMulti_7030_splits"


def _write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def ucf101(tmp_path: Path) -> Path:
    """Two classes of three clips, of which fold n tests on the n-th."""
    _write(tmp_path / LISTS / "classInd.txt", "1 Archery\n2 YoYo\n")
    for fold in (1, 2, 3):
        for name in ("Archery", "YoYo"):
            _write(tmp_path / f"UCF-101/{name}/{fold}.avi")
        train = [n for n in (1, 2, 3) if n != fold]
        lines = [f"Archery/{n}.avi 1\n" for n in train] + [f"YoYo/{n}.avi 2\n" for n in train]
        _write(tmp_path / LISTS / f"trainlist0{fold}.txt", "".join(lines))
        _write(tmp_path / LISTS / f"testlist0{fold}.txt", f"Archery/{fold}.avi\nYoYo/{fold}.avi\n")
    return tmp_path


@pytest.fixture
def hmdb51(tmp_path: Path) -> Path:
    """One class of three clips: fold 1 trains on a, tests on b and leaves c out, and so on."""
    for fold, uses in ((1, (1, 2, 0)), (2, (2, 0, 1)), (3, (0, 1, 2))):
        text = "".join(f"{clip}.avi {use} \n" for clip, use in zip("abc", uses, strict=True))
        _write(tmp_path / SPLIT_LISTS / f"run_test_split{fold}.txt", text)
    for clip in "abc":
        _write(tmp_path / f"hmdb51_org/run/{clip}.avi")
    return tmp_path


def _ids(root: Path) -> tuple[list[str], list[str]]:
    train, validation = (read_annotations(root, split) for split in ("train", "validation"))
    assert not train.missing
    assert not validation.missing
    return [r.id for r in train.records], [r.id for r in validation.records]


FOLDS = {
    "": (["Archery/2", "Archery/3", "YoYo/2", "YoYo/3"], ["Archery/1", "YoYo/1"]),
    f"{LISTS}/trainlist01.txt": (
        ["Archery/2", "Archery/3", "YoYo/2", "YoYo/3"],
        ["Archery/1", "YoYo/1"],
    ),
    f"{LISTS}/trainlist02.txt": (
        ["Archery/1", "Archery/3", "YoYo/1", "YoYo/3"],
        ["Archery/2", "YoYo/2"],
    ),
    f"{LISTS}/testlist03.txt": (
        ["Archery/1", "Archery/2", "YoYo/1", "YoYo/2"],
        ["Archery/3", "YoYo/3"],
    ),
    "UCF-101": (["Archery/2", "Archery/3", "YoYo/2", "YoYo/3"], ["Archery/1", "YoYo/1"]),
    LISTS: (["Archery/2", "Archery/3", "YoYo/2", "YoYo/3"], ["Archery/1", "YoYo/1"]),
}


@pytest.mark.parametrize("given", FOLDS)
def test_folds_of_ucf101(ucf101: Path, given: str) -> None:
    assert detect_format(ucf101 / given) == "ucf101"
    assert list_splits(ucf101 / given) == ("train", "validation")
    assert _ids(ucf101 / given) == FOLDS[given]


@pytest.mark.parametrize(
    ("given", "train", "validation"),
    [
        ("", "a", "b"),
        ("hmdb51_org", "a", "b"),
        (f"{SPLIT_LISTS}/run_test_split2.txt", "c", "a"),
        (f"{SPLIT_LISTS}/run_test_split3.txt", "b", "c"),
    ],
)
def test_folds_of_hmdb51(hmdb51: Path, given: str, train: str, validation: str) -> None:
    assert detect_format(hmdb51 / given) == "hmdb51"
    assert list_splits(hmdb51 / given) == ("train", "validation")
    assert _ids(hmdb51 / given) == ([f"run/{train}"], [f"run/{validation}"])


def test_another_dataset_beside_the_lists_is_not_theirs(ucf101: Path) -> None:
    _write(ucf101 / "mine/jump/a.mp4")
    assert detect_format(ucf101 / "mine") == "folder"


def test_lists_of_ones_own_beside_the_official_ones_are_asked_about(ucf101: Path) -> None:
    _write(ucf101 / "train.txt", "UCF-101/Archery/1.avi 0\n")
    with pytest.raises(InputError, match="looks like list and ucf101 at once; say which"):
        detect_format(ucf101)
    assert len(read_annotations(ucf101, "train", "list").records) == 1


def test_a_list_that_is_not_there_is_no_split(ucf101: Path) -> None:
    (ucf101 / LISTS / "trainlist01.txt").unlink()
    assert list_splits(ucf101) == ("validation",)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("trainlist01.txt", "YoYo/2.avi 1\n", r"YoYo/2.avi in .* number 1, but .* number 2 in"),
        ("trainlist01.txt", "Archery/2.avi 0\n", r"Archery/2.avi in .* number 0, but .* number 1"),
        ("trainlist01.txt", "Bowling/2.avi 1\n", r"Bowling/2.avi in .* is of no class in"),
        (
            "classInd.txt",
            "0 Archery\n1 YoYo\n",
            r"classInd.txt does not count its classes",
        ),
        ("classInd.txt", "Archery\nYoYo\n", r"classInd.txt does not count its classes"),
    ],
)
def test_lists_that_contradict_the_names(ucf101: Path, file: str, text: str, sentence: str) -> None:
    _write(ucf101 / LISTS / file, text)
    with pytest.raises(InputError, match=sentence):
        read_annotations(ucf101, "train")


def test_lists_without_names_are_refused(ucf101: Path) -> None:
    (ucf101 / LISTS / "classInd.txt").unlink()
    assert detect_format(ucf101) == "ucf101"
    assert detect_format(ucf101 / LISTS / "trainlist01.txt") == "list"
    with pytest.raises(InputError, match=r"classInd\.txt can't be read"):
        read_annotations(ucf101, "train")


def test_there_is_no_test_split(ucf101: Path) -> None:
    with pytest.raises(InputError, match="ucf101 has no test split: its test clips are for valid"):
        read_annotations(ucf101, "test")


def test_lists_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no lists of hmdb51; put {SPLIT_LISTS} into it"):
        read_annotations(tmp_path, "train", "hmdb51")


def test_a_use_that_is_none_is_refused(hmdb51: Path) -> None:
    _write(hmdb51 / SPLIT_LISTS / "run_test_split1.txt", "a.avi 1\nb.avi\n")
    with pytest.raises(InputError, match=r"ends in none of 0, 1 and 2: 'b\.avi'"):
        read_annotations(hmdb51, "train")


def _encode(path: Path, grey: int) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(8):
            picture = np.full((48, 64, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_clips_decode(ucf101: Path) -> None:
    for number, path in enumerate(sorted((ucf101 / "UCF-101").rglob("*.avi"))):
        _encode(path, 40 * number)
    report = check_dataset(ucf101, workers=0)
    assert (report.ok, {found.code for found in report.findings}) == (True, {"few-in-class"})
    assert (report.format, report.class_names) == ("ucf101", ("Archery", "YoYo"))
    readable = {split: numbers.readable for split, numbers in report.splits.items()}
    assert readable == {"train": 4, "validation": 2}
