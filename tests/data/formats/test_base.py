"""Every layout, every split, and the sentence for each thing that can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet.data.formats import (
    FORMATS,
    SPLITS,
    Format,
    NewClip,
    VideoRecord,
    base,
    detect_format,
    formats_line,
    list_splits,
    read_annotations,
    register_format,
    written_formats,
)
from gtdnet.errors import InputError


def _write(path: Path, content: object = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def _item(clip: str, template: str) -> dict[str, object]:
    return {"id": clip, "label": "moving a cup up", "template": template, "placeholders": ["a cup"]}


UP, DOWN = "Moving [something] up", "Moving [something] down"
V2_LABELS = {"Moving something down": "1", "Moving something up": "0"}


def _something_v2(root: Path) -> None:
    _write(root / "labels/labels.json", V2_LABELS)
    _write(root / "labels/train.json", [_item("1", UP), _item("2", DOWN), _item("9", UP)])
    _write(root / "labels/validation.json", [_item("3", DOWN)])
    _write(root / "labels/test.json", [{"id": "4"}])
    for clip in ("1", "2", "3", "4"):
        _write(root / f"20bn-something-something-v2/{clip}.webm")


def _something_v2_download(root: Path) -> None:
    _write(root / "something-something-v2-labels.json", V2_LABELS)
    _write(
        root / "something-something-v2-train.json",
        [_item("1", UP), _item("2", DOWN), _item("9", UP)],
    )
    _write(root / "something-something-v2-validation.json", [_item("3", DOWN)])
    _write(root / "something-something-v2-test.json", [{"id": "4"}])
    for clip in ("1", "2", "3", "4"):
        _write(root / f"clips/{clip}.mp4")


def _something_v1(root: Path) -> None:
    name = "something-something-v1"
    _write(root / f"{name}-labels.csv", "Moving something up\nMoving something down\n")
    _write(
        root / f"{name}-train.csv",
        "1;Moving something up\n2;Moving something down\n9;Moving something up\n",
    )
    _write(root / f"{name}-validation.csv", "3;Moving something down\n")
    _write(root / f"{name}-test.csv", "4\n")
    for clip in ("1", "2", "3", "4"):
        _write(root / f"20bn-{name}/{clip}/00001.jpg")


KINETICS = "label,youtube_id,time_start,time_end,split,is_cc\n"


def _kinetics(root: Path) -> None:
    _write(
        root / "annotations/kinetics400_train.csv",
        f"{KINETICS}zumba,aaaaaaaaaaa,1,11,train,0\n"
        '"tying knot (not on a tie)",-_aaaaaaaa,20,30,train,0\nzumba,ccccccccccc,5,15,train,0\n',
    )
    _write(
        root / "annotations/kinetics400_val.csv", f"{KINETICS}zumba,ddddddddddd,0,10,validate,0\n"
    )
    _write(
        root / "annotations/kinetics400_test.csv",
        "youtube_id,time_start,time_end,split\neeeeeeeeeee,7,17,test\n",
    )
    _write(root / "train/zumba/aaaaaaaaaaa_000001_000011.mp4")
    _write(root / "train/tying_knot_(not_on_a_tie)/-_aaaaaaaa_000020_000030.mkv")
    # The name of a validation clip in the training folder must not be taken for it.
    _write(root / "train/zumba/ddddddddddd_000000_000010.mp4")
    _write(root / "val/ddddddddddd_000000_000010.mp4")
    _write(root / "test/eeeeeeeeeee_000007_000017.webm")


def _folder(root: Path) -> None:
    _write(root / "train/up/a.mp4")
    _write(root / "train/up/.hidden.mp4")
    _write(root / "train/down/person 1/b/00001.jpg")
    _write(root / "valid/down/c.webm")
    _write(root / "test/up/d.avi")


def _list(root: Path) -> None:
    _write(root / "classes.txt", "down\nup high\n")
    _write(root / "train.txt", "videos/a clip.mp4 1\nvideos/b.mp4 down\nvideos/gone.mp4 up high\n")
    _write(root / "val.txt", "videos/c.mp4 0\n")
    _write(root / "test.txt", "videos/d.mp4\n")
    for clip in ("a clip", "b", "c", "d"):
        _write(root / f"videos/{clip}.mp4")


def _frame_list(root: Path) -> None:
    _write(root / "train_videofolder.txt", "frames/a 12 1\nframes/b 7 0\nframes/gone 9 1\n")
    _write(root / "val_videofolder.txt", "frames/c 30 0\n")
    _write(root / "test_videofolder.txt", "frames/d 31 1\n")
    for clip in "abcd":
        _write(root / f"frames/{clip}/img_00001.jpg")


def _ucf101(root: Path) -> None:
    lists = root / "ucfTrainTestlist"
    _write(lists / "classInd.txt", "1 YoYo\n2 Archery\n\n")
    _write(
        lists / "trainlist01.txt",
        "YoYo/v_YoYo_g08_c01.avi 1\nArchery/v_Archery_g08_c01.avi 2\n"
        "Archery/v_Archery_g09_c01.avi 2\n",
    )
    _write(lists / "testlist01.txt", "Archery/v_Archery_g01_c01.avi\n")
    _write(lists / "trainlist02.txt", "Archery/v_Archery_g01_c01.avi 2\n")
    _write(lists / "testlist02.txt", "YoYo/v_YoYo_g08_c01.avi\n")
    for name, clip in (("YoYo", "g08_c01"), ("Archery", "g08_c01"), ("Archery", "g01_c01")):
        _write(root / f"UCF-101/{name}/v_{name}_{clip}.avi")


def _ucf101_flat(root: Path) -> None:
    _write(root / "classInd.txt", "1 YoYo\r\n2 Archery\r\n")
    _write(root / "trainlist01.txt", "YoYo/a 1.avi 1\r\nArchery/b.avi 2\r\nYoYo/c.avi 1\r\n")
    _write(root / "testlist01.txt", "Archery/d.avi\r\n")
    _write(root / "YoYo/a 1.mp4")
    _write(root / "Archery/b.mp4")
    _write(root / "Archery/d/00001.jpg")


def _hmdb51(root: Path) -> None:
    lists = root / "testTrainMulti_7030_splits"
    _write(lists / "wave_test_split1.txt", "a_(1)_wave.avi 1 \nb.avi 2 \nunused.avi 0 \n")
    _write(lists / "brush_hair_test_split1.txt", "c.avi 1 \nd.avi 1 \ne.avi 0 \n")
    _write(lists / "wave_test_split2.txt", "a_(1)_wave.avi 2 \nb.avi 0 \nunused.avi 1 \n")
    _write(lists / "._wave_test_split1.txt", "\0")
    for clip in ("wave/a_(1)_wave", "wave/b", "wave/unused", "brush_hair/c", "brush_hair/e"):
        _write(root / f"hmdb51_org/{clip}.avi")


def _jester(root: Path) -> None:
    _write(root / "jester-v1-labels.csv", "Swiping Left\nNo gesture\nDoing other things\n")
    _write(root / "jester-v1-train.csv", "12;No gesture\n7;Doing other things\n9;Swiping Left\n")
    _write(root / "jester-v1-validation.csv", "3;Swiping Left\n")
    _write(root / "jester-v1-test.csv", "4\n")
    for clip in ("12", "7", "3", "4"):
        _write(root / f"20bn-jester-v1/{clip}/00001.jpg")


V1_NAMES = ("Moving something down", "Moving something up")
V2_NAMES = ("Moving something up", "Moving something down")
Expected = dict[str, list[tuple[str, str, int | None]]]
V2_CLIPS: Expected = {
    "train": [("1", "{}/1.webm", 0), ("2", "{}/2.webm", 1)],
    "validation": [("3", "{}/3.webm", 1)],
    "test": [("4", "{}/4.webm", None)],
}
V2_FOLDER = "20bn-something-something-v2"
KNOT = "tying knot (not on a tie)"

LAYOUTS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...], Expected, str | None]] = {
    "v2": (
        _something_v2,
        "something-v2",
        V2_NAMES,
        {s: [(i, p.format(V2_FOLDER), k) for i, p, k in rows] for s, rows in V2_CLIPS.items()},
        "9",
    ),
    "v2 download": (
        _something_v2_download,
        "something-v2",
        V2_NAMES,
        {s: [(i, f"clips/{i}.mp4", k) for i, _, k in rows] for s, rows in V2_CLIPS.items()},
        "9",
    ),
    "v1": (
        _something_v1,
        "something-v1",
        V1_NAMES,
        {
            "train": [
                ("1", "20bn-something-something-v1/1", 1),
                ("2", "20bn-something-something-v1/2", 0),
            ],
            "validation": [("3", "20bn-something-something-v1/3", 0)],
            "test": [("4", "20bn-something-something-v1/4", None)],
        },
        "9",
    ),
    "kinetics": (
        _kinetics,
        "kinetics",
        (KNOT, "zumba"),
        {
            "train": [
                (
                    "aaaaaaaaaaa_000001_000011",
                    "train/zumba/aaaaaaaaaaa_000001_000011.mp4",
                    1,
                ),
                (
                    "-_aaaaaaaa_000020_000030",
                    "train/tying_knot_(not_on_a_tie)/-_aaaaaaaa_000020_000030.mkv",
                    0,
                ),
            ],
            "validation": [("ddddddddddd_000000_000010", "val/ddddddddddd_000000_000010.mp4", 1)],
            "test": [("eeeeeeeeeee_000007_000017", "test/eeeeeeeeeee_000007_000017.webm", None)],
        },
        "ccccccccccc_000005_000015",
    ),
    "folder": (
        _folder,
        "folder",
        ("down", "up"),
        {
            "train": [
                ("down/person 1/b", "train/down/person 1/b", 0),
                ("up/a", "train/up/a.mp4", 1),
            ],
            "validation": [("down/c", "valid/down/c.webm", 0)],
            "test": [("up/d", "test/up/d.avi", 1)],
        },
        None,
    ),
    "list": (
        _list,
        "list",
        ("down", "up high"),
        {
            "train": [
                ("videos/a clip", "videos/a clip.mp4", 1),
                ("videos/b", "videos/b.mp4", 0),
            ],
            "validation": [("videos/c", "videos/c.mp4", 0)],
            "test": [("videos/d", "videos/d.mp4", None)],
        },
        "videos/gone",
    ),
    "frame list": (
        _frame_list,
        "list",
        ("class 0", "class 1"),
        {
            "train": [("frames/a", "frames/a", 1), ("frames/b", "frames/b", 0)],
            "validation": [("frames/c", "frames/c", 0)],
            "test": [("frames/d", "frames/d", 1)],
        },
        "frames/gone",
    ),
    "ucf101": (
        _ucf101,
        "ucf101",
        ("YoYo", "Archery"),
        {
            "train": [
                ("YoYo/v_YoYo_g08_c01", "UCF-101/YoYo/v_YoYo_g08_c01.avi", 0),
                ("Archery/v_Archery_g08_c01", "UCF-101/Archery/v_Archery_g08_c01.avi", 1),
            ],
            "validation": [
                ("Archery/v_Archery_g01_c01", "UCF-101/Archery/v_Archery_g01_c01.avi", 1)
            ],
        },
        "Archery/v_Archery_g09_c01",
    ),
    "ucf101 flat": (
        _ucf101_flat,
        "ucf101",
        ("YoYo", "Archery"),
        {
            "train": [("YoYo/a 1", "YoYo/a 1.mp4", 0), ("Archery/b", "Archery/b.mp4", 1)],
            "validation": [("Archery/d", "Archery/d", 1)],
        },
        "YoYo/c",
    ),
    "hmdb51": (
        _hmdb51,
        "hmdb51",
        ("brush_hair", "wave"),
        {
            "train": [
                ("brush_hair/c", "hmdb51_org/brush_hair/c.avi", 0),
                ("wave/a_(1)_wave", "hmdb51_org/wave/a_(1)_wave.avi", 1),
            ],
            "validation": [("wave/b", "hmdb51_org/wave/b.avi", 1)],
        },
        "brush_hair/d",
    ),
    "jester": (
        _jester,
        "jester",
        ("Swiping Left", "No gesture", "Doing other things"),
        {
            "train": [("12", "20bn-jester-v1/12", 1), ("7", "20bn-jester-v1/7", 2)],
            "validation": [("3", "20bn-jester-v1/3", 0)],
            "test": [("4", "20bn-jester-v1/4", None)],
        },
        "9",
    ),
}


@pytest.mark.parametrize(
    ("layout", "split"), [(name, split) for name in LAYOUTS for split in LAYOUTS[name][3]]
)
def test_layouts(tmp_path: Path, layout: str, split: str) -> None:
    write, format, names, clips, missing = LAYOUTS[layout]
    write(tmp_path)
    assert detect_format(tmp_path) == format
    assert list_splits(tmp_path) == tuple(clips)
    found = read_annotations(tmp_path, split)
    assert (found.format, found.split, found.class_names) == (format, split, names)
    assert [(r.id, r.path, r.label) for r in found.records] == [
        (clip, str(tmp_path / path), label) for clip, path, label in clips[split]
    ]
    assert [r.id for r in found.missing] == ([missing] if missing and split == "train" else [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_split_needs_no_clips_of_another(tmp_path: Path, layout: str) -> None:
    write, _, names, clips, _ = LAYOUTS[layout]
    write(tmp_path)
    for _, path, _ in [*clips["train"], *clips.get("test", [])]:
        clip = tmp_path / path
        for file in clip.iterdir() if clip.is_dir() else [clip]:
            file.unlink()
    found = read_annotations(tmp_path, "validation")
    assert [r.id for r in found.records] == [clip for clip, _, _ in clips["validation"]]
    assert found.class_names == names


def test_folder_of_classes_is_training_only(tmp_path: Path) -> None:
    _write(tmp_path / "up/a.mp4")
    _write(tmp_path / "down/b.mp4")
    found = read_annotations(tmp_path)
    assert (found.format, found.class_names) == ("folder", ("down", "up"))
    assert [(r.id, r.label) for r in found.records] == [("down/b", 0), ("up/a", 1)]
    assert list_splits(tmp_path) == ("train",)
    with pytest.raises(InputError, match=r"has no validation split .* make a folder .*/val "):
        read_annotations(tmp_path, "validation")


def test_list_file_serves_only_its_split(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4")
    _write(tmp_path / "b.mp4")
    _write(tmp_path / "mine_train_1.txt", "a.mp4 0\n")
    _write(tmp_path / "mine_val_1.txt", "b.mp4 0\n")
    _write(tmp_path / "mine_val_2.txt", "a.mp4 0\n")
    _write(tmp_path / "clips.txt", "a.mp4 3\n")
    named = tmp_path / "mine_val_1.txt"
    assert [r.id for r in read_annotations(named, "validation").records] == ["b"]
    assert [r.id for r in read_annotations(named, "train").records] == ["a"]
    bare = read_annotations(tmp_path / "clips.txt")
    assert bare.class_names == ("class 0", "class 1", "class 2", "class 3")
    with pytest.raises(InputError, match="no list for the validation split"):
        read_annotations(tmp_path / "clips.txt", "validation")
    with pytest.raises(InputError, match="several files for one purpose"):
        read_annotations(tmp_path, "validation")


def test_number_before_the_label_is_a_count_unless_the_files_say_otherwise(tmp_path: Path) -> None:
    _write(tmp_path / "train.txt", "take 1 0\ntake 2 1\n")
    for take in ("take 1", "take 2"):
        _write(tmp_path / take / "00001.jpg")
    assert [r.id for r in read_annotations(tmp_path).records] == ["take 1", "take 2"]


def test_v1_order_is_by_name_and_v2_order_by_index(tmp_path: Path) -> None:
    _something_v1(tmp_path / "v1")
    _something_v2(tmp_path / "v2")
    assert read_annotations(tmp_path / "v1").class_names == V1_NAMES
    assert read_annotations(tmp_path / "v2").class_names == V2_NAMES


def test_class_names_are_the_same_for_every_split(tmp_path: Path) -> None:
    for layout, (write, _, _, clips, _) in LAYOUTS.items():
        write(tmp_path / layout)
        names = {read_annotations(tmp_path / layout, split).class_names for split in clips}
        assert len(names) == 1, layout


def test_manifest(tmp_path: Path) -> None:
    _write(tmp_path / "data/a.mp4")
    manifest = {
        "gtdnet_manifest": 1,
        "class_names": ["down", "up"],
        "splits": {
            "train": [
                {"id": "a", "path": "data/a.mp4", "label": 1, "num_frames": 9, "fps": 12.0},
                {"id": "b", "path": "data/b.mp4", "label": 0, "num_frames": 9, "fps": 12.0},
            ]
        },
    }
    path = tmp_path / "manifest.json"
    _write(path, manifest)
    found = read_annotations(path)
    assert found.class_names == ("down", "up")
    assert [(r.id, r.path, r.label) for r in found.records] == [
        ("a", str(tmp_path / "data/a.mp4"), 1)
    ]
    assert [r.id for r in found.missing] == ["b"]
    assert list_splits(path) == ("train",)
    with pytest.raises(InputError, match="has no test split"):
        read_annotations(path, "test")
    _write(path, {**manifest, "gtdnet_manifest": 7})
    with pytest.raises(InputError, match="version 7, not 1"):
        read_annotations(path)
    _write(path, {"train": []})
    with pytest.raises(InputError, match="is not a manifest"):
        read_annotations(path)


def _spoil(write: Callable[[Path], None], file: str, content: object) -> Callable[[Path], None]:
    def spoiled(root: Path) -> None:
        write(root)
        _write(root / file, content)

    return spoiled


def _nothing(root: Path) -> None:
    _write(root / "notes/readme.md")


def _two_formats(root: Path) -> None:
    _something_v2(root)
    _list(root)


V1_TRAIN = "something-something-v1-train.csv"
K_TRAIN = "annotations/kinetics400_train.csv"


@pytest.mark.parametrize(
    ("write", "split", "sentence"),
    [
        (_nothing, "train", "No dataset is recognised"),
        (_two_formats, "train", "something-v2 and list at once; say which it is with --format"),
        (
            _spoil(_something_v2, "labels/train.json", [_item("77", "Eating [something]")]),
            "train",
            r"clip 77 in .*train\.json has an unknown label: 'Eating something'",
        ),
        (
            _spoil(_something_v2, "labels/train.json", [{"id": "1"}]),
            "train",
            "clip 1 .* has no label",
        ),
        (_spoil(_something_v2, "labels/train.json", [{"x": 1}]), "train", "an entry without an id"),
        (_spoil(_something_v2, "labels/train.json", "[{"), "train", "is not valid JSON"),
        (_spoil(_something_v2, "labels/train.json", []), "train", "is empty"),
        (
            _spoil(_something_v2, "labels/labels.json", {"Moving something up": "2"}),
            "train",
            "are not 0 to 0, each once",
        ),
        (
            _spoil(_something_v2, "labels/train.json", [_item("8", UP), _item("9", UP)]),
            "train",
            r"None of the 2 clips .*8\.webm",
        ),
        (
            _spoil(_something_v2, "labels/train.json", [_item("1", UP), _item("1", DOWN)]),
            "train",
            "The id 1 occurs twice",
        ),
        (
            _spoil(_something_v1, V1_TRAIN, "1;Eating something\n"),
            "train",
            "unknown label: 'Eating",
        ),
        (_spoil(_something_v1, V1_TRAIN, "1\n"), "train", "clip 1 .* has no label"),
        (_spoil(_kinetics, K_TRAIN, "youtube_id,label\na,b\n"), "train", "time_end and time_start"),
        (_spoil(_kinetics, K_TRAIN, f"{KINETICS}zumba,a\n"), "train", "line 2, has fewer columns"),
        (_spoil(_kinetics, K_TRAIN, f"{KINETICS}zumba,a,x,2,t,0\n"), "train", "not a number"),
        (_spoil(_folder, "valid/other/e.mp4", "x"), "validation", "'other' .* training classes"),
        (_spoil(_folder, "train/up/00001.jpg", "x"), "train", "a folder of their own"),
        (_spoil(_list, "train.txt", "videos/b.mp4 2\n"), "train", "line 1, has label 2, but"),
        (
            _spoil(_list, "train.txt", "\nvideos/b.mp4\n"),
            "train",
            'line 2, is neither "path label"',
        ),
        (_spoil(_frame_list, "val_videofolder.txt", "frames/c 3 7\n"), "validation", "label 7"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, write: Callable[[Path], None], split: str, sentence: str
) -> None:
    write(tmp_path)
    with pytest.raises(InputError, match=sentence) as raised:
        read_annotations(tmp_path, split)
    assert "\n" not in str(raised.value)


def test_absent_things(tmp_path: Path) -> None:
    _list(tmp_path)
    (tmp_path / "val.txt").unlink()
    with pytest.raises(InputError, match=r"no list for the validation .* test\.txt\); write"):
        read_annotations(tmp_path, "validation")
    with pytest.raises(InputError, match="does not exist"):
        read_annotations(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no split 'val'; the splits are train"):
        read_annotations(tmp_path, "val")
    with pytest.raises(InputError, match="no format 'ssv2'"):
        read_annotations(tmp_path, format="ssv2")
    with pytest.raises(InputError, match=r"has no labels\.json"):
        read_annotations(tmp_path, format="something-v2")


@pytest.mark.parametrize("format", written_formats())
def test_what_is_written_is_read(tmp_path: Path, format: str) -> None:
    names = ("up", "down", "to the left")
    clips = [
        NewClip(n, split, n % 3, names[n % 3], f"key {n}", names[n % 3])
        for n, split in enumerate(["train"] * 7 + ["validation"] * 4 + ["test"] * 2, 1)
    ]
    kind = written_formats()[format]
    for clip in clips:
        path = tmp_path / kind.clip_path(clip)
        _write(path if path.suffix else path / "00001.jpg")
    kind.write(tmp_path, names, clips, seed=0)
    assert (detect_format(tmp_path), list_splits(tmp_path)) == (format, SPLITS)
    for split in SPLITS:
        found = read_annotations(tmp_path, split)
        assert not found.missing
        is_labelled = split != "test" or format in ("kinetics", "folder", "list")
        assert {
            r.path: None if r.label is None else found.class_names[r.classes[0]]
            for r in found.records
        } == {
            str(tmp_path / kind.clip_path(c)): c.class_name if is_labelled else None
            for c in clips
            if c.split == split
        }


def test_a_format_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_formats", {})

    @register_format
    class Flat(Format):
        name = "flat"
        signs = "clips.flat"

        def recognises(self, root: Path) -> bool:
            return (root / "clips.flat").is_file()

        def splits(self, root: Path) -> tuple[str, ...]:
            return ("validation",)

        def read(self, root: Path, split: str) -> tuple[list[str], list[tuple[VideoRecord, bool]]]:
            return ["all"], [(VideoRecord("a", str(root / "a.mp4"), 0), True)]

    _write(tmp_path / "clips.flat")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("flat", ("validation",))
    found = read_annotations(tmp_path, "validation")
    assert (found.format, found.class_names, len(found.records)) == ("flat", ("all",), 1)
    with pytest.raises(InputError, match=r"is not there \(flat: clips\.flat\); check the path"):
        detect_format(tmp_path.parent)
    with pytest.raises(ValueError, match="'flat' is registered already"):
        register_format(Flat)


def test_the_registry_names_every_format() -> None:
    assert list(FORMATS) == [
        *("something-v1", "something-v2", "kinetics", "folder", "list", "csv"),
        *("ucf101", "hmdb51", "jester", "split", "packed", "packs", "manifest"),
    ]
    assert formats_line() == (
        "something-v1, something-v2, kinetics, folder, list, csv, ucf101, hmdb51 or jester"
    )
    assert list(written_formats()) == [
        *("something-v1", "something-v2", "kinetics", "folder", "list", "jester")
    ]


def test_identical_rows_count_once(tmp_path: Path) -> None:
    _list(tmp_path)
    _write(tmp_path / "val.txt", "videos/c.mp4 0\nvideos/c.mp4 0\n")
    assert len(read_annotations(tmp_path, "validation").records) == 1
