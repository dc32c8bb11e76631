"""Training on a list that has no validation split, and measuring what the run held out."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate, read_results
from gtdnet.train.config import TrainConfig
from gtdnet.train.data import split_clips
from gtdnet.train.run import TrainResult, resume, train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def table(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 clips of 2 classes and 6 people, each with 3 clips."""
    path = tmp_path_factory.mktemp("list") / "clips.csv"
    clips = sorted(dataset.rglob("*.mp4"))
    rows = [f"{clip},{'ab'[n % 2]},P{n // 3}" for n, clip in enumerate(clips)]
    path.write_text("\n".join(["path,label,person", *rows]))
    return path


@pytest.fixture(scope="module")
def run(table: Path, tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str]:
    console = Console(file=io.StringIO(), width=1000)
    options = {"data": str(table), "val": 0.34, "group": "person", "epochs": 1}
    result = train(tiny(tmp_path_factory.mktemp("runs"), **options), console=console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def _options(**options: Any) -> EvaluateOptions:
    return EvaluateOptions(**{"num_workers": 0, "device": "cpu", **options})


def test_the_run_says_and_stores_what_it_held_out(run: tuple[TrainResult, str]) -> None:
    result, said = run
    assert "12 training clips, 6 validation clips, 2 classes (csv: " in said
    assert "held out for validation: 6 of 18 clips (33.3 %), 2 of 6 groups by person" in said
    stored = json.loads((result.folder / "split.json").read_text())
    assert len(stored["validation"]) == 6
    assert stored["chosen"]["group"] == "person"


def test_evaluate_measures_the_same_clips(
    run: tuple[TrainResult, str], table: Path, tmp_path: Path
) -> None:
    folder = run[0].folder
    held_out = json.loads((folder / "split.json").read_text())["validation"]
    for number, given in enumerate(
        (
            {"model": str(folder)},
            {"model": str(folder / "model.safetensors")},
            {"model": str(folder), "data": str(table)},
            {"model": str(folder), "data": str(folder / "split.json")},
        )
    ):
        output = tmp_path / str(number)
        result = evaluate(_options(output=str(output), **given))
        assert sorted(read_results(output).ids) == held_out
        assert result["num_evaluated"] == 6
    assert evaluate(_options(model=str(folder), split="train"))["num_evaluated"] == 12


def test_resuming_reads_the_stored_split(
    run: tuple[TrainResult, str], tiny: Make, table: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run[0].folder, tmp_path / "run")
    stored = json.loads((folder / "split.json").read_text())
    resume(folder, console=Console(file=io.StringIO()))
    clips = [stored["validation"][0]]
    (folder / "split.json").write_text(json.dumps({**stored, "validation": clips}))
    with pytest.raises(InputError, match="clips are no longer those of the run"):
        resume(folder, console=Console(file=io.StringIO()))


def test_held_out_groups_by_name(tiny: Make, table: Path, tmp_path: Path) -> None:
    config = tiny(tmp_path, data=str(table), group="person", val_groups="P1, P4")
    train, validation, _ = split_clips(config)
    assert validation is not None
    assert {r.columns["person"] for r in validation.records} == {"P1", "P4"}
    assert {r.columns["person"] for r in train.records} == {"P0", "P2", "P3", "P5"}


def test_a_dataset_that_has_a_validation_split(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a validation split of its own; leave out --val"):
        split_clips(tiny(tmp_path, val=0.2))


def test_without_a_run_the_data_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("give --data PATH")):
        evaluate(_options(model=str(tmp_path / "model.safetensors")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 1.0}, "val must be a share between 0 and 1, as 0.2, got 1.0"),
        ({"val": 0.0}, "val must be a share between 0 and 1"),
        ({"val": 0.2, "val_groups": "a", "group": "x"}, "both say what to hold out"),
        ({"group": "person"}, "group=person is of clips to hold out; add val"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(TrainConfig(), **options)
