"""What a run leaves behind while it trains: metrics.csv, checkpoints, and a clean stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.plugins import TorchCheckpointIO
from numpy.typing import NDArray
from rich.console import Console

from gtdnet import moved
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.files import atomic_path, write_csv
from gtdnet.text import say
from gtdnet.train.loggers import log_options, log_picture, log_row
from gtdnet.train.module import TrainingModule
from gtdnet.train.objective import Objective
from gtdnet.train.pictures import clip_grid, confusion_picture
from gtdnet.train.progress import epoch_line


class Interrupted(Exception):
    """Training was stopped by Ctrl-C or SIGTERM, after last.ckpt was written."""


class RunFiles(Callback):
    """Writes metrics.csv, last.ckpt and best.ckpt into the run directory.

    last.ckpt is written at the end of every epoch, every ``save_minutes`` in between, and when the
    user stops the run (Ctrl-C or SIGTERM; a second Ctrl-C stops at once): always between two
    steps, so that resuming continues at the very next one, or with the validation that was stopped
    or not begun. best.ckpt is the epoch of highest validation top-1, or mAP of multi-label clips
    (the last epoch, where there is no validation).

    Attributes:
        position: (epoch, batch) that comes next.
        best: the row of metrics.csv that best.ckpt belongs to.
        terminated: whether it was SIGTERM that asked to stop.
    """

    def __init__(
        self,
        folder: Path,
        console: Console,
        *,
        objective: Objective,
        validates: bool,
        save_minutes: float = 10.0,
        patience: int = 0,
        on_saved: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = folder
        self.on_saved = on_saved
        self.objective = objective
        self.validates = validates
        self.save_seconds = 60 * save_minutes
        self.patience = patience
        self.console = console
        self.position = (0, 0)
        self.best: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        self.last_saved = time.monotonic()
        self.lr = 0.0  # of the latest step; the optimizer has the next one's
        self.stop_asked = False
        self.terminated = False
        self._handlers: dict[int, Any] = {}
        self._val_batches = 0  # that every process has

    def state_dict(self) -> dict[str, Any]:
        state = {"position": list(self.position), "best": self.best, "rows": self.rows}
        return {**state, "lr": self.lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = tuple(state_dict["position"])
        self.best, self.rows = state_dict["best"], state_dict["rows"]
        self.lr = state_dict.get("lr", 0.0)  # not of earlier versions

    # Stopping.

    def _catch_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._ask_to_stop)
            except ValueError:  # not in the main thread: the caller handles signals
                return

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._release_signals()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._release_signals()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        # SIGTERM may come twice: to the process, and to its group.
        if self.stop_asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.stop_asked:
            return
        self.stop_asked = True
        self.terminated = number == signal.SIGTERM
        why = "SIGTERM: " if self.terminated else ""
        say(f"{why}stopping after this step; press Ctrl-C again to stop at once", self.console)

    # Saving.

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._catch_signals()  # not earlier: Lightning then puts a SIGTERM handler of its own
        self._epoch_started = time.monotonic()  # a resumed epoch has no start of its own
        trainer.should_stop = self._patience_is_over()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_started = time.monotonic()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        self.lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done == trainer.num_training_batches:
            return  # saved by validation, or at the end of the epoch
        if done % trainer.accumulate_grad_batches:
            return  # gradients in the making are not part of a checkpoint
        if not self._agreed(trainer, self.stop_asked or self._is_due):
            return
        self.position = (trainer.current_epoch, done)
        self._save(trainer, "last.ckpt")
        if self._agreed(trainer, self.stop_asked):
            raise Interrupted

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        number = torch.tensor(int(trainer.num_val_batches[0]), device=pl_module.device)
        # Of the process with the fewest: the others have nobody to agree with in their last batch.
        self._val_batches = int(trainer.strategy.reduce(number, reduce_op="min"))
        if self._agreed(trainer, self._is_due):
            self._save_before_validation(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx >= self._val_batches or not self._agreed(trainer, self.stop_asked):
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # give the module its own weights again
                callback.on_validation_epoch_end(trainer, pl_module)
        self._save_before_validation(trainer)
        raise Interrupted

    def _save_before_validation(self, trainer: pl.Trainer) -> None:
        """Save so that resuming begins with the whole validation."""
        self.position = (trainer.current_epoch, int(trainer.num_training_batches))
        # Lightning leaves out a validation unless it was stopped within a batch: here, the first.
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        progress.reset()
        progress.increment_ready()
        progress.increment_started()
        self._save(trainer, "last.ckpt")
        progress.reset()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.sum_up_training()
        metrics, pl_module.epoch_metrics = pl_module.epoch_metrics, {}
        epoch = trainer.current_epoch
        row = {
            "epoch": epoch + 1,
            "step": trainer.global_step,
            "lr": self.lr,
            **metrics,
            "seconds": round(time.monotonic() - self._epoch_started, 1),
        }
        self.rows.append(row)
        figure, before = (of.get(self.objective.column, -1.0) for of in (metrics, self.best))
        self.position = (epoch + 1, 0)
        if is_best := not self.validates or figure > before:
            self.best = row
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")
        pl_module.validated = None
        log_row(trainer.loggers, row)
        if trainer.is_global_zero:
            self._write_metrics()
            say(epoch_line(row, trainer.max_epochs or 0, is_best), self.console)
        if self._patience_is_over():
            title = self.objective.title
            say(f"stopping early: no better {title} in {self.patience} validations", self.console)
            trainer.should_stop = True
        elif epoch + 1 < (trainer.max_epochs or 0) and self._agreed(trainer, self.stop_asked):
            raise Interrupted

    def _patience_is_over(self) -> bool:
        validated = [row for row in self.rows if self.objective.column in row]
        if not self.patience or not validated:
            return False
        return len(validated) - 1 - validated.index(self.best) >= self.patience

    @property
    def _is_due(self) -> bool:
        return time.monotonic() - self.last_saved > self.save_seconds

    @staticmethod
    def _agreed(trainer: pl.Trainer, wish: bool) -> bool:
        """Whether any process wishes it; they must act alike."""
        if trainer.world_size == 1:
            return wish
        return trainer.strategy.reduce_boolean_decision(wish, all=False)

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        # Every process takes part in collecting the state; only the first one writes.
        if trainer.is_global_zero:
            with atomic_path(self.folder / name) as temporary:
                trainer.save_checkpoint(temporary)  # by PlainFiles
        else:
            trainer.save_checkpoint(self.folder / name)
        self.last_saved = time.monotonic()
        self.on_saved()

    def _write_metrics(self) -> None:
        names = ("epoch", "step", "lr", *self.objective.columns, "seconds")
        cells = ([row.get(name, "") for name in names] for row in self.rows)
        rounded = ([round(v, 6) if isinstance(v, float) else v for v in row] for row in cells)
        write_csv(self.folder / "metrics.csv", [names, *rounded])


class RunLog(Callback):
    """Tells the loggers what is not in metrics.csv: options, rates, clips, and the confusions."""

    def __init__(self, files: RunFiles, options: dict[str, Any], labels: Sequence[Any]) -> None:
        self.files = files
        self.options = options
        self.labels = labels  # of the validation clips

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best = (self.files.objective.column, "val_loss")
        metrics = best if self.files.validates else ("train_loss",)
        if trainer.is_global_zero:
            log_options(trainer.loggers, self.options, metrics)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == batch_idx == 0 and trainer.loggers and len(batch.labels):
            log_picture(trainer.loggers, "clips/first_batch", clip_grid(batch.views[:, 0]), 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pl_module.log("step/lr", self.files.lr, on_step=True, on_epoch=False, batch_size=1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not (trainer.loggers and trainer.is_global_zero and self.files.best):
            return
        if (validated := load_validated(self.files.folder / "best.ckpt")) is None:
            return
        if pl_module.spec.multi_label:  # which has no confusions
            return
        numbers, scores = validated
        labels = np.array([self.labels[i] for i in numbers], dtype=np.int64)
        names = pl_module.spec.class_names
        picture = confusion_picture(labels, scores.argmax(1), names)
        epoch = int(self.files.best["epoch"])
        log_picture(trainer.loggers, "epoch/confusion", picture, epoch)


class PlainFiles(TorchCheckpointIO):
    """Checkpoints straight into their file; Lightning's own way leads through $TMPDIR."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        torch.save(checkpoint, path)


@dataclass(frozen=True)
class Checkpoint:
    """What a stopped run's last.ckpt says before training goes on."""

    position: tuple[int, int]  # (epoch, batch) that comes next
    spec: ClipSpec  # of the model's clips
    model_options: dict[str, Any]  # all arguments that made the model
    clips: str | None  # gtdnet.train.data.digest of them; None of a run of an earlier version

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Raises ValueError for a damaged file, or another one's."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            epoch, batch = content["callbacks"]["RunFiles"]["position"]
            spec = ClipSpec.from_dict(content["spec"])
            return cls((epoch, batch), spec, content["model_options"], content.get("clips"))
        except Exception as error:  # torch.load raises many kinds for a damaged file
            raise InputError(f"{path}: cannot be read as a checkpoint of a run") from error


def load_validated(checkpoint: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """The validation that a checkpoint was saved for: numbers of clips [N], probabilities [N, K].

    None where there was none, and of earlier versions.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    if not state.get("validated"):
        return None
    numbers, scores = state["validated"]
    return numbers.numpy().copy(), scores.numpy().copy()


def load_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights out of a Lightning checkpoint (averaged ones, where EMA was on)."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}


__getattr__ = moved.names(__name__)
