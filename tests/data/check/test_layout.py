"""A dataset that lies otherwise than it was meant is read, and what looks misread is said."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from gtdnet.cli import main
from gtdnet.data.check import understand
from gtdnet.data.check.layout import layout
from gtdnet.data.findings import odd_classes
from gtdnet.data.formats import list_splits, read_annotations

CLIPS = ("1a", "2a", "1b", "2b")
GOOD = [
    f"{split}/{name}/{n}{name}.mp4" for split in ("train", "val") for name in "ab" for n in "12"
]


def found(root: Path, *files: str, format: str | None = None) -> dict[str, list[str]]:
    """The findings of a folder with these files, which are not decoded: examples by code."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    understood = understand(root, format)
    findings = (*understood.findings, *layout(understood), *odd_classes(understood.read))
    return {f.code: [example.removeprefix(f"{root}/") for example in f.examples] for f in findings}


def test_a_good_layout(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("jump and run, 2026; see 1a.mp4\n")
    assert found(tmp_path, *GOOD) == {}


@pytest.mark.parametrize(
    ("files", "code", "examples"),
    [
        (["train/loose.mp4", "top.mov"], "loose", ["top.mov", "train/loose.mp4"]),
        (["extra/x.mp4", "train/a/raw.vob"], "left-out", ["extra/x.mp4", "train/a/raw.vob"]),
        (
            ["__MACOSX/train/a/._1a.mp4", "train/a/._1a.mp4", "val/@eaDir/a/1a.mp4"],
            "foreign",
            ["__MACOSX", "train/a/._1a.mp4", "val/@eaDir"],
        ),
        (["train/a/train/x.mp4", "train/a/test_set/y.mp4"], "nested-splits",
         ["a/test_set", "a/train"]),
        (["train/Val/x.mp4"], "split-as-class", ["Val"]),
    ],
)  # fmt: skip
def test_what_looks_misread(
    tmp_path: Path, files: list[str], code: str, examples: list[str]
) -> None:
    assert found(tmp_path, *GOOD, *files) == {code: examples}


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "lost+found"])
def test_folders_of_systems_are_no_classes(tmp_path: Path, name: str) -> None:
    assert found(tmp_path, "a/1.mp4", "b/2.mp4", f"{name}/a/._1.mp4") == {
        "foreign": [name], "no-validation": []
    }  # fmt: skip
    assert read_annotations(tmp_path).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("clips-of-ours.csv", "path,label\ntrain/a/1a.mp4,jump\ntrain/b/1b.mp4,run\n"),
        ("train/notes.txt", "1a.mp4 person 1\n2b.mp4 person 2\n"),
        ("annotations/meta.json", '{"1a.mp4": {"fps": 30}, "2a.mp4": {"fps": 25}}'),
    ],
)
def test_a_table_that_names_clips_is_not_silently_ignored(
    tmp_path: Path, table: str, text: str
) -> None:
    found(tmp_path, *GOOD)
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).write_text(text)
    assert found(tmp_path, format="folder") == {"ignored-table": [f"{table} (names 2 clips)"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_of_clips_in_a_table_may_have_blanks(tmp_path: Path, encoding: str) -> None:
    names = ("a/my clip 1.mp4", "a/it's caf\u00e9.mp4", "b/run 3.mp4", "b/run 4.mp4")
    found(tmp_path, *names)
    text = "file,action\r\n" + "".join(f"{unicodedata.normalize('NFD', n)},x\r\n" for n in names)
    (tmp_path / "notes.csv").write_text(text, encoding=encoding, newline="")
    assert found(tmp_path)["ignored-table"] == ["notes.csv (names 4 clips)"]


def test_lists_that_are_read_are_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a/1a.mp4 0\nb/1b.mp4 1\n")
    (tmp_path / "val.txt").write_text("a/2a.mp4 0\n")
    assert found(tmp_path, "a/1a.mp4", "b/1b.mp4", "a/2a.mp4") == {}


def test_no_validation_split_names_the_remedy(tmp_path: Path) -> None:
    assert set(found(tmp_path, "a/1.mp4", "b/2.mp4")) == {"no-validation"}
    (finding,) = layout(understand(tmp_path))
    assert "--val 0.2" in finding.fix
    assert list(layout(understand(tmp_path, splits=["train"]))) == [finding]  # not by check, then


def test_classes_that_validation_alone_has(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("jump\nrun\nsit\n")
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 2\ngone.mp4 1\n")
    (tmp_path / "val.txt").write_text("c.mp4 1\nd.mp4 2\n")
    assert found(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4") == {"only-in-validation": ["run"]}


def test_splits_inside_of_classes_are_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("jump/train/1.mp4", "jump/val/2.mp4", "run/train/3.mp4", "run/val/4.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert main(["check", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}/jump/train is a split inside of a class" in message
    assert f"the other way round, as {tmp_path}/train/jump" in message
    assert list_splits(tmp_path, "folder") == ("train",)
    examples = found(tmp_path, format="folder")["nested-splits"]
    assert examples == ["jump/train", "jump/val", "run/train", "run/val"]
