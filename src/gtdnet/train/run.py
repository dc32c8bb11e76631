"""One training run from config to model file."""

from __future__ import annotations

import csv
import datetime
import io
import logging
import os
import platform
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from gtdnet.data.formats import Annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.device import (
    resolve_device,
    resolve_precision,
    to_channels_last,
)
from gtdnet.errors import InputError
from gtdnet.files import write_text
from gtdnet.models.build import create_model
from gtdnet.models.classifier import VideoClassifier
from gtdnet.models.model_file import save_model
from gtdnet.models.start import Start, start_from
from gtdnet.text import say
from gtdnet.train.callbacks import Interrupted, ProgressLines, RunFiles, load_weights
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders, read_splits
from gtdnet.train.module import TrainingModule
from gtdnet.train.optim import scaled_lr
from gtdnet.workers import default_workers

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_PIXELS = ("mean", "std", "interpolation", "antialias")  # of a ClipSpec
_RUN_FOLDER = "GTDNET_RUN_FOLDER"  # tells the further processes of one run where it is


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
    """

    folder: Path
    model: Path | None
    finished: bool
    best: dict[str, float]
    failures: int
    val_failures: int

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
    """Train a new run; its directory must not exist.

    Raises:
        ValueError: anything wrong with config, data or weights; found before training starts.
    """
    return _train(config, _new_folder(config), resume=False, console=console or _console())


def resume(folder: str | Path, *, console: Console | None = None) -> TrainResult:
    """Continue a stopped run at the very step at which last.ckpt was written.

    Raises:
        ValueError: no run there, or none that can be continued.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: is not a run directory (it holds no config.yaml)")
    if not (folder / "last.ckpt").is_file():
        raise InputError(
            f"{folder}: holds no last.ckpt to continue from; start anew with "
            f"gtdnet train --config {folder / 'config.yaml'} --name NEW"
        )
    config = TrainConfig.load(folder / "config.yaml")
    return _train(config, folder, resume=True, console=console or _console())


def is_first_process() -> bool:
    """Whether this process writes and prints: with several devices, all run the same program."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def _console() -> Console:
    return Console(stderr=True, quiet=not is_first_process())


def _train(config: TrainConfig, folder: Path, *, resume: bool, console: Console) -> TrainResult:
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
    annotations, validation = read_splits(config)
    spec = config.clip_spec(annotations.class_names)
    total_batch = config.batch_size * config.devices * config.accumulate
    if len(annotations.records) < config.batch_size * config.devices:
        raise InputError(
            f"the training split has {len(annotations.records)} clips, fewer than one batch of "
            f"{config.batch_size * config.devices}; lower --batch_size"
        )
    lr = scaled_lr(config.lr, config.lr_batch, total_batch)

    pl.seed_everything(config.seed, verbose=False)
    start = None
    checkpoint = _read_checkpoint(folder / "last.ckpt") if resume else None
    if checkpoint is None:
        model, spec, start = build_model(config, spec)
    else:
        model, spec = _rebuild_model(config, spec, checkpoint, annotations)
    if config.channels_last:
        to_channels_last(model)
    if config.compile:
        model.compile()
    module = TrainingModule(
        model, spec, config, lr, _class_weights(annotations) if config.class_weights else None
    )
    workers = config.num_workers
    if workers is None:
        workers = default_workers(device, config.devices)
    loaders = ClipLoaders(config, spec, annotations, validation, workers)
    files = RunFiles(
        folder,
        console,
        validates=validation is not None,
        save_minutes=config.save_minutes,
        patience=config.early_stopping,
    )
    callbacks: list[Callback] = [files]
    if config.ema:
        callbacks.insert(0, EMAWeightAveraging(decay=config.ema))
    callbacks.append(
        RichProgressBar(console_kwargs={"stderr": True})
        if console.is_terminal
        else ProgressLines(console)
    )

    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            replace(config, name=folder.name).save(folder / "config.yaml")
        _announce(console, config, annotations, validation, spec, model, folder, device, precision)
        if start is not None:
            say(start.describe(), console)
            if start.trained != spec.describe():
                say(f"this run's clips are others: {spec.describe()}", console)
        if lr != config.lr:
            say(
                f"learning rate {lr:g}: {config.lr:g} for {config.lr_batch} clips a step, scaled "
                f"to {total_batch} ({config.batch_size} x {config.devices} devices x "
                f"{config.accumulate} accumulated)",
                console,
            )
    if checkpoint is not None:
        epoch, batch = loaders.start = checkpoint.position
        where = f"epoch {epoch + 1}, batch {batch + 1}"
        say("all epochs are done" if epoch >= config.epochs else f"continuing at {where}", console)
    try:
        os.environ.setdefault(_RUN_FOLDER, str(folder))
        with warnings.catch_warnings(), _quiet_lightning():
            trainer = pl.Trainer(
                accelerator="gpu" if device.type == "cuda" else device.type,
                devices=[device.index] if device.index is not None else config.devices,
                strategy="ddp" if config.devices > 1 else "auto",
                precision=_LIGHTNING_PRECISION[precision],  # type: ignore[arg-type]
                max_epochs=config.epochs,
                gradient_clip_val=config.clip_gradient or None,
                accumulate_grad_batches=config.accumulate,
                check_val_every_n_epoch=config.validate_every,
                callbacks=callbacks,
                logger=_TensorBoard(folder, name="", version=""),
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=console.is_terminal,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                log_every_n_steps=10,
                benchmark=device.type == "cuda",
            )
            path = folder / "last.ckpt" if resume else None
            trainer.fit(module, loaders, ckpt_path=path, weights_only=True)
        finished = True
    except Interrupted:
        finished = False
    except SystemExit as error:  # how Lightning answers a second Ctrl-C
        raise KeyboardInterrupt from error
    finally:
        os.environ.pop(_RUN_FOLDER, None)
    return _finish(config, folder, model, spec, files, module, finished, console, annotations)


def _finish(
    config: TrainConfig,
    folder: Path,
    model: VideoClassifier,
    spec: ClipSpec,
    files: RunFiles,
    module: TrainingModule,
    finished: bool,
    console: Console,
    annotations: Annotations,
) -> TrainResult:
    path = folder / "model.safetensors" if files.best else None
    result = TrainResult(
        folder, path, finished, files.best, len(module.failures), len(module.val_failures)
    )
    if not is_first_process():
        return result
    if path:
        save_model(
            path,
            model,
            spec,
            state_dict=load_weights(folder / "best.ckpt"),
            provenance=_provenance(config, annotations),
            metrics={k: v for k, v in files.best.items() if k != "seconds"},
        )
    if module.failures or module.val_failures:
        _write_failures(folder / "failures.csv", module)
        say(
            f"{len(module.failures)} training and {len(module.val_failures)} validation clips "
            f"could not be decoded and were left out; see {folder / 'failures.csv'}",
            console,
        )
    if not finished:
        say(f"stopped; continue with: gtdnet train --resume {folder}", console)
    return result


def _new_folder(config: TrainConfig) -> Path:
    if _RUN_FOLDER in os.environ:
        return Path(os.environ[_RUN_FOLDER])
    name = config.name or f"{config.model}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder = Path(config.output) / name
    if folder.exists():
        resumable = (folder / "last.ckpt").is_file()
        remedy = f"continue it with gtdnet train --resume {folder}" if resumable else "delete it"
        raise InputError(f"{folder}: exists already; choose another --name, or {remedy}")
    return folder


def build_model(
    config: TrainConfig, spec: ClipSpec
) -> tuple[VideoClassifier, ClipSpec, Start | None]:
    """The network, the spec (its pixels are the source's where there is one), and the start."""
    options = {"dropout": config.dropout, **config.model_options}
    if config.init_from:
        start = start_from(
            config.init_from,
            config.model,
            spec.class_names,
            spec.num_segments,
            init=config.init,
            **options,
        )
        pixels = {k: getattr(start.source.spec, k) for k in _PIXELS}
        return start.model, replace(spec, **pixels), start
    model = create_model(
        config.model,
        spec.num_classes,
        spec.num_segments,
        pretrained=config.pretrained,
        init=config.init,
        **options,
    )
    return model, spec, None


def _class_weights(annotations: Annotations) -> torch.Tensor:
    """1 / clips of each class, with mean 1 over the clips' classes; classes without clips get 0."""
    labels = torch.tensor([r.label for r in annotations.records])
    counts = torch.bincount(labels, minlength=len(annotations.class_names)).float()
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    return weights / weights[counts > 0].mean()


@dataclass(frozen=True)
class _Checkpoint:
    """What of last.ckpt is needed before training goes on."""

    position: tuple[int, int]  # epoch, batch
    spec: ClipSpec
    model_options: dict[str, Any]


def _read_checkpoint(path: Path) -> _Checkpoint:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        epoch, batch = content["callbacks"]["RunFiles"]["position"]
        spec = ClipSpec.from_dict(content["spec"])
        return _Checkpoint((epoch, batch), spec, content["model_options"])
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise InputError(f"{path}: cannot be read as a checkpoint of a run") from error


def _rebuild_model(
    config: TrainConfig, spec: ClipSpec, checkpoint: _Checkpoint, annotations: Annotations
) -> tuple[VideoClassifier, ClipSpec]:
    """The stopped run's network and spec; the file it once started from is not needed again."""
    if checkpoint.spec.class_names != spec.class_names:
        raise InputError(
            f"{annotations.root}: its classes are no longer those that the run was started with; "
            f"restore the dataset, or start a new run"
        )
    model = create_model(
        config.model, spec.num_classes, spec.num_segments, **checkpoint.model_options
    )
    return model, checkpoint.spec


def _provenance(config: TrainConfig, annotations: Annotations) -> dict[str, Any]:
    import gtdnet

    return {
        "gtdnet": gtdnet.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": Path(annotations.root).name,
        "format": annotations.format,
        "training_clips": len(annotations.records),
        "pretrained": config.pretrained,
        "init_from": config.init_from,
        "epochs": config.epochs,
        "seed": config.seed,
    }


def _announce(
    console: Console,
    config: TrainConfig,
    annotations: Annotations,
    validation: Annotations | None,
    spec: ClipSpec,
    model: VideoClassifier,
    folder: Path,
    device: torch.device,
    precision: str,
) -> None:
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    if validation is None:
        held_out = "no validation split: the last epoch is kept"
    else:
        held_out = f"{len(validation.records)} validation clips"
    missing = len(annotations.missing) + (len(validation.missing) if validation else 0)
    for line in (
        f"{config.model}: {parameters:.2f} M parameters, {device.type}, {precision}",
        f"{len(annotations.records)} training clips, {held_out}, {spec.num_classes} classes "
        f"({annotations.format}: {annotations.root})",
        f"{spec.describe()}",
        *([f"{missing} annotated clips are missing on disk"] if missing else []),
        f"run directory: {folder}",
    ):
        say(line, console)


def _write_failures(path: Path, module: TrainingModule) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "path", "reason"])
    for split, failures in (("train", module.failures), ("validation", module.val_failures)):
        writer.writerows((split, f.path, f.reason) for _, f in sorted(failures.items()))
    write_text(path, text.getvalue())


class _TensorBoard(TensorBoardLogger):
    """TensorBoard events alone: config.yaml already tells the hyperparameters."""

    def save(self) -> None:
        self.experiment.flush()


class _quiet_lightning:
    """Only what a user can act on: no device lists, tips and loader hints."""

    def __enter__(self) -> None:
        warnings.filterwarnings("ignore", module="lightning.*")
        self._loggers = [
            logging.getLogger(name)
            for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities")
        ]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
