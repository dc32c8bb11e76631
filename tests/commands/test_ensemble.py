from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet.cli import main


def test_ensemble_of_evaluations(
    run: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fails: Callable[..., str],
) -> None:
    words = ["evaluate", str(run / "model.safetensors"), "--data", str(data), "--num_workers=0"]
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert main([*words, "--output", one]) == 0
    assert main([*words, "--output", other, "--crops=3", "--diagnose"]) == 0
    assert "top-1 by the order of frames" in capsys.readouterr().out
    words = ["ensemble", "--common", one, other, "--output", str(tmp_path / "both")]
    assert main([*words, "--weights", "1,2", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert [m["weight"] for m in json.loads(out)["members"]] == [1, 2]
    assert main([*words, "--overwrite"]) == 0
    assert "against the best member" in capsys.readouterr().out
    message = fails(*words, "--overwrite", "--weights", "1,much")
    assert message == "--weights: expected numbers such as 1,2, got '1,much'"
