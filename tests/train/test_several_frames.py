"""A model that takes several neighbouring frames of each segment: train, evaluate, predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gtdnet.data.decode import read_frames
from gtdnet.data.transforms import normalise, resize_short_side, spatial_crops
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.evaluate.protocol import summary
from gtdnet.infer.predict import PredictOptions, predict
from gtdnet.models.model_file import load_model
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def tdn(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a thin TDN, trained for one epoch: T = 3, f = 5, crops 32x32 of 36x36."""
    output = tmp_path_factory.mktemp("tdn")
    result = train(tiny(output, model="tdn_resnet18", num_segments=3, epochs=1, lr=0.05))
    assert result.model is not None
    return result.model


def by_hand(path: Path, frames: Tensor, clips: int, crops: int) -> Tensor:
    """Probabilities [K] of the video with these frames [n, 3, H, W]."""
    file = load_model(path)
    places = max(1, len(frames) - 4)
    views = []
    for j in range(clips):
        point = (0.5 + j / clips) % 1
        chosen = [
            min(int((i + point) * places / 3) + k, len(frames) - 1)
            for i in range(3)
            for k in range(5)
        ]
        views += spatial_crops(resize_short_side(frames[chosen], file.spec), 32, crops)
    with torch.inference_mode():
        return file.model(normalise(torch.stack(views), file.spec)).softmax(1).mean(0)


def options(path: Path, data: Path, **changes: Any) -> EvaluateOptions:
    return EvaluateOptions(str(path), str(data), **{"device": "cpu", "num_workers": 0, **changes})


def test_the_model_file_says_so(tdn: Path) -> None:
    file = load_model(tdn)
    assert (file.spec.num_segments, file.spec.frames_per_segment) == (3, 5)
    assert (file.model.num_segments, file.model.frames_per_segment) == (3, 5)
    assert file.metrics["step"] == 4


def test_evaluate_scores_all_views(tdn: Path, dataset: Path) -> None:
    result = evaluate(options(tdn, dataset, clips=2, crops=3))
    assert result["num_evaluated"] == 5
    assert Path(result["output"]).name == "eval-validation-3x3x2"
    assert result["protocol"]["views"] == "(3x5)x3x2"
    assert result["protocol"]["spec"]["frames_per_segment"] == 5
    assert "(3x5)x3x2 ((segments x frames) x crops x clips)" in summary(result)
    with np.load(Path(result["output"]) / "scores.npz") as saved:
        ids, scores = saved["ids"].tolist(), saved["scores"]
    for path in sorted((dataset / "val").rglob("*.mp4")):
        (row,) = (s for i, s in zip(ids, scores, strict=True) if Path(i).stem == path.stem)
        wanted = by_hand(tdn, read_frames(path, np.arange)[0], clips=2, crops=3)
        torch.testing.assert_close(torch.from_numpy(row), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", ["shuffled", "reversed", "repeated"])
def test_evaluate_in_another_order(tdn: Path, dataset: Path, frames: str) -> None:
    result = evaluate(options(tdn, dataset, frames=frames))
    assert result["num_evaluated"] == 5
    assert f"frames {frames}, segment sampling" in summary(result)


def test_evaluate_at_another_number_of_segments(tdn: Path, dataset: Path) -> None:
    result = evaluate(options(tdn, dataset, num_segments=4))
    assert result["protocol"]["views"] == "(4x5)x1x1"
    assert result["num_evaluated"] == 5


def test_predict_windows(tdn: Path, dataset: Path) -> None:
    path = sorted((dataset / "val").rglob("*.mp4"))[0]
    report = predict(
        PredictOptions(str(tdn), [str(path)], topk=12, window=0.5, clips=2, crops=3, device="cpu")
    )
    assert report.views == "(3x5)x3x2"
    (video,) = report.videos
    assert video.reason is None
    frames, _ = read_frames(path, np.arange)
    assert len(video.windows) >= 2
    for window in video.windows:  # at 12 frames/s
        part = frames[round(12 * window.start) : round(12 * window.end)]
        wanted = by_hand(tdn, part, clips=2, crops=3)
        found = torch.tensor([s.probability for s in sorted(window.scores)])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
