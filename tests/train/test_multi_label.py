"""Training on clips of any number of classes: the loss by its formula, the best epoch by mAP."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.models.model_file import load_model
from gtdnet.train.config import TrainConfig
from gtdnet.train.objective import MultiLabel, SingleLabel, objective_of
from gtdnet.train.run import TrainResult, train

Make = Callable[..., TrainConfig]

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0]])
OTHERS = LABELS.flip(0)
WEIGHTS = torch.tensor([0.5, 2.0, 0.0])


@pytest.mark.parametrize(
    ("weights", "smoothing", "share"),
    list(itertools.product([None, WEIGHTS], [0.0, 0.2], [1.0, 0.3])),
)
def test_loss_by_its_formula(weights: Tensor | None, smoothing: float, share: float) -> None:
    loss = MultiLabel().losses(LOGITS, LABELS, OTHERS, share, smoothing=smoothing, weights=weights)
    expected = []
    for x, y, z in zip(LOGITS.tolist(), LABELS.tolist(), OTHERS.tolist(), strict=True):
        of_classes = []
        for k, logit in enumerate(x):
            target = (share * y[k] + (1 - share) * z[k]) * (1 - smoothing) + smoothing / 2
            p = torch.tensor(logit).sigmoid()
            entropy = -(target * p.log() + (1 - target) * (1 - p).log())
            of_classes.append(entropy * (1.0 if weights is None else weights[k]))
        expected.append(sum(of_classes) / 3)
    assert loss.tolist() == pytest.approx([float(e) for e in expected], rel=1e-5)


def test_mixed_losses_are_those_of_both(share: float = 0.3) -> None:
    """As of one class a clip: the loss is linear in its target."""
    loss = MultiLabel()
    mixed = loss.losses(LOGITS, LABELS, OTHERS, share, smoothing=0.1)
    apart = [loss.losses(LOGITS, labels, smoothing=0.1) for labels in (LABELS, OTHERS)]
    assert torch.allclose(mixed, share * apart[0] + (1 - share) * apart[1])


def test_validation_joins_the_processes() -> None:
    spec = ClipSpec(tuple("abc"), multi_label=True)
    objective, device = objective_of(spec), torch.device("cpu")
    whole, *parts = (objective.validation(spec, device) for _ in range(3))
    whole.add(LOGITS, LABELS, torch.tensor([0, 1]))
    for i, part in enumerate(parts):
        part.add(LOGITS[i : i + 1], LABELS[i : i + 1], torch.tensor([i]))
    own: list[dict[int, Any]] = []
    with pytest.raises(InputError, match="no mAP"):  # by itself: its clip has no class
        parts[1].metrics(lambda t: t, lambda clips: own.append(clips) or clips)
    found = parts[0].metrics(lambda t: t, lambda clips: {**clips, **own.pop(0)})
    assert found == whole.metrics(lambda t: t, lambda clips: clips)
    assert found is not None and found["val_map"] == 1.0  # of a and c, b having no clip
    assert found["val_micro_f1"] == pytest.approx(4 / 6)  # 1/2 counts as given, and so does b
    assert found["val_loss"] == pytest.approx(float(objective.losses(LOGITS, LABELS).mean()))
    numbers, scores = parts[0].scored(lambda clips: clips)  # it has them from both
    assert numbers.tolist() == [0, 1]
    assert scores.tolist() == LOGITS.sigmoid().tolist()


def test_objectives() -> None:
    assert isinstance(objective_of(ClipSpec(("a",))), SingleLabel)
    none = objective_of(ClipSpec(("a",), multi_label=True)).validation
    empty = none(ClipSpec(("a",), multi_label=True), torch.device("cpu"))
    assert empty.metrics(lambda t: t, lambda clips: clips) is None


# ------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def run(
    colours: Path, tiny: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainResult, str]:
    console = Console(file=io.StringIO(), width=200)
    folder = tmp_path_factory.mktemp("multi")
    result = train(tiny(folder, data=str(colours), epochs=3, brightness=0.0), console=console)
    return result, console.file.getvalue()  # type: ignore[attr-defined]


def test_metrics_are_called_what_they_are(run: tuple[TrainResult, str]) -> None:
    result, text = run
    with (result.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch", "step", "lr", "train_loss", "val_loss", "val_map", "val_micro_f1", "val_macro_f1",
        "seconds",
    ]  # fmt: skip
    best = max(rows, key=lambda row: float(row["val_map"]))
    assert result.best["epoch"] == int(best["epoch"])
    assert float(best["val_map"]) > 0.6  # of 0.46 by chance: colours are soon learned
    assert result.told == f"validation mAP {100 * result.best['val_map']:.1f} %"
    assert "any number of classes a clip: binary cross entropy, the best epoch by mAP" in text
    assert f"mAP {100 * result.best['val_map']:4.1f} % best" in text
    assert "top-1" not in text


def test_the_model_file_says_so(run: tuple[TrainResult, str]) -> None:
    file = load_model(run[0].folder)
    assert file.spec.multi_label
    assert file.spec.class_names == ("blue", "green", "red")
    assert file.metrics["val_map"] == run[0].best["val_map"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balanced": True}, "--balanced draws clips by their one class"),
        ({"batch_size": 99}, "fewer than one batch"),
    ],
)
def test_what_is_refused(
    options: dict[str, object], message: str, colours: Path, tiny: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(tiny(tmp_path, data=str(colours), **options))


def test_splits_without_a_class_are_refused(colours: Path, tiny: Make, tmp_path: Path) -> None:
    shutil.copytree(colours.parent, tmp_path / "data")
    table = tmp_path / "data" / "clips.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    lines = [[path, "" if split == "val" else names, split] for path, names, split in lines]
    table.write_text("\n".join(map(",".join, lines)))
    with pytest.raises(InputError, match="none of the 16 validation clips has a class"):
        train(tiny(tmp_path, data=str(table)))


def test_holding_out_mixup_smoothing_and_weights(colours: Path, tiny: Make, tmp_path: Path) -> None:
    """A share of every class, the loss with all that it takes; stopping early by mAP."""
    shutil.copytree(colours.parent, tmp_path / "data")
    table = tmp_path / "data" / "clips.csv"
    table.write_text(
        table.read_text().replace(",split", "").replace(",train", "").replace(",val", "")
    )
    config = tiny(tmp_path, data=str(table), val=0.25, mixup=0.4, label_smoothing=0.1)
    console = Console(file=io.StringIO(), width=200)
    result = train(replace(config, class_weights=True, epochs=1, ema=0.5), console=console)
    assert result.finished and "val_map" in result.best
    held = json.loads((result.folder / "split.json").read_text())["validation"]
    assert 6 <= len(held) <= 12
    without = {line.split(",")[0] for line in table.read_text().splitlines() if line.endswith(",")}
    assert without & {*held} and without - {*held}  # clips of no class are on both sides, too
