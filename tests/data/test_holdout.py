"""Clips held out for validation."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from pathlib import Path

import pytest

from gtdnet.data.formats import Annotations, VideoRecord, list_splits, read_annotations
from gtdnet.data.formats.held_out import SPLIT_FILE
from gtdnet.data.holdout import describe, hold_out
from gtdnet.errors import InputError


def _data(*clips: tuple[str, int], **columns: list[str]) -> Annotations:
    """Clips of (id, label), each with a cell of every column."""
    records = tuple(
        VideoRecord(id, f"{id}.mp4", label, {name: cells[i] for name, cells in columns.items()})
        for i, (id, label) in enumerate(clips)
    )
    names = tuple("abcdefgh"[: max(label for _, label in clips) + 1])
    return Annotations("folder", "train", "data", names, records, ())


def _people(people: int, classes: int, each: int) -> Annotations:
    """Every person makes every class: P00/0_0, ..."""
    numbers = itertools.product(range(people), range(classes), range(each))
    return _data(*((f"P{p:02}/{c}_{n}", c) for p, c, n in numbers))


def _group(id: str) -> str:
    return id.partition("/")[0]


@pytest.mark.parametrize(
    ("clips", "share", "held"), [(10, 0.2, 2), (10, 0.25, 2), (3, 0.1, 1), (2, 0.2, 1), (4, 0.9, 3)]
)
def test_the_share_of_each_class(clips: int, share: float, held: int) -> None:
    """Nearest to the share, but at least one clip, and never the last of training."""
    data = _data(*((f"{label}/{n}", label) for label in range(4) for n in range(clips)))
    train, validation = hold_out(data, share=share).parts(data)
    assert [sum(r.label == k for r in validation.records) for k in range(4)] == [held] * 4
    assert len(train.records) == 4 * (clips - held)
    assert (train.split, validation.split) == ("train", "validation")


def test_a_class_of_one_clip_stays_in_training() -> None:
    data = _data(("a/0", 0), ("a/1", 0), ("b/0", 1))
    held_out = hold_out(data, share=0.3)
    assert set(held_out.validation) < {"a/0", "a/1"}
    assert describe(held_out, *held_out.parts(data)) == (
        "held out for validation: 1 of 3 clips (33.3 %), seed 0; no validation clips of 1 class (b)"
    )


@pytest.mark.parametrize(("people", "share", "held"), [(10, 0.2, 2), (7, 0.3, 2), (2, 0.2, 1)])
def test_groups_stay_whole(people: int, share: float, held: int) -> None:
    data = _people(people, 3, 4)
    train, validation = hold_out(data, share=share, group=r"^(P\d+)/").parts(data)
    sides = [{_group(r.id) for r in part.records} for part in (train, validation)]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[1]) == held


def test_uneven_groups_come_near_the_share_in_every_class() -> None:
    rng = random.Random(0)
    clips = [
        (f"S{source}/{n}", label)
        for label in range(8)
        for source in range(30 * label, 30 * label + 12)
        for n in range(rng.randint(1, 5))
    ]
    data = _data(*clips)
    held_out = hold_out(data, share=0.2, group=r"S\d+")
    _, validation = held_out.parts(data)
    for label in range(8):
        total = sum(k == label for _, k in clips)
        mine = sum(r.label == label for r in validation.records)
        assert abs(mine / total - 0.2) < 0.08


def test_it_depends_on_ids_and_seed_alone() -> None:
    data = _people(9, 3, 2)
    first = hold_out(data, share=0.3, group="P..")
    mixed = list(data.records)
    random.Random(1).shuffle(mixed)
    # On another machine: in another order, some not on disk.
    other = Annotations(
        "folder", "train", "x", data.class_names, tuple(mixed[9:]), tuple(mixed[:9])
    )
    assert hold_out(other, share=0.3, group="P..").validation == first.validation
    groups = {_group(id) for id in first.validation}
    assert groups == {"P00", "P05", "P07"}  # and in every version
    seeds = {hold_out(data, share=0.3, group="P..", seed=seed).validation for seed in range(8)}
    assert len(seeds) > 3


def test_decomposed_names_are_the_same_clips() -> None:
    data = _data(*((f"é{n}", 0) for n in range(6)))
    spelled = [(unicodedata.normalize("NFD", r.id), 0) for r in data.records]
    held_out, other = hold_out(data, share=0.4), _data(*spelled)
    found = held_out.parts(other)[1].records
    assert [unicodedata.normalize("NFC", r.id) for r in found] == list(held_out.validation)


def test_a_column_groups() -> None:
    people = ["x", "x", "y", "y", "z", "z"]
    clips = [(f"{n}", n % 2) for n in range(6)]
    for column, group in (("person", "person"), ("group", None)):  # "group" need not be named
        data = _data(*clips, **{column: people})
        held_out = hold_out(data, share=0.3, group=group)
        assert held_out.validation in (("0", "1"), ("2", "3"), ("4", "5"))
        line = describe(held_out, *held_out.parts(data))
        assert line.endswith(f"2 of 6 clips (33.3 %), 1 of 3 groups by {column}, seed 0")


def test_groups_by_name() -> None:
    data = _people(4, 2, 1)
    held_out = hold_out(data, names=["P00", "P02"], group="P..")
    assert held_out.validation == ("P00/0_0", "P00/1_0", "P02/0_0", "P02/1_0")
    line = describe(held_out, *held_out.parts(data))
    assert line.endswith("4 of 8 clips (50.0 %), 2 of 4 groups by P..")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "person"}, r"--group 'person' is not found in the clip P00/0_0; give a column"),
        ({"group": "P("}, r"--group 'P\(' is no regular expression"),
        ({"group": "P"}, r"there is one group alone by P, 'P'"),
        ({"group": r"/(.)"}, r"every group is the only one of some class"),
        ({"names": ["P00"]}, r"--val-groups needs --group"),
        ({"names": ["P09"], "group": "P.."}, r"no group 'P09' by P\.\.; the groups are P00, P01"),
        ({"names": ["P00", "P01"], "group": "P.."}, r"names all groups"),
    ],
)
def test_what_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hold_out(_people(2, 3, 2), share=0.2, **options)


def test_typing_errors_name_the_columns() -> None:
    data = _data(("1", 0), ("2", 0), person=["x", "y"], room=["1", ""])
    with pytest.raises(InputError, match=r"'persn' is none of the columns \(person, room\), and"):
        hold_out(data, share=0.5, group="persn")
    with pytest.raises(InputError, match="the clip 2 has nothing in the column room"):
        hold_out(data, share=0.5, group="room")


def test_the_file_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(4):
        (tmp_path / "data" / "run").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "run" / f"{n}.mp4").write_text("x")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    data = read_annotations("data")
    held_out = hold_out(data, share=0.25)
    path = tmp_path / "work" / SPLIT_FILE
    held_out.save(path)
    (tmp_path / "moved").mkdir()
    for name in ("data", "work"):  # together
        (tmp_path / name).rename(tmp_path / "moved" / name)
    path = tmp_path / "moved" / "work" / SPLIT_FILE
    assert list_splits(path) == ("train", "validation")
    assert [r.id for r in read_annotations(path, "validation").records] == [*held_out.validation]
    assert len(read_annotations(path, "train").records) == 3
    (tmp_path / "moved" / "data" / f"{held_out.validation[0]}.mp4").unlink()
    with pytest.raises(InputError, match="does not have 1 of the 1 clips that the run held out"):
        read_annotations(path, "train")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "validation": [1]}))
    with pytest.raises(InputError, match="is not the split of a run"):
        read_annotations(path, "train")
