"""What people see of a run: one bar on a terminal, lines elsewhere, a curve at the end."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gtdnet.train.config import TrainConfig
from gtdnet.train.progress import Estimate, ProgressLines, clock, curve, epoch_line, took
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


def test_the_estimate_is_of_the_whole_run() -> None:
    made = Estimate(batches=10, val_batches=4, epochs=6, validate_every=2)
    for _ in range(10):
        made.add(3.0)
    assert made.left(0, 10) == (150 + 12, 30 / 192)  # a third of a step until it is measured
    for _ in range(4):
        made.add(2.0, training=False)
    assert made.left(1, 10, 4) == (120 + 16, 68 / 204)  # two validations of four batches to come
    assert made.left(6, 0) == (0, 1)


def test_the_first_batch_of_all_starts_workers_and_does_not_count() -> None:
    made = Estimate(batches=10, val_batches=0, epochs=1, validate_every=1)
    made.add(60.0)
    assert not made.is_known  # nothing is said of the time left
    made.add(1.0)
    assert made.is_known
    assert made.left(0, 2)[0] == 8


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0:00"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")]
)
def test_clock(seconds: float, expected: str) -> None:
    assert clock(seconds) == expected


def test_took() -> None:
    assert [took(s) for s in (0.4, 99, 100, 5400)] == ["0 s", "99 s", "1.7 min", "90.0 min"]


def test_an_epochs_line_fits_80_letters() -> None:
    row = {
        "epoch": 100, "step": 1, "lr": 1.234e-5, "train_loss": 10.123, "train_top1": 1.0,
        "val_loss": 10.123, "val_top1": 1.0, "seconds": 5000.0,
    }  # fmt: skip
    line = epoch_line(row, 100, True)
    assert line == (
        "epoch 100/100  loss 10.123  val loss 10.123  top-1 100.0 % best  lr 1.2e-05  83.3 min"
    )
    row |= {"epoch": 7, "train_loss": 1.5, "val_loss": 2.25, "val_top1": 0.5}
    assert len(epoch_line(row, 50, True)) <= 80
    without = {k: v for k, v in row.items() if not k.startswith("val")}
    assert epoch_line(without, 50, True) == (
        "epoch  7/50  loss 1.500  train top-1 100.0 %  lr 1.2e-05  83.3 min"
    )


def test_curve() -> None:
    show = "{:.1f}".format
    assert curve([0.0, 1.0], show, rows=2, width=4) == ["1.0   ██", "0.0 ▁▁██", "    1  2"]
    assert curve([0.0, None, 0.5, 1.0], show, rows=2, width=4) == [
        "1.0   ▁█",
        "0.0 ▁ ██",
        "    1  4",
    ]
    assert curve([0.5], show) == curve([None, 0.5, float("nan")], show) == []
    assert curve([2.0, 2.0], show, rows=1, width=2) == ["2.0 ██", "    12"]
    long = curve([i / 999 for i in range(1000)], show, width=60)
    assert len(long) == 5
    assert max(map(len, long)) == 64
    assert long[-1] == "    1" + " " * 55 + "1000"


def test_a_terminal_has_one_bar_and_epochs_from_1(tiny: Make, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    train(tiny(tmp_path, num_workers=0), console=console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "epoch 1/2" in text
    assert "epoch 0/" not in text
    assert "left" in text
    for number in (1, 2):
        assert text.count(f"epoch {number}/2  loss") == 1  # the line that stays


def test_elsewhere_there_is_no_bar(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgressLines.__init__, "__defaults__", (0.0, 0))  # seconds between lines
    console = Console(file=io.StringIO(), width=40)
    train(tiny(tmp_path, num_workers=0), console=console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert not any("\x1b" in line or "━" in line for line in lines)
    assert any(line.startswith("epoch 1/2, batch 1/4, loss") for line in lines)
    assert any(line.startswith("epoch 2/2, validation batch 1/") for line in lines)
    assert any(line.startswith("run directory: ") for line in lines)  # whole, whatever the width
