"""An evaluation of several processes: each clip once, and the same to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("started", [("--devices", "3"), ()])
def test_several_processes_measure_as_one_does(
    started: tuple[str, ...], make_data: Callable[..., Path], model_path: Path, tmp_path: Path
) -> None:
    """Five clips in batches of two, one of them broken: more processes than the last round has."""
    clips = {"blue": ["blue", "red"], "green": ["green", "broken"], "red": ["red"]}
    data = make_data(tmp_path / "data", clips)
    words = ["evaluate", str(model_path), "--data", str(data), "--device", "cpu", "--json"]
    words += ["--batch_size", "2", "--num_workers", "0", "--format", "list"]

    def measure(output: str, *more: str, launcher: tuple[str, ...] = ()) -> dict[str, Any]:
        command = [sys.executable, *launcher, "-m", "gtdnet", *words, *more]
        done = subprocess.run(
            [*command, "--output", str(tmp_path / output)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("1 of 5 clips could not be read") == 1
        return json.loads(done.stdout)

    launcher = () if started else ("-m", "torch.distributed.run", "--nproc_per_node", "2")
    one, several = measure("one"), measure("several", *started, launcher=launcher)
    for result in (one, several):
        del result["output"]
    assert one == several
    a, b = (np.load(tmp_path / name / "scores.npz") for name in ("one", "several"))
    assert len(set(b["ids"])) == len(b["ids"]) == 4
    assert {k: np.array_equal(a[k], b[k]) for k in a.files} == dict.fromkeys(a.files, True)
    names = {p.name for p in (tmp_path / "several").iterdir()}
    assert names == {p.name for p in (tmp_path / "one").iterdir()}
