"""Tables of clips with a header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gtdnet.data.check import check_dataset, format_report
from gtdnet.data.formats import detect_format, list_splits, read_annotations
from gtdnet.data.pack import PackOptions, pack
from gtdnet.errors import InputError


def _table(root: Path, text: str | bytes, name: str = "clips.csv") -> Path:
    for clip in ("a", "b", "c", "two words, and a comma"):
        (root / f"{clip}.mp4").write_text("x")
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / name


def _labels(table: Path, split: str = "train") -> dict[str, str | None]:
    found = read_annotations(table, split)
    return {
        r.id: None if r.label is None else found.class_names[r.classes[0]] for r in found.records
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,run\nb.mp4,jump\n",
        "\ufeffpath,label\r\na.mp4,run\r\n\r\nb.mp4,jump\r\n",
        "label\tpath\nrun\ta.mp4\njump\tb.mp4",
        "Path;Label;note\na.mp4;run;x,y\nb.mp4; jump ;\n",
        '"file_name","class"\n"a.mp4","run"\n"b.mp4","jump"\n',
        "path,label\ra.mp4,run\rb.mp4,jump\r",
    ],
)
def test_spellings_of_one_table(tmp_path: Path, text: str) -> None:
    table = _table(tmp_path, text)
    assert detect_format(table) == "csv"
    assert list_splits(table) == ("train",)
    assert read_annotations(table).class_names == ("jump", "run")
    assert _labels(table) == {"a": "run", "b": "jump"}


def test_quoted_cells_and_missing_clips(tmp_path: Path) -> None:
    table = _table(
        tmp_path, 'path,label\n"two words, and a comma.mp4","up, or down"\nno.mp4,"a""b"'
    )
    found = read_annotations(table)
    assert found.class_names == ('a"b', "up, or down")
    assert [r.id for r in found.records] == ["two words, and a comma"]
    assert [(r.id, r.path) for r in found.missing] == [("no", str(tmp_path / "no.mp4"))]


def test_further_columns_go_with_the_clips(tmp_path: Path) -> None:
    table = _table(tmp_path, "path,label,Person,fps\na.mp4,run,P01,30\nb.mp4,run,P02,25\n")
    assert [r.columns for r in read_annotations(table).records] == [
        {"Person": "P01", "fps": "30"},
        {"Person": "P02", "fps": "25"},
    ]


def test_further_columns_go_with_manifests_and_packs(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    rows = [f"{n}.gif,{k},P{k},x;y" for k, n in enumerate("ab")]
    table.write_text("\n".join(["path,label,person,note", *rows]), encoding="utf-8")
    for shade, name in enumerate("ab"):
        Image.new("RGB", (32, 32), (99 * shade, 0, 0)).save(tmp_path / f"{name}.gif")
    found = check_dataset(table, workers=1, manifest=tmp_path / "good.json")
    assert "also         note, person: for --group" in format_report(found)
    pack(PackOptions(str(table), str(tmp_path / "packed"), workers=1))
    expected = [{"person": f"P{k}", "note": "x;y"} for k in range(2)]
    for root in (table, tmp_path / "good.json", tmp_path / "packed"):
        assert [r.columns for r in read_annotations(root).records] == expected
    listed = json.loads((tmp_path / "good.json").read_text())
    listed["splits"]["train"][0]["columns"] = {"person": 1}
    (tmp_path / "good.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match="is damaged"):
        read_annotations(tmp_path / "good.json")


def test_a_column_of_splits(tmp_path: Path) -> None:
    text = "path,label,split\na.mp4,run,train\nb.mp4,jump,Val\nc.mp4,,test\n"
    table = _table(tmp_path, text)
    assert list_splits(table) == ("train", "validation", "test")
    assert _labels(table) == {"a": "run"}
    assert _labels(table, "validation") == {"b": "jump"}
    assert _labels(table, "test") == {"c": None}
    assert read_annotations(table).class_names == ("jump", "run")


def test_a_table_for_each_split(tmp_path: Path) -> None:
    _table(tmp_path, "path,label\na.mp4,run\n", "my_train.csv")
    table = _table(tmp_path, "path,label\nb.mp4,run\n", "my_val.csv")
    for root in (tmp_path, table, tmp_path / "my_train.csv"):
        assert detect_format(root) == "csv"
        assert list_splits(root) == ("train", "validation")
        assert (_labels(root), _labels(root, "validation")) == ({"a": "run"}, {"b": "run"})


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (("1", "0"), "", ("class 1", "class 0")),
        (("1", "0"), "run\njump\n", ("jump", "run")),
        (("jump", "0"), "run\njump\n", ("jump", "run")),
        (("01", "02"), "", ("01", "02")),  # names, which are written like numbers
        (("2", "1"), "2\n1\n", ("2", "1")),
    ],
)
def test_labels_by_name_and_by_number(
    tmp_path: Path, labels: tuple[str, str], names: str, expected: tuple[str, str]
) -> None:
    table = _table(tmp_path, "path,label\na.mp4,{}\nb.mp4,{}\n".format(*labels))
    if names:
        (tmp_path / "classes.txt").write_text(names)
    assert tuple(_labels(table).values()) == expected


def test_a_table_from_windows(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "d.mp4").write_text("x")
    table = _table(tmp_path, "path,label\nrun\\d.mp4,run\n")
    assert [r.id for r in read_annotations(table).records] == ["run/d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4,run\n", r"has no column path and no column label: its first line, .* 'a\.mp4,run'"),
        ("path,name\na.mp4,run\n", r"has no column label"),
        ("", r"has no column path and no column label"),
        ("path,label\na.mp4\n", r"line 2, has 1 cells, but the first line has 2"),
        ("path,label\na.mp4,up, down\n", r"line 2, has 3 cells.*holds ',' in double quotes"),
        ("path,label\n,run\n", r"line 2, has no path"),
        ("path,label\na.mp4,\nb.mp4,run\n", r"line 2, has no label, which train clips need"),
        ("path,label,split\na.mp4,run,1\n", r"has the split '1'; write train, val or test"),
        ("path,label,split\na.mp4,run,\n", r"has the split ''"),
        ("path,label\na.mp4,1\nb.mp4,2\n", r"count from 1, not from 0"),
        ("path,label\na.mp4,run\na.mp4,jump\n", r"id a occurs twice"),
        (b"path,label\n\xff.mp4,run\n", r"can't be read"),
        ("path,label,split\na.mp4,run,val\n", r"no clips of the train split \(it has validation\)"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_annotations(_table(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_unknown_labels_where_the_classes_are_listed(tmp_path: Path) -> None:
    table = _table(tmp_path, "path,label\na.mp4,run\nb.mp4,2\n")
    (tmp_path / "classes.txt").write_text("run\njump\n")
    with pytest.raises(InputError, match="line 3, has label 2, but there are 2 classes"):
        read_annotations(table)
    _table(tmp_path, "path,label\na.mp4,walk\n")
    with pytest.raises(InputError, match="line 2, has an unknown label: 'walk'"):
        read_annotations(table)


@pytest.mark.parametrize(("name", "clips", "classes"), [("jhmdb", 708, 21), ("lips", 2000, 20)])
def test_real_tables(name: str, clips: int, classes: int) -> None:
    table = Path(__file__).parents[4] / "shared" / "data" / name / "clips.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    found = read_annotations(table)
    assert (len(found.records), len(found.missing), len(found.class_names)) == (clips, 0, classes)
