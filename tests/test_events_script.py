"""benchmarks/events.py: what counts as right, as wrong and as a false alarm."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from gtdnet.calibrate.streams import Moments
from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec


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
