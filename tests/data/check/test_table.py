"""The table of classes stays readable, however many there are and whatever they are called."""

from __future__ import annotations

import pytest

from gtdnet.data.check.table import class_table


def wide(text: str) -> int:
    """Columns of a terminal, told by the languages of these tests."""
    return sum(2 if "\u3000" < letter < "\uffe0" else 1 for letter in text)


def test_a_few_classes() -> None:
    counts = {"train": [12, 3], "validation": [4, 0], "test": [100, 5]}
    assert class_table(["jump", "跳ぶ"], counts).splitlines() == [
        "class  train  val  test",
        "jump      12    4   100",
        "跳ぶ       3    0     5",
    ]


def test_more_classes_go_on_to_the_right() -> None:
    names = [f"class {number}" for number in range(14)]
    lines = class_table(names, {"train": list(range(14))}).splitlines()
    assert lines[0] == "    ".join(["class     train"] * 4)
    assert lines[1] == "    ".join(f"class {n:<4}{n:5}" for n in (0, 4, 8, 12))
    assert [line.split()[1] for line in lines[1:]] == ["0", "1", "2", "3"]


def test_hundreds_of_classes_show_their_ends() -> None:
    names = [f"doing the thing of the number {number}" for number in range(400)]
    counts = {"train": [1000 - number for number in range(400)], "validation": [5] * 400}
    text = class_table(names, counts)
    assert len(text.splitlines()) == 27
    assert all(f"{names[label]:<33}" in text for label in (0, 9, 390, 399))
    assert names[10] not in text
    assert "The 380 classes between (--json has all):" in text
    assert "  611-990 clips each in train, 304190 in all" in text
    assert "  5-5 clips each in validation, 1900 in all" in text


@pytest.mark.parametrize("number", [1, 13, 60, 61, 400])
@pytest.mark.parametrize(
    "name", ["a", "Pretending to put something " * 5, "視频分類" * 30, "é" * 50]
)
def test_no_line_is_wider_than_a_terminal(name: str, number: int) -> None:
    names = [f"{label} {name}" for label in range(number)]
    counts = {split: [10**6] * number for split in ("train", "validation", "test")}
    assert max(map(wide, class_table(names, counts).splitlines())) <= 80


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert "\x1b" not in class_table(["a\x1b[31mb\n c"], {"train": [1]})
