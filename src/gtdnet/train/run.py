"""One training run from config to model file."""

from __future__ import annotations

import datetime
import itertools
import math
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from rich.console import Console

from gtdnet.data.dataset import Augmentation, EvalClips, TrainClips
from gtdnet.data.formats import Annotations
from gtdnet.data.formats.held_out import SPLIT_FILE
from gtdnet.data.holdout import describe
from gtdnet.data.loader import killed_worker
from gtdnet.data.spec import ClipSpec
from gtdnet.device import resolve_device, resolve_precision, to_channels_last
from gtdnet.errors import InputError
from gtdnet.files import LOCK_FILE, alone_in, alone_in_first, is_empty, write_csv
from gtdnet.measure.provenance import provenance
from gtdnet.models.build import create_model
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import save_model
from gtdnet.models.start import Start, start_from
from gtdnet.text import alike, only_errors, say
from gtdnet.threads import say_threads
from gtdnet.train.callbacks import (
    Checkpoint,
    Interrupted,
    PlainFiles,
    RunFiles,
    RunLog,
    load_weights,
)
from gtdnet.train.config import TrainConfig, check_is_run
from gtdnet.train.data import ClipLoaders, class_weights, digest, remarks, split_clips
from gtdnet.train.loggers import check_loggers, make_loggers
from gtdnet.train.module import TrainingModule
from gtdnet.train.optim import freeze, scaled_lr, set_norm_momentum
from gtdnet.train.progress import ProgressBar, ProgressLines
from gtdnet.workers import default_workers

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# They tell of devices, tips and loaders, nothing that a user can act on.
_LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities")
_PIXELS = ("mean", "std", "interpolation", "antialias")  # of a ClipSpec
_RUN_FOLDER = "GTDNET_RUN_FOLDER"  # tells the further processes of one run where it is
_ANOTHER_NAME = "choose another --name"


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes:
        folder: the run directory.
        model: its model file, the best epoch's weights; None where training was stopped before
            the first epoch ended.
        finished: False where it was stopped; ``gtdnet train --resume FOLDER`` continues it.
        best: the row of metrics.csv that the model file belongs to.
        failures: training clips that could not be decoded.
        val_failures: validation clips that could not, in the latest validation.
        terminated: stopped by SIGTERM.
        told: the validation's figure of that row, as in "validation top-1 93.1 %"; "" without one.
    """

    folder: Path
    model: Path | None
    finished: bool
    best: dict[str, float]
    failures: int
    val_failures: int
    terminated: bool = False
    told: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "folder": str(self.folder),
            "model": str(self.model) if self.model else None,
            "finished": self.finished,
            "best": self.best,
            "undecodable_training_clips": self.failures,
            "undecodable_validation_clips": self.val_failures,
        }


def train(config: TrainConfig, *, console: Console | None = None) -> TrainResult:
    """Train a new run; InputError for anything wrong with it, found before training starts."""
    if config.name and is_first_process():
        _check_new(Path(config.output, config.name))
    return _train(config, None, console or _console())


def resume(folder: str | Path, *, console: Console | None = None) -> TrainResult:
    """Continue a stopped run at the very step of its last.ckpt; InputError if it cannot be."""
    folder = Path(folder)
    check_is_run(folder)
    if not (folder / "last.ckpt").is_file():
        raise InputError(
            f"{folder}: holds no last.ckpt to continue from; start anew with "
            f"gtdnet train --config {folder / 'config.yaml'} --name NEW"
        )
    with alone_in(folder, "resume another run") if is_first_process() else nullcontext():
        config = TrainConfig.load(folder / "config.yaml")
        return _train(config, folder, console or _console())


def is_first_process() -> bool:
    """Whether this process writes and prints: with several devices, all run the same program."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def _console() -> Console:
    return Console(stderr=True, quiet=not is_first_process())


def _train(config: TrainConfig, resumed: Path | None, console: Console) -> TrainResult:
    device, precision = _resolve(config)
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
    clips = config.batch_size * config.devices
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
    )
    with nullcontext(resumed) if resumed else _new_run(config) as folder:
        files = RunFiles(
            folder,
            console,
            objective=module.objective,
            validates=validation is not None,
            save_minutes=config.save_minutes,
            patience=config.early_stopping,
        )

        if is_first_process():
            if not resumed:
                replace(config, name=folder.name).save(folder / "config.yaml")
                if held_out:
                    held_out.save(folder / SPLIT_FILE)
            size = sum(p.numel() for p in model.parameters()) / 1e6
            say(f"{config.model}: {size:.2f} M parameters, {device.type}, {precision}", console)
            if device.type == "cpu":
                say_threads(partial(say, console=console))
            for line in _announcement(config, annotations, validation, module, folder, start):
                say(line, console)
            if held_out and validation:
                say(describe(held_out, annotations, validation), console)
        if checkpoint is not None:
            loaders.start = checkpoint.position
            per_epoch = len(annotations.records) // clips
            say(_where(*checkpoint.position, per_epoch, config.epochs), console)
        try:
            os.environ.setdefault(_RUN_FOLDER, str(folder))
            with only_errors(*_LIGHTNING_LOGGERS), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="lightning.*")
                # With channels_last, of 1x1 convolutions, whose strides mean nothing.
                warnings.filterwarnings("ignore", message="Grad strides do not match bucket")
                trainer = _trainer(config, files, device, precision, validation)
                path = folder / "last.ckpt" if resumed else None
                trainer.fit(module, loaders, ckpt_path=path, weights_only=True)
            finished = True
        except Interrupted:
            finished = False
        except SystemExit as error:  # how Lightning answers a second Ctrl-C
            raise error.__context__ or KeyboardInterrupt from error
        except RuntimeError as error:
            # Ctrl-C while the loaders begin: Lightning then asks them where they are.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            if (killed := killed_worker(error)) is None:
                raise
            raise killed from error
        finally:
            os.environ.pop(_RUN_FOLDER, None)
        return _finish(config, module, files, annotations, finished)


def _resolve(config: TrainConfig) -> tuple[torch.device, str]:
    """Device and precision, once it is clear that there are as many devices as asked for."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    if device.type == "cuda" and config.devices > torch.cuda.device_count():
        raise InputError(
            f"devices={config.devices} GPUs were asked for, {torch.cuda.device_count()} are here"
        )
    if config.devices > 1 and (device.index is not None or device.type == "mps"):
        raise InputError(
            f"devices={config.devices} cannot be had with --device {config.device}; "
            f"use --device cuda or cpu, or --devices 1"
        )
    return device, precision


def _trainer(
    config: TrainConfig,
    files: RunFiles,
    device: torch.device,
    precision: str,
    validation: Annotations | None,
) -> pl.Trainer:
    console, records = files.console, validation.records if validation else ()
    val_batches = math.ceil(len(records) / (config.batch_size * config.devices))
    progress = ProgressBar if console.is_terminal and not console.quiet else ProgressLines
    callbacks: list[Callback] = [EMAWeightAveraging(decay=config.ema)] if config.ema else []
    callbacks += [
        files,
        progress(console, val_batches=val_batches),
        RunLog(files, asdict(config), [record.label for record in records]),
    ]
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index] if device.index is not None else config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision=_LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]
        max_epochs=config.epochs,
        gradient_clip_val=config.clip_gradient or None,
        accumulate_grad_batches=config.accumulate,
        check_val_every_n_epoch=config.validate_every,
        callbacks=callbacks,
        logger=make_loggers(config.logger, files.folder),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=10,
        benchmark=device.type == "cuda",
        plugins=[PlainFiles()],
    )


def _finish(
    config: TrainConfig,
    module: TrainingModule,
    files: RunFiles,
    annotations: Annotations,
    finished: bool,
) -> TrainResult:
    folder, failed = files.folder, (module.failures, module.val_failures)
    path = folder / "model.safetensors" if files.best else None
    counts = map(len, failed)
    figure = files.best.get(module.objective.column)
    told = "" if figure is None else f"validation {module.objective.title} {100 * figure:.1f} %"
    result = TrainResult(
        folder, path, finished, files.best, *counts, terminated=files.terminated, told=told
    )
    if not is_first_process():
        return result
    if path:
        save_model(
            path,
            module.model,
            module.spec,
            state_dict=load_weights(folder / "best.ckpt"),
            provenance=provenance(
                python=platform.python_version(),
                data=Path(annotations.root).name,
                format=annotations.format,
                training_clips=len(annotations.records),
                **{k: getattr(config, k) for k in ("pretrained", "init_from", "epochs", "seed")},
            ),
            metrics={k: v for k, v in files.best.items() if k != "seconds"},
        )
    if any(failed):
        rows = [
            (split, failure.path, failure.reason)
            for split, failures in zip(("train", "validation"), failed, strict=True)
            for _, failure in sorted(failures.items())
        ]
        write_csv(folder / "failures.csv", [("split", "path", "reason"), *rows])
        say(
            f"{len(module.failures)} training and {len(module.val_failures)} validation clips "
            f"could not be decoded and were left out; see {folder / 'failures.csv'}",
            files.console,
        )
    if not finished:
        say(f"stopped; continue with: gtdnet train --resume {folder}", files.console)
    return result


@contextmanager
def _new_run(config: TrainConfig) -> Iterator[Path]:
    """The folder of a new run; it goes again where the run ends before anything can be resumed."""
    with _new_folder(config) as folder:
        try:
            yield folder
        except BaseException:
            if is_first_process() and not (folder / "last.ckpt").exists():
                for path in folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    elif path.name != LOCK_FILE:
                        path.unlink(missing_ok=True)
            raise


@contextmanager
def _new_folder(config: TrainConfig) -> Iterator[Path]:
    """The folder of a new run, for this process alone; further ones of the run are told it."""
    if _RUN_FOLDER in os.environ:
        yield Path(os.environ[_RUN_FOLDER])
        return
    if config.name:
        folder = Path(config.output, config.name)
        with alone_in(folder, _ANOTHER_NAME):
            _check_new(folder)  # again, now that nobody else can make it
            yield folder
        return
    began = f"{config.model.replace('/', '-')}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    names = (began if n == 1 else f"{began}-{n}" for n in itertools.count(1))
    folders = (Path(config.output, name) for name in names)
    with alone_in_first(folders, _is_taken, _ANOTHER_NAME) as folder:
        yield folder


def _is_taken(folder: Path) -> bool:
    return folder.exists() and not is_empty(folder)


def _check_new(folder: Path) -> None:
    if _is_taken(folder):
        resumable = (folder / "last.ckpt").is_file()
        remedy = f"continue it with gtdnet train --resume {folder}" if resumable else "delete it"
        raise InputError(f"{folder}: exists already; choose another --name, or {remedy}")


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


def _announcement(
    config: TrainConfig,
    annotations: Annotations,
    validation: Annotations | None,
    module: TrainingModule,
    folder: Path,
    start: Start | None,
) -> Iterator[str]:
    """What the run is going to do, line by line."""
    spec = module.spec
    missing = len(annotations.missing) + (len(validation.missing) if validation else 0)
    held_out = (
        f"{len(validation.records)} validation clips"
        if validation
        else "no validation split: the last epoch is kept (--val 0.2 would hold clips out)"
    )
    yield (
        f"{len(annotations.records)} training clips, {held_out}, {spec.num_classes} classes "
        f"({annotations.format}: {annotations.root})"
    )
    yield spec.describe()
    if spec.multi_label:
        yield "any number of classes a clip: binary cross entropy, the best epoch by mAP"
    if missing:
        yield f"{missing} annotated clips are missing on disk"
    yield f"run directory: {folder}"
    if start is not None:
        yield start.describe()
        if start.trained != spec.describe():
            yield f"this run's clips are others: {spec.describe()}"
    if module.lr != config.lr:
        clips = config.batch_size * config.devices * config.accumulate
        yield (
            f"learning rate {module.lr:g}: {config.lr:g} for {config.lr_batch} clips a step, "
            f"scaled to {clips} ({config.batch_size} x {config.devices} devices x "
            f"{config.accumulate} accumulated)"
        )


def _where(epoch: int, batch: int, batches: int, epochs: int) -> str:
    """Where a stopped run goes on, of so many batches an epoch."""
    if epoch >= epochs:
        return "all epochs are done"
    if batch == batches:
        return f"continuing with the validation of epoch {epoch + 1}"
    return f"continuing at epoch {epoch + 1}, batch {batch + 1}"
