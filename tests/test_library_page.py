"""docs/library.md is true: its program runs as it stands, and its clips are made as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gtdnet.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")


def test_the_program_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    gtdnet (.+)$", PAGE, re.MULTILINE)
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(lines) == len(programs) == 1
    assert main(shlex.split(lines[0])) == 0
    (tmp_path / "clips/train/Moving something up/broken.mp4").write_bytes(b"no video")
    exec(compile(programs[0], "docs/library.md", "exec"), {"__name__": "library"})
    out = capsys.readouterr().out
    assert out.count("broken.mp4: ") == 2  # once an epoch
    assert re.search(r"^epoch 2: loss \d\.\d+$", out, re.MULTILINE)
    assert re.search(r"^top-1 \d+\.\d% of 12 clips$", out, re.MULTILINE)
    assert "ClassScore(" in out
    assert main(["evaluate", "mine.safetensors", "--data", "clips", "--device", "cpu"]) == 0
