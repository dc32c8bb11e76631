"""A tiny model, clips of which one cannot be read, and one that kills whoever reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtdnet import workers
from gtdnet.bulk.options import BulkOptions
from gtdnet.bulk.run import Summary, bulk


@pytest.fixture(scope="session")
def clips(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 18 clips and one that cannot be read, in the middle of the first block."""
    folder = tmp_path_factory.mktemp("clips")
    for number, path in enumerate(sorted(dataset.rglob("*.mp4"))):
        os.link(path, folder / f"clip{number}.mp4")
    (folder / "clip3b.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture
def run(model_path: Path, tmp_path: Path) -> Callable[..., Summary]:
    """Answers a listing into tmp_path/out, in blocks of 8 by one process; keywords are options."""

    def make(listing: object, **options: Any) -> Summary:
        values = {"to": str(tmp_path / "out"), "block_size": 8, "num_workers": 1, **options}
        values = {"device": "cpu", "runner": "processes", **values}
        return bulk(BulkOptions(str(model_path), str(listing), **values))

    return make


@pytest.fixture(scope="session")
def undisturbed(model_path: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``run(clips)`` writes where nothing happens; not to be changed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    bulk(
        BulkOptions(
            str(model_path),
            str(clips),
            str(out),
            block_size=8,
            num_workers=1,
            device="cpu",
            runner="processes",
        )
    )
    return out


@pytest.fixture
def deadly(plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes the processes of a crew die of clips by name, as a plugin that they import does it.

    ``{"clip5.mp4": 99}``: the first 99 times that it is read; ``how``: what happens then.
    """

    def make(times: dict[str, int], how: str = "os.kill(os.getpid(), 9)") -> Path:
        log, name = tmp_path / "deaths.txt", f"deadly_{tmp_path.name}"
        (plugins / f"{name}.py").write_text(
            f"""import os, time
import gtdnet.bulk.scorer as scorer

plain = scorer.read_views

def read(path, *args):
    there = open({str(log)!r}).read().split() if os.path.exists({str(log)!r}) else []
    if there.count(path.name) < {times!r}.get(path.name, 0):
        with open({str(log)!r}, "a") as file:
            file.write(path.name + "\\n")
        {how}
    return plain(path, *args)

scorer.read_views = read
"""
        )
        monkeypatch.setattr(workers, "_registering", [name])
        return log

    return make
