"""A calibrated model names a class, or says that there is none."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from gtdnet.data.calibration import Calibration
from gtdnet.data.spec import ClipSpec
from gtdnet.infer.answers import ClassScore, Decider, Report, Segment, VideoPrediction, Window
from gtdnet.infer.output import Results
from gtdnet.infer.render import render_table, to_csv

SPEC = ClipSpec(
    class_names=("nod", "wave", "yawn"),
    calibration=Calibration(thresholds=(0.6, 0.8, None), background=0.5),
)
DECIDER = Decider((0.6, 0.8, 2.0), 0.5)


def scores(*values: float) -> tuple[ClassScore, ...]:
    """Of nod, wave and yawn, best first."""
    found = [ClassScore(k, SPEC.class_names[k], p) for k, p in enumerate(values)]
    return tuple(sorted(found, key=lambda s: -s.probability))


@pytest.mark.parametrize(
    ("values", "named", "why"),
    [
        ((0.6, 0.3, 0.1), ["nod"], ""),
        ((0.59, 0.3, 0.11), [], "no class reaches its threshold"),
        ((0.2, 0.79, 0.01), [], "no class reaches its threshold"),
        ((0.4, 0.35, 0.25), [], "nothing"),
        ((0.0, 0.0, 1.0), [], "no class reaches its threshold"),  # yawn has no threshold
    ],
)
def test_one_class_or_none(values: tuple[float, ...], named: list[str], why: str) -> None:
    found = DECIDER.named(scores(*values))
    assert [score.name for score in found] == named
    if not named:
        assert DECIDER.why_none(scores(*values)) == why


def test_what_decides() -> None:
    assert Decider.of(SPEC) == DECIDER
    assert Decider.of(replace(SPEC, calibration=None)) is None
    assert Decider.of(replace(SPEC, calibration=Calibration(temperature=2))) is None
    only = Decider.of(replace(SPEC, calibration=Calibration(background=0.3)))
    assert only == Decider((0.3, 0.3, 0.3), 0.3)


def test_of_a_multi_label_model_any_number_of_classes() -> None:
    several = Decider.of(replace(SPEC, multi_label=True))
    assert several is not None
    assert [s.name for s in several.named(scores(0.9, 0.95, 0.99))] == ["wave", "nod"]
    usual = Decider.of(replace(SPEC, multi_label=True, calibration=Calibration(background=0.3)))
    assert usual is not None
    assert usual.thresholds == (0.5, 0.5, 0.5)


CLIPS = (
    VideoPrediction("a.mp4", scores(0.7, 0.2, 0.1), decider=DECIDER),
    VideoPrediction("b.mp4", scores(0.4, 0.35, 0.25), decider=DECIDER),
    VideoPrediction("c.mp4", reason="broken", decider=DECIDER),
)
REPORT = Report("m.safetensors", "8x1x1", None, None, CLIPS, decides=True)


def test_json_has_scores_and_decision() -> None:
    a, b, _ = REPORT.to_json()["videos"]
    assert (a["decision"], [s["name"] for s in a["scores"]]) == (["nod"], ["nod", "wave", "yawn"])
    assert (b["decision"], len(b["scores"])) == ([], 3)


def test_people_read_nothing_before_the_scores() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_table(REPORT))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1] == ["a.mp4", "70.0", "%", "nod"]
    assert lines[4:6] == [["b.mp4", "nothing"], ["40.0", "%", "nod"]]


def test_csv_has_a_column_for_it() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(REPORT))))
    assert [(row["video"], row["class"], row["named"]) for row in rows] == [
        ("a.mp4", "nod", "1"), ("a.mp4", "wave", "0"), ("a.mp4", "yawn", "0"),
        ("b.mp4", "nod", "0"), ("b.mp4", "wave", "0"), ("b.mp4", "yawn", "0"),
        ("c.mp4", "", ""),
    ]  # fmt: skip
    assert "named" not in to_csv(replace(REPORT, decides=False, videos=()))


def test_answers_in_a_csv_file_go_on(tmp_path) -> None:
    for decides in (False, True):
        written: list[bytes] = []
        first = Results(tmp_path / "x.csv", True, written.append, decides)
        first.read(b"", b"", {})
        video = CLIPS[0] if decides else replace(CLIPS[0], decider=None)
        first.add(video)
        again = Results(tmp_path / "x.csv", True, written.append, decides)
        again.read(b"".join(written), b"", {})
        assert again.done == {"a.mp4": False}


def test_windows_without_a_class_are_gaps() -> None:
    windows = [(0, (0.9, 0.1, 0.0)), (2, (0.4, 0.3, 0.3)), (4, (0.8, 0.1, 0.1))]
    video = VideoPrediction(
        "a.mp4",
        windows=tuple(Window(t, t + 2, scores(*values)) for t, values in windows),
        decider=DECIDER,
    )
    assert video.segments == [Segment(0, 2, 0, "nod", 0.9), Segment(4, 6, 0, "nod", 0.8)]
    found = video.to_json(False)
    assert [w["decision"] for w in found["windows"]] == [["nod"], [], ["nod"]]
    assert all(len(w["scores"]) == 3 for w in found["windows"])
