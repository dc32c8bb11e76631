"""Training and validation clips of one dataset as Lightning's data loaders."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from gtdnet.data.dataset import EpochBatches, EvalClips, TrainClips, balanced_weights
from gtdnet.data.findings import odd_classes, shared_clips
from gtdnet.data.formats import (
    Annotations,
    check_dataset_is_there,
    list_splits,
    read_annotations,
)
from gtdnet.data.formats.held_out import HeldOut
from gtdnet.data.holdout import hold_out
from gtdnet.data.loader import ClipLoader
from gtdnet.data.pack.remote import is_remote
from gtdnet.errors import InputError
from gtdnet.processes import current
from gtdnet.train.config import TrainConfig


def read_splits(data: str, format: str | None = None) -> tuple[Annotations, Annotations | None]:
    """Training and validation annotations; None where the dataset has no validation split.

    Raises:
        ValueError: no such dataset, no training clips, or clips without a label.
    """
    check_dataset_is_there(data)
    splits = list_splits(data, format)
    train = read_annotations(data, "train", format)
    validation = read_annotations(data, "validation", format) if "validation" in splits else None
    _check_labels(train, validation)
    return train, validation


def split_clips(
    config: TrainConfig, split_file: Path | None = None
) -> tuple[Annotations, Annotations | None, HeldOut | None]:
    """As `read_splits`, and where the config holds clips out, which they are.

    They are those of ``split_file`` where it is given, as a run that goes on has it.

    Raises:
        ValueError: as well a dataset with a validation split of its own, or nothing to hold out.
    """
    if not config.holds_out:
        return *read_splits(config.data, config.format), None
    if config.data and "validation" in list_splits(config.data, config.format):
        raise InputError(
            f"{config.data} has a validation split of its own; leave out --val and --val-groups"
        )
    whole, _ = read_splits(config.data, config.format)
    if split_file is not None:
        held_out = HeldOut.read(split_file)
    else:
        names = [name.strip() for name in (config.val_groups or "").split(",") if name.strip()]
        held_out = hold_out(
            whole, share=config.val, names=names, group=config.group, seed=config.val_seed
        )
    train, validation = held_out.parts(whole)
    for part in (train, validation):
        if not part.records:
            raise InputError(
                f"{config.data}: no {part.split} clips are left on disk once "
                f"{len(held_out.validation)} are held out; choose others, or put the clips there"
            )
    return train, validation, held_out


def _check_labels(train: Annotations, validation: Annotations | None) -> None:
    classes = len(train.class_names)
    for part in (train, validation):
        if part and part.records and part.multi_label and not any(r.classes for r in part.records):
            raise InputError(
                f"{part.root}: none of the {len(part.records)} {part.split} clips has a class; "
                f"fill the column labels"
            )
    if validation and validation.multi_label != train.multi_label:
        one, other = ("several", "one") if train.multi_label else ("one", "several")
        raise InputError(
            f"{train.root}: the training clips can have {one} of the classes and the validation "
            f"clips {other}; label both alike"
        )
    for part in (train, validation):
        for record in part.records if part else ():
            if record.label is None or not all(0 <= label < classes for label in record.classes):
                raise InputError(
                    f"{record.path}: has the label {record.label}, but there are {classes} classes "
                    f"(0 to {classes - 1}); gtdnet check lists all such clips"
                )


def remarks(train: Annotations, validation: Annotations | None) -> list[str]:
    """What is odd about the clips, each in a sentence."""
    read = {part.split: part for part in (train, validation) if part is not None}
    return [found.sentence() for found in (*odd_classes(read), *shared_clips(read))]


def digest(*splits: Annotations | None) -> str:
    """Of the ids and labels of all clips in their order, wherever the dataset lies: SHA-256."""
    clips = [[[r.id, r.label] for r in split.records] if split else None for split in splits]
    return hashlib.sha256(json.dumps(clips).encode()).hexdigest()


def class_weights(annotations: Annotations) -> Tensor:
    """1 / clips of each class, with mean 1 over the clips' classes; classes without clips get 0."""
    labels = torch.tensor([label for record in annotations.records for label in record.classes])
    counts = torch.bincount(labels, minlength=len(annotations.class_names)).float()
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    return weights / weights[counts > 0].mean()


class ClipLoaders(pl.LightningDataModule):
    """Loaders of training clips in their random order and of validation clips, each once.

    The training clips' seed decides their order as well. ``batch_size`` is that of one process;
    ``balanced`` draws every class equally often. ``even`` gives every process as many validation
    batches, the last of which may have no clips.
    """

    def __init__(
        self,
        train: TrainClips,
        validation: EvalClips | None,
        *,
        batch_size: int,
        num_workers: int,
        balanced: bool = False,
        even: bool = False,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.balanced = balanced
        self.even = even
        self.start: tuple[int, int] = (0, 0)  # (epoch, batch): resumes in the middle of an epoch

    def train_dataloader(self) -> ClipLoader:
        labels = [label for record in self.train.records for label in record.classes]
        paths = (record.path for record in self.train.records)
        batches = EpochBatches(
            len(self.train),
            self.batch_size,
            self.train.seed,
            rank=self._rank,
            world_size=self._world_size,
            weights=balanced_weights(labels) if self.balanced else None,
            # Where clips are fetched, a machine's cache then holds its part of them.
            nodes=current().place.nodes if any(map(is_remote, paths)) else 1,
        )
        batches.start_at(*self.start)
        return _ResumableLoader(self.train, batch_sampler=batches, **self._options)

    def val_dataloader(self) -> ClipLoader | list[Any]:
        if self.validation is None:
            return []
        mine = range(self._rank, len(self.validation), self._world_size)
        if self.even:
            size = self.batch_size
            rounds = math.ceil(len(self.validation) / (self._world_size * size))
            batches = [list(mine[n * size : (n + 1) * size]) for n in range(rounds)]
            return ClipLoader(self.validation, batch_sampler=batches, **self._options)
        if not mine:  # fewer clips than processes: a batch of none, for Lightning wants one of each
            return ClipLoader(self.validation, batch_sampler=[[]], **self._options)
        return ClipLoader(
            self.validation, sampler=mine, batch_size=self.batch_size, **self._options
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
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }


class _ResumableLoader(ClipLoader):
    """Tells Lightning that resuming within an epoch is taken care of (by ``start_at``)."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
