"""Comparing logits and choosing clips: tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gtdnet.data.formats import VideoRecord
from gtdnet.device import PRECISIONS
from gtdnet.evaluate import Evaluation
from gtdnet.export.agreement import (
    BATCHES,
    ROUNDING,
    TOLERANCES,
    Agreement,
    compare,
    in_batches,
)
from gtdnet.export.clips import at_least, balanced, spaced
from gtdnet.export.quantisation import MOST_LOST, compare_top1, loses_too_much


def test_compare() -> None:
    reference = torch.tensor([[0.0, 2.0], [1.0, 5.0], [3.0, 1.0]])  # spreads 1, 2 and 1
    logits = reference + torch.tensor([[0.0, 0.1], [0.0, 0.0], [0.0, 2.5]])
    found = compare(reference, logits)
    assert found.clips == 3
    assert found.difference == pytest.approx(2.5)
    assert found.spread == pytest.approx(math.sqrt(2))
    assert found.relative("fp32") == pytest.approx(2.5 / math.sqrt(2))
    assert found.top1 == pytest.approx(2 / 3)
    assert compare(reference, reference).relative("fp32") == 0


@pytest.mark.parametrize(
    ("difference", "top1", "precision", "message"),
    [
        (1e-4, 1.0, "fp32", None),
        (3e-4, 1.0, "fp32", "its logits differ by up to 0.00015 of their spread over 8 clips"),
        (1e-5, 0.75, "fp32", "it gives 2 of 8 clips another best class"),
        (0.4, 0.75, "bf16", None),
        (0.6, 1.0, "bf16", "differ by up to 0.3 of their spread over 8 clips, bf16 allows 0.25"),
        (0.06, 0.75, "fp16", None),
        (0.07, 1.0, "fp16", "by up to 0.035 of their spread over 8 clips, fp16 allows 0.03125"),
        (1.8, 0.5, "int8", None),
        (2.2, 1.0, "int8", "int8 allows 1"),
        (math.nan, 1.0, "int8", "differ by up to nan"),
    ],
)
def test_disagreement(difference: float, top1: float, precision: str, message: str | None) -> None:
    reason = Agreement(8, difference, 2.0, top1).disagrees(precision)
    assert (reason is None) == (message is None)
    assert message is None or message in (reason or "")


def test_every_precision_has_a_tolerance() -> None:
    assert set(TOLERANCES) == set(ROUNDING) == set(PRECISIONS)


def test_a_model_that_always_answers_the_same_agrees_with_itself() -> None:
    assert compare(torch.ones(4, 3), torch.ones(4, 3)).disagrees("fp32") is None
    assert compare(torch.ones(4, 3), torch.ones(4, 3) + 1e-3).disagrees("fp32") is not None


@pytest.mark.parametrize("precision", list(TOLERANCES))
@pytest.mark.parametrize("logits", [[[3.0]], [[1000.0, 1000.001]], [[-7.0, -7.0, -7.0]], [[0.0]]])
def test_equal_within_rounding_is_equal_whatever_the_spread(
    logits: list[list[float]], precision: str
) -> None:
    reference = torch.tensor(logits, dtype=torch.float64).expand(5, -1)
    signs = torch.tensor([1.0, -1.0])[torch.arange(reference.numel()) % 2].view_as(reference)
    small = ROUNDING[precision] / 2 * signs
    rounded = compare(reference, reference * (1 + small))
    assert rounded.disagrees(precision) is None
    assert rounded.relative(precision) <= TOLERANCES[precision]
    other = compare(reference, reference * (1 + 8 * small) + (reference == 0))
    if precision == "fp32" or len(logits[0]) != 2:  # the tolerance of a spread may be wider
        assert other.disagrees(precision) is not None
    assert compare(reference, reference * math.nan).disagrees(precision) is not None


def test_batches_of_other_sizes() -> None:
    sizes = []

    def compute(clips: Tensor) -> Tensor:
        sizes.append(len(clips))
        return clips.double()

    clips = torch.arange(9.0)[:, None]
    logits = in_batches(compute, clips)
    assert sizes == [1, 3, 1, 3, 1]
    assert logits.dtype == torch.float32
    assert torch.equal(logits, clips)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_clips_make_a_batch_of_three_that_differ(number: int) -> None:
    """Also for networks that know no order of frames, and where the picture is of one colour."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (number, 4, 3, 8, 8), dtype=torch.uint8, generator=generator)
    made = at_least(clips, sum(BATCHES))
    assert (made.shape, made.dtype) == ((4, 4, 3, 8, 8), torch.uint8)
    assert torch.equal(made[:number], clips)
    assert len({tuple(picture.flatten().tolist()) for picture in made.float().mean(dim=1)}) == 4
    plain = at_least(torch.zeros_like(clips), sum(BATCHES))
    assert len(set(plain[1:].float().mean(dim=(1, 2, 3, 4)).tolist())) > 1


def test_enough_clips_stay_as_they_are() -> None:
    clips = torch.zeros(5, 4, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(at_least(clips, sum(BATCHES)), clips)


def records(labels: str) -> list[VideoRecord]:
    return [
        VideoRecord(str(i), f"{i}.mp4", None if label == "-" else int(label))
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (3, {0: 1, 1: 1, 2: 1}),
        (6, {0: 2, 1: 2, 2: 2}),
        (9, {0: 4, 1: 3, 2: 2}),
        (10, {0: 5, 1: 3, 2: 2}),
        (99, {0: 6, 1: 3, 2: 2}),
    ],
)
def test_balanced(count: int, shares: dict[int, int]) -> None:
    listed = records("00000011122")
    chosen = balanced(listed, count, seed=1)
    assert {label: sum(r.label == label for r in chosen) for label in shares} == shares
    assert chosen == [record for record in listed if record in chosen]  # in their order
    assert balanced(listed, count, seed=1) == chosen


def test_balanced_by_another_seed_and_without_labels() -> None:
    listed = records("0" * 40)
    assert balanced(listed, 10, seed=1) != balanced(listed, 10, seed=2)
    assert len(balanced(records("----"), 3, seed=0)) == 3


def test_spaced() -> None:
    assert [r.id for r in spaced(records("0" * 10), 4)] == ["0", "3", "6", "9"]
    assert [r.id for r in spaced(records("00"), 4)] == ["0", "1"]


def test_top1_before_and_after() -> None:
    labels = np.array([0] * 10 + [-1])

    def evaluation(correct: int) -> Evaluation:
        scores = np.zeros((11, 2), np.float32)
        scores[:, 1] = 0.5
        scores[:correct, 0] = 1
        return Evaluation(("a", "b"), tuple(map(str, range(11))), scores, labels, ())

    found = compare_top1(evaluation(9), evaluation(7))
    assert found["clips"] == 10  # those with a label
    assert found["top1_before"] == pytest.approx(0.9)
    assert found["top1_after"] == pytest.approx(0.7)
    assert found["top1_lost"] == pytest.approx(0.2)
    low, high = found["top1_lost_interval"]
    assert low < 0.2 < high
    assert compare_top1(evaluation(7), evaluation(9))["top1_lost"] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("before", "after", "clips", "too_much"),
    [
        (200, 199, 200, False),  # 0.0050000000000000044 by floats
        (200, 198, 200, True),
        (199, 198, 199, True),
        (900, 895, 1000, False),
        (900, 894, 1000, True),
        (50, 60, 200, False),
    ],
)
def test_half_a_point_may_be_lost(before: int, after: int, clips: int, too_much: bool) -> None:
    loss = {"top1_lost": before / clips - after / clips, "clips": clips}
    assert loses_too_much(loss) is too_much


def test_exactly_half_a_point_of_any_number_of_clips() -> None:
    assert MOST_LOST == 0.005
    for lost in range(1, 2000):
        clips = 200 * lost
        assert not loses_too_much({"top1_lost": 0.7 - 0.695, "clips": clips})
        assert loses_too_much({"top1_lost": (lost + 1) / clips, "clips": clips})
