"""Whatever a stranger's annotation file holds gives a result or one sentence."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.cli import main
from gtdnet.data.formats import SPLITS, detect_format, list_splits, read_annotations
from gtdnet.errors import InputError

V1 = "something-something-v1"
FILES = {  # of each format: the files that rubbish is written into
    "something-v1": (f"{V1}-labels.csv", f"{V1}-train.csv"),
    "something-v2": ("labels.json", "train.json"),
    "kinetics": ("train.csv",),
    "list": ("classes.txt", "train.txt"),
    "ucf101": ("classInd.txt", "trainlist01.txt"),
    "hmdb51": ("wave_test_split1.txt",),
    "jester": ("jester-v1-labels.csv", "jester-v1-train.csv"),
    "packed": ("pack.json",),
    "manifest": ("clips.json",),
}
NUMBERS = ("0", "1", "-1", "--1", "²", "٣", "9" * 5000, "1e999", "nan", "inf")
NAMES = (
    "a",
    "a.mp4",
    "up",
    "Up [x]",
    "é",
    "e\u0301",
    "train",
    "wave/a.mp4",
    "a.zip/b",
    "x" * 200_000,
)
SIGNS = ("", " ", ";", ",", "\t", '"', "\0", "\ud800", "..", "/", "\ufeff")
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
WORDS = st.sampled_from((*NUMBERS, *NAMES, *SIGNS, *COLUMNS))
LINES = st.lists(st.lists(WORDS, max_size=4).map(" ".join), max_size=5).map("\n".join)
TABLES = st.lists(st.lists(WORDS, max_size=6).map(",".join), max_size=4).map(
    lambda rows: "\n".join(["label,youtube_id,time_start,time_end", *rows])
)
_KEYS = (
    "id template label path clip clips missing class_names splits name train validation Up "
    "gtdnet_manifest gtdnet_pack shards bytes first"
)
KEYS = st.sampled_from(_KEYS.split())
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 3), st.floats(), WORDS.filter(lambda w: len(w) < 99)
)
JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
ITEM = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "path", "label", "template", "clip"), VALUES | JSON)
)
MANIFEST = st.fixed_dictionaries(
    {
        "gtdnet_manifest": st.just(1) | JSON,
        "gtdnet_pack": st.just(1) | JSON,
        "shards": st.just([]) | JSON,
        "class_names": st.just(["a", "b"]) | JSON,
        "splits": st.fixed_dictionaries(
            {"train": st.lists(ITEM, max_size=3) | st.fixed_dictionaries({"clips": JSON}) | JSON}
        ),
    }
)
NESTED = ("[" * 100_000, '{"a":' * 100_000, "[1" + "0" * 5000 + "]")
RAW = st.sampled_from(
    (*NESTED, '{"Up": 0, "Up": 1}', "[NaN]", '{"a": Infinity}', "{", "\ufeff[]", f'"{"x" * 10**6}"')
)
DUMPED = (JSON | MANIFEST | st.lists(ITEM, max_size=3)).map(json.dumps)
CONTENT = st.one_of(st.binary(max_size=60), LINES, TABLES, DUMPED, RAW)


def _bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")


def _check(root: Path, format: str | None) -> None:
    """Every way of reading it gives a sound result or InputError of one line."""
    for call in (lambda: detect_format(root), lambda: list_splits(root, format)):
        try:
            call()
        except InputError as error:
            assert "\n" not in str(error)
    for split in SPLITS:
        try:
            found = read_annotations(root, split, format, allow_missing=True)
        except InputError:
            continue
        assert all(type(name) is str for name in found.class_names)
        for record in (*found.records, *found.missing):
            assert (type(record.id), type(record.path)) == (str, str)
            assert record.label is None or type(record.label) is int
            assert record.label is None or 0 <= record.label < len(found.class_names)


@pytest.mark.parametrize("format", FILES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rubbish_is_a_result_or_a_sentence(format: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in FILES[format]:
            (root / name).write_bytes(_bytes(data.draw(CONTENT)))
        (root / "wave").mkdir()
        (root / "wave/a.mp4").touch()
        _check(root / FILES[format][0] if format == "manifest" else root, format)
        _check(root, None)


LABELS = '{"Up x": "0", "Down x": "1"}'


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"labels.json": LABELS, "train.json": "[" * 100_000}, "nested too deeply"),
        ({"labels.json": LABELS, "train.json": '[{"id": 1, "template": 5}]'}, "is no text"),
        ({"labels.json": LABELS, "train.json": '[{"id": NaN}]'}, "holds NaN"),
        ({"labels.json": LABELS, "train.json": "5"}, "does not hold a list"),
        ({"labels.json": LABELS, "train.json": '{"id": 1}'}, "does not hold a list"),
        ({"labels.json": '{"Up x": "0", "Up x": "1"}', "train.json": "[]"}, "'Up x' twice"),
        ({"labels.json": '{"Up x": Infinity}', "train.json": "[]"}, "holds Infinity"),
        ({"labels.json": '{"Up x": 0.5}', "train.json": "[]"}, "does not hold"),
        ({"labels.json": f'{{"Up x": {"1" * 5000}}}', "train.json": "[]"}, "not valid JSON"),
        ({"train.csv": f"label,youtube_id,time_start,time_end\na,{'b' * 200_000},0,1"}, "limit"),
        ({"train.csv": "label,youtube_id,time_start,time_end\na,b,inf,1"}, "not a number"),
        ({"train.txt": f"a.mp4 {'9' * 5000}"}, "number of 5000 digits"),
        ({"train.txt": "a.mp4 --1"}, "is neither"),
        ({"train.txt": "a.mp4 ²"}, "is neither"),
        ({"classes.txt": "a\na\n", "train.txt": "a.mp4 a"}, "2 classes of the name 'a'"),
        ({"classInd.txt": "1 a", "trainlist01.txt": f"a/b.avi {'1' * 5000}"}, "5000 digits"),
        ({"train.txt": b"a.mp4 \xff 0"}, "can't be read: 'utf-8' codec"),
    ],
)
def test_the_command_line_says_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str | bytes],
    words: str,
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(_bytes(content))
    assert main(["check", str(tmp_path), "--workers=0"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert len(err) < 1000
