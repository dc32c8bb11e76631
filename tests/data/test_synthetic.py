"""The built-in dataset: equal bags of frames within a group, the same files from any workers."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.data import synthetic
from gtdnet.data.synthetic import (
    EDITIONS,
    FORMATS,
    class_groups,
    class_names,
    compose,
    render,
    render_clip,
    write_dataset,
)
from gtdnet.errors import InputError

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


def scene_of(name: str, index: int, edition: str = "full", seed: int = 0) -> synthetic.Scene:
    return compose(edition, class_names(edition).index(name), seed, index)


def states(scene: synthetic.Scene) -> list[tuple[float, ...]]:
    """Per frame: place, angle, size and depth of everything that the label is about."""
    rows = [
        np.stack([thing.x, thing.y, thing.angle, thing.scale, thing.depth], axis=1)
        for thing in scene.things[: max(scene.num_named, 1)]
    ]
    return [tuple(row) for row in np.concatenate(rows, axis=1).astype(np.float32).tolist()]


def middle(scene: synthetic.Scene) -> tuple[np.ndarray, np.ndarray]:
    """The course of the thing that moves."""
    return scene.things[0].x, scene.things[0].y


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("course", "num_frames", "unit", "expected"),
    [
        (synthetic._course_pass, 6, 5, [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]),
        (
            synthetic._course_return,
            12,
            8,
            [[0, 1, 3, 5, 7, 8, 8, 7, 5, 3, 1, 0], [8, 7, 5, 3, 1, 0, 0, 1, 3, 5, 7, 8]],
        ),
        (
            synthetic._course_occlusion,
            10,
            3.5,
            [
                [0, 0, 1, 2, 3, 4, 5, 6, 7, 7],
                [7, 7, 6, 5, 4, 3, 2, 1, 0, 0],
                [0, 1, 3, 5, 7, 7, 6, 4, 2, 0],
                [7, 6, 4, 2, 0, 0, 1, 3, 5, 7],
            ],
        ),
    ],
)
def test_courses(
    course: Callable[..., np.ndarray], num_frames: int, unit: float, expected: list[list[int]]
) -> None:
    for order, positions in enumerate(expected):
        drawn = course(num_frames, order, 0.0, np.random.default_rng(0))
        assert (drawn * unit).tolist() == pytest.approx(positions)


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


def test_clockwise_on_screen() -> None:
    """A hand that points right must point down after a quarter turn clockwise."""
    scene = scene_of("Turning something clockwise", 0)
    hand = synthetic.Thing(
        name="white hand",
        parts=(synthetic._box(0.0, -0.05, 0.4, 0.05),),
        extent=0.4,
        colors=np.full((2, 3), 255.0),
        wave=np.zeros(3),
        x=np.array([0.5, 0.5]),
        y=np.array([0.5, 0.5]),
        angle=np.array([0.0, np.pi / 2]),
        scale=np.ones(2),
        depth=np.zeros(2),
    )
    scene = synthetic.Scene(
        template=scene.template,
        things=(hand,),
        num_named=1,
        ground=(np.zeros((2, 2, 3), np.float32),),
        shake=np.zeros((2, 2)),
        brightness=np.ones(2),
        crf=20,
    )
    before, after = render(scene, 64, 64)
    assert before[32, 50].min() == 255
    assert before[50, 32].max() == 0
    assert after[50, 32].min() == 255
    assert after[32, 50].max() == 0
    assert before.sum() == pytest.approx(64 * 64 * 3 * 255 * 0.4 * 0.1, rel=0.02)


def test_mirroring_swaps_words() -> None:
    """The mirrored picture of a class is of the class with the words for the sides swapped."""
    words = ["left", "right", "clockwise", "counterclockwise"]
    swapped = dict(zip(words, [words[1], words[0], words[3], words[2]], strict=True))

    def heading(scene: synthetic.Scene, mirrored: bool) -> tuple[float, float]:
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


def test_no_shape_is_cut_off() -> None:
    """The box that a thing is drawn in holds all of it, at any angle and scale."""
    for label in range(len(class_names("full"))):
        for index in range(12):
            for thing in compose("full", label, 2, index).things:
                _, cover, _ = synthetic._draw_thing(thing, np.zeros((len(thing.x), 2)), 100.0)
                rim = (cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1])
                assert max(side.max() for side in rim) == 0, thing.name
                assert cover.max() == 1


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


@pytest.mark.parametrize("edition", sorted(EDITIONS))
def test_clip_shape_and_determinism(edition: str) -> None:
    spec = EDITIONS[edition]
    clip = render_clip(edition, 3, 7, 11)
    low, high = spec.frames
    assert clip.dtype == np.uint8
    assert clip.shape[1:] == (spec.height, spec.width, 3)
    assert low <= len(clip) <= high
    assert np.array_equal(clip, render_clip(edition, 3, 7, 11))
    assert not np.array_equal(clip[0], render_clip(edition, 3, 7, 12)[0])
    assert not np.array_equal(clip[0], render_clip(edition, 3, 8, 11)[0])
    assert clip.std() > 10


def test_frame_counts_vary() -> None:
    counts = {len(compose("full", 0, 0, i).brightness) for i in range(60)}
    assert min(counts) >= 16
    assert max(counts) <= 36
    assert len(counts) > 5


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    summary = write_dataset(
        tmp_path / "set",
        format=format,
        edition="easy",
        train=14,
        validation=3,
        test=2,
        size=48,
        progress=lambda done, total: told.append((done, total)),
    )
    root = tmp_path / "set"
    names = class_names("easy")
    assert summary["written"] == 19
    assert summary["classes"] == list(names)
    assert told[0] == (0, 19)
    assert told[-1] == (19, 19)
    assert not list(root.rglob("*.part"))
    if format == "something-v2":
        labels = json.loads((root / "labels/labels.json").read_text())
        assert labels == {name: str(i) for i, name in enumerate(names)}
        ids = []
        for split, count in (("train", 14), ("validation", 3), ("test", 2)):
            items = json.loads((root / f"labels/{split}.json").read_text())
            assert len(items) == count
            ids += [item["id"] for item in items]
            for item in items:
                assert count_frames(root / f"20bn-something-something-v2/{item['id']}.webm") >= 12
                if split == "test":
                    assert set(item) == {"id"}
                    continue
                assert item["template"].replace("[", "").replace("]", "") in names
                filled = item["template"]
                for placeholder in item["placeholders"]:
                    filled = filled.replace("[something]", placeholder, 1)
                assert item["label"] == filled
        assert len(set(ids)) == 19
    elif format in ("something-v1", "jester"):
        prefix = {"something-v1": "something-something-v1", "jester": "jester-v1"}[format]
        order = (root / f"{prefix}-labels.csv").read_text().splitlines()
        assert set(order) == set(names)
        assert (order == list(names)) == (format == "jester")
        rows = (root / f"{prefix}-train.csv").read_text().splitlines()
        assert len(rows) == 14
        for row in rows:
            number, template = row.split(";")
            assert template in names
            frames = sorted((root / f"20bn-{prefix}/{number}").iterdir())
            assert [f.name for f in frames] == [f"{i:05d}.jpg" for i in range(1, len(frames) + 1)]
            assert len(frames) >= 12
            assert count_frames(frames[0]) == 1
        assert all(
            row.isdecimal() for row in (root / f"{prefix}-test.csv").read_text().splitlines()
        )
    elif format == "kinetics":
        for split, count in (("train", 14), ("val", 3), ("test", 2)):
            with (root / f"{split}.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert len(rows) == count
            for row in rows:
                assert len(row["youtube_id"]) == 11
                assert row["split"] == split
                span = f"{int(row['time_start']):06d}_{int(row['time_end']):06d}"
                video = root / split / row["label"] / f"{row['youtube_id']}_{span}.mp4"
                assert count_frames(video) >= 12
    elif format == "folder":
        assert sorted(p.name for p in (root / "train").iterdir()) == sorted(names)
        assert len(list((root / "train").glob("*/*.mp4"))) == 14
        assert all(count_frames(p) >= 12 for p in (root / "val").glob("*/*.mp4"))
    else:
        assert (root / "classes.txt").read_text().splitlines() == list(names)
        rows = [line.rsplit(" ", 1) for line in (root / "train.txt").read_text().splitlines()]
        assert all(count_frames(root / path) >= 12 for path, _ in rows)
        # Each twelve in a row hold every class once.
        assert sorted(int(label) for _, label in rows[:12]) == list(range(12))
        assert [int(label) for _, label in rows[:12]] != list(range(12))


def test_written_frames_are_the_rendered_ones(tmp_path: Path) -> None:
    write_dataset(tmp_path, format="list", edition="easy", train=2, validation=1, seed=5)
    for split, offset in (("train", 0), ("val", 1 << 32)):
        for index, line in enumerate((tmp_path / f"{split}.txt").read_text().splitlines()):
            path, label = line.rsplit(" ", 1)
            expected = render_clip("easy", int(label), 5, offset + index).astype(int)
            with av.open(str(tmp_path / path)) as container:
                stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            assert len(stored) == len(expected)
            assert np.abs(np.stack(stored) - expected).mean() < 8


def test_any_number_of_workers_writes_the_same(tmp_path: Path) -> None:
    arguments = {"format": "something-v2", "edition": "full", "train": 30, "validation": 4}
    write_dataset(tmp_path / "one", **arguments, size=48, workers=1)
    write_dataset(tmp_path / "two", **arguments, size=48, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise StoppedError

    arguments = {"format": "folder", "edition": "easy", "train": 20, "validation": 2}
    with pytest.raises(StoppedError):
        write_dataset(tmp_path / "set", **arguments, size=32, progress=stop)
    again = write_dataset(tmp_path / "set", **arguments, size=32)
    assert (again["kept"], again["written"]) == (16, 6)
    write_dataset(tmp_path / "whole", **arguments, size=32)
    assert digests(tmp_path / "set") == digests(tmp_path / "whole")
    with pytest.raises(InputError, match="another seed"):
        write_dataset(tmp_path / "set", **arguments, size=32, seed=1)


def test_more_clips_leave_the_first_as_they_were() -> None:
    few, many = (
        synthetic._Plan(1, "list", "full", train, 0, 0, 0, 120, 160).clips() for train in (30, 300)
    )
    assert [c.label for c in few] == [c.label for c in many[:30]]
    assert set(Counter(c.label for c in many).values()) <= {13, 14}


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        write_dataset(tmp_path, train=1, validation=0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        write_dataset(tmp_path / "thesis.txt", train=1, validation=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "avi"}, "'avi' is unknown; choose one of something-v1"),
        ({"edition": "huge"}, "'huge' is unknown; choose one of easy, full, hard"),
        ({"train": -1}, "train=-1"),
        ({"train": 0, "validation": 0}, "at least one clip"),
        ({"workers": 0}, "workers=0"),
        ({"seed": -3}, "seed=-3"),
        ({"size": 8}, "size=8"),
    ],
)
def test_bad_arguments(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments: dict[str, object] = {"train": 1, "validation": 1, **changed}
    with pytest.raises(InputError, match=message):
        write_dataset(tmp_path / "set", **arguments)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("label", [-1, 12])
def test_unknown_label(label: int) -> None:
    with pytest.raises(InputError, match="labels 0 to 11"):
        render_clip("easy", label, 0, 0)


def test_groups_hold_every_class_once() -> None:
    for edition, sizes in (("easy", [2] * 6), ("full", [2] * 9 + [4])):
        groups = class_groups(edition)
        assert sorted(map(len, groups)) == sizes
        assert sorted(name for group in groups for name in group) == sorted(class_names(edition))
    assert class_groups("full")[0] == (
        "Moving something from left to right",
        "Moving something from right to left",
    )
