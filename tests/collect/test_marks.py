"""A video cut by a list of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gtdnet.collect.clips import NewClip, check_class_names
from gtdnet.collect.marks import Mark, cut, read_marks
from gtdnet.data.decode import ClipReader
from gtdnet.infer.draw import VideoWriter


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four seconds of 10 frames/s, each brighter than the one before by 5."""
    path = tmp_path / "long.mp4"
    writer = VideoWriter(path)
    for i in range(40):
        writer.write(np.full((32, 48, 3), 5 * i, np.uint8), i / 10, (i + 1) / 10)
    writer.close()
    return path


def frames_of(path: Path) -> list[int]:
    """Which frames of the video a clip shows."""
    return [round(float(rgb.mean()) / 5) for _, rgb in ClipReader(str(path)).frames()]


def test_frames_shown_within_a_mark_are_its_clip(video: Path, tmp_path: Path) -> None:
    marks = [Mark(0.5, 1.0, "a"), Mark(0.8, 1.2, "b"), Mark(3.8, 9, "a")]
    paths, reason = cut(video, marks, tmp_path / "out")
    assert reason is None
    found = {str(path.relative_to(tmp_path / "out")): frames_of(path) for path in paths}
    assert found == {
        "a/long_00000.50-00001.00.mp4": [5, 6, 7, 8, 9],
        "b/long_00000.80-00001.20.mp4": [8, 9, 10, 11],
        "a/long_00003.80-00009.00.mp4": [38, 39],
    }
    times = ClipReader(str(paths[0])).times()
    assert times is not None
    np.testing.assert_allclose(times, np.arange(6) / 10, atol=1e-3)


def test_nothing_is_written_twice_or_beyond_the_end(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"lasts 4.00 s, so there is nothing at 4 s \(a\)"):
        cut(video, [Mark(0, 1, "a"), Mark(4, 5, "a")], out)
    with pytest.raises(ValueError, match="would be written twice"):
        cut(video, [Mark(0, 1, "a"), Mark(0, 1, "a")], out)
    assert not out.exists()
    cut(video, [Mark(0, 1, "a")], out)
    with pytest.raises(ValueError, match="exists; choose another folder"):
        cut(video, [Mark(0, 1, "a")], out)


def test_a_mark_between_two_frames_leaves_nothing(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no frame is shown from 0.51 to 0.55 s \(b\)"):
        cut(video, [Mark(0.3, 3, "a"), Mark(0.51, 0.55, "b")], tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start,end,label\n1,2.5,wave\n", [Mark(1, 2.5, "wave")]),
        ("label,end,start\nnod,1:02:03.5,1:02\n", [Mark(62, 3723.5, "nod")]),
        ("start,end,label\n5,6,b\n1,2,a\n", [Mark(1, 2, "a"), Mark(5, 6, "b")]),
    ],
)
def test_marks(text: str, expected: list[Mark], tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text(text)
    assert read_marks(tmp_path / "marks.csv") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("start,end\n1,2\n", "has no column label"),
        ("start,end,label\n", "has no marks"),
        ("start,end,label\n1,soon,a\n", "line 2: 'soon' is no time"),
        ("start,end,label\n1:75,2,a\n", "line 2: '1:75' is no time"),
        ("start,end,label\n2,1,a\n", "line 2: the clip ends at 1, not after 2"),
        ("start,end,label\n1,2,../a\n", "a class cannot be called '../a'"),
        ("start,end,label\n1,2,\n", "a class cannot be called ''"),
    ],
)
def test_what_is_no_list_of_marks_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_marks(tmp_path / "marks.csv")
    assert sentence in str(caught.value)


def test_a_dropped_clip_leaves_nothing(tmp_path: Path) -> None:
    clip = NewClip(tmp_path / "out" / "a" / "1.mp4")
    clip.write(np.zeros((32, 32, 3), np.uint8), 0)
    clip.drop()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("names", [["a", "a"], [""], [" a"], [".."], ["a/b"], [".a"], ["a\n"]])
def test_names_that_no_folder_can_have(names: list[str]) -> None:
    with pytest.raises(ValueError):
        check_class_names(names)
