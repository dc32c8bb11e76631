"""Class name lists: the built-in ones, and text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet.data.labels import list_labels, read_labels
from gtdnet.data.spec import ClipSpec, flip_labels
from gtdnet.errors import InputError

COUNTS = {
    "hmdb51": 51,
    "jester": 27,
    "kinetics400": 400,
    "something-v1": 174,
    "something-v2": 174,
    "ucf101": 101,
}


def test_built_in_lists() -> None:
    assert {name: len(read_labels(name)) for name in list_labels()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_built_in_names_make_a_spec(name: str) -> None:
    names = read_labels(name)
    assert ClipSpec(names).class_names == names
    assert all(n == n.strip() for n in names)


@pytest.mark.parametrize(
    ("name", "index", "wanted"),
    [
        ("something-v1", 0, "Holding something"),
        ("something-v2", 0, "Approaching something with your camera"),
        ("something-v2", 173, "Wiping something off of something"),
        ("kinetics400", 0, "abseiling"),
        ("kinetics400", 399, "zumba"),
        ("ucf101", 100, "YoYo"),
        ("hmdb51", 0, "brush_hair"),
        ("jester", 26, "Doing other things"),
    ],
)
def test_index_order(name: str, index: int, wanted: str) -> None:
    assert read_labels(name)[index] == wanted


@pytest.mark.parametrize("name", ["something-v2", "kinetics400", "ucf101", "hmdb51"])
def test_sorted_lists(name: str) -> None:
    assert list(read_labels(name)) == sorted(read_labels(name), key=str.lower)


def test_the_something_lists_are_the_same_names_in_two_orders() -> None:
    v1, v2 = read_labels("something-v1"), read_labels("something-v2")
    assert v1 != v2
    assert sorted(v1) == sorted(v2)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("something-v2", {(86, 87), (93, 94), (166, 167)}),
        ("something-v1", {(30, 41), (52, 66), (2, 4)}),
        ("jester", {(0, 1), (6, 7), (14, 15)}),
    ],
)
def test_flip_pairs_follow_from_the_names(name: str, pairs: set[tuple[int, int]]) -> None:
    swapped = {(i, j) for i, j in enumerate(flip_labels(read_labels(name))) if j is not None}
    assert {(min(p), max(p)) for p in swapped if p[0] != p[1]} == pairs


@pytest.mark.parametrize(
    "content", ["a\nb b\nc", "a\nb b\nc\n", "a\r\nb b\r\n c\n\n\n", "\ufeffa\nb b\nc\n"]
)
def test_text_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content.encode())
    assert read_labels(path) == read_labels(str(path)) == ("a", "b b", "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 is empty"),
        (b"a\n\nb\n", "line 2 is empty; write one class name a line"),
        (b"a\nb\na\n", "lines 1 and 3 both say 'a'; class names must differ"),
        (b"\xff\xfe\x00a", "is not UTF-8 text"),
    ],
)
def test_bad_text_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"classes.txt: {message}"):
        read_labels(path)


def test_unknown_lists_name_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sth-v2: no such file.*the lists are hmdb51, jester, "):
        read_labels("sth-v2")
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path)
