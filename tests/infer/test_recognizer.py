"""Recognizer: the same answer from files and arrays, probabilities averaged over views."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.data.dataset import read_views
from gtdnet.data.decode import iter_frames
from gtdnet.errors import DecodeError, InputError
from gtdnet.infer import ClassScore, Recognizer, load
from gtdnet.models import ModelFile


def test_file_and_frames_give_the_same(model_path, write_video, tmp_path):
    video = write_video(tmp_path / "a.mp4", ["red"] * 7 + ["blue"] * 6)
    frames = np.stack(list(iter_frames(video)))
    recognizer = load(model_path, "cpu")
    for views in ({}, {"clips": 2, "crops": 3}):
        from_file = recognizer.predict(video, **views)
        assert recognizer.predict(str(video), **views) == from_file
        assert recognizer.predict(frames, **views) == from_file
        assert recognizer.predict(torch.from_numpy(frames), **views) == from_file
    assert recognizer.metrics == {"top1": 0.5}
    assert not recognizer.model.training


def test_known_answer(by_colour, write_video, tmp_path):
    best = by_colour.predict(write_video(tmp_path / "g.mp4", ["green"] * 5), topk=1)
    assert [(b.label, b.name) for b in best] == [(1, "green")]
    assert best[0].probability > 0.9


def test_scores_are_the_mean_of_the_views_probabilities(model_path):
    recognizer = load(model_path, "cpu")
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (3, 2, 4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    scores = recognizer.scores(views)
    assert scores.shape == (3, 6)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.sum(1), torch.ones(3))
    single = [recognizer.scores(views[:, v : v + 1]) for v in range(2)]
    torch.testing.assert_close(scores, (single[0] + single[1]) / 2)
    for batch_size in (1, 4, 5):
        torch.testing.assert_close(recognizer.scores(views, batch_size), scores)


def test_scores_by_the_mean_of_the_views_logits(by_colour):
    """As TSM's test script: logits [N, V, K], the mean over V, softmax."""
    file = ModelFile(by_colour.model, by_colour.spec)
    recognizer = Recognizer(file, "cpu", average="logits")
    colours = torch.tensor([[[150, 110, 100], [110, 112, 111]], [[120, 90, 99], [110, 140, 90]]])
    views = colours.to(torch.uint8)[:, :, None, :, None, None].expand(2, 2, 4, 3, 32, 32)
    logits = recognizer.engine(views.flatten(0, 1)).unflatten(0, (2, 2))
    wanted = logits.mean(dim=1).softmax(dim=1)
    for batch_size in (1, 3, 8):
        torch.testing.assert_close(recognizer.scores(views, batch_size), wanted)
    assert (by_colour.scores(views) - wanted).abs().max() > 0.01
    with pytest.raises(InputError, match="unknown average 'sum'"):
        Recognizer(file, "cpu", average="sum")


def test_topk(by_colour):
    scores = torch.tensor([0.25, 0.5, 0.25])
    assert by_colour.top(scores, 2) == [ClassScore(1, "green", 0.5), ClassScore(0, "red", 0.25)]
    assert len(by_colour.top(scores, 50)) == 3
    assert [s.label for s in by_colour.top(torch.full((3,), 1 / 3), 3)] == [0, 1, 2]


def test_another_number_of_segments(model_path):
    recognizer = load(model_path, "cpu", num_segments=6)
    assert recognizer.spec.num_segments == recognizer.model.num_segments == 6
    frames = np.zeros((9, 40, 50, 3), np.uint8)
    assert recognizer.views(frames, clips=2, crops=3).shape == (6, 6, 3, 32, 32)
    assert len(recognizer.predict(frames)) == 5


def test_views_are_those_of_evaluation(by_colour, write_video, tmp_path):
    video = write_video(tmp_path / "a.mp4", ["red", "green", "blue"] * 4)
    frames = np.stack(list(iter_frames(video)))
    expected = read_views(str(video), by_colour.spec, 2, 3)
    assert torch.equal(by_colour.views(frames, 2, 3), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topk": 0}, "topk must be at least 1, got 0"),
        ({"clips": 0}, "clips must be at least 1, got 0"),
        ({"crops": 2}, "crops must be 1 or 3, got 2"),
    ],
)
def test_bad_arguments(by_colour, arguments, message):
    with pytest.raises(InputError, match=message):
        by_colour.predict(np.zeros((4, 32, 32, 3), np.uint8), **arguments)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((32, 32, 3), np.uint8), r"frames as \[F, H, W, 3\] or \[F, 3, H, W\]"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"\[0, 32, 32, 3\]"),
        (np.zeros((4, 32, 32), np.uint8), r"\[4, 32, 32\]"),
        (np.zeros((4, 3, 32, 3), np.uint8), r"\[4, 3, 32, 3\] may be .* make them larger"),
        (np.zeros((1, 4, 32, 32, 3), np.uint8), "give a list"),
        (np.zeros((4, 32, 32, 3), np.float32), "uint8 .* got float32"),
        (torch.zeros(4, 32, 32, 3), "uint8 .* got torch.float32"),
    ],
)
def test_bad_frames(by_colour, frames, message):
    with pytest.raises(InputError, match=message):
        by_colour.predict(frames)


def test_bad_video(by_colour, tmp_path: Path):
    with pytest.raises(DecodeError, match="no such file"):
        by_colour.predict(tmp_path / "none.mp4")


def test_scores_that_are_no_numbers(by_colour):
    class Diverged(nn.Module):
        def forward(self, clip: Tensor) -> Tensor:
            return torch.full((len(clip), 3), math.nan)

    recognizer = Recognizer(ModelFile(Diverged(), by_colour.spec), "cpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not finite in fp32"):
        recognizer.predict(np.zeros((4, 32, 32, 3), np.uint8))
