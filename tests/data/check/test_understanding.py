"""`gtdnet check` says first what it takes a dataset for, and from which files it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtdnet.data.check import format_understanding, understand
from gtdnet.data.synthetic import write_dataset


@pytest.mark.parametrize(
    ("format", "reason", "files"),
    [
        ("folder", "it has a folder per class with videos", ()),
        ("list", "it has train.txt", ("train.txt", "classes.txt", "val.txt")),
        ("kinetics", "it has train.csv with youtube_id", ("train.csv", "val.csv")),
        (
            "something-v2",
            "it has labels.json",
            ("labels/labels.json", "labels/train.json", "labels/validation.json"),
        ),
    ],
)
def test_every_format_says_why_and_from_what(
    tmp_path: Path, format: str, reason: str, files: tuple[str, ...]
) -> None:
    write_dataset(
        tmp_path / "d", format=format, edition="easy", train=12, validation=12, size=36, workers=1
    )
    understood = understand(tmp_path / "d")
    assert (understood.format, understood.reason) == (format, reason)
    found = {str(Path(path).relative_to(tmp_path / "d")) for path in understood.annotations}
    assert found == set(files)
    text = format_understanding(understood)
    assert f"  format       {format}: {reason}\n" in text
    assert all(name in text for name in files or ("the names of folders",))
    assert "  splits       train 12 clips, validation 12 clips\n  classes      12\n" in text
    assert understand(tmp_path / "d", format).reason == "--format says so"
