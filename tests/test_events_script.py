"""benchmarks/events.py: what counts as right, as wrong and as a false alarm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gtdnet.calibrate.streams import Moments
from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.formats import VideoRecord
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError


@pytest.fixture(scope="module")
def events(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("events")


def test_what_counts(events: ModuleType) -> None:
    truths = [events.Truth(10, 12, 0), events.Truth(30, 32, 1), events.Truth(50, 52, 0)]
    found = [
        events.Found(10.5, 11, 12, 0),  # right
        events.Found(12.5, 13, 14, 0),  # again: neither right nor wrong
        events.Found(20, 21, 22, 0),  # nothing happens
        events.Found(31, 34, 35, 0),  # another class
        events.Found(53, 54.1, 55, 0),  # too late
    ]
    assert events.compare(found, truths) == {"delays": [1], "wrong": 1, "alarms": 2}


def test_a_stream_of_two_motions(events: ModuleType) -> None:
    # A moment a second for an hour: nod for 4 s, a false nod, wave for 4 s that is taken for nod.
    p = np.full(3600, 0.5)
    p[100:104] = p[500:503] = p[1000:1004] = 0.9
    stream = Moments(np.arange(3600.0), np.stack([p, 1 - p], axis=1), 3600.0)
    truths = [events.Truth(100, 104, 0), events.Truth(1000, 1004, 1)]
    rules = EventRules(smoothing=0, release=1, shortest=1)
    spec = ClipSpec(("nod", "wave"), calibration=Calibration(background=0.8, rules=rules))
    found = events.measure([(stream, truths)], spec)
    assert found == {
        "events": 3, "right": 1, "wrong_class": 1, "false_alarms": 1,
        "precision": 0.3333, "recall": 0.5,
        "false_alarms_per_hour": 1.0, "median_delay_seconds": 1.0,
    }  # fmt: skip


def test_probabilities_of_one_view_at_another_temperature(events: ModuleType) -> None:
    logits = np.array([[2.0, 0.0, -1.0]])

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    found = events.cooler(Moments(np.zeros(1), softmax(logits), 1.0), 2.5)
    assert found.scores == pytest.approx(softmax(logits / 2.5))


def test_the_groups_of_a_table_are_dealt_out(events: ModuleType, tmp_path: Path) -> None:
    """Half to train, a quarter each to calibrate and to measure; a group is in one part."""
    table = tmp_path / "clips.csv"
    lines = [f"{g}/{i}.mp4,run,{g}" for g in "abcdefgh" for i in range(3)]
    table.write_text("\n".join(["path,label,source", *lines]))
    events.deal(table, "source", tmp_path / "data")
    parts = []
    for split in ("train", "val", "test"):
        rows = (tmp_path / "data" / f"{split}.csv").read_text().split()[1:]
        assert all(Path(row.split(",")[0]).is_relative_to(tmp_path) for row in rows)
        parts.append({Path(row.split(",")[0]).parent.name for row in rows})
        assert len(rows) == 3 * len(parts[-1])
    assert [len(part) for part in parts] == [4, 2, 2]
    assert set.union(*parts) == set("abcdefgh")
    with pytest.raises(InputError, match="no column person; see --group"):
        events.deal(table, "person", tmp_path / "data")


def test_what_lies_between_is_played_forth_and_back(
    events: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [np.full((2, 2, 3), n, np.uint8) for n in range(4)]
    monkeypatch.setattr(events, "frames_of", lambda record: frames)
    idle = events.forth_and_back([VideoRecord("a", "a.mp4", 0)])
    shown = [int(f[0, 0, 0]) for f in idle(frames[0], 0.4, np.random.default_rng(0))]
    assert shown == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]


def test_a_table_needs_a_class_for_what_lies_between(
    events: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert events.main(["--work", str(tmp_path), "--clips", str(tmp_path / "clips.csv")]) == 2
    assert "--clips needs --nothing" in capsys.readouterr().err
