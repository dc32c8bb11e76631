"""The same on Ray Data: the same files, and the same promise when an actor dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet.bulk.run import Summary
from gtdnet.errors import InputError

pytest.importorskip("ray", reason="Ray is not installed: tests/with_ray.sh")
pytestmark = pytest.mark.usefixtures("ray_cluster")

Run = Callable[..., Summary]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_files_are_those_of_processes(run: Run, clips: Path, tmp_path: Path) -> None:
    run(clips, to=str(tmp_path / "processes"))
    summary = run(clips, runner="ray")
    assert (summary.rows, summary.failed, summary.blocks) == (19, 1, 3)
    assert contents(tmp_path / "out") == contents(tmp_path / "processes")

    (tmp_path / "out" / "part-00000001.parquet").unlink()
    summary = run(clips, runner="ray")  # what is there is not done again
    assert (summary.rows, summary.rows_before, summary.blocks) == (19, 11, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "processes")


def test_an_actor_that_is_killed_costs_nothing(
    run: Run, clips: Path, tmp_path: Path, actors: Callable[[], list[int]]
) -> None:
    run(clips, to=str(tmp_path / "undisturbed"), block_size=2)
    killed = []

    def kill() -> None:
        until = time.monotonic() + 120
        first = tmp_path / "out" / "part-00000000.parquet"
        while not first.exists() and time.monotonic() < until:
            time.sleep(0.02)
        for actor in actors():
            os.kill(actor, signal.SIGKILL)
            killed.append(actor)

    thread = threading.Thread(target=kill)
    thread.start()
    summary = run(clips, runner="ray", block_size=2)
    thread.join()
    assert killed and summary.rows == 19
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_clip_that_kills_is_a_row(
    run: Run, clips: Path, tmp_path: Path, deadly: Callable[..., Path]
) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(f"path,id\n{clips}/clip0.mp4,a\n{clips}/clip1.mp4,b\n")
    deadly({"clip1.mp4": 99})
    summary = run(table, runner="ray", attempts=1)
    assert (summary.rows, summary.failed, summary.deaths) == (2, 1, 3)
    assert list(summary.reasons) == [
        "its process died each time that it was read (SIGKILL: most likely memory ran out)"
    ]


def test_what_a_process_refuses_is_said(run: Run, clips: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    lines = [f"http://127.0.0.1:9/clip{n}.mp4" for n in range(8)]
    table.write_text("\n".join(["path", *lines]))
    with pytest.raises(InputError, match=r"none of 8 neighbouring clips.* could be fetched"):
        run(table, runner="ray")


def test_a_cluster_that_is_too_small(run: Run, clips: Path) -> None:
    with pytest.raises(InputError, match="has 3 CPUs, too few for 4 actors and 2 to spare"):
        run(clips, runner="ray", num_workers=4)


def test_no_cluster_at_an_address(clips: Path, model_path: Path, tmp_path: Path) -> None:
    words = ["bulk", str(model_path), str(clips), "--to", str(tmp_path / "out")]
    words += ["--ray-address", "127.0.0.1:9"]
    told = subprocess.run(
        [sys.executable, "-m", "gtdnet", *words], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 2, told.stderr
    assert "no Ray cluster answers at 127.0.0.1:9" in told.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / "part-00000000.parquet").exists()
