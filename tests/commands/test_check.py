from __future__ import annotations

import json
from pathlib import Path

import pytest

from gtdnet.cli import main


def test_check_takes_splits_by_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--splits", "validation", "--workers=0", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"validation"}


def test_it_comes_before_decoding_and_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--workers=0"]) == 0
    out = capsys.readouterr().out
    assert out.count("  format ") == 1
    assert out.index("  classes ") < out.index("15 clips decoded in ") < out.index("OK: 0 errors")


def test_json_has_all_of_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--workers=0", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["format"], found["annotations"]) == ("folder", [])
    assert set(found["splits"]["train"]["class_counts"]) == set(found["class_names"])
    assert sum(found["splits"]["train"]["codecs"].values()) == 12
