"""Answers of models that give each class a probability of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.infer.answers import ClassScore, Segment, Window, merge_classes, merge_windows
from gtdnet.infer.options import PredictOptions
from gtdnet.infer.predict import predict
from gtdnet.infer.recognizer import Recognizer, load
from gtdnet.infer.render import render_table
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import ModelFile, save_model
from gtdnet.show.run import explain

NAMES = ("a", "b", "c", "d", "e")
SPEC = ClipSpec(NAMES, 4, short_side=36, crop_size=32, multi_label=True)


@pytest.fixture(scope="module")
def model(
    tiny_model: Callable[..., VideoClassifier], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_model(path, tiny_model("tsn_resnet18"), SPEC)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_each_class_has_a_sigmoid_of_its_own(
    tiny_model: Callable[..., VideoClassifier], average: str
) -> None:
    recognizer = Recognizer(ModelFile(tiny_model("tsn_resnet18"), SPEC), "cpu", average=average)
    views = torch.randint(0, 256, (2, 3, 4, 3, 32, 32), dtype=torch.uint8)
    logits = recognizer.engine.logits(views.flatten(0, 1)).unflatten(0, (2, 3))
    if average == "logits":
        expected = torch.sigmoid(logits.mean(1))
    else:
        expected = torch.sigmoid(logits).mean(1)
    assert torch.equal(recognizer.scores(views), expected)
    assert "5 classes (multi-label)" in repr(recognizer)


def test_classes_below_the_threshold_are_left_out(model: Path) -> None:
    recognizer, frames = load(model, "cpu"), np.full((8, 36, 36, 3), 90, np.uint8)
    every = recognizer.predict(frames, topk=9)
    assert [score.name for score in every] == sorted(
        NAMES, key=lambda name: -next(s.probability for s in every if s.name == name)
    )
    border = every[1].probability
    assert recognizer.predict(frames, threshold=border) == every[:2]
    assert recognizer([frames, frames], threshold=border) == [every[:2]] * 2
    assert recognizer.predict(frames, 1, threshold=border) == every[:1]
    assert recognizer.predict(frames, threshold=1.0) == []
    with pytest.raises(InputError, match="threshold must be a probability from 0 to 1, got 7"):
        recognizer.predict(frames, threshold=7)


def _window(start: float, end: float, **scores: float) -> Window:
    found = [ClassScore(NAMES.index(name), name, p) for name, p in scores.items()]
    return Window(start, end, tuple(found))


def test_segments_of_each_class() -> None:
    windows = [
        _window(0, 2, a=0.9, b=0.6),
        _window(1, 3, a=0.7),
        _window(2, 4),
        _window(3, 5, b=0.8, a=0.6),
        _window(4, 6, b=0.6),
    ]
    a, b = ((NAMES.index(name), name) for name in "ab")
    assert merge_classes(windows) == [
        Segment(0, 2, *a, 0.8),
        Segment(0, 1, *b, 0.6),
        Segment(3, 6, *b, 0.7),
        Segment(3, 4, *a, 0.6),
    ]
    assert merge_classes([]) == []
    assert [s[:2] for s in merge_windows(windows)] == [(0, 2), (3, 6)]


@pytest.mark.parametrize("window", [None, 0.2])
def test_predict_gives_the_classes_of_a_video(
    model: Path, colours: Path, tmp_path: Path, window: float | None
) -> None:
    videos = [str(colours.parent / "00"), str(colours.parent / "01")]

    def run(**options: object) -> object:
        plain = {"window": window, "fps": 10.0, "device": "cpu", "num_workers": 0}
        return predict(PredictOptions(str(model), videos, **{**plain, **options}))  # type: ignore

    report = run().to_json()  # type: ignore[attr-defined]
    every = run(threshold=0.0).to_json()  # type: ignore[attr-defined]
    assert (report["threshold"], every["threshold"]) == (0.5, 0.0)
    for video, whole in zip(report["videos"], every["videos"], strict=True):
        parts = [(video, whole)]
        if window:
            parts = list(zip(video["windows"], whole["windows"], strict=True))
            assert len(parts) == 4
        for some, all_five in parts:
            assert len(all_five["scores"]) == 5
            assert some["scores"] == [s for s in all_five["scores"] if s["probability"] >= 0.5]

    none = run(threshold=1.0, output=str(tmp_path / "none.csv"))
    again = run(threshold=1.0, output=str(tmp_path / "none.csv"))
    assert (none.num_failed, again.num_before) == (0, 2)  # type: ignore[attr-defined]
    with (tmp_path / "none.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (8 if window else 2)
    assert {row["class"] for row in rows} == {""}
    column = render_table(none).columns[-1]  # type: ignore[arg-type]
    assert [str(cell) for cell in column.cells] == ["none of the classes (below 100.0 %)"] * 2


def test_a_timeline_and_a_figure_can_be_drawn(model: Path, colours: Path, tmp_path: Path) -> None:
    video = str(colours.parent / "01")
    picture = str(tmp_path / "a.png")
    options = PredictOptions(str(model), [video], window=0.4, fps=10.0, timeline=picture)
    report = predict(options)
    assert Path(picture).stat().st_size > 1000
    assert json.dumps(report.to_json())
    views = explain(load(model, "cpu"), video)
    logits = views.logits[:, views.target.label]
    assert views.target_probabilities == pytest.approx(1 / (1 + np.exp(-logits)))
    assert views.target.probability == pytest.approx(float(1 / (1 + np.exp(-logits.mean()))))
