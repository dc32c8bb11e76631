"""Labels of clips, and class names in index order: built-in lists, and lists of one's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from gtdnet.errors import InputError

Label = int | tuple[int, ...] | None
"""A class, all classes of a multi-label clip (there may be none), or None: not annotated."""

_FOLDER = resources.files("gtdnet") / "labels"


def list_labels() -> list[str]:
    """Names of the built-in lists."""
    return sorted(
        entry.name.removesuffix(".txt")
        for entry in _FOLDER.iterdir()
        if entry.name.endswith(".txt")
    )


def read_labels(name_or_path: str | Path) -> tuple[str, ...]:
    """The class names of a built-in list or of a text file, one a line, in index order.

    "something-v2" is in the order of the labels file of Something-Something V2 (sorted), which V1
    has too where it was prepared with TSM's tools; "something-v1" has the same names in the order
    of V1's own labels file.

    Raises:
        ValueError: no such list or file, or one with an empty line or a name twice.
    """
    if str(name_or_path) in list_labels():
        text = (_FOLDER / f"{name_or_path}.txt").read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(
                f"{path}: no such file of class names, nor a built-in list; "
                f"the lists are {', '.join(list_labels())}"
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: is not UTF-8 text; class names are read from text, one a line"
            ) from error
    names = [line.strip() for line in text.rstrip().split("\n")]
    lines: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"{name_or_path}: line {number} is empty; write one class name a line")
        if name in lines:
            raise InputError(
                f"{name_or_path}: lines {lines[name]} and {number} both say {name!r}; "
                f"class names must differ"
            )
        lines[name] = number
    return tuple(names)


def columns_of_json(value: Any) -> dict[str, str]:
    """What a JSON file of ours holds of a table's further columns: texts by name.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"{value!r:.80}")
    return value


def label_of_json(value: Any, num_classes: int) -> Label:
    """The label that a JSON file of ours holds: null, a number, or numbers in ascending order.

    Raises:
        ValueError: it is none.
    """
    classes = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(k) is int and 0 <= k < num_classes for k in classes):
        raise ValueError(f"{value!r:.80}")
    if classes != sorted({*classes}):
        raise ValueError(f"{value!r:.80}")
    return tuple(classes) if isinstance(value, list) else classes[0] if classes else None
