"""A run of several processes: the same as of one, however they were started; and when one dies."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gtdnet.errors import InputError
from gtdnet.models import load_model
from gtdnet.train.config import TrainConfig
from gtdnet.train.module import TrainingModule
from gtdnet.train.run import TrainResult, resume, train

Make = Callable[..., TrainConfig]

# A rate at which rounding is not what decides: batches of four make batch norms' steps wild.
OPTIONS: dict[str, Any] = {"batch_size": 4, "lr": 0.002, "report": False, "logger": "none"}
GTDNET = ["-m", "gtdnet"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node", "2", *GTDNET]

# Stops the run within its second epoch, as Ctrl-C in one process would.
STOP = """
import os, signal
from gtdnet.train.module import TrainingModule
step = TrainingModule.training_step
def stopped(self, batch, number):
    if (self.current_epoch, number, self.global_rank) == (1, 1, 0):
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, batch, number)
TrainingModule.training_step = stopped
"""


def quiet() -> Console:
    return Console(file=io.StringIO(), width=1000)


def environment(*paths: Path) -> dict[str, str]:
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([*map(str, paths), *known])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def run(*words: str, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=180, env=environment(*paths)
    )


@pytest.fixture(scope="module")
def whole(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Of one process, never stopped."""
    return train(tiny(tmp_path_factory.mktemp("whole"), **OPTIONS), console=quiet())


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(r[k]) for r in csv.DictReader(file) for k in ("lr", "train_loss", "val_loss")]


def test_two_processes_that_are_stopped_go_on_as_one(
    whole: TrainResult, tiny: Make, tmp_path: Path
) -> None:
    """With batch norms synchronised, and dropout."""
    (tmp_path / "stopping.py").write_text(STOP)
    options = {**OPTIONS, "batch_size": 2, "devices": 2, "sync_batchnorm": True}
    tiny(tmp_path, **options).save(tmp_path / "config.yaml")
    words = ["train", "--import", "stopping", "--config", str(tmp_path / "config.yaml")]
    stopped = run(*GTDNET, *words, paths=(tmp_path,))
    assert stopped.returncode == 143, stopped.stderr
    assert stopped.stderr.count("continue with: gtdnet train --resume") == 1
    assert len(losses(tmp_path / "run")) == 3  # of one epoch
    resumed = resume(tmp_path / "run", devices=1, console=quiet())
    assert resumed.finished
    assert losses(resumed.folder) == pytest.approx(losses(whole.folder), abs=1e-5)


def test_one_process_that_is_stopped_goes_on_as_two_of_torchrun(
    whole: TrainResult, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingModule.training_step

    def stopped(self: TrainingModule, batch: Any, number: int) -> Any:
        if (self.current_epoch, number) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, number)

    monkeypatch.setattr(TrainingModule, "training_step", stopped)
    options = {**OPTIONS, "sync_batchnorm": True}
    assert not train(tiny(tmp_path, **options), console=quiet()).finished
    done = run(*TORCHRUN, "train", "--resume", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2/2") == done.stdout.count("model: ") == 1
    assert losses(tmp_path / "run") == pytest.approx(losses(whole.folder), abs=1e-5)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "metrics.csv", "best.ckpt", "last.ckpt", "model.safetensors"}


def test_two_processes_that_hold_a_half_each_go_on_as_one(tiny: Make, tmp_path: Path) -> None:
    """FSDP: losses, what a checkpoint holds, and the model file are those of one process."""
    options = {
        **OPTIONS,
        "model": "tsm_vit_small14",
        "crop_size": 28,
        "optimizer": "adamw",
        "clip_gradient": 0.5,
    }
    alone = train(tiny(tmp_path / "alone", **options), console=quiet())
    (tmp_path / "stopping.py").write_text(STOP)
    options |= {"batch_size": 2, "devices": 2, "strategy": "fsdp"}
    tiny(tmp_path, **options).save(tmp_path / "config.yaml")
    words = ["train", "--import", "stopping", "--config", str(tmp_path / "config.yaml")]
    stopped = run(*GTDNET, *words, paths=(tmp_path,))
    assert stopped.returncode == 143, stopped.stderr
    done = run(*GTDNET, "train", "--resume", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in stopped.stderr + done.stderr
    assert losses(tmp_path / "run") == pytest.approx(losses(alone.folder), abs=1e-5)
    mine, its = (
        load_model(folder / "model.safetensors").model.state_dict()
        for folder in (tmp_path / "run", alone.folder)
    )
    torch.testing.assert_close(mine, its, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match=r"--strategy fsdp takes several processes"):
        resume(tmp_path / "run", devices=1)


def test_processes_that_cannot_share_a_step_are_refused(whole: TrainResult, tmp_path: Path) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    with pytest.raises(InputError, match="a step of this run has 4 clips, which 3 processes"):
        resume(folder, devices=3)


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    done = run(*TORCHRUN, "train", "--data", str(tmp_path / "none"), "--model", "tsn_resnet18")
    assert done.stderr.count("gtdnet train: ") == 1, done.stderr
    assert f"{tmp_path / 'none'} does not exist" in done.stderr


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_run_with_a_sentence(
    killed: int, tiny: Make, tmp_path: Path
) -> None:
    options = {**OPTIONS, "batch_size": 1, "devices": 2, "epochs": 500}
    tiny(tmp_path, **options).save(tmp_path / "config.yaml")
    (tmp_path / "told.py").write_text(
        "import os; from pathlib import Path\n"
        "Path(__file__).with_name(f'pid{os.environ.get(\"RANK\", 0)}').write_text(str(os.getpid()))"
    )
    words = ["train", "--import", "told", "--config", str(tmp_path / "config.yaml")]
    process = subprocess.Popen(
        [sys.executable, *GTDNET, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(tmp_path),
    )
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "run" / "last.ckpt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(int((tmp_path / f"pid{killed}").read_text()), signal.SIGKILL)
        _, messages = process.communicate(timeout=60)  # of all that hold the pipe
    finally:
        process.kill()
    assert process.returncode == (-signal.SIGKILL if killed == 0 else 1)
    lines = [line for line in messages.splitlines() if "continue with" in line]
    how = r"was killed \(SIGKILL, .*\)" if killed else "ended or cannot be reached"
    said = rf"gtdnet.*: process {killed} of 2 {how}; continue with: gtdnet train --resume .*/run"
    assert [bool(re.fullmatch(said, line)) for line in lines] == [True], messages
    assert "Traceback" not in messages
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)


def test_a_launcher_and_the_options_must_agree(tiny: Make, tmp_path: Path) -> None:
    tiny(tmp_path).save(tmp_path / "config.yaml")
    words = ["train", "--config", str(tmp_path / "config.yaml"), "--devices", "4"]
    done = run(*TORCHRUN, *words)
    assert done.stderr.count("gtdnet train: ") == 1
    assert "devices=4 and num_nodes=1 were asked for, but torchrun started 2" in done.stderr
    assert not (tmp_path / "run").exists()
