"""Small inputs that once failed, where they are at hand (``shared/cases`` beside the clone).

Their kinds have tests of their own, on inputs made by code: docs/trust.md names them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gtdnet.cli import main
from gtdnet.data.check import check_dataset
from gtdnet.data.decode import frame_times, iter_frames, probe, read_frames
from gtdnet.data.formats import read_annotations
from gtdnet.errors import DecodeError
from gtdnet.infer.timeline import plan_times

CASES = Path(__file__).resolve().parents[1] / ".." / "shared" / "cases"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are absent")


@pytest.mark.parametrize("name", ["clip", "mjpeg_with_exif.avi"])
def test_exif(name: str) -> None:
    frames = list(iter_frames(CASES / "exif-frames" / name))
    assert [frame.shape for frame in frames] == 8 * [(64, 48, 3)]


def test_lost_frames() -> None:
    lost, whole = CASES / "lost-frames/half_a_picture_lost.ts", CASES / "lost-frames/whole.ts"
    sound = np.r_[0:25, 40:60]
    ours, _ = read_frames(lost, lambda _: sound)
    theirs, _ = read_frames(whole, lambda _: sound)
    assert (ours == theirs).all()
    for index in range(25, 40):
        with pytest.raises(DecodeError, match=f"frame {index}"):
            read_frames(lost, lambda _, index=index: np.array([index]))


@pytest.mark.parametrize("name", ["gray_hevc.mp4", "gray10_ffv1.mkv", "colour_hevc.mp4"])
def test_gray_limited(name: str) -> None:
    frame = next(iter_frames(CASES / "gray-limited" / name))
    assert (frame[:, 2].min(), frame[:, 2].max()) == (0, 0)
    assert (frame[:, -2].min(), frame[:, -2].max()) == (255, 255)


def test_vfr_timeline() -> None:
    video = CASES / "vfr-timeline/slows_down.mp4"
    times = frame_times(video)
    assert times is not None
    windows = plan_times(times, 2.0, 2.0)
    assert [span for span, _ in windows] == [(0, 60), (60, 70), (70, 80), (80, 90)]
    assert [seconds for _, seconds in windows] == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_one_class() -> None:
    assert "one-class" in [f.code for f in check_dataset(CASES / "one-class/data").findings]


def test_ucf101_lists() -> None:
    for split, group in ("train", "g08"), ("validation", "g01"):
        found = read_annotations(CASES / "ucf101-lists/data", split)
        assert sorted(record.label or 0 for record in found.records) == [0, 1, 2]
        assert all(group in record.id for record in found.records)
        assert found.class_names == ("Archery", "Basketball", "Biking")


def test_ignored_suffix() -> None:
    assert len(read_annotations(CASES / "ignored-suffix/data", "train").records) == 4


def test_dash_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (video,) = (CASES / "dash-name").iterdir()
    monkeypatch.chdir(video.parent)
    assert main(["predict", "model.safetensors", video.name]) == 2
    assert "or -- before the file names" in capfd.readouterr().err
    assert probe(video).num_frames


def test_linked_class_folder(tmp_path: Path) -> None:
    source = CASES / "one-class/data/train/only"
    (tmp_path / "train").mkdir()
    shutil.copytree(source, tmp_path / "train" / "down")
    (tmp_path / "train" / "up").symlink_to(source)
    assert len(read_annotations(tmp_path, "train").records) == 8
