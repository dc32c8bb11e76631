"""One training run from config to model file."""

from __future__ import annotations

import datetime
import itertools
import math
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from rich.console import Console

from gtdnet import moved
from gtdnet.data.formats.held_out import SPLIT_FILE
from gtdnet.data.holdout import describe
from gtdnet.data.loader import killed_worker
from gtdnet.device import resolve_device
from gtdnet.errors import InputError
from gtdnet.files import LOCK_FILE, alone_in, alone_in_first, is_empty, write_csv
from gtdnet.measure.provenance import provenance
from gtdnet.models.model_file import save_model
from gtdnet.processes import ALONE, Group, current, started, together
from gtdnet.text import only_errors, say
from gtdnet.threads import say_threads
from gtdnet.train.across import share_dropout, synchronise_norms
from gtdnet.train.callbacks import Interrupted, RunFiles, RunLog, load_weights
from gtdnet.train.config import TrainConfig, check_is_run
from gtdnet.train.loggers import open_loggers
from gtdnet.train.progress import ProgressBar, ProgressLines
from gtdnet.train.ready import Ready, make_ready
from gtdnet.train.trainer import make_trainer

# They tell of devices, tips and loaders, nothing that a user can act on.
_LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities")
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
        is_first: False in the other processes of several, which have written nothing.
    """

    folder: Path
    model: Path | None
    finished: bool
    best: dict[str, float]
    failures: int
    val_failures: int
    terminated: bool = False
    told: str = ""
    is_first: bool = True

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
    """Train a new run, with as many processes as the config or a launcher says.

    Raises:
        InputError: anything wrong with it, found before training starts.
        ProcessLost: one of several processes ended.
    """
    devices, num_nodes = started(config.devices, config.num_nodes)
    config = replace(config, devices=devices, num_nodes=num_nodes)
    call = {"function": f"{__name__}:train_from", "arguments": {"values": asdict(config)}}
    return _run(config, None, console or Console(stderr=True), **call)


def train_from(values: dict[str, Any]) -> None:
    """:func:`train` in one of the further processes."""
    train(TrainConfig(**values))


def resume(
    folder: str | Path,
    *,
    devices: int | None = None,
    num_nodes: int | None = None,
    timeout: float | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Continue a stopped run at the very step of its last.ckpt; InputError if it cannot be.

    With as many processes as it had, as are asked for, or as a launcher started: a step has the
    same clips.
    """
    folder = Path(folder)
    check_is_run(folder)
    config = TrainConfig.load(folder / "config.yaml")
    if timeout is not None:
        config = replace(config, timeout=timeout)
    config = config.on(*started(devices, num_nodes, config.devices, config.num_nodes))
    arguments = {
        "folder": str(folder),
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "timeout": config.timeout,
    }
    call = {"function": f"{__name__}:resume", "arguments": arguments}
    return _run(config, folder, console or Console(stderr=True), **call)


def _check_resumable(folder: Path) -> None:
    if not (folder / "last.ckpt").is_file():
        raise InputError(
            f"{folder}: holds no last.ckpt to continue from; start anew with "
            f"gtdnet train --config {folder / 'config.yaml'} --name NEW"
        )


def _run(config: TrainConfig, resumed: Path | None, console: Console, **call: Any) -> TrainResult:
    """Of one process alone, of one that a launcher started beside others, or that starts others.

    ``call`` is how those come to the same place.
    """
    with ExitStack() as held:

        def prepare() -> Ready:
            if resumed:
                _check_resumable(resumed)
                if current().is_first:
                    held.enter_context(alone_in(resumed, "resume another run"))
            elif config.name and current().is_first:
                _check_new(Path(config.output, config.name))
            return make_ready(config, resumed, console)

        # What is wrong is found before others are started, or by all of them together.
        is_only = current() is ALONE and config.num_nodes == 1
        ready = prepare() if is_only else None
        group = held.enter_context(
            together(
                **call,
                devices=config.devices,
                num_nodes=config.num_nodes,
                minutes=config.timeout,
                on_gpus=resolve_device(config.device).type == "cuda",
            )
        )
        folder = resumed
        with group.alike():
            ready = ready or prepare()
            if not folder and group.is_first:
                folder = held.enter_context(_new_run(config))
        return _train(ready, group.share(folder), console, group)


def _train(ready: Ready, folder: Path | None, console: Console, group: Group) -> TrainResult:
    assert folder is not None  # the first process has one, and shared it
    config, module, validation = ready.config, ready.module, ready.validation
    files = RunFiles(
        folder,
        console,
        objective=module.objective,
        validates=validation is not None,
        save_minutes=config.save_minutes,
        patience=config.early_stopping,
        on_saved=lambda: _remember(group, folder),
    )
    if group.is_first:
        if not ready.checkpoint:
            replace(config, name=folder.name).save(folder / "config.yaml")
            if ready.held_out:
                ready.held_out.save(folder / SPLIT_FILE)
        size = sum(p.numel() for p in module.model.parameters()) / 1e6
        kind = f"{ready.device.type}, {ready.precision}"
        say(f"{config.model}: {size:.2f} M parameters, {kind}", console)
        if ready.device.type == "cpu":
            say_threads(partial(say, console=console))
        for line in _announcement(ready, folder):
            say(line, console)
    if ready.checkpoint is not None:
        _remember(group, folder)
        clips = config.batch_size * config.processes
        per_epoch = len(ready.annotations.records) // clips
        say(_where(*ready.checkpoint.position, per_epoch, config.epochs), console)
    records = validation.records if validation else ()
    val_batches = math.ceil(len(records) / (config.batch_size * config.processes))
    is_drawn = console.is_terminal and not console.quiet and group.is_first
    progress = ProgressBar if is_drawn else ProgressLines
    callbacks: list[Callback] = [EMAWeightAveraging(decay=config.ema)] if config.ema else []
    callbacks += [
        files,
        progress(console, val_batches=val_batches),
        RunLog(files, asdict(config), [record.label for record in records]),
    ]
    if group.size > 1:
        share_dropout(module.model, group.rank, group.size)
        if config.sync_batchnorm:
            module.model = synchronise_norms(module.model, ready.device)
            module.norms_wait = True
        if config.strategy == "fsdp":
            module.is_sharded = module.norms_wait = True
    try:
        with only_errors(*_LIGHTNING_LOGGERS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            # With channels_last, of 1x1 convolutions, whose strides mean nothing.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket")
            # Of changes in place, which residual branches here do not get.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            path = folder / "last.ckpt" if ready.checkpoint else None
            with open_loggers(config.logger, folder) as loggers:
                trainer = make_trainer(
                    config, ready.device, ready.precision, callbacks, loggers, group
                )
                trainer.fit(module, ready.loaders, ckpt_path=path, weights_only=True)
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
    return _finish(ready, files, finished, group)


def _remember(group: Group, folder: Path) -> None:
    """What to do if one of the processes is lost from now on."""
    group.remedy = f"continue with: gtdnet train --resume {folder}"


def _finish(ready: Ready, files: RunFiles, finished: bool, group: Group) -> TrainResult:
    config, module, annotations = ready.config, ready.module, ready.annotations
    folder, failed = files.folder, (module.failures, module.val_failures)
    path = folder / "model.safetensors" if files.best else None
    counts = map(len, failed)
    figure = files.best.get(module.objective.column)
    told = "" if figure is None else f"validation {module.objective.title} {100 * figure:.1f} %"
    result = TrainResult(
        folder, path, finished, files.best, *counts, terminated=files.terminated, told=told
    )
    if not group.is_first:
        return replace(result, is_first=False)
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
            if not (folder / "last.ckpt").exists():
                for path in folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    elif path.name != LOCK_FILE:
                        path.unlink(missing_ok=True)
            raise


@contextmanager
def _new_folder(config: TrainConfig) -> Iterator[Path]:
    """The folder of a new run, for this process alone."""
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


def _announcement(ready: Ready, folder: Path) -> Iterator[str]:
    """What the run is going to do, line by line."""
    config, module, start = ready.config, ready.module, ready.start
    annotations, validation = ready.annotations, ready.validation
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
        clips = config.batch_size * config.processes * config.accumulate
        yield (
            f"learning rate {module.lr:g}: {config.lr:g} for {config.lr_batch} clips a step, "
            f"scaled to {clips} ({config.batch_size} x {config.processes} devices x "
            f"{config.accumulate} accumulated)"
        )
    if ready.held_out and validation:
        yield describe(ready.held_out, annotations, validation)


def _where(epoch: int, batch: int, batches: int, epochs: int) -> str:
    """Where a stopped run goes on, of so many batches an epoch."""
    if epoch >= epochs:
        return "all epochs are done"
    if batch == batches:
        return f"continuing with the validation of epoch {epoch + 1}"
    return f"continuing at epoch {epoch + 1}, batch {batch + 1}"


__getattr__ = moved.names(__name__)
