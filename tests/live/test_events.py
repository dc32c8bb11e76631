"""Events from probabilities: literal streams, and what holds of any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.live.events import Event, EventDetector

SPEC = ClipSpec(
    class_names=("nod", "wave"),
    calibration=Calibration(
        thresholds=(0.6, 0.8),
        background=0.5,
        rules=EventRules(smoothing=0, release=0.5, shortest=0.2),
    ),
)


def said(
    detector: EventDetector, stream: list[tuple[float, float, float]]
) -> list[tuple[str, int, str, float, float]]:
    """Kind, id, name, start and time of all that a stream of (time, nod, wave) leads to."""
    events = [e for t, *p in stream for e in detector.update(t, p)] + detector.close()
    return [(e.kind, e.id, e.name, e.start, e.time) for e in events]


STREAMS = {
    "nothing": ([(0, 0.5, 0.5), (1, 0.59, 0.41), (2, 0.3, 0.7)], []),
    "begins after it held, ends below half its threshold": (
        [(0, 0.7, 0.3), (0.1, 0.7, 0.3), (0.2, 0.7, 0.3), (0.3, 0.4, 0.6), (0.4, 0.29, 0.71)],
        [("begin", 0, "nod", 0, 0.2), ("end", 0, "nod", 0, 0.4)],
    ),
    "too short": ([(0, 0.7, 0.3), (0.1, 0.7, 0.3), (0.2, 0.5, 0.5), (0.3, 0.7, 0.3)], []),
    "another class takes over at once": (
        [(0, 0.9, 0.1), (1, 0.9, 0.1), (2, 0.1, 0.9), (3, 0.1, 0.9)],
        [
            ("begin", 0, "nod", 0, 1), ("end", 0, "nod", 0, 2), ("begin", 1, "wave", 2, 3),
            ("end", 1, "wave", 2, 3),
        ],
    ),
    "goes on": (
        [(0, 0.9, 0.1), (1, 0.9, 0.1), (1.5, 0.9, 0.1), (2, 0.9, 0.1)],
        [("begin", 0, "nod", 0, 1), ("update", 0, "nod", 0, 2), ("end", 0, "nod", 0, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS)
def test_streams(stream: str) -> None:
    moments, expected = STREAMS[stream]
    assert said(EventDetector(SPEC), moments) == expected


def test_smoothing_is_the_mean_of_the_last_seconds() -> None:
    detector = EventDetector(SPEC, EventRules(smoothing=1, release=0.5, shortest=0))
    for time, p in ((0, 0.2), (0.5, 0.4), (1, 0.6), (1.6, 0.8)):
        detector.update(time, [p, 1 - p])
    assert detector.smoothed == pytest.approx([0.7, 0.3])  # of 1 and 1.6


def test_classes_of_a_multi_label_model_do_not_wait_for_one_another() -> None:
    spec = SPEC.with_options(multi_label=True)
    assert said(EventDetector(spec), [(0, 0.9, 0.9), (1, 0.9, 0.9), (1.5, 0.1, 0.9)]) == [
        ("begin", 0, "nod", 0, 1),
        ("begin", 1, "wave", 0, 1),
        ("end", 0, "nod", 0, 1.5),
        ("end", 1, "wave", 0, 1.5),
    ]


def test_a_class_without_a_threshold_is_never_named() -> None:
    spec = SPEC.with_options(calibration=Calibration(thresholds=(None, 0.5)))
    assert said(EventDetector(spec), [(t, 1.0, 0.0) for t in range(9)]) == []


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_the_class_for_nothing_is_no_event(threshold: float | None) -> None:
    """Nor is another one while it is the most probable."""
    spec = ClipSpec(class_names=("wave", "nothing"))
    rules = EventRules(smoothing=0, release=1, shortest=0)
    detector = EventDetector(spec, rules, threshold=threshold, nothing="nothing")
    moments = [(0.0, 0.0, 1.0), (1.0, 0.4, 0.6), (2.0, 0.9, 0.1), (3.0, 0.1, 0.9)]
    assert said(detector, moments) == [("begin", 0, "wave", 2, 2), ("end", 0, "wave", 2, 3)]


def test_another_class_for_nothing_than_there_is() -> None:
    with pytest.raises(InputError, match="'none' is no class of the model; its classes are 'wave'"):
        EventDetector(ClipSpec(class_names=("wave", "nod")), nothing="none")


def test_a_model_that_was_not_calibrated_has_the_usual_threshold() -> None:
    spec = ClipSpec(class_names=("nod", "wave"))
    rules = EventRules(smoothing=0, release=1, shortest=0)
    assert said(EventDetector(spec, rules), [(0, 0.59, 0.41), (1, 0.6, 0.4)]) == [
        ("begin", 0, "nod", 1, 1),
        ("end", 0, "nod", 1, 1),
    ]


@pytest.mark.parametrize(
    ("calibration", "thresholds"),
    [
        (Calibration(temperature=2), [0.6, 0.6]),
        (Calibration(thresholds=(0.3, 0.7)), [0.6, 0.7]),
        (Calibration(thresholds=(0.3, 0.7), background=0.4), [0.4, 0.7]),
        (Calibration(background=0.4), [0.4, 0.4]),
    ],
)
def test_thresholds_of_clips_promise_nothing_of_a_stream_without_background(
    calibration: Calibration, thresholds: list[float]
) -> None:
    detector = EventDetector(SPEC.with_options(calibration=calibration))
    assert detector.thresholds.tolist() == thresholds


def test_ids_and_time_go_on_after_a_gap() -> None:
    detector = EventDetector(SPEC, EventRules(smoothing=0, release=1, shortest=0))
    assert [e.id for e in detector.update(0, [0.9, 0.1])] == [0]
    assert [(e.kind, e.id) for e in detector.close()] == [("end", 0)]
    assert [e.id for e in detector.update(5, [0.9, 0.1])] == [1]


@pytest.mark.parametrize(
    ("time", "p", "sentence"),
    [
        (0, [1, 0], "time must go on: 0 comes after 0"),
        (1, [1, 0, 0], "a moment needs 2 finite probabilities, got shape [3]"),
        (1, [float("nan"), 0], "a moment needs 2 finite probabilities"),
    ],
)
def test_what_is_no_moment_is_refused(time: float, p: list[float], sentence: str) -> None:
    detector = EventDetector(SPEC)
    detector.update(0, [1, 0])
    with pytest.raises(ValueError) as caught:
        detector.update(time, p)
    assert sentence in str(caught.value)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.floats(0, 3),
    st.floats(0.1, 1),
    st.floats(0, 3),
    st.booleans(),
)
def test_every_event_begins_once_and_ends_once(
    probabilities: list[float], smoothing: float, release: float, shortest: float, multi: bool
) -> None:
    spec = SPEC.with_options(multi_label=multi)
    detector = EventDetector(spec, EventRules(smoothing, release, shortest), every=0.5)
    events: list[Event] = []
    for i, p in enumerate(probabilities):
        events += detector.update(i / 4, [p, 1 - p])
    events += detector.close()
    for id in {e.id for e in events}:
        kinds = [e.kind for e in events if e.id == id]
        assert kinds == ["begin", *["update"] * (len(kinds) - 2), "end"]
    for e in events:
        threshold = float(detector.thresholds[e.label])
        assert e.start <= e.time
        assert e.peak >= threshold - 1e-12
        assert e.kind != "begin" or e.time - e.start >= shortest
        assert e.kind != "begin" or e.probability == e.peak
