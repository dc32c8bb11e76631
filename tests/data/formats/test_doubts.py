"""Datasets that are not what they seem: refused with what is missing, or read as what they are."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from gtdnet.data.formats import detect_format, list_splits, read_annotations
from gtdnet.data.formats.lookup import split_of
from gtdnet.errors import InputError

NFC, NFD = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))


def _write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


V1, V2 = "something-something-v1", "something-something-v2"
V1_CLIPS = {f"20bn-{V1}/{clip}/00001.jpg": "x" for clip in (1, 2)}
V2_CLIPS = {f"20bn-{V2}/{clip}.webm": "x" for clip in (1, 2)}
UP = [{"id": "1", "template": "Moving [something] up"}]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({**V1_CLIPS, f"{V1}-train.csv": "1;Up\n2;Down\n"}, "what belongs to it is missing"),
        ({**V1_CLIPS, f"{V1}-labels.csv": "Up\nDown\n"}, "what belongs to it is missing"),
        (V1_CLIPS, "all clips lie in 20bn-something-something-v1"),
        ({**V2_CLIPS, "labels/train.json": UP}, "what belongs to it is missing"),
        ({**V2_CLIPS, "labels/labels.json": {"Up": "0"}}, "what belongs to it is missing"),
        (V2_CLIPS, "all clips lie in 20bn-something-something-v2"),
        ({"20bn-jester-v1/1/1.jpg": "x", "jester-v1-train.csv": "1;Up\n"}, "labels"),
        ({"a/1.mp4": "x", "b/2.mp4": "x", "train.csv": "name,class\n1,a\n"}, "youtube_id"),
        ({"UCF-101/YoYo/a.avi": "x", "UCF-101/Archery/b.avi": "x"}, "all clips lie in UCF-101"),
        ({"one/train/up/a.mp4": "x", "two/b/c.mp4": "x"}, "one has splits of its own"),
        ({"train_set/up/a.mp4": "x", "test_set/up/b.mp4": "x"}, "name them test and train"),
        ({"Train videos/up/a.mp4": "x", "val-clips/up/b.mp4": "x"}, "name them train and val"),
    ],
)
def test_folders_that_would_be_wrong_classes(
    tmp_path: Path, files: dict[str, object], sentence: str
) -> None:
    _write(tmp_path, files)
    with pytest.raises(InputError, match=sentence) as raised:
        read_annotations(tmp_path)
    assert "--format folder" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list_splits(tmp_path, "folder") == ("train",)


@pytest.mark.parametrize(("train", "val"), [("Train", "Val"), ("TRAINING", "Validation")])
def test_splits_in_any_case(tmp_path: Path, train: str, val: str) -> None:
    _write(tmp_path, {f"{train}/up/a.mp4": "x", f"{train}/down/b.mp4": "x", f"{val}/up/c.mp4": "x"})
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("folder", ("train", "validation"))
    assert read_annotations(tmp_path, "train").class_names == ("down", "up")
    assert [r.id for r in read_annotations(tmp_path, "validation").records] == ["up/c"]


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    _write(tmp_path, {f"{name}/up/a.mp4": "x" for name in ("train", "val", "validation")})
    for split in ("train", "validation"):
        with pytest.raises(InputError, match="two folders for one split, val and validation; keep"):
            read_annotations(tmp_path, split)


def test_one_class_in_two_spellings(tmp_path: Path) -> None:
    folders = _write(
        tmp_path / "folder",
        {
            f"train/{NFC}/a.mp4": "x",
            f"train/{NFD}/b.mp4": "x",
            "train/zoo/c.mp4": "x",
            f"val/{NFD}/d.mp4": "x",
        },
    )
    lists = _write(
        tmp_path / "list",
        {
            "classes.txt": f"zoo\n{NFD}\n",
            "train.txt": f"a.mp4 {NFC}\nb.mp4 {NFD}\nc.mp4 zoo\n",
            "val.txt": f"d.mp4 {NFC}\n",
        },
    )
    tables = _write(
        tmp_path / "v1",
        {
            f"{V1}-labels.csv": f"{NFD}\nzoo\n",
            f"{V1}-train.csv": f"a;{NFC}\nb;{NFD}\nc;zoo\n",
            f"{V1}-validation.csv": f"d;{NFC}\n",
        },
    )
    head = "label,youtube_id,time_start,time_end\n"
    kinetics = _write(
        tmp_path / "kinetics",
        {
            "train.csv": f"{head}{NFC},a,0,1\n{NFD},b,0,1\nzoo,c,0,1\n",
            "val.csv": f"{head}{NFD},d,0,1\n",
        },
    )
    json_tables = _write(
        tmp_path / "v2",
        {
            "labels.json": {NFD: "1", "zoo": "0"},
            "train.json": [
                {"id": c, "template": t} for c, t in zip("abc", (NFC, NFD, "zoo"), strict=True)
            ],
            "validation.json": [{"id": "d", "template": NFC}],
        },
    )
    for root in (folders, lists, tables, kinetics, json_tables):
        read = {s: read_annotations(root, s, allow_missing=True) for s in ("train", "validation")}
        for split, expected in (("train", [NFC, NFC, "zoo"]), ("validation", [NFC])):
            names = read[split].class_names
            assert set(names) == {NFC, "zoo"}
            rows = (*read[split].records, *read[split].missing)
            assert sorted(names[row.classes[0]] for row in rows) == sorted(expected)


def test_two_classes_of_one_name(tmp_path: Path) -> None:
    _write(tmp_path, {"classes.txt": f"{NFC}\nzoo\n{NFD}\n", "train.txt": "a.mp4 0\n", "a.mp4": ""})
    with pytest.raises(InputError, match=r"has 2 classes of the name 'été'; rename them"):
        read_annotations(tmp_path)


@pytest.mark.parametrize("label", [10**7, 10**12, 1030])
def test_labels_far_above_the_clips(tmp_path: Path, label: int) -> None:
    _write(tmp_path, {"train.txt": f"a.mp4 0\nb.mp4 1\nc.mp4 {label}\n", "a.mp4": ""})
    with pytest.raises(InputError, match=f"has 3 clips, but labels up to {label}, far more"):
        read_annotations(tmp_path)
    (tmp_path / "train.txt").write_text("a.mp4 699\n")
    assert len(read_annotations(tmp_path).class_names) == 700


@pytest.mark.parametrize(
    ("said", "is_other"),
    [("train", 0), ("", 0), ("mine", 0), ("val", 1), ("Validate", 1), ("test", 1)],
)
def test_rows_of_another_split(tmp_path: Path, said: str, is_other: bool) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    _write(tmp_path, {"train.csv": f"{head}up,abc,0,10,{said}\n", "abc_000000_000010.mp4": "x"})
    if is_other:
        with pytest.raises(InputError, match=f"is for train, but has the clip abc .* '{said}'"):
            read_annotations(tmp_path)
    else:
        assert len(read_annotations(tmp_path).records) == 1


def test_names_of_splits() -> None:
    names = {"train": "train", "Val": "validation", "test_set": "test", "Training videos": "train"}
    assert {name: split_of(name) for name in names} == names
    for name in ("training a dog", "testing soup", "set", "", "trainer"):
        assert split_of(name) is None
