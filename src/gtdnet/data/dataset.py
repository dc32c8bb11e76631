"""Records to batches: what is random here is a pure function of (seed, epoch, sample index).

So any number of workers gives the same batches, and a run resumed at any step goes on as if it had
never stopped. A clip that cannot be decoded becomes a :class:`Failure` beside the batch; no other
clip ever takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gtdnet.data.dealing import dealt, homes
from gtdnet.data.decode import Clip, read_frames
from gtdnet.data.formats import VideoRecord
from gtdnet.data.sampling import eval_indices, train_indices
from gtdnet.data.spec import ClipSpec
from gtdnet.data.transforms import (
    eval_views,
    horizontal_flip,
    jitter_brightness_contrast,
    random_crop,
    random_multiscale_crop,
    resize_short_side,
)
from gtdnet.errors import DecodeError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training clips.

    Attributes:
        multiscale: crop windows of 1, .875, .75 and .66 of the short side, resized to crop_size;
            else random windows at the scale of the test crops.
        flip: probability of a horizontal flip; the label follows (:func:`flip_labels`), and a clip
            whose mirror image has no class is never flipped.
        brightness: brightness and contrast factors from [1 - brightness, 1 + brightness].
    """

    multiscale: bool = True
    flip: float = 0.5
    brightness: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One clip: views uint8 [V, T*f, 3, H, W] (V = 1 in training), label (-1: none), index.

    Of a multi-label spec the label is K zeros and ones, a one for each of the clip's classes (all
    -1: none is known).
    """

    views: Tensor
    label: int | tuple[int, ...]
    index: int
    is_flipped: bool = False


@dataclass(frozen=True)
class Failure:
    """A clip that could not be decoded: index of its record, path and reason."""

    index: int
    path: str
    reason: str


@dataclass
class Batch:
    """Clips side by side: views uint8 [N, V, T*f, 3, H, W], labels and indices int64 [N]; failures.

    Of a multi-label spec the labels are int64 [N, K], zeros and ones.
    In memory the views are [N, V, T*f, H, W, 3]. N is smaller than asked for by the number of
    failures, and may be 0 (views is then empty).
    """

    views: Tensor
    labels: Tensor
    indices: Tensor
    failures: list[Failure]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with its tensors on the device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch with its tensors in page-locked memory, as DataLoader asks for it."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        tensors = map(move, (self.views, self.labels, self.indices))
        return Batch(*tensors, failures=self.failures)


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of everything random about one sample in one epoch."""
    return np.random.default_rng([seed, epoch, index])


class TrainClips(Dataset[Sample | Failure]):
    """Training clips by key (epoch, index), as :class:`EpochBatches` gives them."""

    def __init__(
        self,
        records: Sequence[VideoRecord],
        spec: ClipSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.records = records
        self.spec = spec
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self._flip_labels = spec.flip_labels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Failure:
        epoch, index = key
        record, spec, augment = self.records[index], self.spec, self.augmentation
        rng = sample_rng(self.seed, epoch, index)
        chosen = int(rng.integers(2**63))  # reading may ask twice for indices; same answer then
        crop = random_multiscale_crop if augment.multiscale else random_crop
        drawn = rng.bit_generator.state

        def reduce(frame: Tensor) -> Tensor:
            rng.bit_generator.state = drawn  # the same window of each frame
            return crop(frame, spec, rng)

        try:
            frames, _ = read_frames(
                record.path,
                lambda n, times=None: train_indices(spec, n, np.random.default_rng(chosen), times),
                reduce,
                by_time=spec.by_time,
            )
        except DecodeError as error:
            return Failure(index, error.path, error.reason)
        classes = record.classes
        mirrored = [other for k in classes if (other := self._flip_labels[k]) is not None]
        is_flipped = rng.random() < augment.flip and len(mirrored) == len(classes)
        if is_flipped:
            frames, classes = horizontal_flip(frames), mirrored
        if augment.brightness:
            frames = jitter_brightness_contrast(frames, augment.brightness, rng)
        label = target(classes, spec, record.label is not None)
        return Sample(frames.unsqueeze(0), label, index, is_flipped)


class EvalClips(Dataset[Sample | Failure]):
    """Clips for evaluation by index: deterministic, V = num_clips * num_crops views each."""

    def __init__(
        self,
        records: Sequence[VideoRecord],
        spec: ClipSpec,
        num_clips: int = 1,
        num_crops: int = 1,
        *,
        fps: float | None = None,
    ) -> None:
        self.records = records
        self.spec = spec
        self.num_clips = num_clips
        self.num_crops = num_crops
        self.fps = fps

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample | Failure:
        record = self.records[index]
        try:
            views = read_views(record.path, self.spec, self.num_clips, self.num_crops, fps=self.fps)
        except DecodeError as error:
            return Failure(index, error.path, error.reason)
        label = target(record.classes, self.spec, record.label is not None)
        return Sample(views, label, index)


def target(classes: Sequence[int], spec: ClipSpec, is_known: bool = True) -> int | tuple[int, ...]:
    """What a network learns from a clip's classes: their number, or zeros and ones (`Sample`)."""
    if not spec.multi_label:
        return classes[0] if is_known else -1
    return tuple(int(k in classes) if is_known else -1 for k in range(spec.num_classes))


def read_views(
    path: Clip,
    spec: ClipSpec,
    num_clips: int = 1,
    num_crops: int = 1,
    *,
    fps: float | None = None,
) -> Tensor:
    """All test views of one video: uint8 [V, T*f, 3, crop, crop], clips outermost.

    ``fps`` is of what states no rate, where frames are chosen by time. DecodeError if the video
    cannot be read.
    """
    frames, _ = read_frames(
        path,
        lambda n, times=None: eval_indices(spec, n, num_clips, times).reshape(-1),
        lambda frame: resize_short_side(frame, spec),
        by_time=spec.by_time,
        fps=fps,
    )
    return eval_views(frames, spec, num_crops)


def collate(samples: Sequence[Sample | Failure], memory: Tensor | None = None) -> Batch:
    """Put samples side by side; failures are kept apart.

    The views lie channels last: as they are decoded and resized, which no copy then has to turn.
    ``memory``, uint8 and flat, is where they are put if it is given; the rest of it stays.
    """
    good = [s for s in samples if isinstance(s, Sample)]
    views = torch.empty(0, dtype=torch.uint8)
    if good:
        pictures = [s.views.movedim(-3, -1) for s in good]  # [V, T*f, H, W, 3]
        shape = (len(good), *pictures[0].shape)
        out = memory[: math.prod(shape)].view(shape) if memory is not None else None
        views = torch.stack(pictures, out=out).movedim(-1, -3)
    return Batch(
        views,
        torch.tensor([s.label for s in good], dtype=torch.int64),
        torch.tensor([s.index for s in good], dtype=torch.int64),
        [s for s in samples if isinstance(s, Failure)],
    )


def epoch_order(
    num_samples: int, seed: int, epoch: int, weights: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """The order of one epoch: a permutation, or draws with replacement in proportion to weights."""
    # An index no sample has, so that the order is independent of every sample's own draws.
    rng = np.random.default_rng([seed, epoch, 2**32 - 1])
    if weights is None:
        return rng.permutation(num_samples)
    return rng.choice(num_samples, num_samples, p=weights / weights.sum())


def balanced_weights(labels: Sequence[int]) -> NDArray[np.float64]:
    """Weight of each sample such that every class is drawn equally often."""
    numbers = np.asarray(labels)
    _, inverse, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of keys (epoch, index) for one process out of ``world_size``.

    Every global batch of batch_size * world_size samples is cut into one slice per process; the
    last, incomplete one is dropped (unless there is no other). ``set_epoch`` chooses the epoch;
    ``start_at`` makes one epoch begin at a later batch, to resume in its middle. With several
    ``nodes``, machines with as many processes each, the slices are cut such that each reads by
    preference the same samples in every epoch (:mod:`gtdnet.data.dealing`).
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
        weights: NDArray[np.float64] | None = None,
        nodes: int = 1,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.nodes = nodes
        self.epoch = 0
        self._start = (0, 0)

    @property
    def sampler(self) -> EpochBatches:
        """Itself: Lightning calls ``set_epoch`` on a batch sampler's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def start_at(self, epoch: int, batch: int) -> None:
        """Begin with this epoch, at this batch of it; later epochs are whole."""
        self.epoch = epoch
        self._start = (epoch, batch)

    def __len__(self) -> int:
        return max(1, self.num_samples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = epoch_order(self.num_samples, self.seed, self.epoch, self.weights)
        first = self._start[1] if self._start[0] == self.epoch else 0
        at_home = homes(self.num_samples, self.nodes, self.seed) if self.nodes > 1 else None
        clips, begin = self.batch_size * self.world_size, self.rank * self.batch_size
        for step in range(first, len(self)):
            batch = order[step * clips : (step + 1) * clips]
            if at_home is not None and len(batch) == clips:
                batch = dealt(batch, at_home, self.nodes)
            keys = batch[begin : begin + self.batch_size]
            yield [(self.epoch, int(index)) for index in keys]
