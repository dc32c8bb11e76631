"""score_batches: fixed batches, failures beside them, nothing replaced."""

from __future__ import annotations

import numpy as np
import pytest

from gtdnet.data.formats import VideoRecord
from gtdnet.errors import InputError
from gtdnet.infer.scoring import score_batches


@pytest.fixture
def records(write_video, tmp_path):
    colours = ["red", "broken", "green", "blue", "blue"]
    paths = []
    for i, colour in enumerate(colours):
        path = tmp_path / f"{i}.mp4"
        if colour == "broken":
            path.write_bytes(b"this is no video")
        else:
            write_video(path, [colour] * 5)
        paths.append(path)
    return [VideoRecord(path.stem, str(path), None) for path in paths]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_record_once(by_colour, records, num_workers):
    batches = list(score_batches(by_colour, records, batch_size=2, num_workers=num_workers))
    assert [b.indices.tolist() for b in batches] == [[0], [2, 3], [4]]
    assert [len(b) for b in batches] == [2, 2, 1]
    failures = [f for b in batches for f in b.failures]
    assert [(f.index, f.path) for f in failures] == [(1, records[1].path)]
    assert "not a readable video" in failures[0].reason
    predicted = np.concatenate([b.scores.argmax(1) for b in batches])
    assert predicted.tolist() == [0, 1, 2, 2]


def test_a_batch_that_fails_wholly(by_colour, records):
    (batch,) = score_batches(by_colour, records[1:2], num_workers=0)
    assert batch.indices.shape == (0,)
    assert batch.scores.shape == (0, 3)
    assert len(batch.failures) == 1


def test_batch_size_counts_views(by_colour, records):
    batches = list(score_batches(by_colour, records, clips=2, crops=1, batch_size=4, num_workers=0))
    assert [len(b) for b in batches] == [2, 2, 1]
    batches = list(score_batches(by_colour, records, clips=2, crops=3, batch_size=4, num_workers=0))
    assert [len(b) for b in batches] == [1, 1, 1, 1, 1]


def test_first_batch(by_colour, records):
    everything = list(score_batches(by_colour, records, batch_size=2, num_workers=0))
    rest = list(score_batches(by_colour, records, batch_size=2, num_workers=0, first_batch=1))
    assert [b.indices.tolist() for b in rest] == [[2, 3], [4]]
    for one, other in zip(everything[1:], rest, strict=True):
        assert np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"crops": 5}, "crops must be 1 or 3, got 5"),
    ],
)
def test_bad_arguments(by_colour, records, arguments, message):
    with pytest.raises(InputError, match=message):
        next(score_batches(by_colour, records, **arguments))
