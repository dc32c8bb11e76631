"""How far a run is, for people: a bar or a line now and then, a line an epoch, a curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from gtdnet.text import say
from gtdnet.train.module import TrainingModule

_BLOCKS = " ▁▂▃▄▅▆▇█"


class Estimate:
    """Seconds that a run's batches take, and how many are left.

    Args:
        batches: training batches of an epoch.
        val_batches: batches of a validation.
        epochs: of the whole run.
        validate_every: epochs between validations.
    """

    def __init__(self, batches: int, val_batches: int, epochs: int, validate_every: int) -> None:
        self.batches, self.val_batches = batches, val_batches
        self.epochs, self.validate_every = epochs, validate_every
        self._seconds = {True: 0.0, False: 0.0}  # in training, in validation
        self._measured = {True: 0, False: 0}

    def add(self, seconds: float, training: bool = True) -> None:
        """Take in what a batch took, with everything since the one before."""
        if self._measured[training] == 1 and self._seconds[training] > 5 * seconds:
            self._seconds[training] = seconds  # the first one started workers and chose kernels
        self._seconds[training] += seconds
        self._measured[training] += 1

    @property
    def is_known(self) -> bool:
        """Whether batches were measured that did not have to wait for the workers' start."""
        return self._measured[True] > 1 or self._measured[False] > 1

    def left(self, epoch: int, batch: int, val_batch: int = 0) -> tuple[float, float]:
        """Seconds left, and the share that is done, after these batches of an epoch (from 0)."""
        each, val_each = self._each(True), self._each(False)
        epoch_now = each * batch + val_each * val_batch
        before = each * self.batches * epoch + val_each * self._validated(epoch)
        total = each * self.batches * self.epochs + val_each * self._validated(self.epochs)
        done = before + epoch_now
        return max(0.0, total - done), min(1.0, done / total) if total else 1.0

    def _validated(self, epochs: int) -> int:
        return self.val_batches * (epochs // self.validate_every)

    def _each(self, training: bool) -> float:
        if count := self._measured[training]:
            return self._seconds[training] / count
        # Not yet measured: a validation batch has no backward pass, which is two thirds of a step.
        return 1.0 if training else self._each(True) / 3


class RunProgress(Callback):
    """Keeps the estimate of the whole run; what is made of it, those below say.

    Attributes:
        where: the epoch, counted from 1, of how many, and what is done in it.
    """

    def __init__(self, console: Console, val_batches: int, seconds: float) -> None:
        self.console = console
        self.val_batches = val_batches
        self.seconds = seconds  # between two updates
        self.estimate = Estimate(1, val_batches, 1, 1)

    def update(self, trainer: pl.Trainer, module: TrainingModule, val_batch: int) -> None:
        """Show where the run is; called every ``seconds``."""

    def close(self) -> None:
        """Leave the screen."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        every = trainer.check_val_every_n_epoch or 1
        batches, epochs = int(trainer.num_training_batches), trainer.max_epochs or 0
        self.estimate = Estimate(batches, self.val_batches, epochs, every)
        self._latest = self._shown = time.monotonic()
        self._batch = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batch = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch_idx + 1
        self._measure(trainer, pl_module, None)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch = self.estimate.batches  # a resumed run may begin with its validation
        self._measure(trainer, pl_module, batch_idx + 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def _measure(self, trainer: pl.Trainer, module: TrainingModule, val_batch: int | None) -> None:
        now = time.monotonic()
        self.estimate.add(now - self._latest, val_batch is None)
        self._latest = now
        if now - self._shown >= self.seconds:
            self._shown = now
            self.update(trainer, module, val_batch or 0)

    def _left(self, trainer: pl.Trainer, val_batch: int) -> tuple[float, float]:
        return self.estimate.left(trainer.current_epoch, self._batch, val_batch)


class ProgressBar(RunProgress):
    """One bar of the whole run on a terminal; what is said meanwhile stands above it."""

    def __init__(self, console: Console, val_batches: int = 0, seconds: float = 0.2) -> None:
        super().__init__(console, val_batches, seconds)
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[loss]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            transient=True,
            expand=True,
            refresh_per_second=4,
        )
        _, done = self._left(trainer, 0)
        epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 0)
        what = f"epoch {epoch}/{trainer.max_epochs}"
        self._task = self._bar.add_task(what, total=1.0, loss="", left="")
        self._bar.update(self._task, completed=done)
        self._bar.start()

    def update(self, trainer: pl.Trainer, module: TrainingModule, val_batch: int) -> None:
        if self._bar is None:
            return
        left, done = self._left(trainer, val_batch)
        loss = module.running_loss
        self._bar.update(
            self._task,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            + (" validation" if val_batch else ""),
            completed=max(done, self._bar.tasks[0].completed),  # estimates may fall, bars not
            loss="" if loss is None else f"loss {loss:.3f}",
            left=f"{clock(left)} left" if self.estimate.is_known else "",
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class ProgressLines(RunProgress):
    """A line every half minute, for logs: where there is no terminal to draw a bar on."""

    def __init__(self, console: Console, seconds: float = 30.0, val_batches: int = 0) -> None:
        super().__init__(console, val_batches, seconds)

    def update(self, trainer: pl.Trainer, module: TrainingModule, val_batch: int) -> None:
        number, of, what = self._batch, self.estimate.batches, "batch"
        if val_batch:
            number, of, what = val_batch, self.val_batches, "validation batch"
        loss, (left, _) = module.running_loss, self._left(trainer, val_batch)
        known = self.estimate.is_known
        say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {what} {number}/{of}"
            + ("" if loss is None else f", loss {loss:.3f}")
            + (f", about {left / 60:.1f} minutes of the run left" if known else ""),
            self.console,
        )


# ----------------------------------------------------------------------------------------- words


def clock(seconds: float) -> str:
    """ "0:42", "3:07", "1:02:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def took(seconds: float) -> str:
    """ "42 s", "3.1 min"."""
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.1f} min"


def epoch_line(row: Mapping[str, float], epochs: int, is_best: bool) -> str:
    """A row of metrics.csv in a line of at most 80 letters."""
    width = len(str(epochs))
    parts = [f"epoch {row['epoch']:{width}.0f}/{epochs}"]
    if "train_loss" in row:
        parts.append(f"loss {row['train_loss']:.3f}")
    if "val_loss" in row:
        parts.append(f"val loss {row['val_loss']:.3f}")
        title, score = ("mAP", row["val_map"]) if "val_map" in row else ("top-1", row["val_top1"])
        parts.append(f"{title} {100 * score:4.1f} %{' best' if is_best else '     '}")
    elif "train_top1" in row:
        parts.append(f"train top-1 {100 * row['train_top1']:4.1f} %")
    return "  ".join([*parts, f"lr {row['lr']:.2g}", took(row["seconds"])])


def curve(
    values: Sequence[float | None],
    show: Callable[[float], str],
    *,
    rows: int = 4,
    width: int = 60,
) -> list[str]:
    """Values of epochs 1, 2, ... as columns of block characters, with their scale and epochs.

    None is an epoch that was not measured. More epochs than ``width`` share columns, which have
    the mean of theirs. No lines come of fewer than two values.
    """
    known = [v for v in values if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return []
    low, high = min(known), max(known)
    count = min(width, len(values))
    columns = []
    for i in range(count):
        part = values[i * len(values) // count : (i + 1) * len(values) // count]
        there = [v for v in part if v is not None and math.isfinite(v)]
        share = (
            1.0 if high == low else (sum(there) / len(there) - low) / (high - low) if there else 0.0
        )
        # The lowest value still shows as one eighth of a row.
        columns.append(1 + round(share * (8 * rows - 1)) if there else 0)
    wide = max(1, min(4, width // count))
    top, bottom = show(high), show(low)
    margin = max(len(top), len(bottom))
    lines = []
    for row in reversed(range(rows)):
        scale = top if row == rows - 1 else bottom if row == 0 else ""
        cells = "".join(_BLOCKS[max(0, min(8, height - 8 * row))] * wide for height in columns)
        lines.append(f"{scale:>{margin}} {cells}".rstrip())
    last = str(len(values))
    lines.append(f"{'':{margin}} {'1':<{max(1, count * wide - len(last))}}{last}")
    return lines
