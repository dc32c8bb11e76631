"""Folding, consensus and what is refused, on backbones simple enough to compute by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gtdnet.models import VideoClassifier


class MeanColour(nn.Module):
    """[N*T, 3, H, W] -> its mean colour, as features [N*T, 3] or as maps [N*T, 3, H, W]."""

    def __init__(self, maps: bool) -> None:
        super().__init__()
        self.maps = maps
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen = list(x.shape)
        return x if self.maps else x.mean(dim=(2, 3))


def colour_model(maps: bool = False, num_segments: int = 2) -> VideoClassifier:
    """Two classes: red plus ten times green, and blue plus one."""
    model = VideoClassifier(MeanColour(maps), 3, num_classes=2, num_segments=num_segments)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor([[1.0, 10.0, 0.0], [0.0, 0.0, 1.0]]))
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    return model.eval()


@pytest.mark.parametrize("maps", [False, True])
def test_frames_are_folded_classified_and_averaged(maps: bool) -> None:
    model = colour_model(maps)
    # Colours [N=2, T=2, 3], on 4x5 pixels.
    colours = torch.tensor([[[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], [[0.0, 0.0, 7.0], [2.0, 0.0, 9.0]]])
    clip = colours[..., None, None].expand(2, 2, 3, 4, 5)
    per_frame = [[[21.0, 4.0], [43.0, 6.0]], [[0.0, 8.0], [2.0, 10.0]]]
    torch.testing.assert_close(model.forward_frames(clip), torch.tensor(per_frame))
    torch.testing.assert_close(model(clip), torch.tensor([[32.0, 5.0], [1.0, 9.0]]))
    assert isinstance(model.backbone, MeanColour)
    assert model.backbone.seen == [4, 3, 4, 5]


def test_a_segment_of_several_frames_is_one_answer() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:  # [N*T*f, 3, H, W] -> [N*T, 3]
            return x.unflatten(0, (-1, 3))[:, -1].mean(dim=(2, 3))

    model = VideoClassifier(Last(), 3, 5, num_segments=2, frames_per_segment=3).eval()
    clip = torch.randn(4, 6, 3, 8, 8)
    assert model.forward_frames(clip).shape == (4, 2, 5)
    features = clip[:, [2, 5]].mean(dim=(3, 4))
    torch.testing.assert_close(model(clip), model.classifier(features).mean(dim=1))
    with pytest.raises(ValueError, match="num_segments=2 of 3 frames each, got 2; sample 6"):
        model(clip[:, :2])


def test_dropout_is_active_in_training_only() -> None:
    torch.manual_seed(0)
    model = VideoClassifier(MeanColour(False), 3, 2, num_segments=2, dropout=0.5)
    clip = torch.ones(8, 2, 3, 4, 4)
    model.train()
    assert not torch.equal(model(clip), model(clip))
    model.eval()
    assert torch.equal(model(clip), model(clip))


def test_classifier_starts_small_and_even() -> None:
    torch.manual_seed(0)
    classifier = VideoClassifier(nn.Identity(), 2048, 100).classifier
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert not classifier.bias.any()


@pytest.mark.parametrize("frames", [1, 7, 16])
def test_wrong_number_of_frames_names_both_numbers(frames: int) -> None:
    model = colour_model(num_segments=8)
    with pytest.raises(ValueError, match=rf"num_segments=8 frames, got {frames};"):
        model(torch.zeros(1, frames, 3, 4, 4))


@pytest.mark.parametrize(
    "shape", [(8, 3, 4, 4), (1, 3, 8, 4, 4), (1, 2, 4, 4, 3), (1, 1, 2, 3, 4, 4)]
)
def test_wrong_layout_names_the_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[N, T, 3, H, W\]") as error:
        colour_model()(torch.zeros(shape))
    assert str(list(shape)) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"num_segments": 0}, "num_segments must be .* at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoClassifier(nn.Identity(), 3, **{"num_classes": 2, **arguments})
