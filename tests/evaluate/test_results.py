"""An evaluation's files: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gtdnet.errors import InputError
from gtdnet.evaluate.results import Evaluation, FailedClip, read_results, write_results
from gtdnet.evaluate.statistics import wilson_interval

NAMES = tuple("abcdefg")
RESULT = {
    "top1": 0.5, "num_evaluated": 8, "protocol": {"views": "8x1x1"}, "model": {"name": "m"},
    "data": {"path": "d"}, "versions": {"gtdnet": "0"}, "output": "somewhere",
}  # fmt: skip


@pytest.fixture
def evaluation() -> Evaluation:
    """Eight clips of seven classes: four are right, six among the best five; one has no label."""
    labels = np.array([0, 0, 0, 1, 2, 3, 4, -1])
    scores = np.full((8, 7), 0.05, np.float32)
    scores[np.arange(8), [0, 0, 1, 1, 2, 4, 5, 6]] = 0.7
    failures = (FailedClip("x", 1, "x.mp4", "broken"), FailedClip("y", -1, "y.mp4", "missing"))
    return Evaluation(NAMES, tuple(f"clip-{i}" for i in range(8)), scores, labels, failures)


def same(one: Evaluation, other: Evaluation) -> bool:
    return (
        (one.class_names, one.ids, one.failures) == (other.class_names, other.ids, other.failures)
        and np.array_equal(one.scores, other.scores)
        and np.array_equal(one.labels, other.labels)
    )


def test_intervals(evaluation):
    found = evaluation.intervals
    assert evaluation.metrics["top1"] == pytest.approx(4 / 7)
    assert found["top1_interval"] == pytest.approx(wilson_interval(4, 7))
    assert evaluation.metrics["top5"] == pytest.approx(6 / 7)
    assert found["top5_interval"] == pytest.approx(wilson_interval(6, 7))
    assert found["mean_class_accuracy_interval"] is None  # too few clips of each class
    many = replace(
        evaluation,
        ids=tuple(map(str, range(80))),
        scores=np.tile(evaluation.scores, (10, 1)),
        labels=np.tile(evaluation.labels, 10),
    )
    low, high = many.intervals["mean_class_accuracy_interval"] or (1, 0)
    assert low < (2 / 3 + 1 + 1 + 0 + 0) / 5 < high
    assert many.intervals == many.intervals


def test_intervals_where_there_is_nothing_to_say(evaluation):
    none = replace(evaluation, labels=np.full(8, -1))
    assert set(none.intervals.values()) == {None}
    right = replace(evaluation, labels=evaluation.scores.argmax(1))
    assert right.intervals["mean_class_accuracy_interval"] is None  # not (1, 1)
    assert right.intervals["top1_interval"] == pytest.approx(wilson_interval(8, 8))


def test_interval_of_the_mean_class_accuracy_covers():
    """Classes of very different sizes and accuracies: the interval holds the truth as promised."""
    rng = np.random.default_rng(0)
    sizes, shares = np.array([80, 40, 20]), np.array([0.9, 0.6, 0.3])
    labels = np.repeat(np.arange(3), sizes)
    inside = []
    for _ in range(40):
        answers = np.where(rng.random(140) < shares[labels], labels, (labels + 1) % 3)
        e = Evaluation(
            tuple("abc"),
            tuple(map(str, range(140))),
            np.eye(3, dtype=np.float32)[answers],
            labels,
            (),
        )
        low, high = e.intervals["mean_class_accuracy_interval"] or (1, 0)
        inside.append(low <= shares.mean() <= high)
    assert np.mean(inside) > 0.85


def test_what_is_written_is_read(evaluation, tmp_path):
    write_results(tmp_path / "a", evaluation, RESULT)
    found = read_results(tmp_path / "a")
    assert same(found, evaluation)
    assert (found.path, found.result) == (tmp_path / "a", RESULT)
    assert found.correct.tolist() == [True, True, False, True, True, False, False, False]


def test_scores_alone_say_what_they_are_of(evaluation, tmp_path):
    write_results(tmp_path / "a", evaluation, RESULT)
    found = read_results((tmp_path / "a" / "scores.npz").rename(tmp_path / "mine.npz"))
    assert same(found, evaluation)
    assert found.result["top1"] == pytest.approx(4 / 7)
    assert found.result["protocol"] == {"views": "8x1x1"}
    assert "output" not in found.result


def test_an_evaluation_that_is_not_finished(evaluation, tmp_path):
    write_results(tmp_path, evaluation, RESULT)
    (tmp_path / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"holds no metrics\.json, which gtdnet evaluate writes l"):
        read_results(tmp_path)


def test_a_diagnosis_does_not_outlive_its_evaluation(evaluation, tmp_path):
    diagnosis = {"per_class": [{"name": "a", "needs_order": None}, {"name": "b, c", "needs": True}]}
    write_results(tmp_path, evaluation, RESULT, diagnosis)
    assert json.loads((tmp_path / "diagnosis.json").read_text()) == diagnosis
    assert (tmp_path / "diagnosis.csv").read_text() == 'name,needs_order\na,\n"b, c",True\n'
    write_results(tmp_path, evaluation, RESULT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion.csv", "failures.csv", "metrics.json", "per_class.csv", "scores.npz",
    ]  # fmt: skip


def damaged(folder: Path, **changes: object) -> None:
    with np.load(folder / "scores.npz") as file:
        held = {key: file[key] for key in file.files}
    held |= {key: np.array(value) for key, value in changes.items()}
    np.savez(folder / "scores.npz", **{k: v for k, v in held.items() if v.ndim or v != "gone"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": "gone"}, r"scores\.npz: it has no 'about'"),
        ({"about": "{"}, r"scores\.npz: cannot be read \(it is damaged"),
        ({"about": "{}"}, r"scores\.npz: cannot be read \(it is damaged"),
        ({"fingerprint": "0"}, "do not fit together"),
        ({"labels": [0] * 7}, "do not fit together"),
        ({"labels": [7] * 8}, "do not fit together"),
        ({"ids": ["a"] * 8}, "do not fit together"),
        ({"scores": np.full((8, 7), np.nan)}, "do not fit together"),
    ],
)
def test_damaged_scores(evaluation, tmp_path, changes, message):
    write_results(tmp_path, evaluation, RESULT)
    damaged(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("scores.npz", b"", r"scores\.npz: cannot be read"),
        ("scores.npz", b"no numbers", r"scores\.npz: cannot be read"),
        ("scores.npz", b"PK\x03\x04 broken", r"scores\.npz: cannot be read"),
        ("scores.npz", None, r"scores\.npz: cannot be read \(No such file"),
        ("metrics.json", b"{", r"metrics\.json: cannot be read"),
        ("metrics.json", b"[]", r"metrics\.json: cannot be read"),
        (
            "metrics.json",
            b'{"num_evaluated": 9}',
            r"metrics\.json is of 9 clips and scores.npz of 8",
        ),
    ],
)
def test_damaged_files(evaluation, tmp_path, file, content, message):
    write_results(tmp_path, evaluation, RESULT)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_results(tmp_path)
    assert "\n" not in str(error.value)


def test_plain_arrays_and_pickles_are_none(tmp_path):
    np.save(tmp_path / "plain.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="cannot be read"):
            read_results(path)
    with pytest.raises(InputError, match="nowhere: no such folder or file"):
        read_results("nowhere")
