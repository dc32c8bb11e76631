"""Checking and packing by several processes, of which some are killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gtdnet.data.check import CheckReport, check_dataset
from gtdnet.data.pack import PackOptions, pack
from gtdnet.errors import InputError
from gtdnet.spread.each import Spread, in_order

Deadly = Callable[[dict[str, int]], Path]
REASON = "its process died each time that it was decoded (SIGKILL: most likely memory ran out)"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def packed(dataset: Path, output: Path, **options: Any) -> dict[str, bytes]:
    pack(PackOptions(str(dataset), str(output), **options))
    return contents(output)


def checked(dataset: Path, **options: Any) -> CheckReport:
    return replace(check_dataset(dataset, **options), seconds=0.0)


@pytest.fixture
def first(dataset: Path) -> Path:
    """A clip."""
    return min(dataset.rglob("*.mp4"))


def test_a_killed_process_costs_packing_nothing(
    dataset: Path, first: Path, tmp_path: Path, deadly: Deadly
) -> None:
    alone = packed(dataset, tmp_path / "alone", workers=1)
    log = deadly({first.name: 2})
    assert packed(dataset, tmp_path / "killed", workers=2) == alone
    assert log.read_text().split("\n")[:-1] == [first.name] * 2


def test_a_killed_process_costs_checking_nothing(
    dataset: Path, first: Path, deadly: Deadly
) -> None:
    alone = checked(dataset, workers=0)
    log = deadly({first.name: 1})
    assert checked(dataset, workers=2) == alone
    assert log.is_file()


def test_a_clip_that_kills_is_broken(
    dataset: Path, first: Path, tmp_path: Path, deadly: Deadly
) -> None:
    deadly({first.name: 99})
    report = check_dataset(dataset, workers=2)
    assert [f.path for f in report.facts.values() if f.error == REASON] == [str(first)]
    packed(dataset, tmp_path / "packed", workers=2)
    index = json.loads((tmp_path / "packed" / "pack.json").read_text())
    assert [(clip["path"], clip["reason"]) for clip in index["failed"]] == [(str(first), REASON)]
    assert sum(shard["clips"] for shard in index["shards"]) == 18


def test_what_makes_no_sense(dataset: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert Spread().chosen() == "processes"
    with pytest.raises(InputError, match="unknown runner 'dask'"):
        pack(PackOptions(str(dataset), str(tmp_path / "out"), runner="dask"))
    with pytest.raises(InputError, match="--ray-address is for --runner ray"):
        Spread("processes", "auto").chosen()
    assert not (tmp_path / "out").exists()


def test_in_order() -> None:
    taken = []

    def numbered() -> Any:
        for number in (2, 0, 1, 4, 3):
            taken.append(number)
            yield number, "abcde"[number]

    found = in_order(numbered())
    assert next(found) == "a" and taken == [2, 0]
    assert "".join(found) == "bcde"
