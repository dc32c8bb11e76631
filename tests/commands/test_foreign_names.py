"""Names of files that are not UTF-8, or that hold what a terminal would obey; full disks."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gtdnet.cli import main
from gtdnet.data.formats import read_annotations

GBK = os.fsdecode("视频".encode("gbk"))
SHOWN = "\\udcca\\udcd3Ƶ"  # two of its four bytes are UTF-8
ESCAPE = "\x1b[31m\x9b1m\n"


@pytest.fixture
def odd(data: Path, tmp_path: Path) -> Path:
    """The dataset with a clip of each odd name in each split, and one that is no video."""
    root = shutil.copytree(data, tmp_path / "data")
    for split in ("train", "val"):
        first, second = sorted((root / split).glob("*/*.mp4"))[:2]
        try:
            first.rename(first.with_name(f"{split}{GBK}.mp4"))
        except OSError:
            pytest.skip("this file system takes only names in UTF-8")
        second.rename(second.with_name(f"{split}{ESCAPE}.mp4"))
        first.with_name(f"{split}bad{GBK}.mp4").write_text("no video")
    return root


class Output:
    """A standard output as a terminal or a pipe of that encoding has it: strict."""

    def __init__(self, patch: pytest.MonkeyPatch, encoding: str) -> None:
        self._bytes = io.BytesIO()
        self._encoding = encoding
        patch.setattr(sys, "stdout", io.TextIOWrapper(self._bytes, encoding, "strict"))

    def text(self) -> str:
        sys.stdout.flush()
        return self._bytes.getvalue().decode(self._encoding)


def _is_safe(text: str) -> bool:
    return not any((c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0" for c in text)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_check_and_manifest(
    odd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    manifest = tmp_path / "good.json"
    out = Output(monkeypatch, encoding)
    assert main(["check", str(odd), "--workers=0", "--manifest", str(manifest)]) == 1
    shown = SHOWN.encode(encoding, "backslashreplace").decode()
    assert f"trainbad{shown}.mp4" in out.text()
    assert _is_safe(out.text())
    for split in ("train", "validation"):
        kept, whole = (read_annotations(root, split).records for root in (manifest, odd))
        assert {r.path for r in kept} == {r.path for r in whole if "bad" not in r.path}
    out = Output(monkeypatch, encoding)
    assert main(["check", str(odd), "--workers=0", "--json"]) == 1
    assert _is_safe(out.text())
    found = {f["code"]: f["examples"] for f in json.loads(out.text())["findings"]}
    assert f"trainbad{GBK}.mp4" in found["unreadable"][0]


def test_train_evaluate_report_predict(
    odd: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--data", str(odd), "--output", str(tmp_path), "--name", "one", *tiny]
    model = tmp_path / "one/model.safetensors"
    out = Output(monkeypatch, "utf-8")
    assert main(["train", *words]) == 0
    assert main(["evaluate", str(model), "--data", str(odd), "--num_workers=0"]) == 0
    assert main(["report", str(tmp_path / "one"), "--overwrite"]) == 0
    page = (tmp_path / "one/report.html").read_text(encoding="utf-8")
    assert "valbad\ufffd\ufffdƵ" in page
    assert "The dataset no longer has this clip" not in page
    predict = ["predict", str(model), str(odd / "val"), "--num_workers=0", "--topk=1"]
    for more in ([], ["--csv"], ["--json"]):
        out = Output(monkeypatch, "utf-8")
        assert main([*predict, *more]) == 1
        assert _is_safe(out.text())
    paths = {video["path"] for video in json.loads(out.text())["videos"]}
    assert sum(GBK in path for path in paths) == 2
    assert sum(ESCAPE in path for path in paths) == 1


def test_a_full_disk_loses_no_results(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(*args: Any, **kwargs: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    manifest, page = tmp_path / "good.json", tmp_path / "page.html"
    assert main(["check", str(data), "--workers=0", "--manifest", str(manifest)]) == 1
    out = capsys.readouterr().out
    assert "12 clips" in out
    assert (
        f"The manifest {manifest}: could not be written (No space left on device); make room" in out
    )
    assert main(["report", str(run), "--output", str(page), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["output"] is None
    assert "could not be written (No space left on device); make room" in result["not_written"]
    assert not list(tmp_path.iterdir())


def test_a_complaint_is_short_and_safe(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "train.txt").write_text("a.mp4 0")
    name = f"x{ESCAPE}" + "y" * 10_000
    assert main(["check", str(tmp_path), "--format", name]) == 2
    err = capsys.readouterr().err
    assert _is_safe(err)
    assert err.count("\n") == 1
    assert len(err) < 3000
