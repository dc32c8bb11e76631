"""What is said of folders and lists that name no classes, and of links to nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gtdnet.cli import main
from gtdnet.data.check.table import _columns
from gtdnet.data.decode import probe
from gtdnet.data.formats import read_annotations
from gtdnet.errors import DecodeError, InputError


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


def clips(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("link", ["swim", "train/swim", "val/swim v1.0", "val", "Train"])
def test_a_link_to_nowhere_for_a_class_or_split(tmp_path: Path, link: str) -> None:
    if "/" in link:
        clips(tmp_path, "train/run/1.mp4", "val/run/2.mp4")
    elif link == "val":
        clips(tmp_path, "train/run/1.mp4")
    elif link == "Train":
        clips(tmp_path, "val/run/1.mp4")
    else:
        clips(tmp_path, "run/1.mp4")
    (tmp_path / link).symlink_to("/nowhere/x")
    message = f"{re.escape(str(tmp_path / link))} is a link to nowhere \\(/nowhere/x\\); mend or"
    with pytest.raises(InputError, match=message):
        read_annotations(str(tmp_path), "train" if link != "Train" else "validation")


def test_links_to_nowhere_that_are_no_classes(tmp_path: Path) -> None:
    clips(tmp_path, "train/run/1.mp4")
    for name in ("old", "train/README.md", "train/.cache"):
        (tmp_path / name).symlink_to("/nowhere/x")
    assert read_annotations(str(tmp_path), "train").class_names == ("run",)


@pytest.mark.parametrize("name", ["2.mp4", "2"])
def test_a_clip_that_is_a_link_to_nowhere_costs_itself(tmp_path: Path, name: str) -> None:
    clips(tmp_path, "run/1.mp4")
    (tmp_path / "run" / name).symlink_to("/nowhere/y")
    records = read_annotations(str(tmp_path), "train").records
    assert [Path(record.path).name for record in records] == sorted(["1.mp4", name])
    with pytest.raises(DecodeError, match=r"it is a link to nowhere \(/nowhere/y\); put there"):
        probe(tmp_path / "run" / name)
    (tmp_path / "gone").symlink_to("/nowhere/z")
    with pytest.raises(DecodeError, match=r"gone is a link to nowhere \(/nowhere/z\)"):
        probe(tmp_path / "gone/3.mp4")


def test_a_dataset_that_is_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to("/nowhere/x")
    with pytest.raises(InputError, match=r"data is not there: it is a link to nowhere"):
        read_annotations(str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("names", "table", "told"),
    [
        (["a.mp4", "b.mp4"], None, "it holds 2 videos, but no folders of classes; put each into"),
        (
            ["a.mp4"],
            ("train.csv", "video_id,action\n1,run\n"),
            "train.csv has no column path and no column label: its first line, which must name "
            "the columns, as path,label, is 'video_id,action'.",
        ),
        (
            [],
            ("train.tsv", "path\taction\n1\trun\n"),
            "train.tsv has no column label: its first line, which must name the columns",
        ),
        ([], ("ours.csv", "path,label\na.mp4,run\n"), "its name says no split; give /"),
    ],
)
def test_what_is_nearly_a_dataset(
    tmp_path: Path, names: list[str], table: tuple[str, str] | None, told: str
) -> None:
    clips(tmp_path, *names)
    if table:
        (tmp_path / table[0]).write_text(table[1])
    with pytest.raises(InputError) as error:
        read_annotations(str(tmp_path))
    assert told in str(error.value)
    assert "something-v1" not in str(error.value)  # not the long list of all formats


def test_a_table_with_other_columns_beside_classes(tmp_path: Path) -> None:
    clips(tmp_path, "run/1.mp4", "jump/2.mp4")
    (tmp_path / "train.csv").write_text("clip,action\n1.mp4,run\n")
    told = r"train.csv \(which begins with 'clip,action'\).* of a table of clips the columns path"
    with pytest.raises(InputError, match=told):
        read_annotations(str(tmp_path))
