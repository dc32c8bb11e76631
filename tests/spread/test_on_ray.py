"""Checking and packing on Ray: the same files, and the same where an actor dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gtdnet.data.check import check_dataset
from gtdnet.data.pack import PackOptions, pack
from gtdnet.spread.each import Spread

pytest.importorskip("ray", reason="Ray is not installed: tests/with_ray.sh")
pytestmark = pytest.mark.usefixtures("ray_cluster")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a pack that one process made."""
    output = tmp_path_factory.mktemp("alone") / "packed"
    pack(PackOptions(str(dataset), str(output), workers=1))
    return contents(output)


def test_a_pack_is_that_of_processes(
    dataset: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    pack(PackOptions(str(dataset), str(tmp_path / "packed"), runner="ray"))
    assert contents(tmp_path / "packed") == alone


def test_what_is_checked_is_that_of_processes(dataset: Path) -> None:
    plain, found = (
        replace(check_dataset(dataset, workers=0, spread=spread), seconds=0.0)
        for spread in (Spread("processes"), Spread("ray"))
    )
    assert found == plain


def test_a_clip_that_kills_once(
    dataset: Path, alone: dict[str, bytes], tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    log = deadly({min(dataset.rglob("*.mp4")).name: 1})
    pack(PackOptions(str(dataset), str(tmp_path / "packed"), runner="ray"))
    assert contents(tmp_path / "packed") == alone
    assert log.is_file()


def test_a_clip_that_kills_each_time(
    dataset: Path, tmp_path: Path, deadly: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is broken; also where the output is relative to a folder that actors do not begin in."""
    deadly({min(dataset.rglob("*.mp4")).name: 99})
    monkeypatch.chdir(tmp_path)
    (broken,) = pack(PackOptions(str(dataset), "packed", runner="ray"))["failed"]
    assert broken["path"] == str(min(dataset.rglob("*.mp4")))
    assert broken["reason"].startswith("its process died each time that it was decoded (SIGKILL")


def test_an_actor_that_is_killed_costs_nothing(
    dataset: Path, alone: dict[str, bytes], tmp_path: Path, actors: Callable[[], list[int]]
) -> None:
    """While it packs, as soon as its first clip is there."""
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 120
        parts = tmp_path / "packed" / ".parts"
        while not list(parts.glob("*-*")) and time.monotonic() < until:
            time.sleep(0.01)
        for actor in actors():
            os.kill(actor, signal.SIGKILL)
            killed.append(actor)

    thread = threading.Thread(target=kill)
    thread.start()
    pack(PackOptions(str(dataset), str(tmp_path / "packed"), runner="ray"))
    thread.join()
    assert killed
    assert contents(tmp_path / "packed") == alone
