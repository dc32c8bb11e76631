"""ClipSpec: validation, JSON, fingerprint; which label a flipped clip has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.data.spec import SAMPLINGS, ClipSpec, class_fingerprint, flip_labels, mirrored_names
from gtdnet.errors import InputError

LABELS = Path(__file__).resolve().parents[2] / ".." / "shared" / "labels"

specs = st.builds(
    ClipSpec,
    class_names=st.lists(st.text(max_size=8), min_size=1, max_size=5, unique=True).map(tuple),
    num_segments=st.integers(1, 64),
    sampling=st.sampled_from([s for s in SAMPLINGS if s != "rate"]),  # test_rate.py has that
    frame_interval=st.integers(1, 32),
    short_side=st.integers(224, 512),
    crop_size=st.integers(1, 224),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    antialias=st.booleans(),
    frames_per_segment=st.integers(1, 8),
    multi_label=st.booleans(),
)


# ------------------------------------------------------------------------------------------- fields


def test_defaults() -> None:
    spec = ClipSpec(("a", "b"))
    assert dataclasses.astuple(spec) == (
        ("a", "b"),
        8,
        "segment",
        8,
        256,
        224,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        "bilinear",
        True,
        1,
        False,
        None,
        None,
    )
    assert spec.num_classes == 2
    assert spec.describe() == "8 frames (segment), short side 256, crop 224"
    assert spec.with_options(sampling="dense").describe().startswith("8 frames (dense/8)")


@pytest.mark.parametrize(
    ("f", "frames", "views", "described"),
    [
        (1, 8, "8x3x2", "8 frames (segment), short side 256, crop 224"),
        (5, 40, "(8x5)x3x2", "8 segments x 5 frames (segment), short side 256, crop 224"),
    ],
)
def test_frames_per_segment(f: int, frames: int, views: str, described: str) -> None:
    spec = ClipSpec(("a", "b"), frames_per_segment=f)
    assert (spec.frames_per_clip, spec.views(3, 2), spec.describe()) == (frames, views, described)


def test_cannot_be_changed_and_hashes() -> None:
    spec = ClipSpec(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.num_segments = 16  # type: ignore[misc]
    assert {spec: 1}[ClipSpec(("a", "b"))] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_segments": 0}, "num_segments must be a whole number of at least 1, got 0"),
        ({"num_segments": 8.0}, "num_segments must be a whole number of at least 1, got 8.0"),
        ({"num_segments": True}, "num_segments must be .* got True"),
        ({"frame_interval": -1}, "frame_interval must be .* got -1"),
        ({"short_side": "256"}, "short_side must be .* got '256'"),
        ({"crop_size": 0}, "crop_size must be .* got 0"),
        ({"frames_per_segment": 0}, "frames_per_segment must be .* at least 1, got 0"),
        ({"crop_size": 257}, "crop_size=257 does not fit into short_side=256; raise short_side"),
        ({"sampling": "uniform"}, "unknown sampling 'uniform': choose one of segment, dense"),
        ({"interpolation": "area"}, "unknown interpolation 'area': .* bilinear, bicubic"),
        ({"mean": (0.5, 0.5)}, "mean and std need three numbers"),
        ({"std": (1.0, 1.0, 1.0, 1.0)}, "mean and std need three numbers"),
        ({"std": (0.2, 0.0, 0.2)}, "std positive"),
        ({"class_names": ()}, "class_names is empty"),
        ({"class_names": ("a", "b", "a")}, "class name 'a' occurs twice"),
        ({"class_names": ("yes", 1)}, "class names must be text, got 1"),
    ],
)
def test_bad_values(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipSpec(**{"class_names": ("a",), **changes})
    with pytest.raises(InputError, match=message):
        ClipSpec(("a",)).with_options(**changes)


def test_with_options_leaves_what_is_none() -> None:
    spec = ClipSpec(("a",), num_segments=4)
    changed = spec.with_options(num_segments=None, short_side=300)
    assert changed == ClipSpec(("a",), num_segments=4, short_side=300)
    assert spec.short_side == 256


# --------------------------------------------------------------------------------------------- JSON


@given(spec=specs)
def test_json_round_trip(spec: ClipSpec) -> None:
    again = ClipSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.fingerprint == spec.fingerprint


def test_one_frame_per_segment_is_not_written() -> None:
    """So that files of models that need no more stay readable to versions that know no more."""
    assert "frames_per_segment" not in ClipSpec(("a",)).to_dict()
    assert ClipSpec(("a",), frames_per_segment=5).to_dict()["frames_per_segment"] == 5
    assert ClipSpec.from_dict({"class_names": ["a"]}).frames_per_segment == 1


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(InputError, match=r"unknown field 'colour'.*newer version"):
        ClipSpec.from_dict({"class_names": ["a"], "colour": "rgb"})
    with pytest.raises(InputError, match="no class_names"):
        ClipSpec.from_dict({"num_segments": 8})


# -------------------------------------------------------------------------------------- fingerprint


def test_fingerprint_is_sha256_of_the_json_list() -> None:
    # printf '["left", "right"]' | sha256sum
    wanted = "27f4a8066ab44ac4f53d082651450468d8d0e6eb7d8a0e4532f299903e265918"
    assert class_fingerprint(["left", "right"]) == wanted
    assert ClipSpec(("left", "right")).fingerprint == wanted


@given(names=st.lists(st.text(max_size=5), min_size=2, max_size=6, unique=True), data=st.data())
def test_fingerprint_changes_with_the_order(names: list[str], data: st.DataObject) -> None:
    other = data.draw(st.permutations(names))
    assert (class_fingerprint(names) == class_fingerprint(other)) == (names == other)


@pytest.mark.parametrize(
    ("one", "other"), [(["a", "b"], ["ab"]), (["a, b"], ["a", "b"]), (['a", "b'], ["a", "b"])]
)
def test_fingerprint_keeps_names_apart(one: list[str], other: list[str]) -> None:
    assert class_fingerprint(one) != class_fingerprint(other)


# -------------------------------------------------------------------------------------- flip labels


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["left", "right", "stop"], [1, 0, 2]),
        (["Left", "RIGHT", "stop"], [1, 0, 2]),
        (
            [
                "Pulling something from left to right",
                "Moving something up",
                "Pulling something from right to left",
                "Pushing something from right to left",
                "Pushing something from left to right",
            ],
            [2, 1, 0, 4, 3],
        ),
        (
            [
                "Turning the camera left while filming something",
                "Turning the camera right while filming something",
                "Turning the camera upwards while filming something",
            ],
            [1, 0, 2],
        ),
        (
            [
                "Swiping Left",
                "Swiping Right",
                "Sliding Two Fingers Right",
                "Sliding Two Fingers Left",
                "Turning Hand Clockwise",
                "Turning Hand Counterclockwise",
                "Thumb Up",
            ],
            [1, 0, 3, 2, 5, 4, 6],
        ),
        (["SwipeLeft", "SwipeRight", "SwipeRightTwice", "SwipeLeftTwice"], [1, 0, 3, 2]),
        (["TurnClockwise", "TurnCounterClockwise"], [1, 0]),
        (["turn_clockwise", "turn_counter_clockwise", "swipe_left", "swipe_right"], [1, 0, 3, 2]),
        (["turn anticlockwise", "turn clockwise"], [1, 0]),
        (["turn anti-clockwise", "turn clockwise"], [1, 0]),
        (["turn counter clockwise", "turn clockwise"], [1, 0]),
        (["look leftwards", "look rightwards", "step leftward", "step rightward"], [1, 0, 3, 2]),
        (["left2right", "right2left"], [1, 0]),
        (["left_arm_left", "right_arm_right", "left_arm_right"], [1, 0, None]),
        # A class whose mirror image is not among the classes.
        (["swipe left", "swipe up"], [None, 1]),
        (["turn clockwise", "stop"], [None, 1]),
        (["wave left and right"], [None]),
        # No directions.
        (
            [
                "Putting something upright on the table",
                "Laying something on the table on its side, not upright",
                "upright",
                "UPRIGHT",
                "bright light",
                "Putting leftover food away",
                "LEFTOVER",
                "copyright",
                "cleft",
                "Wrighting",
            ],
            list(range(10)),
        ),
    ],
)
def test_flip_labels(names: list[str], labels: list[int | None]) -> None:
    assert flip_labels(names) == tuple(labels)
    assert ClipSpec(tuple(names)).flip_labels == tuple(labels)


words = st.lists(st.sampled_from(["left", "right", "clockwise", "up", "hand"]), max_size=4)


@given(names=st.lists(words.map(" ".join), max_size=8, unique=True))
def test_flipping_twice_gives_the_class_back(names: list[str]) -> None:
    names = list(dict.fromkeys([*names, *(m for n in names for m in mirrored_names(n)[:1])]))
    labels = flip_labels(names)
    for i, label in enumerate(labels):
        if label is not None:
            assert labels[label] == i


def test_mirrored_names() -> None:
    assert mirrored_names("Moving something from left to right") == (
        "Moving something from right to left",
    )
    assert mirrored_names("SwipeLEFT, Left, left") == ("SwipeRIGHT, Right, right",)
    assert mirrored_names("Moving something up") == ()
    assert "Turning Hand Counterclockwise" in mirrored_names("Turning Hand Clockwise")


def labels_of(name: str) -> list[str]:
    path = LABELS / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"no class names in {LABELS}")
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("name", "pairs", "unpaired"),
    [
        ("something_v2", [(86, 87), (93, 94), (166, 167)], [50]),
        ("something_v1_file_order", [(30, 41), (52, 66), (2, 4)], [104]),
        ("jester", [(0, 1), (6, 7), (14, 15)], []),
        ("kinetics400", [], []),
        ("ucf101", [], []),
        ("hmdb51", [], []),
    ],
)
def test_public_class_lists(name: str, pairs: list[tuple[int, int]], unpaired: list[int]) -> None:
    names = labels_of(name)
    wanted: list[int | None] = list(range(len(names)))
    for a, b in pairs:
        wanted[a], wanted[b] = b, a
    for i in unpaired:  # "... pulling it right out ...": the one false friend, left unflipped
        wanted[i] = None
    assert flip_labels(names) == tuple(wanted)
