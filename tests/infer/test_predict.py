"""predict: every video gets an answer or one line, timelines, and what reports look like."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from gtdnet.errors import DecodeError, InputError
from gtdnet.infer import ClassScore, load
from gtdnet.infer import predict as module
from gtdnet.infer.predict import (
    PredictOptions,
    Report,
    Segment,
    VideoPrediction,
    Window,
    merge_windows,
    predict,
)
from gtdnet.infer.render import clock, percent, render_table, to_csv

WILD = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "videos"


def shown(report: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(render_table(report))
    return out.getvalue()


@pytest.fixture
def use_colours(by_colour, monkeypatch):
    monkeypatch.setattr(module, "load", lambda *args, **kwargs: by_colour)
    return by_colour


def test_videos_and_failures(model_path, write_video, tmp_path):
    folder = tmp_path / "videos"
    one = write_video(folder / "1.mp4", ["red"] * 9)
    (folder / "2.mp4").write_bytes(b"")
    ten = write_video(folder / "10.mp4", ["blue"] * 9)
    report = predict(PredictOptions(str(model_path), [str(folder)], topk=2, device="cpu"))
    recognizer = load(model_path, "cpu")
    assert [Path(v.path).name for v in report.videos] == ["1.mp4", "2.mp4", "10.mp4"]
    for video, path in ((report.videos[0], one), (report.videos[2], ten)):
        expected = recognizer.predict(path, 2)
        assert [s.label for s in video.scores] == [s.label for s in expected]
        assert [s.probability for s in video.scores] == pytest.approx(
            [s.probability for s in expected], abs=1e-5
        )
    assert report.num_failed == 1
    assert "0 bytes" in (report.videos[1].reason or "")
    assert report.views == "4x1x1"


@pytest.mark.parametrize("batch_size", [1, 8])
def test_timeline(use_colours, write_video, tmp_path, batch_size):
    video = write_video(tmp_path / "a.mp4", ["red"] * 20 + ["green"] * 20 + ["red"] * 5)
    options = PredictOptions(
        "m", [str(video)], topk=1, window=1.0, batch_size=batch_size, device="cpu"
    )
    report = predict(options)
    (found,) = report.videos
    assert [(w.start, w.end, w.scores[0].name) for w in found.windows] == [
        (0, 1, "red"), (1, 2, "red"), (2, 3, "green"), (3, 4, "green"), (4, 4.5, "red"),
    ]  # fmt: skip
    assert [s[:4] for s in found.segments] == [
        (0, 2, 0, "red"), (2, 4, 1, "green"), (4, 4.5, 0, "red"),
    ]  # fmt: skip
    assert (report.window, report.stride, report.num_failed) == (1, 1, 0)


def test_timeline_of_a_broken_video(use_colours, write_video, tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", ["red"] * 30)
    original = module.read_windows

    def breaks_off(*args, **kwargs):
        windows = original(*args, **kwargs)
        yield next(windows)
        raise DecodeError(video, "decoding failed after 12 frames")

    monkeypatch.setattr(module, "read_windows", breaks_off)
    report = predict(PredictOptions("m", [str(video)], window=1.0, device="cpu"))
    assert [w.end for w in report.videos[0].windows] == [1]
    assert report.videos[0].reason == "decoding failed after 12 frames"
    assert report.num_failed == 1


def windows(*parts: tuple[float, float, int, float]) -> list[Window]:
    return [Window(a, b, (ClassScore(label, "xyz"[label], p),)) for a, b, label, p in parts]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([(0, 2, 1, 0.5)], [Segment(0, 2, 1, "y", 0.5)]),
        (
            [(0, 2, 1, 0.5), (2, 4, 1, 0.75), (4, 6, 0, 1.0)],
            [Segment(0, 4, 1, "y", 0.625), Segment(4, 6, 0, "x", 1.0)],
        ),
        (
            [(0, 2, 1, 0.5), (1, 3, 0, 0.5), (2, 4, 0, 0.5)],
            [Segment(0, 1, 1, "y", 0.5), Segment(1, 4, 0, "x", 0.5)],
        ),
        (
            [(0, 1, 1, 0.5), (3, 4, 0, 0.5)],
            [Segment(0, 1, 1, "y", 0.5), Segment(3, 4, 0, "x", 0.5)],
        ),
    ],
)
def test_merge_windows(found, expected):
    assert merge_windows(windows(*found)) == expected


REPORT = Report(
    "m.safetensors",
    "8x1x1",
    None,
    None,
    (
        VideoPrediction("in/a.mp4", (ClassScore(2, "put [it] down", 0.9), ClassScore(0, "x", 0.1))),
        VideoPrediction("in/b.mp4", reason="the file is empty, sadly"),
    ),
)
TIMELINE = Report(
    "m.safetensors",
    "8x1x1",
    2.0,
    2.0,
    (VideoPrediction("in/a.mp4", windows=tuple(windows((0, 2, 1, 0.5), (2, 4, 1, 0.6)))),),
)


def test_table():
    lines = shown(REPORT).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["video", "score", "class"],
        ["a.mp4", "90.0", "%", "put", "[it]", "down"],
        ["10.0", "%", "x"],
    ]
    assert "failed: the file is empty, sadly" in lines[3]
    assert lines[3].startswith("b.mp4")
    assert max(map(len, lines)) <= 80
    assert shown(TIMELINE).splitlines()[1].split() == [
        "a.mp4", "0:00.0", "-", "0:04.0", "55.0", "%", "y",
    ]  # fmt: skip


def test_table_tells_videos_of_one_name_apart():
    videos = tuple(VideoPrediction(f"{folder}/a.mp4", reason="broken") for folder in "xy")
    text = shown(Report("m", "8x1x1", None, None, videos))
    assert "x/a.mp4" in text
    assert "y/a.mp4" in text


def test_json():
    entry = json.loads(json.dumps(REPORT.to_json()))
    assert (entry["num_videos"], entry["num_failed"]) == (2, 1)
    assert entry["videos"][0]["scores"][0] == {
        "label": 2, "name": "put [it] down", "probability": 0.9,
    }  # fmt: skip
    assert entry["videos"][1] == {
        "path": "in/b.mp4", "reason": "the file is empty, sadly", "scores": [],
    }  # fmt: skip
    timeline = json.loads(json.dumps(TIMELINE.to_json()))["videos"][0]
    assert [(w["start"], w["end"]) for w in timeline["windows"]] == [(0, 2), (2, 4)]
    assert [(s["start"], s["end"], s["name"]) for s in timeline["segments"]] == [(0, 4, "y")]


def test_csv():
    rows = list(csv.DictReader(io.StringIO(to_csv(REPORT))))
    assert [(r["video"], r["rank"], r["class"], r["probability"], r["reason"]) for r in rows] == [
        ("in/a.mp4", "1", "put [it] down", "0.900000", ""),
        ("in/a.mp4", "2", "x", "0.100000", ""),
        ("in/b.mp4", "", "", "", "the file is empty, sadly"),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(TIMELINE))))
    assert [(r["start"], r["end"], r["label"]) for r in rows] == [("0", "2", "1"), ("2", "4", "1")]


def test_numbers():
    assert [percent(p) for p in (0, 0.1234, 1)] == ["0.0 %", "12.3 %", "100.0 %"]
    times = (0, 1.96, 59.94, 59.96, 3723)
    assert [clock(t) for t in times] == ["0:00.0", "0:02.0", "0:59.9", "1:00.0", "1:02:03.0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "topk must be at least 1, got 0"),
        ({"crops": 2}, "crops must be 1 or 3, got 2"),
        ({"window": 0.0}, "window must be positive, got 0"),
        ({"window": 1.0, "stride": -1.0}, "stride must be positive, got -1"),
        ({"fps": float("nan")}, "fps must be positive, got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"videos": ["nowhere.mp4"]}, "nowhere.mp4 is no file"),
    ],
)
def test_bad_options(model_path, options, message):
    with pytest.raises(InputError, match=message):
        predict(PredictOptions(**{"model": str(model_path), "videos": [], **options}))


@pytest.mark.skipif(not WILD.is_dir(), reason="no videos as they are met in the wild here")
@pytest.mark.parametrize("window", [None, 3.0])
def test_videos_in_the_wild(model_path, window):
    report = predict(
        PredictOptions(str(model_path), [str(WILD)], topk=1, window=window, device="cpu")
    )
    assert len(report.videos) == 24
    for video in report.videos:
        assert video.scores or video.windows or video.reason
        assert video.reason is None or "\n" not in video.reason
    failed = {Path(v.path).name for v in report.videos if v.reason}
    assert failed == {
        "decord__corrupted.mp4", "moviepy__result.webm", "text_named_mp4.mp4",
        "truncated_half_faststart.mp4", "truncated_no_moov.mp4",
    }  # fmt: skip
