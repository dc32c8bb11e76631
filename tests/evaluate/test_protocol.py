"""Whose classes, frames in which order, and the line that says it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gtdnet.data.sampling import eval_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import eval_views
from gtdnet.errors import InputError
from gtdnet.evaluate.protocol import (
    FRAME_ORDERS,
    accuracies_line,
    has_no_names,
    match_classes,
    order_frames,
    protocol_line,
)


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        (("a", "b", "c"), ("a", "b", "c"), None),
        (("a", "b", "c"), ("c", "a", "b"), [2, 0, 1]),
        (("a", "b", "c"), ("class 0", "class 1", "class 2"), None),
        (("a", "b", "c"), ("class 0", "class 1"), None),
        (("class 0", "class 1"), ("class 0", "class 1"), None),
        (("class 0", "class 1", "class 2"), ("class 0", "class 1"), None),
        (("e\u0301te\u0301", "b"), ("\xe9t\xe9", "b"), None),  # NFD and NFC
        (("\xe9t\xe9", "b"), ("b", "e\u0301te\u0301"), [1, 0]),
        (("\xe9", "e\u0301"), ("e\u0301", "\xe9"), [1, 0]),  # two classes, of old
    ],
)
def test_match_classes(model, data, expected):
    found = match_classes(model, data)
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (("a", "b"), ("a", "x"), r"2 names differ.*'x' \(only in the data\), 'b' \(only in the m"),
        (("a", "b", "c"), ("a", "b"), r"the data's 2 classes .* model's 3 .*'c' \(only in the m"),
        (("a",), ("a", "b"), r"the data's 2 classes .* model's 1 .*'b' \(only in the data\)"),
        (("a",), ("class 0", "class 1"), "labels up to 1, but the model knows 1 classes"),
        (("class 0", "class 1"), ("a", "b"), r"'a' \(only in the data\)"),
        (tuple("abcdefgh"), tuple("hgfedcbx"), r"\('h', 'g', 'f', \.\.\.\).*\('a', 'b', 'c', \.\."),
    ],
)
def test_other_classes_are_refused(model, data, message):
    with pytest.raises(InputError, match=message) as error:
        match_classes(model, data)
    assert "\n" not in str(error.value)


def test_has_no_names():
    assert has_no_names(["class 0", "class 1"])
    assert not has_no_names(["class 1", "class 0"])
    assert not has_no_names(["class 0", "walking"])


def views() -> torch.Tensor:
    """[2, 3, 4, 1, 1, 1]: every frame has a number of its own."""
    return torch.arange(24).reshape(2, 3, 4, 1, 1, 1)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("in-order", [0, 1, 2, 3]),
        ("reversed", [3, 2, 1, 0]),
        ("repeated", [2, 2, 2, 2]),
    ],
)
def test_order_frames(order, expected):
    found = order_frames(views(), torch.tensor([5, 6]), order)
    assert found.shape == (2, 3, 4, 1, 1, 1)
    assert found[0, 0].flatten().tolist() == expected
    assert (found[1, 2].flatten() - 20).tolist() == expected


def test_shuffling_is_a_function_of_seed_and_clip():
    many = torch.arange(16).expand(40, 2, 16)
    numbers = torch.arange(40)
    found = order_frames(many, numbers, "shuffled", seed=1)
    assert torch.equal(found.sort(dim=2).values, many)
    assert torch.equal(found[:, 0], found[:, 1])
    assert len({tuple(clip[0].tolist()) for clip in found}) == 40
    assert torch.equal(order_frames(many[7:9], numbers[7:9], "shuffled", seed=1), found[7:9])
    assert not torch.equal(order_frames(many, numbers, "shuffled", seed=2), found)


def test_shuffling_single_frames_is_one_permutation():
    found = order_frames(torch.arange(8).expand(1, 1, 8), torch.tensor([3]), "shuffled", seed=1)
    assert found[0, 0].tolist() == np.random.default_rng([1, 0, 3]).permutation(8).tolist()


GROUPS = torch.tensor([0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32])  # T = 4, f = 3


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("in-order", GROUPS.tolist()),
        ("reversed", [32, 31, 30, 22, 21, 20, 12, 11, 10, 2, 1, 0]),
        ("repeated", [21] * 12),
        # Permutations of the segments, then of each one's frames, as the generator gives them.
        ("shuffled", [2, 0, 1, 22, 20, 21, 31, 30, 32, 12, 10, 11]),
    ],
)
def test_order_of_several_frames_per_segment(order, expected):
    found = order_frames(GROUPS.expand(1, 2, 12), torch.tensor([3]), order, 1, 3)
    assert found.tolist() == [[expected, expected]]


def test_shuffled_segments_keep_their_frames_together_and_no_order():
    many = GROUPS.expand(600, 1, 12)
    found = order_frames(many, torch.arange(600), "shuffled", 0, frames_per_segment=3)[:, 0]
    segments = found.unflatten(1, (4, 3))
    assert (segments // 10 == segments[..., :1] // 10).all()
    assert (segments.sort(dim=2).values % 10 == torch.arange(3)).all()
    assert (segments[..., 0] // 10).sort(dim=1).values.unique(dim=0).tolist() == [[0, 1, 2, 3]]
    assert len(segments[..., 0].div(10, rounding_mode="floor").unique(dim=0)) == 24
    for i in range(4):  # all six orders within each segment, about equally often (sd 9)
        counts = segments[:, i].remainder(10).unique(dim=0, return_counts=True)[1]
        assert len(counts) == 6
        assert all(60 < count < 140 for count in counts.tolist())


def test_unknown_order():
    with pytest.raises(InputError, match="'backwards': choose one of in-order, shuffled"):
        order_frames(views(), torch.tensor([0, 1]), "backwards")
    assert FRAME_ORDERS[0] == "in-order"


def result(**changes: object) -> dict[str, Any]:
    spec = {"sampling": "segment", "frame_interval": 8, "short_side": 256, "crop_size": 224}
    protocol = {
        "views": "8x3x2", "split": "validation", "frames": "in-order", "precision": "fp32",
        "spec": spec,
    }  # fmt: skip
    for key, value in changes.items():
        (spec if key in spec else protocol)[key] = value
    return {"num_evaluated": 600, "num_failed": 0, "protocol": protocol}


def test_protocol_line():
    assert protocol_line(result()) == (
        "8x3x2 (frames x crops x clips), mean of probabilities, "
        "segment sampling, short side 256, crop 224, fp32: "
        "600 clips of validation, 0 failed"
    )
    assert "mean of logits, segment" in protocol_line(result(average="logits"))
    assert "mean" not in protocol_line(result(views="8x1x1"))
    assert "frames reversed, dense/8 sampling" in protocol_line(
        result(frames="reversed", sampling="dense")
    )
    assert protocol_line(result(frames="shuffled", members=[{"weight": 1.0}, {"weight": 0.5}])) == (
        "8x3x2 (frames x crops x clips), mean of 2 evaluations, weighted 1:0.5, frames shuffled: "
        "600 clips of validation, 0 failed"
    )
    several = result(views="(8x5)x3x2")
    several["protocol"]["spec"]["frames_per_segment"] = 5
    assert protocol_line(several).startswith(
        "(8x5)x3x2 ((segments x frames) x crops x clips), mean of probabilities, "
        "segment sampling, short side 256"
    )


def test_accuracies_line():
    known = {
        "top1": 0.5, "top1_interval": [0.25, 0.75], "top5": None, "top5_interval": None,
        "mean_class_accuracy": 0.4, "mean_class_accuracy_interval": None,
    }  # fmt: skip
    assert accuracies_line(known) == (
        "top-1 50.00 % [25.00, 75.00], mean class accuracy 40.00 %; [95 % confidence]"
    )
    assert "no labels" in accuracies_line({"top1": None, "top5": None, "mean_class_accuracy": None})


# The views of the paper's tables on a 340x256 video of 160 frames, by (frames, crops, clips), and
# the usual full-resolution testing: the first frame of each clip, and each crop's left and top.
DENSE_STARTS = [0, 11, 22, 34, 45, 57, 68, 80, 91, 103]  # 103 is the last of a window of 57


@pytest.mark.parametrize(
    ("views", "sampling", "crop_size", "starts", "corners"),
    [
        ((8, 1, 1), "segment", 224, [10], [(58, 16)]),
        ((16, 1, 1), "segment", 224, [5], [(58, 16)]),
        ((8, 3, 2), "segment", 224, [10, 0], [(0, 16), (58, 16), (116, 16)]),
        ((16, 3, 2), "segment", 224, [5, 0], [(0, 16), (58, 16), (116, 16)]),
        ((8, 3, 2), "segment", 256, [10, 0], [(0, 0), (42, 0), (84, 0)]),
        ((8, 1, 1), "dense", 224, [51], [(58, 16)]),
        ((16, 1, 1), "dense", 224, [19], [(58, 16)]),
        ((8, 3, 10), "dense", 256, DENSE_STARTS, [(0, 0), (42, 0), (84, 0)]),
        ((16, 3, 10), "dense", 224, [0, 4, 8, 13, 17, 21, 26, 30, 34, 39],
         [(0, 16), (58, 16), (116, 16)]),
    ],
)  # fmt: skip
def test_views_of_the_published_rows(views, sampling, crop_size, starts, corners):
    frames, crops, clips = views
    spec = ClipSpec(("a", "b"), frames, sampling, crop_size=crop_size)
    indices = eval_indices(spec, 160, clips)
    assert indices.shape == (clips, frames)
    assert indices[:, 0].tolist() == starts
    if sampling == "dense":
        assert (np.diff(indices) == 8).all()
    # Red tells the column, green the row, blue the frame.
    column, row = torch.arange(340) % 256, torch.arange(256)
    picture = torch.stack([column.expand(256, 340), row[:, None].expand(256, 340)])
    video = torch.zeros(clips * frames, 3, 256, 340, dtype=torch.uint8)
    video[:, :2] = picture
    video[:, 2] = torch.from_numpy(indices.reshape(-1))[:, None, None]
    found = eval_views(video, spec, crops)
    assert found.shape == (clips * crops, frames, 3, crop_size, crop_size)
    assert found[:, 0, :, 0, 0].tolist() == [[x, y, start] for start in starts for x, y in corners]
    assert found[-1, -1, 2, 0, 0] == indices[-1, -1]
    if crop_size == 256 and crops == 3:  # nothing is left unseen
        assert corners[0][0] == 0
        assert corners[-1][0] + crop_size == 340
