"""Single clips are told one by one: what each is, what is odd about it, whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from gtdnet.cli import main
from gtdnet.data.check import look_at
from gtdnet.data.readers.display import Display


def write(
    path: Path, times: Sequence[int] = range(12), streams: int = 1, ratio: Fraction | None = None
) -> Path:
    """A clip of 64x48 with a frame at each of the times, in 1/25 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        made: list[Any] = [container.add_stream("mpeg4", rate=25) for _ in range(streams)]
        for stream in made:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 25)
            if ratio:
                stream.codec_context.sample_aspect_ratio = ratio
        for stream in made:
            for number, time in enumerate(times):
                grey = np.full((48, 64, 3), 9 * number, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts = time
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def pictures(folder: Path, count: int = 9) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (40, 30)).save(folder / f"{number:05d}.png")
    return folder


def test_a_clip_without_anything_odd(tmp_path: Path) -> None:
    found = look_at(str(write(tmp_path / "a.mp4")))
    assert found.to_dict() == {
        "ok": True,
        "path": str(tmp_path / "a.mp4"),
        "container": "mp4",
        "codec": "mpeg4",
        "width": 64,
        "height": 48,
        "stored": (64, 48),
        "fps": 25.0,
        "num_frames": 12,
        "seconds": pytest.approx(0.48),
        "rotation": 0,
        "is_mirrored": False,
        "remarks": (),
        "error": None,
    }


@pytest.mark.parametrize(
    ("made", "remarks"),
    [
        ({"times": range(5)}, ["it has fewer than 8 frames, which then repeat evenly"]),
        ({"streams": 2}, ["it holds 2 video streams, of which one is read"]),
        ({"ratio": Fraction(2)}, ["its pixels are not square; it is read as it is shown"]),
        (
            {"times": [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]},
            ["its rate is not constant: 40 to 80 ms between frames (median 40)"],
        ),
        ({"times": [*range(15), *range(18, 30)]}, ["1 gap in time, where frames may have been "]),
    ],
)
def test_what_is_odd(tmp_path: Path, made: dict[str, Any], remarks: list[str]) -> None:
    found = look_at(str(write(tmp_path / "a.mkv", **made)))
    assert found.error is None
    told = [remark for remark in found.remarks if "it says" not in remark]
    assert len(told) == len(remarks)
    assert all(one.startswith(other) for one, other in zip(told, remarks, strict=True))


@pytest.mark.parametrize("orientation", product([False, True], repeat=3))
def test_turns(orientation: tuple[bool, bool, bool]) -> None:
    """What is said of a turned picture makes the shown one of the stored one."""
    display = object.__new__(Display)
    display._orientation = orientation
    transpose, flip_y, flip_x = orientation
    stored = np.arange(6).reshape(2, 3)
    shown = (stored.T if transpose else stored)[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    degrees, is_mirrored = display.turn
    turned = np.rot90(stored, -degrees // 90)  # rot90 turns the other way
    assert np.array_equal(np.fliplr(turned) if is_mirrored else turned, shown)


def test_check_takes_clips_of_any_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, frames = write(tmp_path / "a.mp4"), pictures(tmp_path / "frames")
    assert main(["check", str(whole), str(frames), "--num-workers=0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    told = [(c["path"], c["container"], c["num_frames"]) for c in found["clips"]]
    assert told == [(str(whole), "mp4", 12), (str(frames), "pictures", 9)]
    for word in (whole, frames, tmp_path / "*.mp4"):  # one alone is no dataset
        assert main(["check", str(word), "--num-workers=0"]) == 0
        assert "OK: 1 clip, none broken" in capsys.readouterr().out


def test_broken_clips_are_named_with_their_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "whole.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((tmp_path / "whole.mp4").read_bytes()[:700])
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    names = ["cut.mp4", "whole.mp4", "link.mp4"]
    words = [str(tmp_path / name) for name in names]
    assert main(["check", *words, "--num-workers=0"]) == 1
    out = capsys.readouterr().out
    heads = [line for line in out.splitlines() if line.startswith("/")]
    assert heads == words  # in the order in which they were given
    assert "Not OK: 3 clips, 2 broken" in out
    assert main(["check", *words, "--num-workers=0", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [clip["ok"] for clip in found["clips"]] == [False, True, False]
    assert found["clips"][0]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.mp4", "--manifest", "b.json"], "--manifest is of a dataset, not of single clips"),
        (["a.mp4", "--split", "train"], "--split is of a dataset, not of single clips"),
        (["a.mp4", "train.csv"], "train.csv is a dataset, not a clip; check it by itself"),
        (["none.mp4"], "none.mp4 is no file, folder or pattern of videos; check the path"),
    ],
)
def test_what_does_not_go_with_clips(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.mp4")
    assert main(["check", *words]) == 2
    assert message in capsys.readouterr().err
