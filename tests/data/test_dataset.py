from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gtdnet.data.dataset import (
    Augmentation,
    Batch,
    EpochBatches,
    EvalClips,
    Failure,
    Sample,
    TrainClips,
    balanced_weights,
    collate,
    epoch_order,
    read_views,
    sample_rng,
)
from gtdnet.data.decode import read_frames
from gtdnet.data.formats import VideoRecord, read_annotations
from gtdnet.data.sampling import eval_indices
from gtdnet.data.sharing import SharedCollate
from gtdnet.data.spec import ClipSpec
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import DecodeError

PLAIN = Augmentation(multiscale=False, flip=0.0, brightness=0.0)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoRecord, ...]:
    root = tmp_path_factory.mktemp("clips") / "easy"
    write_dataset(root, format="folder", edition="easy", train=9, validation=0, size=36, workers=1)
    return read_annotations(root, "train").records


@pytest.fixture
def text_file(tmp_path: Path) -> VideoRecord:
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    return VideoRecord("text", str(path), 0)


def spec(class_names: Sequence[str] = tuple("abcdefghijkl"), **options: Any) -> ClipSpec:
    values = {"num_segments": 3, "short_side": 32, "crop_size": 24, **options}
    return ClipSpec(class_names=tuple(class_names), **values)


def labelled(records: Sequence[VideoRecord], label: int | None) -> list[VideoRecord]:
    return [VideoRecord(r.id, r.path, label) for r in records]


def epochs_of(
    records: Sequence[VideoRecord], num_workers: int, epochs: Sequence[int] = (0, 1)
) -> list[Batch]:
    batches = EpochBatches(len(records), 2, seed=5)
    loader: DataLoader[Any] = DataLoader(
        TrainClips(records, spec(), Augmentation(brightness=0.2), seed=5),
        batch_sampler=batches,
        collate_fn=SharedCollate(),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    result = []
    for epoch in epochs:
        batches.set_epoch(epoch)
        result += list(loader)
    return result


# ------------------------------------------------------------------------------ randomness


def test_any_number_of_workers_gives_the_same_bytes(
    records: tuple[VideoRecord, ...], text_file: VideoRecord
) -> None:
    clips = (*records, text_file)
    expected = epochs_of(clips, 0)
    for workers in (1, 2):
        for ours, theirs in zip(epochs_of(clips, workers), expected, strict=True):
            assert torch.equal(ours.views, theirs.views)
            assert ours.views.stride() == theirs.views.stride()
            assert torch.equal(ours.labels, theirs.labels)
            assert torch.equal(ours.indices, theirs.indices)
            assert ours.failures == theirs.failures
    assert sum(len(batch.failures) for batch in expected) == 2  # once an epoch


def test_a_sample_depends_on_seed_epoch_and_index_alone(records: tuple[VideoRecord, ...]) -> None:
    def views(seed: int, epoch: int, index: int) -> torch.Tensor:
        sample = TrainClips(records, spec(), Augmentation(brightness=0.3), seed)[epoch, index]
        assert isinstance(sample, Sample)
        return sample.views

    first = views(1, 0, 4)
    np.random.seed(0)  # noqa: NPY002 - the global generators must not matter
    torch.manual_seed(7)
    views(1, 0, 2)
    assert torch.equal(views(1, 0, 4), first)
    assert not torch.equal(views(1, 1, 4), first)
    assert not torch.equal(views(2, 0, 4), first)


def test_sample_rng_streams_differ() -> None:
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)]
    assert len({int(sample_rng(*key).integers(2**62)) for key in keys}) == 4


# --------------------------------------------------------------------------------- batches


@given(
    num_samples=st.integers(1, 60),
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 3),
)
def test_an_epoch_is_a_permutation_in_batches(
    num_samples: int, batch_size: int, seed: int, epoch: int
) -> None:
    batches = EpochBatches(num_samples, batch_size, seed)
    batches.set_epoch(epoch)
    keys = [key for batch in batches for key in batch]
    assert {e for e, _ in keys} == {epoch}
    indices = [index for _, index in keys]
    assert len(set(indices)) == len(indices)
    # Whole batches alone, unless there is not even one.
    whole = num_samples // batch_size * batch_size
    assert len(indices) == (whole or num_samples)
    assert len(list(batches)) == len(batches)
    assert indices == epoch_order(num_samples, seed, epoch)[: len(indices)].tolist()


@given(num_samples=st.integers(8, 60), batch_size=st.integers(1, 4), seed=st.integers(0, 99))
def test_two_processes_share_each_global_batch(
    num_samples: int, batch_size: int, seed: int
) -> None:
    alone = list(EpochBatches(num_samples, 2 * batch_size, seed))
    first, second = (
        list(EpochBatches(num_samples, batch_size, seed, rank=rank, world_size=2))
        for rank in (0, 1)
    )
    assert [a + b for a, b in zip(first, second, strict=True)] == alone


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert sorted(epoch_order(50, 0, 0)) == list(range(50))


def test_starts_at_a_batch_of_one_epoch() -> None:
    whole = EpochBatches(20, 4, seed=1)
    resumed = EpochBatches(20, 4, seed=1)
    resumed.start_at(2, 3)
    whole.set_epoch(2)
    assert list(resumed) == list(whole)[3:]
    assert len(resumed) == 5  # batches of an epoch, however many are left of this one
    for epochs in (whole, resumed):
        epochs.set_epoch(3)
    assert list(resumed) == list(whole)


def test_balanced_weights_literal() -> None:
    weights = balanced_weights([4, 4, 4, 1, 7, 7])
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_balanced_classes_are_drawn_equally_often(seed: int) -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    order = epoch_order(len(labels), seed, 0, balanced_weights(labels))
    drawn = Counter(labels[i] for i in order)
    assert all(abs(drawn[label] - 1000 / 3) < 100 for label in range(3))  # 6 deviations


# --------------------------------------------------------------------- frames, crops and flips


def test_training_clip_holds_one_frame_of_each_segment(records: tuple[VideoRecord, ...]) -> None:
    """At the size of the video and without augmentation, its frames are the video's own."""
    options = spec(num_segments=3, short_side=36, crop_size=36)
    sample = TrainClips(records, options, PLAIN, seed=1)[0, 3]
    assert isinstance(sample, Sample)
    assert sample.views.shape == (1, 3, 3, 36, 36)
    assert sample.views.dtype == torch.uint8
    assert (sample.index, sample.label) == (3, records[3].label)
    video, _ = read_frames(records[3].path, np.arange)  # [n, 3, 36, 36]: the clips are square
    n = len(video)
    for segment, frame in enumerate(sample.views[0]):
        own = video[segment * n // 3 : (segment + 1) * n // 3]
        assert any(torch.equal(frame, one) for one in own)


def test_clips_with_several_frames_of_each_segment(records: tuple[VideoRecord, ...]) -> None:
    options = spec(num_segments=2, frames_per_segment=3, short_side=36, crop_size=36)
    video, _ = read_frames(records[3].path, np.arange)
    sample = TrainClips(records, options, PLAIN, seed=1)[0, 3]
    assert isinstance(sample, Sample)
    assert sample.views.shape == (1, 6, 3, 36, 36)
    places = len(video) - 2
    for segment, group in enumerate(sample.views[0].split(3)):
        starts = range(segment * places // 2, (segment + 1) * places // 2)
        assert any(torch.equal(group, video[start : start + 3]) for start in starts)
    sample = EvalClips(records, options, num_clips=2)[3]
    assert isinstance(sample, Sample)
    wanted = video[eval_indices(options, len(video), 2).reshape(-1)]
    assert torch.equal(sample.views.flatten(0, 1), wanted)


@pytest.mark.parametrize(
    ("names", "flipped_label"),
    [
        (("moving left", "moving right"), 1),
        (("moving up", "moving down"), 0),
        (("moving left", "moving up"), None),  # its mirror image has no class: never flipped
    ],
)
def test_flips_swap_the_label_where_the_names_demand_it(
    records: tuple[VideoRecord, ...], names: tuple[str, ...], flipped_label: int | None
) -> None:
    clips = labelled(records, 0)
    options = spec(names)
    for index in range(3):
        plain = TrainClips(clips, options, PLAIN, seed=2)[0, index]
        always = TrainClips(clips, options, Augmentation(False, 1.0, 0.0), seed=2)[0, index]
        assert isinstance(plain, Sample)
        assert isinstance(always, Sample)
        assert plain.label == 0
        if flipped_label is None:
            assert always.label == 0
            assert torch.equal(always.views, plain.views)
        else:
            assert always.label == flipped_label
            assert torch.equal(always.views, plain.views.flip(-1))


def test_flips_as_often_as_asked(records: tuple[VideoRecord, ...]) -> None:
    clips = labelled(records[:1], 0)
    dataset = TrainClips(clips, spec(("left", "right")), Augmentation(False, 0.25, 0.0), seed=0)
    samples = [dataset[epoch, 0] for epoch in range(200)]
    labels = [sample.label for sample in samples if isinstance(sample, Sample)]
    assert 25 <= labels.count(1) <= 75  # of 200: 50, give or take four deviations


def test_unlabelled_clips_stay_unlabelled(records: tuple[VideoRecord, ...]) -> None:
    sample = TrainClips(labelled(records, None), spec(("left", "right")), Augmentation(flip=1.0))[
        0, 0
    ]
    assert isinstance(sample, Sample)
    assert sample.label == -1


def test_evaluation_clips_are_all_views(records: tuple[VideoRecord, ...]) -> None:
    dataset = EvalClips(records, spec(), num_clips=2, num_crops=3)
    sample = dataset[1]
    assert isinstance(sample, Sample)
    assert sample.views.shape == (6, 3, 3, 24, 24)
    assert torch.equal(sample.views, read_views(records[1].path, spec(), 2, 3))
    assert (sample.label, sample.index) == (records[1].label, 1)
    assert len(dataset) == len(records)


# -------------------------------------------------------------------------------- failures


def test_failures_take_the_clips_place_and_no_other_does(
    records: tuple[VideoRecord, ...], text_file: VideoRecord
) -> None:
    clips = (records[0], text_file, VideoRecord("gone", "/nowhere/clip.mp4", 1))
    for dataset, keys in (
        (TrainClips(clips, spec()), [(0, 1), (0, 2)]),
        (EvalClips(clips, spec()), [1, 2]),
    ):
        for key, index in zip(keys, (1, 2), strict=True):
            failure = dataset[key]  # type: ignore[index]
            assert isinstance(failure, Failure)
            assert (failure.index, failure.path) == (index, clips[index].path)
            assert failure.reason
    with pytest.raises(DecodeError):
        read_views(text_file.path, spec())


def test_collate_keeps_failures_apart() -> None:
    def sample(index: int) -> Sample:
        return Sample(torch.full((1, 2, 3, 4, 4), index, dtype=torch.uint8), index % 2, index)

    failure = Failure(7, "clip.mp4", "broken")
    batch = collate([sample(4), failure, sample(9)])
    assert batch.views.shape == (2, 1, 2, 3, 4, 4)
    assert batch.views[:, 0, 0, 0, 0, 0].tolist() == [4, 9]
    assert batch.views.movedim(-3, -1).is_contiguous()
    assert batch.labels.tolist() == [0, 1]
    assert batch.indices.tolist() == [4, 9]
    assert batch.failures == [failure]
    assert batch.labels.dtype == batch.indices.dtype == torch.int64


def test_collate_of_failures_alone_is_empty() -> None:
    failures = [Failure(i, f"{i}.mp4", "broken") for i in range(3)]
    batch = collate(failures).to("cpu")
    assert len(batch.views) == len(batch.labels) == len(batch.indices) == 0
    assert batch.views.dtype == torch.uint8
    assert batch.failures == failures
