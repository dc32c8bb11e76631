"""Whole files in every format, the same from any workers, gone on with after an interruption."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from gtdnet.data.synthetic import FORMATS, class_names, render_clip, write_dataset
from gtdnet.data.synthetic.write import _Plan
from gtdnet.errors import InputError


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


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
        _Plan(1, "list", "full", train, 0, 0, 0, 120, 160).jobs(Path()) for train in (30, 300)
    )
    assert [j.clip.label for j in few] == [j.clip.label for j in many[:30]]
    assert set(Counter(j.clip.label for j in many).values()) <= {13, 14}


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
