"""A sitting with real frames, keys and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gtdnet.collect.options import CollectOptions
from gtdnet.collect.run import collect, counts_line, sit
from gtdnet.collect.session import Session
from gtdnet.data.decode import ClipReader
from gtdnet.infer.draw import VideoWriter
from gtdnet.live.sources import RGB, GivenSource, Patience

PATIENCE = Patience(silence=2, gap=1, pause=0.1)


def camera(lost_after: int | None = None) -> GivenSource:
    """50 pictures a second, each brighter than the one before; it may go away after some."""

    def frames() -> Iterator[tuple[float | None, RGB]]:
        for i in range(10_000):
            if i == lost_after:
                return
            time.sleep(0.02)
            yield None, np.full((32, 48, 3), 10 + i % 200, np.uint8)

    return GivenSource("camera", open=frames)


def typed(*script: tuple[float, str]) -> Callable[[float], str]:
    """Keys, each some seconds after the one before."""
    left, due = list(script), [time.monotonic() + script[0][0]]

    def keys(seconds: float) -> str:
        time.sleep(seconds)
        if left and time.monotonic() >= due[0]:
            _, key = left.pop(0)
            due[0] = time.monotonic() + (left[0][0] if left else 0)
            return key
        return ""

    return keys


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_clips_of_a_camera(tmp_path: Path) -> None:
    session = Session(["wave", "nod"], seconds=0.5, countdown=0)
    keys = typed((0.3, "1"), (0.8, "2"), (0.8, "1"), (0.8, "u"), (0.1, "q"))
    found = sit(session, camera(), tmp_path, keys, None, patience=PATIENCE)
    assert found.counts == {"wave": 1, "nod": 1}
    assert [Path(path).parent.name for path in found.written] == ["wave", "nod"]
    assert len(files_in(tmp_path)) == 2
    for path in found.written:
        reader = ClipReader(path)
        pictures = [round(float(rgb.mean())) for _, rgb in reader.frames()]
        assert len(pictures) > 5
        assert pictures == sorted(pictures)
        times = reader.times()
        assert times is not None
        assert 0.2 < times[-1] < 1.5


def test_a_clip_that_is_being_cut_when_the_camera_goes_is_none(tmp_path: Path) -> None:
    session = Session(["wave"], seconds=5, countdown=0)
    keys = typed((0.1, "1"), (1.5, "q"))
    found = sit(session, camera(lost_after=30), tmp_path, keys, None, patience=PATIENCE)
    assert (found.written, found.counts) == ([], {"wave": 0})
    assert files_in(tmp_path) == []


def test_by_marks(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "long.mp4")
    for i in range(30):
        writer.write(np.full((32, 48, 3), 5 * i, np.uint8), i / 10, (i + 1) / 10)
    writer.close()
    (tmp_path / "marks.csv").write_text("start,end,label\n0,1,wave\n1.5,2.5,nod\n")
    command = [sys.executable, "-m", "gtdnet", "collect", "out", "long.mp4", "--marks", "marks.csv"]
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["counts"] == {"wave": 1, "nod": 1}
    assert files_in(tmp_path / "out") == [
        "nod/long_00001.50-00002.50.mp4",
        "wave/long_00000.00-00001.00.mp4",
    ]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2
    assert "exists; choose another folder" in again.stderr


def test_a_terminal(tmp_path: Path) -> None:
    """The real command: a video is played, a key pressed, a picture drawn, a clip there."""
    pty = pytest.importorskip("pty")
    writer = VideoWriter(tmp_path / "long.mp4")
    for i in range(300):
        writer.write(np.full((48, 64, 3), (200, 0, i % 256), np.uint8), i / 20, (i + 1) / 20)
    writer.close()
    ours, theirs = pty.openpty()
    words = ["out", "long.mp4", "--classes", "wave,nod", "--seconds", "1", "--countdown", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gtdnet", "collect", *words],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color",
             "COLORTERM": "truecolor"},
    )  # fmt: skip
    os.close(theirs)
    shown, pressed = b"", False
    try:
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not pressed and "▀".encode() in shown:
                os.write(ours, b"2")
                pressed = True
            elif pressed and b"nod 1" in shown:
                os.write(ours, b"q")
        assert process.wait(10) == 0, shown[-2000:]
    finally:
        process.kill()
        os.close(ours)
    assert [Path(path).parent.name for path in files_in(tmp_path / "out")] == ["nod"]
    text = shown.decode(errors="replace")
    assert "1 new clip" in text
    assert "gtdnet train --data out" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"source": "0"}, "there are no classes"),
        ({"source": "0", "classes": "a,a"}, "the class 'a' is named twice"),
        (
            {"source": "-", "classes": "a", "size": "4x4", "rate": 5},
            "frames on stdin leave no keys",
        ),
        ({"source": "missing.mp4", "marks": "missing.csv"}, "missing.csv can't be read"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as caught:
        collect(CollectOptions(folder=str(tmp_path / "out"), **options))  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_the_counts_fit_the_width() -> None:
    session = Session(["opening a door", "closing a door", "nothing"], per_class=10)
    assert counts_line(session, 44) == [
        "[1] opening a door 0/10",
        "[2] closing a door 0/10   [3] nothing 0/10",
    ]
