"""Classes of a group show equal bags of frames, and what their names say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.data.synthetic import EDITIONS, Scene, class_groups, class_names, compose, render

PARTNERS = (
    ("Moving something from left to right", "Moving something from right to left"),
    ("Moving something up", "Moving something down"),
    ("Moving something towards the camera", "Moving something away from the camera"),
    ("Turning something clockwise", "Turning something counterclockwise"),
    ("Something falling over", "Standing something up"),
    (
        "Moving something and something closer to each other",
        "Moving something and something away from each other",
    ),
    ("Moving something fast then slow", "Moving something slow then fast"),
    (
        "Moving something to the left and then back",
        "Moving something to the right and then back",
    ),
    ("Moving something up and then back", "Moving something down and then back"),
    ("Putting something behind something", "Putting something in front of something"),
    ("Putting something behind something", "Pretending to put something behind something"),
    ("Putting something behind something", "Pretending to put something in front of something"),
)


def scene_of(name: str, index: int, edition: str = "full", seed: int = 0) -> Scene:
    return compose(edition, class_names(edition).index(name), seed, index)


def states(scene: Scene) -> list[tuple[float, ...]]:
    """Per frame: place, angle, size and depth of everything that the label is about."""
    rows = [
        np.stack([thing.x, thing.y, thing.angle, thing.scale, thing.depth], axis=1)
        for thing in scene.things[: max(scene.num_named, 1)]
    ]
    return [tuple(row) for row in np.concatenate(rows, axis=1).astype(np.float32).tolist()]


def middle(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The course of the thing that moves."""
    return scene.things[0].x, scene.things[0].y


@pytest.mark.parametrize(("name", "partner"), PARTNERS)
@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, 2**34), edition=st.sampled_from(sorted(EDITIONS)))
def test_partners_show_the_same_frames(name: str, partner: str, index: int, edition: str) -> None:
    if name not in class_names(edition):
        edition = "full"
    one, other = scene_of(name, index, edition), scene_of(partner, index, edition)
    assert Counter(states(one)) == Counter(states(other))
    assert states(one) != states(other)
    assert all(np.array_equal(a, b) for a, b in zip(one.ground, other.ground, strict=True)), (
        "the background must not tell the classes apart"
    )


@pytest.mark.parametrize("edition", sorted(EDITIONS))
def test_every_class_has_a_partner(edition: str) -> None:
    names = class_names(edition)
    assert len(names) >= 12
    assert len(set(names)) == len(names)
    assert {name for pair in PARTNERS for name in pair} >= set(names)
    for one, other in PARTNERS:
        assert (one in names) == (other in names)


@pytest.mark.parametrize("index", range(5))
def test_motion_is_what_the_name_says(index: int) -> None:
    def x(name: str) -> np.ndarray:
        return middle(scene_of(name, index))[0]

    def y(name: str) -> np.ndarray:
        return middle(scene_of(name, index))[1]

    assert np.all(np.diff(x("Moving something from left to right")) >= 0)
    assert np.all(np.diff(x("Moving something from right to left")) <= 0)
    assert np.all(np.diff(y("Moving something up")) <= 0)  # y points down
    assert np.all(np.diff(y("Moving something down")) >= 0)

    def turn(name: str) -> np.ndarray:
        return np.diff(scene_of(name, index).things[0].angle)

    assert np.all(turn("Turning something clockwise") >= 0)
    assert np.all(turn("Turning something counterclockwise") <= 0)
    assert np.all(
        np.diff(scene_of("Moving something towards the camera", index).things[0].scale) >= 0
    )

    for name, sign in (
        ("Moving something to the right and then back", 1),
        ("Moving something to the left and then back", -1),
    ):
        way = sign * (x(name) - x(name)[0])
        assert way[0] == way[-1] == 0
        assert way.max() > 0.3
        assert way.min() > -1e-6

    course = np.hypot(
        *(np.diff(c) for c in middle(scene_of("Moving something fast then slow", index)))
    )
    moving = course[course > 1e-6]
    assert moving[: len(moving) // 4].mean() > 3 * moving[-len(moving) // 4 :].mean()


def test_behind_ends_hidden_and_in_front_ends_seen() -> None:
    for name, first, last in (
        ("Putting something behind something", 1, -1),
        ("Putting something in front of something", -1, 1),
        ("Pretending to put something behind something", 1, 1),
        ("Pretending to put something in front of something", -1, -1),
    ):
        thing, screen = scene_of(name, 3).things[:2]
        assert (thing.depth[0], thing.depth[-1]) == (first, last)
        assert set(screen.depth) == {0}


def test_mirroring_swaps_words() -> None:
    """The mirrored picture of a class is of the class with the words for the sides swapped."""
    words = ["left", "right", "clockwise", "counterclockwise"]
    swapped = dict(zip(words, [words[1], words[0], words[3], words[2]], strict=True))

    def heading(scene: Scene, mirrored: bool) -> tuple[float, float]:
        """Signs of the first step to the right and of the first turn clockwise."""
        thing, sign = scene.things[0], -1 if mirrored else 1
        steps = [np.diff(values)[np.diff(values) != 0] for values in (thing.x, thing.angle)]
        first = [np.sign(sign * step[0]) if len(step) else 0.0 for step in steps]
        return first[0], first[1]

    sided = [name for name in class_names("full") if set(name.split()) & set(words)]
    assert len(sided) == 6
    for name in sided:
        other = " ".join(swapped.get(word, word) for word in name.split())
        for index in range(4):
            assert heading(scene_of(name, index), True) == heading(scene_of(other, index), False)


@pytest.mark.parametrize("edition", sorted(EDITIONS))
def test_named_things_stay_within_the_picture(edition: str) -> None:
    spec = EDITIONS[edition]
    short = min(spec.height, spec.width)
    for label in range(len(spec.class_names)):
        for index in range(20):
            scene = compose(edition, label, 1, index)
            for thing in scene.things[: max(scene.num_named, 1)]:
                assert -1e-6 <= thing.x.min() <= thing.x.max() <= spec.width / short + 1e-6
                assert -1e-6 <= thing.y.min() <= thing.y.max() <= spec.height / short + 1e-6


def test_partners_have_the_same_mean_pictures() -> None:
    """Over many clips, the mean frames of partners agree as far as the frames themselves vary."""
    for one, other in PARTNERS[:2] + PARTNERS[6:8]:
        pictures = {
            name: np.stack(
                [render(scene_of(name, 100 * k + i, "easy"), 32, 32).mean(0) for i in range(25)]
            )
            for k, name in enumerate((one, other))
        }
        gap = np.abs(pictures[one].mean(0) - pictures[other].mean(0))
        error = np.sqrt(sum(p.var(0) / len(p) for p in pictures.values()))
        assert np.mean(gap / error) < 2


def test_frame_counts_vary() -> None:
    counts = {len(compose("full", 0, 0, i).brightness) for i in range(60)}
    assert min(counts) >= 16
    assert max(counts) <= 36
    assert len(counts) > 5


def test_groups_hold_every_class_once() -> None:
    for edition, sizes in (("easy", [2] * 6), ("full", [2] * 9 + [4])):
        groups = class_groups(edition)
        assert sorted(map(len, groups)) == sizes
        assert sorted(name for group in groups for name in group) == sorted(class_names(edition))
    assert class_groups("full")[0] == (
        "Moving something from left to right",
        "Moving something from right to left",
    )
