from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import gtdnet.train.ready as ready_module
import gtdnet.train.run as run_module
from gtdnet.data.dataset import Batch
from gtdnet.data.synthetic import write_dataset
from gtdnet.errors import InputError
from gtdnet.files import alone_in
from gtdnet.models.build import create_model, list_models
from gtdnet.models.methods import METHODS
from gtdnet.models.model_file import load_model, save_model
from gtdnet.train.callbacks import load_weights
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import ClipLoaders
from gtdnet.train.module import TrainingModule
from gtdnet.train.run import TrainResult, resume, train

Make = Callable[..., TrainConfig]

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"ema": 0.9},
    "accumulated": {"accumulate": 2, "mixup": 0.4, "optimizer": "adamw", "schedule": "onecycle"},
    "balanced": {"balanced": True, "class_weights": True, "num_workers": 1, "schedule": "step"},
}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=1000)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def read(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit, through all containers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            if key != "seconds":
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def assert_share(value: str, of: int) -> None:
    """A share (of six digits) of that many clips."""
    assert float(value) * of == pytest.approx(round(float(value) * of), abs=1e-4)


def press_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
    epoch: int,
    batch: int,
    number: int = signal.SIGINT,
    step: str = "training_step",
) -> list[tuple[int, int]]:
    """Send the signal to this process during the given step; the steps that are taken, by epoch."""
    original, taken = getattr(TrainingModule, step), []

    def interrupted(self: TrainingModule, clips: Any, batch_idx: int) -> Any:
        taken.append((self.current_epoch, batch_idx))
        if taken[-1] == (epoch, batch):
            os.kill(os.getpid(), number)
        return original(self, clips, batch_idx)

    monkeypatch.setattr(TrainingModule, step, interrupted)
    return taken


@pytest.fixture(scope="module")
def whole(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TrainResult]:
    """Uninterrupted runs by variant, each trained once."""
    done: dict[str, TrainResult] = {}

    def get(variant: str) -> TrainResult:
        if variant not in done:
            config = tiny(tmp_path_factory.mktemp(variant), **VARIANTS[variant])
            done[variant] = train(config, console=quiet())
        return done[variant]

    return get


# ------------------------------------------------------------------------------- one whole run


def test_run_directory(whole: Callable[[str], TrainResult], dataset: Path) -> None:
    result = whole("plain")
    names = {p.name for p in result.folder.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml", "metrics.csv", "last.ckpt", "best.ckpt", "model.safetensors",
    }  # fmt: skip
    rows = metrics(result.folder)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8")]
    # Of an epoch's last step: after two steps that warm up, a cosine falls over the other six.
    rates = [0.01 * (1 + math.cos(math.pi * step / 6)) for step in (1, 5)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates, abs=1e-6)
    for row in rows:
        assert 0 <= float(row["val_top1"]) <= float(row["val_top5"]) <= 1
        assert float(row["val_loss"]) > 0
        assert float(row["train_loss"]) > 0
        # 12 of the 13 clips make whole batches.
        assert_share(row["train_top1"], 12)
    assert result.finished
    assert result.to_dict()["undecodable_training_clips"] == 0


def test_without_tensorboard_there_are_no_events(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    result = train(tiny(tmp_path), console=quiet())
    assert {path.name for path in result.folder.iterdir()} == {
        "config.yaml", "metrics.csv", "last.ckpt", "best.ckpt", "model.safetensors",
    }  # fmt: skip
    assert len(metrics(result.folder)) == 2


@pytest.mark.parametrize("variant", ["plain", "ema"])
def test_model_file_holds_the_best_weights(
    whole: Callable[[str], TrainResult], variant: str
) -> None:
    result = whole(variant)
    assert result.model is not None
    file = load_model(result.model)
    assert_same(dict(file.model.state_dict()), load_weights(result.folder / "best.ckpt"))
    best = max(metrics(result.folder), key=lambda row: float(row["val_top1"]))
    assert file.metrics["epoch"] == int(best["epoch"]) == result.best["epoch"]
    assert file.provenance["training_clips"] == 13
    assert file.spec.num_segments == 4


def test_ema_keeps_the_average(whole: Callable[[str], TrainResult]) -> None:
    checkpoint = read(whole("ema").folder / "last.ckpt")
    average, current = checkpoint["state_dict"], checkpoint["current_model_state"]
    key = "model.classifier.weight"
    assert not torch.equal(average[key], current[key])
    plain = read(whole("plain").folder / "last.ckpt")["state_dict"]
    assert torch.equal(plain[key], current[key])  # averaging watches and does not interfere


def test_config_reruns_the_run(whole: Callable[[str], TrainResult], tmp_path: Path) -> None:
    result = whole("plain")
    config = TrainConfig.load(result.folder / "config.yaml")
    again = train(replace(config, output=str(tmp_path), name="again"), console=quiet())
    assert_same(load_weights(again.folder / "last.ckpt"), load_weights(result.folder / "last.ckpt"))
    assert metrics(again.folder) == metrics(result.folder)


# ------------------------------------------------------------------------- stopping and resuming


@pytest.mark.parametrize(
    ("variant", "epoch", "batch", "position"),
    [
        ("plain", 0, 0, (0, 1)),
        ("plain", 0, 2, (0, 3)),
        ("plain", 0, 3, (0, 4)),  # the last batch of an epoch: the validation comes next
        ("plain", 1, 1, (1, 2)),
        ("ema", 1, 1, (1, 2)),
        ("ema", 0, 3, (0, 4)),
        ("accumulated", 0, 0, (0, 2)),  # the step is two batches
        ("accumulated", 1, 1, (1, 2)),
        ("balanced", 1, 0, (1, 1)),
    ],
)
def test_resumes_at_the_very_step(
    whole: Callable[[str], TrainResult],
    tiny: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    epoch: int,
    batch: int,
    position: tuple[int, int],
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, epoch, batch)
        stopped = train(tiny(tmp_path, **VARIANTS[variant]), console=quiet())
    assert signal.getsignal(signal.SIGINT) is handler
    assert not stopped.finished
    assert (stopped.model is None) == (position[0] == 0)  # there is a model after one epoch
    last = stopped.folder / "last.ckpt"
    assert tuple(read(last)["callbacks"]["RunFiles"]["position"]) == position

    console = quiet()
    resumed = resume(stopped.folder, console=console)
    where = f"at epoch {position[0] + 1}, batch {position[1] + 1}"
    where = f"with the validation of epoch {position[0] + 1}" if position[1] == 4 else where
    assert f"continuing {where}" in said(console)
    assert_same_run(resumed, whole(variant))


def assert_same_run(resumed: TrainResult, expected: TrainResult) -> None:
    assert resumed.finished
    assert_same(resumed.best, expected.best)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = read(resumed.folder / name), read(expected.folder / name)
        for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
            assert_same(ours.get(part), theirs.get(part), f"{name}: {part}")
        assert_same(ours["callbacks"]["RunFiles"], theirs["callbacks"]["RunFiles"])
        assert ours["global_step"] == theirs["global_step"]
    assert metrics(resumed.folder) == metrics(expected.folder)


@pytest.mark.parametrize(
    ("variant", "epoch", "batch", "number"),
    [
        ("plain", 0, 0, signal.SIGINT),
        ("plain", 1, 1, signal.SIGTERM),
        ("ema", 0, 0, signal.SIGTERM),
        ("accumulated", 1, 0, signal.SIGINT),
    ],
)
def test_validation_is_stopped_within_a_batch(
    whole: Callable[[str], TrainResult],
    tiny: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variant: str,
    epoch: int,
    batch: int,
    number: int,
) -> None:
    """No step is lost, and resuming begins with the validation."""
    with monkeypatch.context() as patch:
        taken = press_ctrl_c(patch, epoch, batch, number, "validation_step")
        stopped = train(tiny(tmp_path, **VARIANTS[variant]), console=quiet())
    assert taken[-1] == (epoch, batch)
    assert not stopped.finished
    position = read(stopped.folder / "last.ckpt")["callbacks"]["RunFiles"]["position"]
    assert position == [epoch, 4]

    console = quiet()
    with monkeypatch.context() as patch:
        again = press_ctrl_c(patch, -1, -1, step="validation_step")
        steps = press_ctrl_c(patch, -1, -1)
        resumed = resume(stopped.folder, console=console)
    assert f"continuing with the validation of epoch {epoch + 1}" in said(console)
    assert again == [(e, b) for e in range(epoch, 2) for b in range(2)]
    assert steps == [(e, b) for e in range(epoch + 1, 2) for b in range(4)]
    assert_same_run(resumed, whole(variant))


def test_a_kill_within_validation_costs_no_step(
    whole: Callable[[str], TrainResult],
    tiny: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is longer than the time between two saves."""

    def killed(self: TrainingModule, clips: Any, batch_idx: int) -> Any:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "validation_step", killed)
        with pytest.raises(RuntimeError, match="power cut"):
            train(tiny(tmp_path, save_minutes=0.0), console=quiet())
    assert read(tmp_path / "run" / "last.ckpt")["callbacks"]["RunFiles"]["position"] == [0, 4]
    assert_same_run(resume(tmp_path / "run", console=quiet()), whole("plain"))


def test_checkpoints_call_things_by_the_names_that_earlier_versions_gave(
    whole: Callable[[str], TrainResult],
) -> None:
    """A run that another version stopped is only found by these; Lightning's own names apart."""
    checkpoint = read(whole("ema").folder / "last.ckpt")
    own = {"spec", "model_options", "clips", "train_sums", "failures", "val_failures"}
    assert own <= set(checkpoint)
    # Lightning names a callback's state by its class.
    assert set(checkpoint["callbacks"]) == {"RunFiles", "EMAWeightAveraging"}
    assert set(checkpoint["callbacks"]["RunFiles"]) == {"position", "best", "rows", "lr"}
    assert all(key.startswith("model.") for key in checkpoint["state_dict"])
    assert [group["name"] for group in checkpoint["optimizer_states"][0]["param_groups"]] == [
        "weights", "biases", "norms", "classifier weights", "classifier biases",
    ]  # fmt: skip


def test_sigterm_stops_too(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    press_ctrl_c(monkeypatch, 0, 1, signal.SIGTERM)
    console = quiet()
    result = train(tiny(tmp_path), console=console)
    assert not result.finished
    assert result.model is None
    assert signal.getsignal(signal.SIGTERM) is handler
    assert f"continue with: gtdnet train --resume {result.folder}" in said(console)


@pytest.mark.parametrize("when", ["on_fit_start", "train_dataloader", "configure_optimizers"])
def test_ctrl_c_before_the_first_step_leaves_nothing(
    when: str, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("unreachable")

    handler = signal.getsignal(signal.SIGINT)
    kind = ClipLoaders if when == "train_dataloader" else TrainingModule
    monkeypatch.setattr(kind, when, pressed)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tiny(tmp_path / "runs"), console=quiet())
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not list(tmp_path.iterdir())


def test_a_second_ctrl_c_stops_at_once(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(self: TrainingModule, clips: Any, batch_idx: int) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("unreachable")

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(TrainingModule, "training_step", twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(tmp_path), console=quiet())
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    assert not (tmp_path / "run").exists()  # of what cannot be resumed nothing is left
    (tmp_path / "run").mkdir()
    tiny(tmp_path).save(tmp_path / "run" / "config.yaml")
    with pytest.raises(InputError, match=r"holds no last\.ckpt .* gtdnet train --config"):
        resume(tmp_path / "run")
    with pytest.raises(InputError, match="exists already; choose another --name, or delete it"):
        train(tiny(tmp_path))


def test_saves_every_few_minutes(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed goes on from the latest save within the epoch."""
    step = TrainingModule.training_step

    def killed(self: TrainingModule, clips: Any, batch_idx: int) -> Any:
        if batch_idx == 3:
            raise RuntimeError("power cut")
        return step(self, clips, batch_idx)

    config = tiny(tmp_path, save_minutes=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", killed)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config, console=quiet())
    content = read(tmp_path / "run" / "last.ckpt")
    assert content["callbacks"]["RunFiles"]["position"] == [0, 3]
    assert resume(tmp_path / "run", console=quiet()).finished


def test_resuming_a_finished_run_changes_nothing(
    whole: Callable[[str], TrainResult], tmp_path: Path
) -> None:
    folder = whole("plain").folder
    before = (folder / "last.ckpt").read_bytes()
    console = quiet()
    again = resume(folder, console=console)
    assert "all epochs are done" in said(console)
    assert again.finished
    assert again.best == whole("plain").best
    assert (folder / "last.ckpt").read_bytes() == before


def test_existing_run_is_refused(whole: Callable[[str], TrainResult], tiny: Make) -> None:
    folder = whole("plain").folder
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    with pytest.raises(
        InputError, match=f"exists already; .*--name.*gtdnet train --resume {folder}"
    ):
        train(tiny(folder.parent))
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before


@pytest.mark.parametrize("name", ["run", None])
def test_two_runs_at_once(
    name: str | None, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins when the first has found its name free; both in the same second."""
    build, others = ready_module.build_model, []

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2030, 1, 2, 3, 4, 5)

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(ready_module, "build_model", build)
        others.append(train(config, console=quiet()).folder)
        return build(*args)

    monkeypatch.setattr(run_module.datetime, "datetime", Clock)
    monkeypatch.setattr(ready_module, "build_model", meanwhile)
    config = tiny(tmp_path, name=name, epochs=1)
    if name:
        with pytest.raises(InputError, match="run: exists already; choose another --name"):
            train(config, console=quiet())
        assert others == [tmp_path / "run"]
    else:
        folder = train(config, console=quiet()).folder
        assert others == [tmp_path / "gtdnet_resnet18-20300102-030405"]
        assert folder.name == "gtdnet_resnet18-20300102-030405-2"
        assert TrainConfig.load(folder / "config.yaml").name == folder.name
    assert metrics(others[0])


def test_a_run_is_for_one_process(
    whole: Callable[[str], TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = whole("plain").folder
    with alone_in(folder, "go"), pytest.raises(InputError, match="is being written by"):
        resume(folder, console=quiet())
    assert resume(folder, console=quiet()).finished


def test_resume_refuses_what_is_no_run(tmp_path: Path, tiny: Make) -> None:
    with pytest.raises(InputError, match=r"is not a run directory \(it holds no config.yaml\)"):
        resume(tmp_path)
    tiny(tmp_path).save(tmp_path / "config.yaml")
    (tmp_path / "last.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be read as a checkpoint of a run"):
        resume(tmp_path, console=quiet())
    # What failed leaves nothing behind that would lead the next run astray.
    assert train(tiny(tmp_path / "other", epochs=1), console=quiet()).folder.parent.name == "other"


# --------------------------------------------------------------------------- clips that are wrong


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def clips(root: Path, split: str) -> list[Path]:
    return sorted((root / split).glob("*/*.*"))


def failures(folder: Path) -> list[tuple[str, str]]:
    with (folder / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["reason"] for row in rows)
    return [(row["split"], row["path"]) for row in rows]


@pytest.mark.parametrize("split", ["train", "val"])
def test_resuming_on_other_clips_is_refused(
    split: str, tiny: Make, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    press_ctrl_c(monkeypatch, 0, 1)
    folder = train(tiny(tmp_path, data=str(copy)), console=quiet()).folder
    before = (folder / "last.ckpt").read_bytes()
    gone = clips(copy, split)[0]
    kept = gone.rename(tmp_path / gone.name)
    with pytest.raises(InputError, match=r"clips are no longer those of the run .* restore the"):
        resume(folder, console=quiet())
    assert (folder / "last.ckpt").read_bytes() == before
    if split == "train":  # a run of an earlier version goes on as before
        content = torch.load(folder / "last.ckpt", weights_only=True)
        del content["clips"]
        torch.save(content, folder / "last.ckpt")
    else:
        kept.rename(gone)
        moved = Path(shutil.move(copy, tmp_path / "elsewhere"))
        replace(TrainConfig.load(folder / "config.yaml"), data=str(moved)).save(
            folder / "config.yaml"
        )
    assert resume(folder, console=quiet()).finished


def test_checkpoints_do_not_go_through_the_temporary_folder(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*args: Any, **kwargs: Any) -> Any:
        raise OSError("No space left on device")

    for name in ("TemporaryFile", "NamedTemporaryFile", "mkdtemp", "gettempdir"):
        monkeypatch.setattr(f"tempfile.{name}", nowhere)
    make, folder = tempfile.mkstemp, tmp_path / "run"
    monkeypatch.setattr(
        "tempfile.mkstemp", lambda *a, **k: make(*a, **k) if k.get("dir") == folder else nowhere()
    )
    assert train(tiny(tmp_path, epochs=1), console=quiet()).finished


def test_undecodable_clips_are_left_out_and_listed(
    tiny: Make, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [clips(copy, "train")[i] for i in (2, 5)]
    bad_validation = clips(copy, "val")[1]
    for path in (*bad, bad_validation):
        path.write_text("not a video")
    seen: list[tuple[int, int]] = []
    step = TrainingModule.training_step

    def watched(self: TrainingModule, batch: Batch, batch_idx: int) -> Any:
        seen.append((len(batch.labels), len(batch.failures)))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", watched)
    console = quiet()
    result = train(tiny(tmp_path, data=str(copy), epochs=3, batch_size=4), console=console)
    assert all(good + failed == 4 for good, failed in seen)  # nothing takes a failure's place
    listed = [("train", str(path)) for path in bad] + [("validation", str(bad_validation))]
    assert failures(result.folder) == listed
    assert (result.failures, result.val_failures) == (2, 1)
    assert "2 training and 1 validation clips could not be decoded" in said(console)
    for row in metrics(result.folder):  # of the four validation clips that are left
        assert_share(row["val_top1"], 4)


def test_failures_are_remembered_when_resuming(
    tiny: Make, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = clips(copy, "train")[0]
    good = bad.read_bytes()
    bad.write_text("not a video")
    press_ctrl_c(monkeypatch, 0, 3)
    train(tiny(tmp_path, data=str(copy), batch_size=3), console=quiet())
    bad.write_bytes(good)
    resumed = resume(tmp_path / "run", console=quiet())
    assert failures(resumed.folder) == [("train", str(bad))]


def test_a_batch_of_failures_alone_is_skipped(tiny: Make, copy: Path, tmp_path: Path) -> None:
    for path in clips(copy, "train")[:6]:
        path.write_text("not a video")
    result = train(tiny(tmp_path, data=str(copy), batch_size=1, epochs=1), console=quiet())
    assert result.failures == 6
    assert metrics(result.folder)[0]["step"] == "13"
    assert all(torch.isfinite(w).all() for w in load_weights(result.folder / "best.ckpt").values())


@pytest.mark.parametrize(("folder", "split"), [("train", "training"), ("val", "validation")])
def test_nothing_decodable_is_an_error(
    tiny: Make, copy: Path, tmp_path: Path, folder: str, split: str
) -> None:
    for path in clips(copy, folder):
        path.write_text("not a video")
    pattern = rf"none of the {split} clips can be decoded, the first being .*: .+; gtdnet check"
    with pytest.raises(InputError, match=pattern):
        train(tiny(tmp_path, data=str(copy)), console=quiet())


def test_missing_clips_are_announced(tiny: Make, tmp_path: Path) -> None:
    root = tmp_path / "v2"
    write_dataset(
        root, format="something-v2", edition="easy", train=5, validation=2, size=36, workers=1
    )
    gone = sorted((root / "20bn-something-something-v2").glob("*"))[0]
    gone.unlink()
    console = quiet()
    result = train(tiny(tmp_path, data=str(root), epochs=1), console=console)
    assert "1 annotated clips are missing on disk" in said(console)
    assert result.finished


# ------------------------------------------------------------------------------------- settings


def test_without_validation_the_last_epoch_is_kept(tiny: Make, copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "val")
    console = quiet()
    result = train(tiny(tmp_path, data=str(copy)), console=console)
    assert "no validation split: the last epoch is kept" in said(console)
    assert result.best["epoch"] == 2
    assert [row["val_top1"] for row in metrics(result.folder)] == ["", ""]
    best, last = (load_weights(result.folder / f"{name}.ckpt") for name in ("best", "last"))
    assert_same(best, last)


def test_validates_every_so_many_epochs(tiny: Make, tmp_path: Path) -> None:
    result = train(tiny(tmp_path, epochs=3, validate_every=2), console=quiet())
    assert [row["val_top1"] != "" for row in metrics(result.folder)] == [False, True, False]
    assert result.best["epoch"] == 2


def test_early_stopping(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.1, 0.9])
    validate = TrainingModule.on_validation_epoch_end

    def scored(self: TrainingModule) -> None:
        validate(self)
        self.epoch_metrics["val_top1"] = next(scores)

    monkeypatch.setattr(TrainingModule, "on_validation_epoch_end", scored)
    console = quiet()
    result = train(tiny(tmp_path, epochs=5, early_stopping=2), console=console)
    assert "stopping early: no better top-1 in 2 validations" in said(console)
    assert [row["val_top1"] for row in metrics(result.folder)] == ["0.5", "0.6", "0.6", "0.1"]
    assert result.best["epoch"] == 2  # the first of two equals
    assert result.finished
    again = resume(result.folder, console=quiet())  # its patience is over: nothing is left to do
    assert len(metrics(again.folder)) == 4


def test_divergence_is_reported(tiny: Make, tmp_path: Path) -> None:
    config = tiny(tmp_path, lr=1e30, clip_gradient=0.0, warmup_epochs=0.0)
    with pytest.raises(InputError, match=r"the training loss of epoch \d is \w+: .* lower --lr"):
        train(config, console=quiet())


def test_announces_the_scaled_learning_rate(tiny: Make, tmp_path: Path) -> None:
    console = quiet()
    config = tiny(tmp_path, lr=0.01, lr_batch=64, accumulate=2, epochs=1)
    result = train(config, console=console)
    assert "learning rate 0.0009375: 0.01 for 64 clips a step, scaled to 6 (3 x 1" in said(console)
    assert read(result.folder / "last.ckpt")["lr_schedulers"][0]["base_lrs"][0] == 0.0009375


def test_starts_from_pretrained_weights(tiny: Make, tmp_path: Path) -> None:
    """A GTDNet starts as the function of its 2D weights: its gates at 1/2, its conv1 at 2/3."""
    backbone = create_model("tsn_resnet18", 2, 4, width=0.125).state_dict()
    torch.save(backbone, tmp_path / "plain.pth")
    config = tiny(tmp_path, pretrained=str(tmp_path / "plain.pth"), epochs=1, lr=1e-9)
    ours = load_weights(train(config, console=quiet()).folder / "last.ckpt")
    key = "backbone.layer1.0.conv1"
    torch.testing.assert_close(ours[f"{key}.weight"], backbone[f"{key}.weight"] * 2 / 3)
    assert ours[f"{key}.temporal.gtd.expand.weight"].abs().max() < 1e-6
    assert not torch.equal(ours["classifier.weight"], backbone["classifier.weight"])


def test_starts_at_the_function_of_a_model_file(tiny: Make, tmp_path: Path) -> None:
    spec = tiny(tmp_path).clip_spec(("a", "b"))  # short names: the classifier will be new
    spec = replace(spec, mean=(0.1, 0.2, 0.3), antialias=False)
    tsm = create_model("tsm_resnet18", 2, 4, width=0.125, fold_div=4)
    path = save_model(tmp_path / "tsm.safetensors", tsm, spec)
    console = quiet()
    config = tiny(tmp_path, init_from=str(path), model_options={}, epochs=1, lr=1e-9)
    result = train(config, console=console)
    assert f"starting at the function of tsm_resnet18 in {path} (4 frames" in said(console)
    assert "; new classifier for other classes" in said(console)
    assert result.model
    written = load_model(result.model)
    assert written.model.options["fold_div"] == 4
    assert written.spec.mean == (0.1, 0.2, 0.3)
    assert not written.spec.antialias
    assert written.provenance["init_from"] == str(path)


def test_resuming_needs_no_source(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny(tmp_path, name="first", epochs=1), console=quiet()).model
    assert first
    config = tiny(tmp_path, name="second", init_from=str(first), model_options={})
    whole = train(config, console=quiet()).folder
    half = train(replace(config, name="half", epochs=1), console=quiet()).folder
    replace(config, name="half").save(half / "config.yaml")
    first.unlink()
    console = quiet()
    resumed = resume(half, console=console)
    assert resumed.finished
    assert "starting at" not in said(console)
    keys = read(whole / "last.ckpt")["state_dict"].keys()
    assert keys == read(half / "last.ckpt")["state_dict"].keys()


def test_resuming_on_other_classes_is_refused(tiny: Make, copy: Path, tmp_path: Path) -> None:
    run = train(tiny(tmp_path, data=str(copy), epochs=1), console=quiet()).folder
    shutil.rmtree(sorted((copy / "train").iterdir())[0])
    shutil.rmtree(sorted((copy / "val").iterdir())[0], ignore_errors=True)
    with pytest.raises(InputError, match="its classes are no longer those that the run"):
        resume(run, console=quiet())


@pytest.mark.parametrize(
    "name", [next(n for n in list_models() if n.startswith(f"{m}_")) for m in METHODS]
)
def test_every_method_takes_a_step_with_default_settings(
    name: str, tiny: Make, tmp_path: Path
) -> None:
    result = train(tiny(tmp_path, model=name, epochs=1, num_segments=2), console=quiet())
    assert result.model
    assert load_model(result.model).model.name == name


@pytest.mark.parametrize("freeze", ["norms", "backbone"])
def test_what_is_frozen_stays_and_the_rest_learns(freeze: str, tiny: Make, tmp_path: Path) -> None:
    first = train(tiny(tmp_path, name="first", epochs=1)).model
    assert first
    config = tiny(tmp_path, name="second", epochs=1, init_from=str(first), freeze=freeze)
    second = train(config).model
    assert second
    before, after = load_model(first).model, load_model(second).model
    norms = {n for n, m in before.backbone.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    changed = {
        key
        for key, value in before.state_dict().items()
        if not torch.equal(value, after.state_dict()[key])
    }
    frozen = {
        key
        for key in before.state_dict()
        if key.startswith("backbone.")
        and (freeze == "backbone" or key.removeprefix("backbone.").rpartition(".")[0] in norms)
    }
    assert frozen
    assert not changed & frozen
    assert {"classifier.weight", "classifier.bias"} <= changed
    assert ("backbone.conv1.weight" in changed) == (freeze == "norms")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "no dataset given; say where the clips are with --data PATH"),
        ({"data": "/nowhere"}, "/nowhere does not exist"),
        ({"model": "resnet9000"}, "unknown model 'resnet9000': choose one of gtdnet_resnet18"),
        ({"model_options": {"depth": 3}}, "gtdnet_resnet18 has no option 'depth'"),
        ({"num_segments": 0}, "num_segments must be a whole number of at least 1, got 0"),
        ({"crop_size": 99}, "crop_size=99 does not fit into short_side=36"),
        ({"precision": "fp16"}, "precision 'fp16' needs a GPU"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"batch_size": 14}, "13 clips, fewer than one batch of 14; lower --batch_size"),
        ({"batch_size": 7, "devices": 2}, "13 clips, fewer than one batch of 14"),
        ({"pretrained": "/nowhere.pth"}, "/nowhere.pth: no such weights file"),
    ],
)
def test_bad_input_is_found_before_anything_is_written(
    tiny: Make, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        train(tiny(tmp_path, **options), console=quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_is_refused_where_there_is_none(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'cuda' was asked for, but PyTorch sees no CUDA"):
        train(tiny(tmp_path, device="cuda"))


def test_several_devices_need_a_kind_that_has_them(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtdnet.train.trainer.resolve_device", lambda name: torch.device(name))
    with pytest.raises(InputError, match="devices=2 cannot be had with --device mps"):
        train(tiny(tmp_path, device="mps", devices=2))


# ------------------------------------------------------------------------------ several devices


@pytest.mark.parametrize("synced", [False, True])
def test_two_processes_write_one_run(synced: bool, tiny: Make, copy: Path, tmp_path: Path) -> None:
    """The real command with DistributedDataParallel; batches of each process fail to decode."""
    for path in clips(copy, "train")[:5]:
        path.write_text("not a video")
    for path in clips(copy, "val")[:2]:
        path.write_text("not a video")
    options = {"devices": 2, "batch_size": 1, "epochs": 1, "sync_batchnorm": synced}
    config = tiny(tmp_path, data=str(copy), **options)
    config.save(tmp_path / "config.yaml")
    script = Path(sys.executable).with_name("gtdnet")
    command = [str(script), "train", "--json", "--config", str(tmp_path / "config.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    result = json.loads(done.stdout)  # one object, of one process
    assert result["undecodable_training_clips"] == 5
    assert result["undecodable_validation_clips"] == 2
    assert len(failures(tmp_path / "run")) == 7
    assert done.stderr.count("epoch 1/1") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "copy", "run"]
    rows = metrics(tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "6")]
    assert_share(rows[0]["val_top1"], 3)
    load_model(result["model"])


@pytest.mark.parametrize(
    ("numbers", "code"),
    [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGTERM] * 2, 143)],
)
def test_signals_to_the_group_reach_the_decoding_processes_too(
    numbers: list[int], code: int, tiny: Make, tmp_path: Path
) -> None:
    """They live on until the step is done, and say nothing of their own."""
    tiny(tmp_path, epochs=500, num_workers=2, batch_size=2).save(tmp_path / "config.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "gtdnet", "train", "--config", str(tmp_path / "config.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < until:
            time.sleep(0.05)
        for number in numbers:
            os.killpg(process.pid, number)
        _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, messages
    assert "Traceback" not in messages
    assert messages.count("stopping after this step") == 1
    assert f"continue with: gtdnet train --resume {tmp_path / 'run'}" in messages
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)


def test_decoding_processes_end_with_a_killed_run(tiny: Make, tmp_path: Path) -> None:
    tiny(tmp_path, epochs=500, num_workers=2, batch_size=2).save(tmp_path / "config.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "gtdnet", "train", "--config", str(tmp_path / "config.yaml")],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError("decoding processes live on")
