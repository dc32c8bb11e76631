"""What is odd about classes and labels; `gtdnet check` and `gtdnet train` say it alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtdnet.data.check import check_dataset
from gtdnet.data.findings import Finding, odd_classes, shared_clips
from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.train.run import train


def _annotations(names: tuple[str, ...], clips: int, split: str = "train") -> Annotations:
    records = tuple(VideoRecord(str(n), f"{n}.mp4", 0) for n in range(clips))
    return Annotations("folder", split, "data", names, records, ())


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        (("jump",), "one-class", "one class, 'jump'"),
        (("jump", "Val"), "split-as-class", "(Val)"),
        (("test_set", "train videos"), "split-as-class", "(test_set, train videos)"),
        (("Jump up", "jump_up", "run"), "similar-classes", "('Jump up' = 'jump_up')"),
        (tuple(map(str, range(9))), "few-clips", "9 classes, but 8 training clips"),
    ],
)
def test_odd_classes(names: tuple[str, ...], code: str, words: str) -> None:
    (found,) = odd_classes({"train": _annotations(names, 8)})
    assert (found.code, found.severity) == (code, "warning")
    assert words in found.sentence()


def test_ordinary_classes() -> None:
    names = ("run", "training a dog", "Jump", "+", "-")
    read = {split: _annotations(names, 8, split) for split in ("train", "validation")}
    assert not list(odd_classes(read))


def test_clips_in_two_splits() -> None:
    read = {"train": _annotations(("a", "b"), 3), "validation": _annotations(("a", "b"), 1)}
    (found,) = shared_clips(read)
    assert (found.code, found.examples) == ("leakage", ("0.mp4 (train, validation)",))


def test_a_finding_is_a_sentence() -> None:
    found = Finding("x", "info", 5, "Odd names: 5.", "Rename them.", ("a", "b", "c", "d"))
    assert found.sentence() == "Odd names: 5 (a, b, c, ...). Rename them."


def test_check_and_train_say_it(
    dataset: Path, tmp_path: Path, tiny: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "only").mkdir(parents=True)
        for number, clip in enumerate(sorted((dataset / split).glob("*/*"))[:3]):
            shutil.copy(clip, tmp_path / split / "only" / f"{number}{clip.suffix}")
    assert "one-class" in {found.code for found in check_dataset(tmp_path, workers=0).findings}
    train(tiny(tmp_path / "runs", data=str(tmp_path), epochs=1))
    assert "There is one class, 'only'" in " ".join(capsys.readouterr().err.split())
