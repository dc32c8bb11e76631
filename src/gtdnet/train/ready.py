"""What a run begins with: clips, network and loaders, or what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from rich.console import Console

from gtdnet.data.dataset import Augmentation, EvalClips, TrainClips
from gtdnet.data.formats import Annotations
from gtdnet.data.formats.held_out import SPLIT_FILE, HeldOut
from gtdnet.data.spec import ClipSpec
from gtdnet.device import to_channels_last
from gtdnet.errors import InputError
from gtdnet.models.build import create_model
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.start import Start, start_from
from gtdnet.text import alike, say
from gtdnet.train.callbacks import Checkpoint
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders, class_weights, digest, remarks, split_clips
from gtdnet.train.loggers import check_loggers
from gtdnet.train.module import TrainingModule
from gtdnet.train.optim import freeze, scaled_lr, set_norm_momentum
from gtdnet.train.sharded import check_sharded
from gtdnet.train.trainer import resolve
from gtdnet.workers import default_workers

_PIXELS = ("mean", "std", "interpolation", "antialias")  # of a ClipSpec


@dataclass(frozen=True)
class Ready:
    """A run before its first step.

    Attributes:
        checkpoint: of the stopped run that goes on.
        held_out: which clips the config holds out for validation.
        start: where the weights come from, if from a model file.
    """

    config: TrainConfig
    device: torch.device
    precision: str
    annotations: Annotations
    validation: Annotations | None
    held_out: HeldOut | None
    module: TrainingModule
    loaders: ClipLoaders
    checkpoint: Checkpoint | None
    start: Start | None


def make_ready(config: TrainConfig, resumed: Path | None, console: Console) -> Ready:
    """Read and build everything; InputError for anything wrong with it."""
    device, precision = resolve(config)
    check_loggers(config.logger)
    split_file = resumed / SPLIT_FILE if resumed else None
    annotations, validation, held_out = split_clips(config, split_file)
    for sentence in remarks(annotations, validation):
        say(sentence, console)
    spec = config.clip_spec(annotations.class_names, multi_label=annotations.multi_label)
    if config.balanced and spec.multi_label:
        raise InputError(
            "--balanced draws clips by their one class, but these have any number; leave it out, "
            "or weigh the classes with --class_weights"
        )
    clips = config.batch_size * config.processes
    if len(annotations.records) < clips:
        raise InputError(
            f"the training split has {len(annotations.records)} clips, fewer than one batch of "
            f"{clips}; lower --batch_size"
        )
    lr = scaled_lr(config.lr, config.lr_batch, clips * config.accumulate)

    pl.seed_everything(config.seed, verbose=False)
    checkpoint = Checkpoint.read(resumed / "last.ckpt") if resumed else None
    clips_digest = digest(annotations, validation)
    start = None
    if checkpoint is None:
        model, spec, start = build_model(config, spec)
    else:
        model, spec = _rebuild_model(config, spec, checkpoint, annotations)
        _check_clips(checkpoint, clips_digest, annotations, validation)
    if config.strategy == "fsdp":
        check_sharded(config, model, precision)
    if config.channels_last:
        to_channels_last(model)
    if config.compile:
        model.compile()
    freeze(model, config.freeze, config.frozen_stages)
    if config.norm_momentum is not None:
        set_norm_momentum(model, config.norm_momentum)
    weights = class_weights(annotations) if config.class_weights else None
    module = TrainingModule(
        model, spec, config, lr, seed=config.seed, class_weights=weights, clips=clips_digest
    )
    augmentation = Augmentation(config.multiscale, config.flip, config.brightness)
    workers = config.num_workers
    loaders = ClipLoaders(
        TrainClips(annotations.records, spec, augmentation, config.seed),
        EvalClips(validation.records, spec) if validation else None,
        batch_size=config.batch_size,
        num_workers=default_workers(device, config.devices) if workers is None else workers,
        balanced=config.balanced,
        even=config.strategy == "fsdp",
    )
    if checkpoint is not None:
        loaders.start = checkpoint.position
    return Ready(
        config,
        device,
        precision,
        annotations,
        validation,
        held_out,
        module,
        loaders,
        checkpoint,
        start,
    )


def build_model(
    config: TrainConfig, spec: ClipSpec
) -> tuple[VideoClassifier, ClipSpec, Start | None]:
    """The network, the spec (its pixels are the source's where there is one), and the start."""
    name, init, frames = config.model, config.init, spec.num_segments
    options = {"dropout": config.dropout, **config.model_options}
    if config.init_from:
        start = start_from(config.init_from, name, spec.class_names, frames, init=init, **options)
        pixels = {k: getattr(start.source.spec, k) for k in _PIXELS}
        return start.model, replace(spec, **pixels), start
    weights = config.pretrained
    model = create_model(name, spec.num_classes, frames, pretrained=weights, init=init, **options)
    return model, spec, None


def _rebuild_model(
    config: TrainConfig, spec: ClipSpec, checkpoint: Checkpoint, annotations: Annotations
) -> tuple[VideoClassifier, ClipSpec]:
    """The stopped run's network and spec; the file it once started from is not needed again."""
    if alike(checkpoint.spec.class_names) != alike(spec.class_names):
        raise InputError(
            f"{annotations.root}: its classes are no longer those that the run was started with; "
            f"restore the dataset, or start a new run"
        )
    model = create_model(
        config.model, spec.num_classes, spec.num_segments, **checkpoint.model_options
    )
    return model, checkpoint.spec


def _check_clips(
    checkpoint: Checkpoint, clips: str, annotations: Annotations, validation: Annotations | None
) -> None:
    """Raise InputError where the dataset's clips are others than when the run began."""
    if checkpoint.clips in (None, clips):
        return
    now = f"{len(annotations.records)} training clips"
    now += f", {len(validation.records)} validation clips" if validation else ", no validation"
    raise InputError(
        f"{annotations.root}: its clips are no longer those of the run (now {now}); restore the "
        f"dataset as it was, or start a new run"
    )
