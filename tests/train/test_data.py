from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gtdnet.data.dataset import Augmentation, EvalClips, TrainClips
from gtdnet.data.formats import Annotations, VideoRecord
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.processes import Group
from gtdnet.processes.place import Place
from gtdnet.train.data import ClipLoaders, class_weights, read_splits

SPEC = ClipSpec(("a", "b"), num_segments=2, short_side=4, crop_size=4)


def records(*labels: int) -> tuple[VideoRecord, ...]:
    return tuple(VideoRecord(str(i), "x", label) for i, label in enumerate(labels))


def loaders(rank: int, world_size: int, **options: Any) -> ClipLoaders:
    train = TrainClips(records(*[0] * 8, 1), SPEC, Augmentation(), seed=5)
    validation = EvalClips(records(0, 1, 0, 1, 0), SPEC)
    made = ClipLoaders(train, validation, batch_size=2, num_workers=0, **options)
    made.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return made


def batches(made: ClipLoaders) -> list[list[tuple[int, int]]]:
    """The keys (epoch, index) of an epoch."""
    sampler: Any = made.train_dataloader().batch_sampler
    return list(sampler)


def test_class_weights() -> None:
    names = ("a", "b", "c", "d")
    annotations = Annotations("folder", "train", "x", names, records(0, 0, 0, 0, 1, 1, 3), ())
    # 1/4, 1/2, no clips, 1; divided by the mean of the three, 7/12.
    expected = torch.tensor([3 / 7, 6 / 7, 0, 12 / 7])
    torch.testing.assert_close(class_weights(annotations), expected)


def test_two_processes_share_the_clips() -> None:
    first, second = loaders(0, 2), loaders(1, 2)
    validation: Any = [each.val_dataloader() for each in (first, second)]
    assert [list(loader.sampler) for loader in validation] == [[0, 2, 4], [1, 3]]
    halves = [batches(each) for each in (first, second)]
    assert len(batches(loaders(0, 1))) == 4
    assert [len(half) for half in halves] == [2, 2]
    seen = [key for half in halves for batch in half for key in batch]
    assert len(set(seen)) == 8
    assert {epoch for epoch, _ in seen} == {0}


@pytest.mark.parametrize("where", ["s3://clips/packed/clips-00000.zip", "packed/clips-00000.zip"])
def test_two_machines_share_a_step_by_what_they_have_kept(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of clips elsewhere each reads by preference the same in every epoch."""
    halves: list[list[list[tuple[int, int]]]] = []
    for rank in (0, 1):
        group = Group(Place(rank=rank, size=2))  # a process on each machine
        monkeypatch.setattr("gtdnet.processes.group._current", [group])
        made = loaders(rank, 2)
        made.train.records = [replace(r, path=f"{where}/{r.id}") for r in made.train.records]
        halves.append([batch for made.start in ((0, 0), (1, 0)) for batch in batches(made)])
    alone = loaders(0, 1)
    alone.batch_size = 4
    steps = [a + b for a, b in zip(*halves, strict=True)]
    wanted = [batch for alone.start in ((0, 0), (1, 0)) for batch in batches(alone)]
    assert [sorted(step) for step in steps] == [sorted(batch) for batch in wanted]
    assert (steps == wanted) == (not where.startswith("s3:"))


def test_more_processes_than_validation_clips() -> None:
    """Those without one get a batch of none: all go through the validation together."""
    shares = [list(loaders(rank, 6).val_dataloader()) for rank in (5,)]
    assert [[len(batch.labels) for batch in share] for share in shares] == [[0]]
    assert shares[0][0].failures == []


def test_training_begins_where_it_is_told() -> None:
    made = loaders(0, 1)
    made.start = (3, 2)
    rest = batches(made)
    assert {epoch for batch in rest for epoch, _ in batch} == {3}
    made.start = (3, 0)
    assert rest == batches(made)[2:]


def test_balanced_batches_draw_classes_equally() -> None:
    made = loaders(0, 1, balanced=True)
    drawn: list[Any] = []
    for epoch in range(60):
        made.start = (epoch, 0)
        drawn += [made.train.records[i].label for batch in batches(made) for _, i in batch]
    assert 0.4 < sum(drawn) / len(drawn) < 0.6  # one of nine clips


def test_without_a_validation_split_nothing_is_validated() -> None:
    made = ClipLoaders(TrainClips(records(0, 1), SPEC), None, batch_size=2, num_workers=0)
    assert made.val_dataloader() == []


@pytest.mark.parametrize("label", [None, 2])
def test_clips_without_a_class_are_refused(
    label: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever format let them through."""
    clips = (VideoRecord("0", "a.mp4", 0), VideoRecord("1", "b.mp4", label))
    found = Annotations("list", "train", "x", SPEC.class_names, clips, ())
    monkeypatch.setattr("gtdnet.train.data.list_splits", lambda *_: ("train",))
    monkeypatch.setattr("gtdnet.train.data.read_annotations", lambda *_: found)
    with pytest.raises(InputError, match=rf"b\.mp4: has the label {label}, but .* \(0 to 1\)"):
        read_splits(str(tmp_path))
