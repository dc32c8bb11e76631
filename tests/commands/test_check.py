from __future__ import annotations

import json
from pathlib import Path

import pytest

from gtdnet.cli import main


def test_check_takes_splits_by_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--splits", "validation", "--workers=0", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"validation"}
