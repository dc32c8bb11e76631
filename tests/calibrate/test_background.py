"""The background threshold: literal streams, and what holds of any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.calibrate.background import (
    FalseAlarms,
    background_threshold,
    false_alarms,
    missed_events,
    most_events,
)
from gtdnet.calibrate.streams import Moments
from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec

RULES = EventRules(smoothing=0, release=1, shortest=1)
SPEC = ClipSpec(class_names=("nod", "wave"), calibration=Calibration(rules=RULES))


def stream(nod: list[float]) -> Moments:
    """A moment a second, of the probability of the first class."""
    p = np.array(nod)
    return Moments(np.arange(len(p), dtype=float), np.stack([p, 1 - p], axis=1), float(len(p)))


def at(background: float) -> ClipSpec:
    return replace(SPEC, calibration=Calibration(background=background, rules=RULES))


# Twice a second and more above 0.9, once above 0.8: 9 seconds.
QUIET = stream([0.5, 0.95, 0.95, 0.5, 0.92, 0.92, 0.5, 0.85, 0.85])


def test_false_alarms_an_hour() -> None:
    found = false_alarms([QUIET, stream([0.5])], at(0.9))
    assert found[:3] == (2, 10 / 3600, 720.0)
    assert found.high == pytest.approx(most_events(2) * 360)
    assert isinstance(found, FalseAlarms)


@pytest.mark.parametrize(
    ("per_hour", "threshold"),
    [(0, 0.950001), (400, 0.920001), (800, 0.850001), (1200, 0.000001)],
)
def test_the_smallest_threshold_with_so_few_of_them(per_hour: float, threshold: float) -> None:
    assert background_threshold([QUIET], SPEC, per_hour) == threshold


def test_a_model_that_is_always_certain_has_none() -> None:
    assert background_threshold([stream([1.0] * 5)], SPEC, 1) is None


def test_classes_that_are_never_named_make_no_alarms() -> None:
    calibration = Calibration(thresholds=(None, None), rules=RULES)
    spec = replace(SPEC, calibration=calibration)
    assert background_threshold([stream([1.0] * 5)], spec, 1) == 0.000001


def test_missed_events() -> None:
    clips = [(stream([0.9, 0.9, 0.9]), (0,)), (stream([0.9, 0.9]), (1,)), (stream([0.5]), (0,))]
    assert missed_events(clips, at(0.8)) == (3, 2, 1)
    assert missed_events(clips, at(0.95)) == (3, 3, 0)


def test_no_event_may_be_three() -> None:
    assert most_events(0) == pytest.approx(2.9957, abs=1e-3)  # -ln 0.05
    assert most_events(1) == pytest.approx(4.7439, abs=1e-3)
    assert most_events(10) == pytest.approx(16.962, abs=1e-2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0, 60, 300, 900]))
def test_what_it_promises_holds_and_a_step_less_does_not(seed: int, per_hour: float) -> None:
    rng = np.random.default_rng(seed)
    streams = [stream(rng.random(40).tolist()) for _ in range(2)]
    found = background_threshold(streams, SPEC, per_hour)
    assert found is not None
    assert false_alarms(streams, at(found)).per_hour <= per_hour
    if found > 0.000001:
        assert false_alarms(streams, at(found - 0.000001)).per_hour > per_hour
