"""benchmarks/gestures.py: what it takes up again, what it refuses, what it records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

TABLE = "path,label,kind,subject\na/1.mp4,a,dynamic,S1\nb/2.mp4,b,dynamic,S2\nc/3.mp4,c,static,S3\n"


@pytest.fixture
def script(
    load_script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The script in a folder with clips and start weights; its commands leave only their traces."""
    module: Any = load_script("gestures")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clips.csv").write_text(TABLE)
    for slug in module.METHODS.values():
        start = tmp_path / "runs" / "ablation" / f"{slug}-0"
        start.mkdir(parents=True)
        (start / "model.safetensors").write_text(slug)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    module.commands = []

    def run(*words: str) -> str:
        module.commands.append(words[:2])
        if words[:2] == ("train", "--resume"):
            return ""
        if words[0] == "train":
            folder = Path(words[words.index("--output") + 1], words[words.index("--name") + 1])
            folder.mkdir(parents=True)  # fails where it is there, as gtdnet train does
            (folder / "last.ckpt").touch()
            metrics = "epoch,train_top1,val_top1\n1,0.3,\n2,0.9,0.5\n"
            (folder / "metrics.csv").write_text(metrics)
        return 'log\n{"top1": 0.5}\n'

    monkeypatch.setattr(module, "run", run)
    return module


def call(script: ModuleType, *words: str) -> int:
    script.commands.clear()
    paths = ("--clips", "../clips/clips.csv", "--start", str(Path.cwd().parent / "runs/ablation"))
    return script.main([*paths, "--seeds", "0", "--results", "found.yaml", *words])


def trained(script: ModuleType) -> int:
    return sum(words[0] == "train" and words[1] != "--resume" for words in script.commands)


def test_what_is_recorded(script: ModuleType) -> None:
    assert call(script) == 0
    assert trained(script) == 6  # three methods, two people
    result = yaml.safe_load(Path("found.yaml").read_text())
    assert result["command"] == (
        "python benchmarks/gestures.py --clips clips/clips.csv --start runs/ablation "
        "--results found.yaml --seeds 0"
    )
    assert (result["clips"], result["classes"]) == (2, 2)
    assert result["methods"]["TSN"]["top1"] == 50.0
    assert result["methods"]["TSN"]["training"] == 90.0
    lists = Path("data/gestures_cv/S1")
    there = Path.cwd().parent / "clips"
    assert (lists / "val.txt").read_text() == f"{there}/a/1.mp4 a\n"
    assert (lists / "train.txt").read_text() == f"{there}/b/2.mp4 b\n"
    assert str(Path.cwd().parent) not in Path("found.yaml").read_text()


def test_what_was_done_is_taken_up_again(script: ModuleType) -> None:
    assert call(script) == 0
    assert call(script) == 0
    assert script.commands == []
    record = Path("runs/gestures/tsm-S1-0.json")
    known = json.loads(record.read_text())
    record.write_text(json.dumps({"made_of": known["made_of"]}))  # training was stopped
    assert call(script) == 0
    assert script.commands[0] == ("train", "--resume")
    assert trained(script) == 0
    assert json.loads(record.read_text()) == known
    record.write_text(json.dumps({"made_of": known["made_of"]}))  # before it saved anything
    Path("runs/gestures/tsm-S1-0/last.ckpt").unlink()
    assert call(script) == 0
    assert trained(script) == 1
    assert json.loads(record.read_text()) == known


@pytest.mark.parametrize("change", ["settings", "clips", "start", "record"])
def test_what_was_made_of_something_else_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    assert call(script) == 0
    there = Path.cwd().parent
    if change == "settings":
        script.SETTINGS["lr"] = 1
    elif change == "clips":
        (there / "clips" / "clips.csv").write_text(TABLE + "a/9.mp4,a,dynamic,S2\n")
    elif change == "start":
        (there / "runs/ablation/tsn-0/model.safetensors").write_text("other")
    else:
        Path("runs/gestures/tsn-S1-0.json").unlink()
    capsys.readouterr()
    assert call(script) == 2
    assert script.commands == []
    assert capsys.readouterr().err == (
        "benchmarks/gestures.py: runs/gestures/tsn-S1-0 was made with other settings, clips or "
        "start weights; give another --output, or delete it and tsn-S1-0.json\n"
    )
    assert call(script, "--output", "runs/other") == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"clips\.csv can't be read \(No such file or directory\); check --clips"),
        ("path,label\n", r"clips\.csv lacks the columns kind, subject; add them"),
        ("", r"clips\.csv lacks the columns kind, label, path, subject; add them"),
        (
            TABLE.replace("S2", "S1"),
            r"gestures in \S+clips\.csv are of S1 alone; give a table of two",
        ),
        (b"\xff\xfe", r"clips\.csv is no table of comma-separated values"),
    ],
)
def test_tables_that_are_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], table: str | bytes | None, message: str
) -> None:
    path = Path("../clips/clips.csv")
    path.unlink()
    if table is not None:
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
    assert call(script) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not Path("runs").exists()


def test_start_weights_that_are_not_there(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, "--start", "none") == 2
    assert "start weights none/tsn-0/model.safetensors are not there" in capsys.readouterr().err


def test_a_command_that_fails_ends_with_its_status(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="2"):
        script.run("pack", str(tmp_path / "none"), str(tmp_path / "output"))
