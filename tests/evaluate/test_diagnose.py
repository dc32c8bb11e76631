"""The diagnosis: verdicts on clips made up for them, and one of real clips from end to end."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gtdnet.data.formats import read_annotations
from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate, evaluate_model, evaluate_orders
from gtdnet.evaluate.diagnose import describe, diagnose
from gtdnet.evaluate.protocol import FRAME_ORDERS
from gtdnet.evaluate.results import Evaluation
from gtdnet.evaluate.run import PARTIAL_FILE
from gtdnet.infer import Recognizer

NAMES = ("left", "right", "wave", "rest")
L, R, W, Z = range(4)


def found(clips: Sequence[tuple[int, int, str, str, str, str]]) -> dict[str, Any]:
    """The diagnosis of (label, how many) with the answers in each order of frames.

    An answer is a class's letter (lrwz); several are given in turn.
    """
    labels = np.concatenate([np.full(count, label) for label, count, *_ in clips])
    one_hot = np.eye(4, dtype=np.float32)
    evaluations = {}
    for column, order in enumerate(FRAME_ORDERS):
        answers = [
            "lrwz".index(given[column][i % len(given[column])])
            for _, count, *given in clips
            for i in range(count)
        ]
        ids = tuple(map(str, range(len(labels))))
        evaluations[order] = Evaluation(NAMES, ids, one_hot[answers], labels, ())
    return diagnose(evaluations)


def by_name(diagnosis: dict[str, Any], key: str) -> dict[str, Any]:
    return {row["name"]: row[key] for row in diagnosis["per_class"]}


CLEAR = [  # label, clips, in order, shuffled, reversed, repeated
    (L, 20, "l", "lr", "r", "rz"),
    (R, 20, "r", "rl", "l", "rz"),
    (W, 20, "w", "w", "w", "rz"),
    (Z, 20, "z", "z", "z", "z"),
]


def test_a_clear_case():
    diagnosis = found(CLEAR)
    assert diagnosis["top1"] == {
        "in-order": 1.0, "shuffled": 0.75, "reversed": 0.5, "repeated": 0.375,
    }  # fmt: skip
    assert diagnosis["chance"] == 0.25
    assert by_name(diagnosis, "needs_order") == {
        "left": True, "right": True, "wave": False, "rest": False,
    }  # fmt: skip
    assert by_name(diagnosis, "shuffled") == {"left": 0.5, "right": 0.5, "wave": 1, "rest": 1}
    assert by_name(diagnosis, "reversed_into") == {
        "left": "right", "right": "left", "wave": "wave", "rest": "rest",
    }  # fmt: skip
    assert by_name(diagnosis, "reversed_becomes_another") == {
        "left": True, "right": True, "wave": False, "rest": False,
    }  # fmt: skip
    assert diagnosis["verdict"] == (
        '2 of 4 classes need the order of frames; these do not: "wave", "rest".'
    )
    assert diagnosis["notes"][1] == (
        'Played backwards, 2 of 4 classes are taken for another and 2 for what they are; "left" '
        'becomes "right" (20 of 20 clips), "right" becomes "left" (20 of 20 clips).'
    )


def test_one_answer_to_everything_is_no_recognition():
    """One frame: all are taken for "rest", whose clips are then all "right"."""
    diagnosis = found([(label, 20, letter, "lrwz", letter, "z")
                       for label, letter in enumerate("lrwz")])  # fmt: skip
    assert by_name(diagnosis, "repeated")["rest"] == 1.0
    assert by_name(diagnosis, "one_frame_enough") == dict.fromkeys(NAMES, False)
    assert diagnosis["notes"][0] == "One frame is enough for 0 of 4 classes."
    assert diagnosis["verdict"] == "4 of 4 classes need the order of frames."


def test_guesses_scattered_evenly_leave_a_class_its_verdict():
    """Shuffled, three classes are guessed; the fourth keeps its clips and gets a few of theirs."""
    scattered = [(label, 40, letter, "lrwzlrwzlr", letter, letter)
                 for label, letter in enumerate("lrw")]  # fmt: skip
    diagnosis = found([*scattered, (Z, 40, "z", "z", "z", "z")])
    assert by_name(diagnosis, "needs_order") == {
        "left": True, "right": True, "wave": True, "rest": None,
    }  # fmt: skip
    even = [(label, 400, letter, "lllllllrwz" if label == L else "rrrrrrrlwz", letter, letter)
            for label, letter in enumerate("lr")]  # fmt: skip
    assert by_name(found([*even, (Z, 400, "z", "z", "z", "z")]), "needs_order")["rest"] is False


@pytest.mark.parametrize(
    ("clips", "needs"),
    [(2, (None, None)), (6, (None, None)), (8, (True, False)), (20, (True, False))],
)
def test_few_clips_cannot_tell(clips, needs):
    diagnosis = found(
        [
            (L, clips, "l", "r", "l", "l"),
            (R, 40, "r", "r", "r", "r"),
            (W, clips, "w", "w", "w", "w"),
            (Z, 40, "z", "z", "z", "z"),
        ]
    )
    answers = by_name(diagnosis, "needs_order")
    assert answers["left"] is needs[0]
    assert answers["wave"] is needs[1]
    assert answers["rest"] is False
    if needs[0] is None:
        assert by_name(diagnosis, "needs_order_unclear")["left"] == "too few clips"
        assert 'it cannot be told of "left" (too few clips)' in diagnosis["verdict"]


def test_classes_without_clips_and_without_recognition():
    diagnosis = found([(L, 20, "l", "l", "l", "l"), (R, 20, "lz", "lz", "lz", "lz")])
    assert by_name(diagnosis, "needs_order") == dict.fromkeys(NAMES)
    assert by_name(diagnosis, "needs_order_unclear") == {
        "left": "too few clips",
        "right": "hardly recognised with the frames in order",
        "wave": "no clips",
        "rest": "no clips",
    }
    assert diagnosis["verdict"].startswith("0 of 2 classes need the order of frames; it cannot")
    assert by_name(diagnosis, "in_order")["wave"] is None


def test_a_model_that_guesses_says_nothing():
    diagnosis = found([(label, 20, "lrwz", "lrwz", "lrwz", "l") for label in range(4)])
    assert by_name(diagnosis, "needs_order") == dict.fromkeys(NAMES)
    assert by_name(diagnosis, "one_frame_enough") == dict.fromkeys(NAMES)
    assert diagnosis["verdict"] == (
        "It cannot be told what the classes need: with the frames in order the model is right on "
        "25.0 % of the clips, not clearly better than chance (25.0 %)."
    )


def test_chance_alone_seldom_makes_a_need():
    """Twenty classes that lose nothing, answered with noise: hardly any is said to need order."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {i} of many" for i in range(20))
    labels = np.repeat(np.arange(20), 40)
    said, spared = 0, 0
    for _ in range(20):
        evaluations = {}
        for order in FRAME_ORDERS:
            answers = np.where(rng.random(800) < 0.8, labels, rng.integers(20, size=800))
            ids = tuple(map(str, range(800)))
            evaluations[order] = Evaluation(
                names, ids, np.eye(20, dtype=np.float32)[answers], labels, ()
            )
        needs = [row["needs_order"] for row in diagnose(evaluations)["per_class"]]
        said += needs.count(True)
        spared += needs.count(False)
    assert said <= 4  # of 400
    assert spared >= 100


def test_describe():
    text = describe(found(CLEAR))
    lines = text.splitlines()
    assert lines[2].split()[:3] == ["shuffled", "75.00", "%"]
    assert lines[5].split() == ["chance", "25.00", "%"]
    assert " ".join(lines[8].split()) == "left 20 100 % 50 % 0 % 0 % yes no"
    assert " ".join(lines[11].split()) == "rest 20 100 % 100 % 100 % 100 % no no"
    assert "2 of 4 classes need the order of frames" in text
    assert max(map(len, lines)) <= 120


class Rising(nn.Module):
    """Logits [N, 3]: rising, falling, or neither, from the brightness of first and last frame."""

    def forward(self, clip: Tensor) -> Tensor:
        level = clip.mean(dim=(2, 3, 4))  # [N, T]
        rise = 10 * (level[:, -1] - level[:, 0])
        return torch.stack([rise, -rise, 0.5 - rise.abs()], dim=1)


def test_real_clips_decoded_once(make_data, tmp_path, monkeypatch):
    """The clips grow brighter from frame to frame."""
    from gtdnet.data import dataset
    from gtdnet.models import ModelFile

    data = make_data(tmp_path / "data", {"up": ["red", "green", "broken"], "down": [], "flat": []})
    annotations = read_annotations(data, "validation")
    spec = ClipSpec(annotations.class_names, num_segments=4, short_side=32, crop_size=32)
    decoded: list[str] = []
    original = dataset.read_views
    monkeypatch.setattr(
        dataset, "read_views", lambda path, *a, **k: decoded.append(path) or original(path, *a, **k)
    )
    order = {"up": 0, "down": 1, "flat": 2}
    rising = Rising()
    assert [order[name] for name in annotations.class_names] == [0, 1, 2]
    model_file = ModelFile(rising, spec)  # type: ignore[arg-type]
    found = evaluate_orders(
        model_file, annotations, FRAME_ORDERS, device="cpu", num_workers=0, batch_size=2, seed=1
    )
    assert len(decoded) == 3
    assert found["in-order"].correct.tolist() == [True, True]
    assert found["reversed"].scores.argmax(1).tolist() == [1, 1]
    assert found["repeated"].scores.argmax(1).tolist() == [2, 2]
    for order_, one in found.items():
        alone = evaluate_model(
            model_file, annotations, frames=order_, device="cpu", num_workers=0, seed=1
        )
        assert one.scores == pytest.approx(alone.scores, abs=1e-6)
        assert (one.ids, one.failures) == (alone.ids, alone.failures)


COLOURED = {"blue": ["blue", "red"], "green": ["green", "broken"], "red": ["green", "red"]}


def options(model: Path, data: Path, **changes: Any) -> EvaluateOptions:
    given = {"device": "cpu", "num_workers": 0, "diagnose": True, "batch_size": 2, **changes}
    return EvaluateOptions(str(model), str(data), **given)


def test_the_files(model_path, make_data, tmp_path):
    data = make_data(tmp_path / "data", COLOURED)
    result = evaluate(options(model_path, data, seed=3))
    folder = Path(result["output"])
    assert folder.name == "eval-validation-4x1x1"
    diagnosis = result.pop("diagnosis")
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(result))
    assert json.loads((folder / "diagnosis.json").read_text()) == json.loads(json.dumps(diagnosis))
    assert diagnosis["seed"] == 3
    with (folder / "diagnosis.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["blue", "green", "red"]
    assert [row["clips"] for row in rows] == ["2", "1", "2"]
    for order, share in diagnosis["top1"].items():
        alone = evaluate(options(model_path, data, diagnose=False, frames=order, seed=3))
        assert alone["top1"] == pytest.approx(share)
    plain = evaluate(options(model_path, data, diagnose=False))
    assert {**plain, "output": ""} == {**result, "output": ""}


def test_an_interrupted_diagnosis_goes_on(model_path, make_data, tmp_path, monkeypatch, capsys):
    data = make_data(tmp_path / "data", COLOURED)
    whole = evaluate(options(model_path, data, output=str(tmp_path / "whole")))
    original = Recognizer.scores
    scored: list[int] = []

    def stops_at_the_second(self: Recognizer, views: Tensor, batch_size: int) -> Tensor:
        scored.append(len(views))
        if len(scored) == 2:
            raise KeyboardInterrupt
        return original(self, views, batch_size)

    monkeypatch.setattr(Recognizer, "scores", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluate(options(model_path, data))
    folder = model_path.parent / "eval-validation-4x1x1"
    assert [path.name for path in folder.iterdir()] == [PARTIAL_FILE]
    # What was scored for a diagnosis is not an evaluation's, nor another seed's.
    for changes in ({"diagnose": False}, {"seed": 1}):
        with pytest.raises(InputError, match=r"scores\.partial\.npz of another evaluation"):
            evaluate(options(model_path, data, output=str(folder), **changes))
    result = evaluate(options(model_path, data))
    assert "going on after 2 clips" in capsys.readouterr().err
    assert scored == [8, 4, 4, 8]  # four orders of 2, 1 (one is broken) and 2 clips
    assert {**result, "output": ""} == {**whole, "output": ""}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": "shuffled"}, "leave out --frames shuffled"),
        ({"split": "test"}, "the test split of .* has no labels"),
        ({"num_segments": 1}, "takes clips of one frame, which have no order"),
    ],
)
def test_what_cannot_be_diagnosed(model_path, make_data, tmp_path, changes, message):
    data = make_data(tmp_path / "data", COLOURED)
    (data / "test.txt").write_text("blue-0.mp4\nred-1.mp4\n")
    with pytest.raises(InputError, match=message):
        evaluate(options(model_path, data, **changes))
    assert not list(model_path.parent.glob("eval-*"))
