"""Training and validation clips of one dataset as Lightning's data loaders."""

from __future__ import annotations

import signal
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Sampler

from gtdnet.data.dataset import (
    Augmentation,
    EpochBatches,
    EvalClips,
    TrainClips,
    balanced_weights,
)
from gtdnet.data.formats import Annotations, list_splits, read_annotations
from gtdnet.data.sharing import SharedCollate
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.train.config import TrainConfig


def read_splits(config: TrainConfig) -> tuple[Annotations, Annotations | None]:
    """Training and validation annotations; None where the dataset has no validation split.

    Raises:
        ValueError: no such dataset, no training clips, or clips without a label.
    """
    if not config.data:
        raise InputError("no dataset given; say where the clips are with --data PATH")
    splits = list_splits(config.data, config.format)
    train = read_annotations(config.data, "train", config.format)
    validation = None
    if "validation" in splits:
        validation = read_annotations(config.data, "validation", config.format)
    for part in (train, validation):
        for record in part.records if part else ():
            if record.label is None or not 0 <= record.label < len(train.class_names):
                raise InputError(
                    f"{record.path}: has the label {record.label}, but there are "
                    f"{len(train.class_names)} classes (0 to {len(train.class_names) - 1}); "
                    f"gtdnet check lists all such clips"
                )
    return train, validation


class ClipLoaders(pl.LightningDataModule):
    """Loaders of :class:`TrainClips` and :class:`EvalClips` (one centre view).

    Attributes:
        start: (epoch, batch) at which training begins, to resume in the middle of an epoch.
    """

    def __init__(
        self,
        config: TrainConfig,
        spec: ClipSpec,
        train: Annotations,
        validation: Annotations | None,
        num_workers: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.train = train
        self.validation = validation
        self.num_workers = num_workers
        self.start: tuple[int, int] = (0, 0)

    def train_dataloader(self) -> DataLoader[Any]:
        config = self.config
        clips = TrainClips(
            self.train.records,
            self.spec,
            Augmentation(config.multiscale, config.flip, config.brightness),
            config.seed,
        )
        labels = [r.label for r in self.train.records if r.label is not None]
        batches = EpochBatches(
            len(clips),
            config.batch_size,
            config.seed,
            rank=self._rank,
            world_size=self._world_size,
            weights=balanced_weights(labels) if config.balanced else None,
        )
        batches.start_at(*self.start)
        return _ResumableLoader(clips, batch_sampler=batches, **self._options)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        if self.validation is None:
            return []
        clips = EvalClips(self.validation.records, self.spec)
        mine = range(self._rank, len(clips), self._world_size)
        return DataLoader(
            clips, sampler=_Given(mine), batch_size=self.config.batch_size, **self._options
        )

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "collate_fn": SharedCollate(),
            "num_workers": self.num_workers,
            "worker_init_fn": _leave_signals_to_parent,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }


def _leave_signals_to_parent(worker: int) -> None:
    # Workers inherit the run's handlers, but Ctrl-C in a terminal reaches every process: they must
    # live on until the step is done, and still end when the parent terminates them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _ResumableLoader(DataLoader[Any]):
    """Tells Lightning that resuming within an epoch is taken care of (by ``start_at``)."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class _Given(Sampler[int]):
    """The given indices in their order."""

    def __init__(self, indices: range) -> None:
        self.indices = indices

    def __iter__(self) -> Any:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
