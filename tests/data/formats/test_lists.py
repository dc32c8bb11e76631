"""Lists whose labels count from 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError


def _clips(root: Path, **lists: str) -> Path:
    for name, text in lists.items():
        (root / f"{name}.txt").write_text(text)
    for clip in "abc":
        (root / f"{clip}.mp4").write_text("x")
    return root


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_from_1_are_refused(tmp_path: Path, split: str) -> None:
    root = _clips(tmp_path, train="a.mp4 1\nb.mp4 2\nc.mp4 2\n", val="c.mp4 1\n")
    with pytest.raises(InputError, match=r"train\.txt count from 1, not from 0; subtract 1"):
        read_annotations(root, split)
    (root / "classes.txt").write_text("none\nup\ndown\n")
    assert {record.label for record in read_annotations(root, "train").records} == {1, 2}


def test_labels_from_1_with_names_are_refused(tmp_path: Path) -> None:
    root = _clips(tmp_path, train="a.mp4 1\nb.mp4 2\n", classes="up\ndown\n")
    with pytest.raises(InputError, match=r"has label 2, but .* knows 2 classes, counted from 0"):
        read_annotations(root, "train")


@pytest.mark.parametrize("labels", [(0, 1), (1, 3), (2, 3), (1, 1)])
def test_other_gaps_are_let_through(tmp_path: Path, labels: tuple[int, int]) -> None:
    root = _clips(tmp_path, train="a.mp4 {}\nb.mp4 {}\n".format(*labels))
    assert [record.label for record in read_annotations(root).records] == list(labels)
