"""What comes from workers is what one process makes, and stays so as long as it is held."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from gtdnet.data import sharing
from gtdnet.data.dataset import Batch, Failure, Sample, collate
from gtdnet.data.sharing import SharedCollate


class Clips(Dataset[Sample | Failure]):
    """Clips whose every value depends on the index; those of ``failing`` can't be decoded."""

    def __init__(self, length: int, failing: Sequence[int] = ()) -> None:
        self.length = length
        self.failing = failing

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample | Failure:
        if index in self.failing:
            return Failure(index, f"{index}.mp4", "broken")
        pictures = torch.randint(
            256, (1, 2, 5, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index)
        )
        return Sample(pictures.movedim(-1, -3), index % 3, index)


def loader(clips: Clips, num_workers: int, **options: Any) -> DataLoader[Any]:
    options = {"batch_size": 2, "collate_fn": SharedCollate(), **options}
    return DataLoader(clips, num_workers=num_workers, **options)


def assert_same(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is Batch
        assert torch.equal(ours.views, theirs.views)
        assert ours.views.stride() == theirs.views.stride()
        for name in ("labels", "indices"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).dtype == torch.int64
        assert ours.failures == theirs.failures


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("persistent", [True, False])
def test_batches_of_workers_are_those_of_one_process(num_workers: int, persistent: bool) -> None:
    # A batch of one clip first, one of none, and an incomplete one last.
    clips = Clips(23, failing=(1, 6, 7, 12))
    expected = list(loader(clips, 0))
    assert [len(batch.labels) for batch in expected] == [1, 2, 2, 0, 2, 2, 1, 2, 2, 2, 2, 1]
    found = loader(clips, num_workers, persistent_workers=persistent)
    for _ in range(3):
        for batch, wanted in zip(found, expected, strict=True):  # each is dropped before the next
            assert_same([batch], [wanted])


def test_batches_of_spawned_workers() -> None:
    clips = Clips(6)
    found = loader(clips, 1, multiprocessing_context="spawn")
    assert_same(list(found), list(loader(clips, 0)))


def test_what_is_held_stays_and_what_is_not_is_used_again() -> None:
    clips = Clips(80)
    expected = list(loader(clips, 0))
    found = loader(clips, 1, persistent_workers=True)
    held = list(found)  # more batches than memories that a worker keeps
    parts = [batch.views[1:, 0, :, 2] for batch in found]  # parts alone, of the next epoch
    for batch, wanted in zip(found, expected, strict=True):
        assert_same([batch], [wanted])
    assert_same(held, expected)
    assert all(torch.equal(a, b.views[1:, 0, :, 2]) for a, b in zip(parts, expected, strict=True))
    del held, parts
    with torch.inference_mode():  # as during validation
        places = {batch.views.data_ptr() for _ in range(2) for batch in found}
    places |= {batch.views.data_ptr() for batch in found}
    assert len(places) <= sharing._MOST < len(expected)


def test_memory_first_met_in_inference_mode_is_used_again() -> None:
    found = loader(Clips(80), 1, persistent_workers=True)
    with torch.inference_mode():
        held = list(found)
    del held
    assert len({batch.views.data_ptr() for batch in found}) <= sharing._MOST


def test_a_copy_of_a_loader_has_the_same_memory() -> None:
    clips = Clips(6)
    first = SharedCollate()
    second = copy.deepcopy(first)
    assert second is first
    assert_same(list(loader(clips, 1, collate_fn=second)), list(loader(clips, 0)))


def test_an_epoch_that_is_left_early_spoils_no_other() -> None:
    clips = Clips(40)
    expected = list(loader(clips, 0))
    found = loader(clips, 2, persistent_workers=True)
    firsts = [next(iter(found)) for _ in range(4)]
    assert_same([*firsts, *found], [*expected[:1] * 4, *expected])


def test_memories_of_ended_workers_are_let_go() -> None:
    together = SharedCollate()
    found = loader(Clips(40), 2, collate_fn=together)
    for _ in range(3):
        for _ in found:
            pass
    assert len({process for process, _ in together._known}) <= 2 * 2


def test_a_child_process_gives_nothing_back() -> None:
    memory = np.ones(3, np.uint8)
    sharing._give_back(memory, process=-1)
    assert memory.tolist() == [1, 1, 1]


def test_collate_into_memory() -> None:
    samples = [Clips(4)[index] for index in (2, 3)]
    memory = torch.full((2 * 120 + 5,), 7, dtype=torch.uint8)
    batch = collate(samples, memory)
    assert_same([batch], [collate(samples)])
    assert batch.views.data_ptr() == memory.data_ptr()
    assert memory[-5:].tolist() == [7] * 5
