"""Recordings: what was seen with labels on it, playable at any moment."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gtdnet.data.decode import frame_times, iter_frames
from gtdnet.errors import InputError
from gtdnet.infer.answers import ClassScore
from gtdnet.live.record import Recorder

SCORES = [ClassScore(0, "red", 0.7), ClassScore(2, "blue", 0.2)]
PICTURE = np.full((240, 320, 3), 200, np.uint8)


def frames(path: Path) -> list[np.ndarray]:
    return list(iter_frames(path))


def test_frames_times_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    recorder = Recorder(path, ["x"])
    times = [0.0, 0.1, 0.2, 0.5, 0.52]
    for time in times:
        recorder.write("x", PICTURE, time, SCORES, [("red", 0.3)])
    recorder.close()
    pictures = frames(path)
    assert [picture.shape for picture in pictures] == 5 * [(240, 320, 3)]
    shown = frame_times(path)
    assert shown is not None and shown[:-1] == pytest.approx(times, abs=1e-3)
    assert abs(pictures[0][:100].astype(int) - 200).max() < 8  # the upper part as it was
    assert pictures[0][-60:].std() > 20  # letters and bars below
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_it_can_be_played_while_it_is_written(tmp_path: Path) -> None:
    """So it can after a kill: the file has what was there then."""
    path = tmp_path / "out.mp4"
    recorder = Recorder(path, ["x"])
    recorder.write("x", PICTURE, 0.0, SCORES, [])
    recorder.write("x", PICTURE, 0.1, SCORES, [])
    assert not path.exists()  # there is nothing to play yet
    for number in range(2, 100):
        recorder.write("x", PICTURE, number / 10, SCORES, [])
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    with av.open(str(copy)) as container:
        assert 40 < sum(1 for _ in container.decode(video=0)) < 100
    recorder.close()
    recorder.close()
    assert len(frames(path)) == 100


def test_pictures_of_another_size_are_scaled(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4", ["x"])
    recorder.write("x", PICTURE, 0.0, SCORES, [])
    recorder.write("x", np.zeros((481, 359, 3), np.uint8), 1.0, SCORES, [])
    recorder.close()
    assert [picture.shape for picture in frames(tmp_path / "out.mp4")] == 2 * [(240, 320, 3)]


def test_small_and_odd_pictures(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "out.mp4", ["x"])
    recorder.write("x", np.zeros((1, 1, 3), np.uint8), 0.0, [], [])
    recorder.write("x", np.zeros((1, 1, 3), np.uint8), 0.1, SCORES, [])
    recorder.close()
    assert len(frames(tmp_path / "out.mp4")) == 2


def test_several_sources_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["door", "a.mp4", "a.mkv", "rtsp://h/x", "../.."]
    recorder = Recorder(tmp_path / "out", names)
    for name in names:
        recorder.write(name, PICTURE, 0.0, SCORES, [])
    recorder.close()
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["a-2.mp4", "a.mp4", "door.mp4", "rtsp---h-x.mp4", "source.mp4"]


def test_places_that_do_not_do(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; add --overwrite to replace it"):
        Recorder(path, ["x"])
    with pytest.raises(InputError, match=r"the recording must be a video \(\*.mp4\)"):
        Recorder(tmp_path / "out.avi", ["x"])
    with pytest.raises(InputError, match="one file cannot hold 2 sources; give a folder"):
        Recorder(tmp_path / "b.mp4", ["x", "y"])
    recorder = Recorder(path, ["x"], overwrite=True)
    assert path.read_bytes() == b"mine"  # until there is something in its place
    for number in range(40):
        recorder.write("x", PICTURE, number / 10, SCORES, [])
    recorder.close()
    assert len(frames(path)) == 40
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
