"""Lists in which a clip has any number of classes, from the table to the batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gtdnet.data.check import check_dataset, format_report
from gtdnet.data.dataset import Augmentation, EvalClips, Sample, TrainClips, collate
from gtdnet.data.formats import detect_format, read_annotations
from gtdnet.data.labels import label_of_json
from gtdnet.data.pack import PackOptions, pack
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError

HERE = ("a", "b", "c", "d")


def _table(root: Path, text: str, name: str = "clips.csv") -> Path:
    for clip in HERE:
        (root / f"{clip}.mp4").write_text("x")
    (root / name).write_text(text)
    return root / name


def _classes(table: Path, split: str = "train") -> dict[str, tuple[str, ...] | None]:
    found = read_annotations(table, split)
    return {
        r.id: None if r.label is None else tuple(found.class_names[k] for k in r.classes)
        for r in found.records
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,labels\na.mp4,run;jump\nb.mp4,jump\nc.mp4,\n",
        "path,Labels\na.mp4,jump | run\nb.mp4,jump|jump;\nc.mp4,|\n",
        "path;classes\na.mp4;run|jump\nb.mp4;jump\nc.mp4;\n",
        'path;labels\na.mp4;"run;jump"\nb.mp4;jump\nc.mp4;""\n',
        "labels\tvideo\njump;run\ta.mp4\njump\tb.mp4\n\tc.mp4\n",
    ],
)
def test_spellings_of_one_table(tmp_path: Path, text: str) -> None:
    table = _table(tmp_path, text)
    assert detect_format(table) == "csv"
    found = read_annotations(table)
    assert found.multi_label
    assert found.class_names == ("jump", "run")
    assert [r.label for r in found.records] == [(0, 1), (0,), ()]


def test_numbers_and_names_in_another_order(tmp_path: Path) -> None:
    table = _table(tmp_path, "path,labels\na.mp4,2;0\nb.mp4,1\n")
    assert _classes(table) == {"a": ("class 0", "class 2"), "b": ("class 1",)}
    (tmp_path / "classes.txt").write_text("run\njump\nclap")
    assert _classes(table) == {"a": ("run", "clap"), "b": ("jump",)}
    assert _classes(_table(tmp_path, "path,labels\na.mp4,clap;run")) == {"a": ("run", "clap")}


def test_a_test_split_without_any_label_is_not_annotated(tmp_path: Path) -> None:
    head = "path,labels,split\na.mp4,run,train\nb.mp4,,train\n"
    assert _classes(_table(tmp_path, f"{head}c.mp4,,test\nd.mp4,,test"), "test") == {
        "c": None,
        "d": None,
    }
    assert _classes(_table(tmp_path, f"{head}c.mp4,,test\nd.mp4,run,test"), "test") == {
        "c": (),
        "d": ("run",),
    }


def test_where_both_columns_are_there_one_label_counts(tmp_path: Path) -> None:
    found = read_annotations(_table(tmp_path, "path,label,labels\na.mp4,run,x;y\nb.mp4,jump,x"))
    assert not found.multi_label
    assert [dict(r.columns) for r in found.records] == [{"labels": "x;y"}, {"labels": "x"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\na.mp4,run\nb.mp4,run;jump\n",
            "line 3, has the label 'run;jump', whose",
        ),
        ("path,label\na.mp4,run|clap\nb.mp4,clap|jump\n", "call the column labels if a clip can"),
        ("path;labels\na.mp4;run;jump\n", "or part its classes by |."),
        ("path,labels\na.mp4,run;7\nb.mp4,1", None),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str | None) -> None:
    table = _table(tmp_path, text)
    if message is None:
        assert read_annotations(table).class_names == ("1", "7", "run")
        return
    with pytest.raises(InputError) as error:
        read_annotations(table)
    assert message in str(error.value)


def test_names_that_hold_the_sign_stay_names(tmp_path: Path) -> None:
    text = "path,label\na.mp4,open|close\nb.mp4,push;pull\n"
    assert read_annotations(_table(tmp_path, text)).class_names == ("open|close", "push;pull")
    table = _table(tmp_path, "path,label\na.mp4,open|close\nb.mp4,open\n")
    (tmp_path / "classes.txt").write_text("open\nopen|close")
    assert [r.label for r in read_annotations(table).records] == [1, 0]


def test_tables_of_both_kinds_are_refused(tmp_path: Path) -> None:
    _table(tmp_path, "path,labels\na.mp4,run;jump", "train.csv")
    _table(tmp_path, "path,label\nb.mp4,run", "val.csv")
    with pytest.raises(InputError, match="differ: some have a column label, with one class"):
        read_annotations(tmp_path)


@pytest.mark.parametrize("value", [[1, 0], [0, 0], [3], [-1], [True], True, 1.0, "1", {}, [[0]], 3])
def test_labels_that_no_json_file_of_ours_holds(value: object) -> None:
    with pytest.raises(ValueError):
        label_of_json(value, 3)


def test_labels_of_json_files() -> None:
    assert [label_of_json(v, 3) for v in (None, 2, [], [0, 2])] == [None, 2, (), (0, 2)]


# ------------------------------------------------------------------------------------- batches

SPEC = ClipSpec(("left", "jump", "right", "turn left"), 2, short_side=36, crop_size=32,
                multi_label=True)  # fmt: skip


def test_targets_are_zeros_and_ones(colours: Path) -> None:
    found = read_annotations(colours, "validation")
    spec = ClipSpec(found.class_names, 2, short_side=36, crop_size=32, multi_label=True)
    clips = EvalClips(found.records, spec)
    batch = collate([clips[i] for i in range(4)])
    assert found.class_names == ("blue", "green", "red")
    assert batch.labels.tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("label", "flipped"),
    [((0, 1), [0, 1, 1, 0]), ((), [0, 0, 0, 0]), ((0, 2), [1, 0, 1, 0]), ((1, 3), None)],
)
def test_a_flip_swaps_each_class(
    colours: Path, label: tuple[int, ...], flipped: list[int] | None
) -> None:
    """A clip one of whose classes has no mirror image, as "turn left", is not flipped."""
    record = read_annotations(colours).records[0]
    records = [type(record)(record.id, record.path, label)]
    plain, mirrored = (
        TrainClips(records, SPEC, Augmentation(flip=flip))[0, 0] for flip in (0.0, 1.0)
    )
    assert isinstance(plain, Sample) and isinstance(mirrored, Sample)
    assert plain.label == tuple(int(k in label) for k in range(4))
    assert mirrored.label == (plain.label if flipped is None else tuple(flipped))
    expected = plain.views if flipped is None else plain.views.flip(-1)
    assert torch.equal(mirrored.views, expected)


# --------------------------------------------------------------------------- check, manifest, pack


def test_check_counts_clips_of_each_class(colours: Path, tmp_path: Path) -> None:
    report = check_dataset(colours, workers=0, manifest=tmp_path / "good.json")
    numbers = report.to_dict()["splits"]["train"]
    assert numbers["class_counts"] == {"blue": 12, "green": 9, "red": 12}
    assert (numbers["without_class"], numbers["labels_per_clip"]) == (3, 33 / 24)
    text = format_report(report)
    assert "labels       any number a clip: train 1.38 on average, 3 clips with none; val" in text
    assert "a clip    1.38 labels on average, 3 clips with none" in text
    assert report.ok

    again = read_annotations(tmp_path / "good.json", "validation")
    first = read_annotations(colours, "validation")
    assert [r.label for r in again.records] == [r.label for r in first.records]
    assert again.class_names == first.class_names


def test_packed_clips_keep_their_labels(colours: Path, tmp_path: Path) -> None:
    pack(PackOptions(str(colours), str(tmp_path / "packed"), workers=1))
    for split in ("train", "validation"):
        again, first = (read_annotations(d, split) for d in (tmp_path / "packed", colours))
        assert [(r.id, r.label) for r in again.records] == [(r.id, r.label) for r in first.records]


def test_a_manifest_of_both_kinds_is_refused(tmp_path: Path) -> None:
    _table(tmp_path, "")
    clips = [{"id": c, "path": f"{c}.mp4", "label": k} for c, k in (("a", 0), ("b", [0, 1]))]
    manifest = {"gtdnet_manifest": 1, "class_names": ["x", "y"], "splits": {"train": clips}}
    (tmp_path / "both.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="clips of one label beside clips of a list of labels"):
        read_annotations(tmp_path / "both.json")
