"""Loggers beside metrics.csv: TensorBoard, CSV, W&B, MLflow; none needs a network.

Each is imported when it is used. What they are given: values of steps under step/, of epochs under
epoch/, the options of the run, the first batch as a picture, and the confusion matrix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtdnet.errors import InputError, check_choice

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch.loggers import Logger
    from numpy.typing import NDArray

    Draw = Callable[[Logger, str, NDArray[np.uint8], int], None]

NONE, AUTO = "none", "auto"


@dataclass(frozen=True)
class LoggerKind:
    """A logger by name.

    Attributes:
        package: what it needs, as pip calls it; None: nothing.
        make: a logger that writes into a run's folder.
        draw: log a picture, uint8 [H, W, 3], under a name, at a step; None: it takes none.
        by_epoch: whether values may have an axis of their own: an epoch's are then at its number.
        end: what it takes that the next run in this process is one of its own.
    """

    package: str | None
    make: Callable[[Path], Logger]
    draw: Draw | None = None
    by_epoch: bool = False
    end: Callable[[Logger], None] | None = None


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    class TensorBoard(TensorBoardLogger):
        def save(self) -> None:  # config.yaml tells what Lightning's hparams.yaml would
            self.experiment.flush()

    return TensorBoard(folder, name="", version="", default_hp_metric=False)


def _csv(folder: Path) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(folder, name="csv")


def _wandb(folder: Path) -> Logger:
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # type: ignore[import-not-found]
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(name=folder.name, save_dir=folder, project="gtdnet")
    # Lightning hands it over whatever it is, and W&B warns of its end.
    getattr(logger, "_wandb_init", {}).pop("anonymous", None)
    logger.found = wandb.run  # type: ignore[attr-defined]
    return logger


def _end_wandb(logger: Any) -> None:
    import wandb  # type: ignore[import-not-found]

    if wandb.run is not None and wandb.run is not logger.found:
        wandb.run.finish()


def _mlflow(folder: Path) -> Logger:
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")  # else it tells of its tables
    from lightning.pytorch.loggers import MLFlowLogger

    # The two that it would write to otherwise are the current folder and a server.
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    places = (folder / "mlflow").resolve().as_uri()
    return MLFlowLogger("gtdnet", folder.name, tracking_uri=uri, artifact_location=places)


def _draw_tensorboard(logger: Any, name: str, picture: NDArray[np.uint8], step: int) -> None:
    logger.experiment.add_image(name, picture, step, dataformats="HWC")


def _draw_wandb(logger: Any, name: str, picture: NDArray[np.uint8], step: int) -> None:
    logger.log_image(name, [picture])  # W&B's step is the latest that it was told


def _draw_mlflow(logger: Any, name: str, picture: NDArray[np.uint8], step: int) -> None:
    logger.experiment.log_image(logger.run_id, picture, f"{name.replace('/', '_')}.png")


LOGGERS: dict[str, LoggerKind] = {
    "tensorboard": LoggerKind("tensorboard", _tensorboard, _draw_tensorboard, by_epoch=True),
    "csv": LoggerKind(None, _csv),
    "wandb": LoggerKind("wandb", _wandb, _draw_wandb, end=_end_wandb),
    "mlflow": LoggerKind("mlflow", _mlflow, _draw_mlflow, by_epoch=True),
}


def logger_names(option: str) -> list[str]:
    """The loggers of --logger: names with commas between, "none" or "auto"; InputError for another.

    "auto" is TensorBoard where its package is installed.
    """
    if option == AUTO:
        return ["tensorboard"] if find_spec("tensorboard") else []
    names = list(dict.fromkeys(name.strip() for name in option.split(",")))
    for name in names:
        check_choice("logger", name, (*LOGGERS, NONE, AUTO))
    return [name for name in names if name in LOGGERS]


def check_loggers(option: str) -> None:
    """Raise InputError where a logger's package is not here."""
    for name in logger_names(option):
        package = LOGGERS[name].package
        try:
            distribution(package or "lightning")
        except PackageNotFoundError:
            raise InputError(
                f"--logger {name} needs the package {package}, which is not installed; install it "
                f'with: pip install "gtdnet[{package}]"'
            ) from None


@contextmanager
def open_loggers(option: str, folder: Path) -> Iterator[list[Logger]]:
    """The loggers of --logger, writing into a run's folder."""
    loggers: list[Any] = []
    try:
        for name in logger_names(option):
            loggers.append(LOGGERS[name].make(folder))
            loggers[-1].kind = LOGGERS[name]
        yield loggers
    finally:
        for logger in loggers:
            if logger.kind.end:
                logger.kind.end(logger)


def log_options(loggers: Sequence[Any], options: Mapping[str, Any], metrics: Iterable[str]) -> None:
    """Log a run's options; ``metrics`` of its epochs stand beside them where runs are compared."""
    for logger in loggers:
        if logger.kind is not LOGGERS["tensorboard"]:
            logger.log_hyperparams(dict(options))
        elif logger.experiment is not None:
            from torch.utils.tensorboard.summary import hparams

            plain = {
                k: v if isinstance(v, bool | int | float) else str(v) for k, v in options.items()
            }
            # Of these it shows the latest values that the run logs, Lightning would log a first.
            for summary in hparams(plain, {f"epoch/{name}": 0.0 for name in metrics}):
                logger.experiment.file_writer.add_summary(summary)


def log_row(loggers: Sequence[Any], row: Mapping[str, float]) -> None:
    """Log a row of metrics.csv: where a logger can, at its epoch, else at its step."""
    epoch, step = int(row["epoch"]), int(row["step"])
    values = {f"epoch/{k}": v for k, v in row.items() if k not in ("epoch", "step")}
    for logger in loggers:
        if logger.kind.by_epoch:
            logger.log_metrics(values, epoch)
        else:
            logger.log_metrics({**values, "epoch": epoch}, step)


def log_picture(loggers: Sequence[Any], name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Log a picture, uint8 [H, W, 3], with every logger that takes pictures."""
    for logger in loggers:
        if logger.kind.draw:
            logger.kind.draw(logger, name, picture, step)
