"""benchmarks/real_video.py: who is held out, what is refused, and what the runs say together."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gtdnet.ablate.grid import Grid
from gtdnet.errors import InputError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> Any:
    return load_script("real_video")


def arguments(table: Path, **given: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"clips": table, "group": "who", "where": [], "classes": None, **given}
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["path,label,who,kind"]
    lines += [f"{w}/{k}_{i}.mp4,{k},{w},word" for w in "cab" for k in ("no", "yes") for i in (0, 1)]
    (tmp_path / "clips.csv").write_text("\n".join([*lines, "x.mp4,hello,a,phrase"]) + "\n")
    return tmp_path / "clips.csv"


def test_groups_are_held_out_in_turn(script: Any, table: Path) -> None:
    clips = script.read_table(arguments(table, where=["kind=word"]))
    assert len(clips) == 12
    assert script.folds(clips, 1) == [("a",), ("b",), ("c",)]
    assert script.folds(clips, 2) == [("a", "b"), ("c",)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"group": "person"}, "has no column person, but path, label, who, kind"),
        ({"where": ["kind=phrase"]}, "the chosen clips are of 1 group"),
        ({"classes": ["no"]}, "the chosen clips are of 1 class"),
    ],
)
def test_tables_that_do_not_fit(
    script: Any, table: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        script.read_table(arguments(table, **given))
    with pytest.raises(InputError, match=r"can't be read \(No such file or directory\)"):
        script.read_table(arguments(table.with_name("none.csv")))


def record(variant: str, held_out: str, answers: str, shuffled: str = "0000") -> dict[str, Any]:
    """Four clips of the labels 0, 0, 1, 1."""
    rows = [
        [f"{held_out}{i}.mp4", label, int(answers[i]), int(shuffled[i]), 0.5]
        for i, label in enumerate((0, 0, 1, 1))
    ]
    return {
        "variant": variant, "held_out": [held_out], "seed": 0, "minutes": 30.0,
        "training_top1": 0.75, "classes": ["no", "yes"], "clips": rows,
    }  # fmt: skip


def test_what_the_runs_say_together(script: Any) -> None:
    records = [
        record("A", "a", "0011"), record("B", "a", "0000"),
        record("A", "b", "0010"), record("B", "b", "1111", "0011"),
        record("A", "c", "0011"),  # of which B has none yet
    ]  # fmt: skip
    told = script.summary(records, ["A", "B"])
    assert (told["clips"], told["classes"], told["hours"]) == (8, 2, 2.5)
    assert {name: row["top1"] for name, row in told["methods"].items()} == {"A": 87.5, "B": 50.0}
    assert {name: row["shuffled"] for name, row in told["methods"].items()} == {"A": 50.0, "B": 75}
    assert told["methods"]["A"]["sd_of_folds"] == 17.7  # of 100 and 75
    (pair,) = told["pairs"]
    assert (pair["first"], pair["second"], pair["difference"]) == ("B", "A", -37.5)
    assert (pair["won"], pair["lost"], pair["p"]) == (1, 4, 0.38)  # exactly 0.375
    assert told["folds"] == [
        {"held_out": "a", "seed": 0, "A": 100.0, "B": 50.0},
        {"held_out": "b", "seed": 0, "A": 75.0, "B": 50.0},
    ]


def test_records_of_other_settings_are_refused(script: Any, table: Path, tmp_path: Path) -> None:
    clips = script.read_table(arguments(table, where=["kind=word"]))
    config = Grid.load(BENCHMARKS / "real_video" / "lips.yaml").configs(data="x")["TSM"]
    run = script.Run("TSM", config, ("a",), 0)
    path = tmp_path / f"{run.name}.json"
    assert (run.name, script.is_done(run, clips, tmp_path)) == ("tsm-a-0", False)
    path.write_text(json.dumps({"made_of": run.made_of(clips)}))
    assert script.is_done(run, clips, tmp_path)
    with pytest.raises(InputError, match="made with other settings or clips; delete it"):
        script.is_done(run, clips[1:], tmp_path)


def test_every_grid_is_one(script: Any) -> None:
    grids = sorted((BENCHMARKS / "real_video").glob("*.yaml"))
    assert grids
    for path in grids:
        assert len(Grid.load(path).configs(data="clips.csv")) >= 2
