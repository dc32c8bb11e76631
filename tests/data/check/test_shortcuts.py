"""Classes and splits that can be told apart without a look at the action are named."""

from __future__ import annotations

from typing import Any

import pytest

from gtdnet.data.check import ClipFacts
from gtdnet.data.check.shortcuts import shortcuts
from gtdnet.data.formats import Annotations, VideoRecord

Facts = dict[str, ClipFacts]


def clips(split: str, label: int, number: int, **changes: Any) -> tuple[list[VideoRecord], Facts]:
    """Alike but for what changes; a list has the value of each clip."""
    common = {"num_frames": 30, "height": 240, "width": 320, "fps": 30.0, "codec": "h264"}
    records, facts = [], {}
    for i in range(number):
        path = f"{split}/{label}/{i}.mp4"
        own = {k: v[i % len(v)] if isinstance(v, list) else v for k, v in changes.items()}
        records.append(VideoRecord(path, path, label))
        facts[path] = ClipFacts(path, **{**common, **own})
    return records, facts


def found(*groups: tuple[list[VideoRecord], Facts]) -> dict[str, tuple[str, ...]]:
    facts: Facts = {}
    of: dict[str, list[VideoRecord]] = {}
    for records, more in groups:
        facts |= more
        of.setdefault(records[0].path.partition("/")[0], []).extend(records)
    read = {
        split: Annotations("folder", split, "data", ("jump", "run", "sit"), tuple(records), ())
        for split, records in of.items()
    }
    return {finding.code: finding.examples for finding in shortcuts(read, facts)}


OTHERS = (clips("train", 1, 20), clips("train", 2, 20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 480, "width": 640}, "jump, in size: 10 of 10 are 640x480, 0 of 40 others"),
        ({"fps": 25.0}, "jump, in frame rate: 10 of 10 are 25 frames/s, 0 of 40 others"),
        ({"fps": None}, "jump, in frame rate: 10 of 10 are without a rate, 0 of 40 others"),
        ({"codec": "mpeg4"}, "jump, in codec: 10 of 10 are mpeg4, 0 of 40 others"),
    ],
)
def test_one_class_of_another_kind(change: dict[str, Any], words: str) -> None:
    assert found(clips("train", 0, 10, **change), *OTHERS) == {"shortcut": (words,)}


def test_two_classes_name_each_other() -> None:
    small = clips("train", 0, 10, width=160)
    assert found(small, clips("train", 1, 10)) == {
        "shortcut": (
            "jump, in size: 10 of 10 are 160x240, 0 of 10 others",
            "run, in size: 10 of 10 are 320x240, 0 of 10 others",
        )
    }


def test_what_is_mixed_everywhere_is_no_shortcut() -> None:
    mixed = {"width": [320, 640, 1280], "fps": [25.0, 30.0], "num_frames": [20, 30, 60]}
    assert found(*(clips("train", label, 20, **mixed) for label in range(3))) == {}


@pytest.mark.parametrize("number", [1, 4])
def test_a_few_clips_say_nothing(number: int) -> None:
    assert found(clips("train", 0, number, width=640, num_frames=90), *OTHERS) == {}


def test_lengths() -> None:
    long = clips("train", 0, 10, num_frames=[60, 90, 75])
    short = [clips("train", label, 20, num_frames=[20, 30, 62]) for label in (1, 2)]
    assert found(long, *short) == {}  # a third of the others is as long
    short = [clips("train", label, 20, num_frames=[20, 30, 59]) for label in (1, 2)]
    assert found(long, *short) == {
        "length-tells": ("jump: 60-90 frames (median 75), others 20-59 (median 30)",)
    }


def test_splits_of_different_kinds() -> None:
    assert found(*OTHERS, clips("validation", 1, 10, width=640)) == {
        "splits-differ": (
            "train, in size: 40 of 40 are 320x240, 0 of 10 others",
            "validation, in size: 10 of 10 are 640x240, 0 of 40 others",
        )
    }


def test_clips_that_do_not_decode_do_not_count() -> None:
    broken = clips("train", 0, 10, width=640, error="cut off")
    assert found(broken, *OTHERS) == {}
