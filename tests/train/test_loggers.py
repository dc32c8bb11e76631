"""Who is told of a run: names, packages that are not here, and what TensorBoard gets."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gtdnet.errors import InputError
from gtdnet.train.callbacks import load_validated
from gtdnet.train.config import TrainConfig
from gtdnet.train.loggers import LOGGERS, LoggerKind, logger_names
from gtdnet.train.pictures import clip_grid, confusion_picture
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


def test_names() -> None:
    assert logger_names("none") == []
    assert logger_names("csv, tensorboard,csv") == ["csv", "tensorboard"]
    with pytest.raises(InputError, match=r"unknown logger 'wandbb' \(did you mean wandb\?\)"):
        TrainConfig(data="x", logger="csv,wandbb")


def test_a_package_that_is_not_here_costs_a_sentence_before_anything_is_made(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = LoggerKind("no-such-package", LOGGERS["csv"].make)
    monkeypatch.setitem(LOGGERS, "wandb", kind)
    with pytest.raises(InputError, match=r"--logger wandb needs .*: pip install .gtdnet\[no-such"):
        train(tiny(tmp_path, logger="csv,wandb"))
    assert not (tmp_path / "run").exists()


def test_steps_and_epochs_are_apart(tiny: Make, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    console = Console(file=io.StringIO())
    result = train(tiny(tmp_path, logger="tensorboard,csv"), console=console)
    found = EventAccumulator(str(result.folder))
    found.Reload()
    scalars = found.Tags()["scalars"]
    epochs = {f"epoch/{name}" for name in ("train_loss", "val_top1", "val_mean_class", "lr")}
    assert epochs <= set(scalars)
    assert {name.partition("/")[0] for name in scalars} <= {"epoch", "step"}
    with (result.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = found.Scalars("epoch/val_top1")
    assert [event.step for event in logged] == [1, 2]
    assert [event.value for event in logged] == pytest.approx(
        [float(row["val_top1"]) for row in rows], abs=1e-6
    )
    assert set(found.Tags()["images"]) == {"clips/first_batch", "epoch/confusion"}
    assert "_hparams_/session_start_info" in found.summary_metadata
    assert (result.folder / "csv" / "version_0" / "metrics.csv").is_file()
    assert [path.name for path in result.folder.glob("*.yaml")] == ["config.yaml"]


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable says where W&B and MLflow write, now and, where a run sets one, afterwards."""
    for name in ("WANDB_MODE", "WANDB_SILENT", "MLFLOW_TRACKING_URI", "MLFLOW_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def wandb_records(path: Path) -> Iterator[Any]:
    """What a run of W&B holds: a log of protobufs as LevelDB has it, after 7 bytes of its own."""
    from wandb.proto import wandb_internal_pb2  # type: ignore[import-not-found]

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found = wandb_internal_pb2.Record()
            found.ParseFromString(record)
            yield found
            record = b""


@pytest.mark.usefixtures("untold")
def test_wandb_is_told_offline(
    tiny: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="W&B is not installed; tests/with_loggers.sh runs this")
    train(tiny(tmp_path / "first", logger="wandb", epochs=1), console=Console(file=io.StringIO()))
    config = tiny(tmp_path, logger="wandb")
    result = train(config, console=Console(file=io.StringIO()))
    (file,) = result.folder.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(file))
    rows = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in records
        if r.WhichOneof("record_type") == "history"
    ]
    epochs = [row for row in rows if "epoch/val_top1" in row]
    with (result.folder / "metrics.csv").open(newline="") as table:
        expected = [(int(r["epoch"]), float(r["val_top1"])) for r in csv.DictReader(table)]
    assert [(row["epoch"], row["epoch/val_top1"]) for row in epochs] == expected
    steps = [row["trainer/global_step"] for row in rows if "trainer/global_step" in row]
    assert steps == sorted(steps)
    told = [r.run.config if r.HasField("run") else r.config for r in records]
    options = {u.key: json.loads(u.value_json) for config in told for u in config.update}
    assert (options["model"], options["seed"]) == (config.model, config.seed)
    pictures = {path.parent.name for path in file.parent.rglob("media/images/*/*.png")}
    assert pictures == {"clips", "epoch"}
    assert "wandb" not in capfd.readouterr().err.lower()


@pytest.mark.usefixtures("untold")
def test_mlflow_is_told_in_the_run(tiny: Make, tmp_path: Path) -> None:
    mlflow = pytest.importorskip(
        "mlflow", reason="MLflow is not installed; tests/with_loggers.sh runs this"
    )
    config = tiny(tmp_path, logger="mlflow")
    result = train(config, console=Console(file=io.StringIO()))
    client = mlflow.MlflowClient(f"sqlite:///{result.folder / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "gtdnet"]
    (found,) = client.search_runs([experiment.experiment_id])
    with (result.folder / "metrics.csv").open(newline="") as table:
        expected = [(int(r["epoch"]), float(r["val_top1"])) for r in csv.DictReader(table)]
    history = client.get_metric_history(found.info.run_id, "epoch/val_top1")
    assert [(point.step, point.value) for point in history] == expected
    assert found.data.params["model"] == config.model
    assert len(list((result.folder / "mlflow").rglob("*.png"))) == 2


def test_the_best_validation_stays_with_its_checkpoint(tiny: Make, tmp_path: Path) -> None:
    result = train(tiny(tmp_path, logger="none"), console=Console(file=io.StringIO()))
    assert not list(result.folder.glob("events*"))
    validated = load_validated(result.folder / "best.ckpt")
    assert validated is not None
    numbers, scores = validated
    assert numbers.tolist() == sorted(numbers.tolist())
    assert scores.shape[0] == len(numbers)
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_every_logger_is_named_in_the_options() -> None:
    assert all(name in str(TrainConfig.__mro__[-2].__doc__) for name in LOGGERS)


def test_clip_grid() -> None:
    clips = torch.zeros(2, 3, 3, 4, 6, dtype=torch.uint8)
    clips[1, 2, 0] = 200  # red, in the last frame of the second clip
    grid = clip_grid(clips)
    assert grid.shape == (2 * 6, 3 * 8, 3)
    assert (grid[6:10, 16:22] == [200, 0, 0]).all()
    assert (grid[:4, :6] == 0).all()
    assert clip_grid(torch.zeros(20, 16, 3, 224, 224, dtype=torch.uint8)).shape[:2] == (912, 912)


def test_confusion_picture() -> None:
    labels = np.array([0, 1, 1])
    picture = confusion_picture(labels, np.array([0, 1, 0]), ("a $ sign", "x" * 60))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert confusion_picture(labels, labels, tuple(map(str, range(400)))).shape == (800, 800, 3)
