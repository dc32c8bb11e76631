"""What is said of folders and lists that name no classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gtdnet.cli import main
from gtdnet.data.check.table import _columns
from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["train/a.mp4", "train/b.mp4", "val/c.mp4"], "2 video\\(s\\) but no folders of classes"),
        (["train/README", "val/c.mp4"], "no folders of classes"),
    ],
)
def test_videos_outside_folders_of_classes(tmp_path: Path, files: list[str], told: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for split in ("train", "validation"):
        with pytest.raises(InputError, match=f"train has {told}.*CLASS.*path and label"):
            read_annotations(str(tmp_path), split)


def test_check_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.mp4").touch()
    assert main(["check", str(tmp_path), "--num_workers", "0", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "put each video into the folder of its class" in err
    assert not out or json.loads(out.splitlines()[-1])


def test_a_list_without_classes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "train.txt").write_text("a.mp4\n")
    with pytest.raises(InputError, match=r"line 1, .*end each line with the number of its class"):
        read_annotations(str(tmp_path), "train")


def test_a_table_of_no_classes_is_its_heads() -> None:
    assert _columns(("class", "train"), []).split() == ["class", "train"]
