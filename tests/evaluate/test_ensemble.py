"""Ensembles: means worked out by hand, and everything that must not be joined."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate
from gtdnet.evaluate.ensemble import EnsembleOptions, describe, ensemble
from gtdnet.evaluate.protocol import protocol_line
from gtdnet.evaluate.results import Evaluation, FailedClip, read_results, write_results
from gtdnet.models import create_model, save_model

NAMES = ("a", "b", "c")
IDS = ("one", "two", "three", "four")
LABELS = (0, 1, 2, -1)
FIRST = [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]]
SECOND = [[0.1, 0.5, 0.4], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.4, 0.2, 0.4]]


def member(
    folder: Path,
    scores: Any,
    *,
    names: tuple[str, ...] = NAMES,
    ids: tuple[str, ...] = IDS,
    labels: tuple[int, ...] = LABELS,
    failures: tuple[FailedClip, ...] = (),
    **protocol: str,
) -> str:
    evaluation = Evaluation(names, ids, np.array(scores, np.float32), np.array(labels), failures)
    result = {
        **evaluation.metrics,
        "protocol": {"views": "8x3x2", "split": "validation", "frames": "in-order", **protocol},
        "model": {"path": "m", "name": "net", "sha256": "0"},
        "data": {"path": "d"},
    }
    write_results(folder, evaluation, result)
    return str(folder)


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return [
        member(tmp_path / "a", FIRST),
        member(tmp_path / "b", SECOND, views="16x3x2"),
    ]


def scores_of(result: dict[str, Any]) -> np.ndarray:
    return read_results(result["output"]).scores


def test_mean_of_probabilities(pair, tmp_path):
    result = ensemble(EnsembleOptions(pair))
    assert scores_of(result).dtype == np.float32
    assert scores_of(result) == pytest.approx(
        np.array([[0.35, 0.4, 0.25], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25]])
    )
    assert (result["top1"], result["num_evaluated"], result["num_failed"]) == (
        pytest.approx(2 / 3), 4, 0,
    )  # fmt: skip
    assert [m["top1"] for m in result["members"]] == pytest.approx([2 / 3, 2 / 3])
    # Right alone on "two", wrong alone on "one", against the first of two equally good members.
    assert result["against_best"] == {
        "path": pair[0], "ensemble_only": 1, "member_only": 1, "p_value": 1.0,
    }  # fmt: skip


def test_weights(pair, tmp_path):
    result = ensemble(EnsembleOptions(pair, weights=[3, 1]))
    assert scores_of(result)[0] == pytest.approx([0.475, 0.35, 0.175])
    assert "weighted 3:1" in protocol_line(result)


def test_the_files_are_an_evaluations(pair, tmp_path):
    result = ensemble(EnsembleOptions(pair))
    folder = tmp_path / "ensemble-validation-8+16x3x2"
    assert result["output"] == str(folder)
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(result))
    protocol = result["protocol"]
    assert protocol["views"] == "(8+16)x3x2"
    assert [m["path"] for m in protocol["members"]] == pair
    assert [m["protocol"]["views"] for m in protocol["members"]] == ["8x3x2", "16x3x2"]
    assert protocol_line(result) == (
        "(8+16)x3x2 (frames x crops x clips), mean of 2 evaluations: "
        "4 clips of validation, 0 failed"
    )
    with (folder / "per_class.csv").open(newline="") as file:
        assert [row["correct"] for row in csv.DictReader(file)] == ["0", "1", "1"]
    assert (folder / "confusion.csv").exists()
    # A further ensemble takes it as one member.
    third = member(tmp_path / "c", np.eye(3)[[0, 0, 0, 0]])
    nested = ensemble(EnsembleOptions([str(folder), third]))
    assert scores_of(nested)[0] == pytest.approx([0.675, 0.2, 0.125])
    assert nested["protocol"]["views"] == "((8+16)+8)x3x2"
    assert nested["output"] == str(tmp_path / "ensemble-validation-8+16+8x3x2")


def test_scores_alone_can_be_members(pair, tmp_path):
    files = [str(Path(folder) / "scores.npz") for folder in pair]
    result = ensemble(EnsembleOptions(files, output=str(tmp_path / "out")))
    assert scores_of(result) == pytest.approx(scores_of(ensemble(EnsembleOptions(pair))))
    assert result["protocol"]["views"] == "(8+16)x3x2"


def test_other_crops_or_clips_are_spelled_out(pair, tmp_path):
    third = member(tmp_path / "c", SECOND, views="8x1x1")
    result = ensemble(EnsembleOptions([pair[0], third]))
    assert result["protocol"]["views"] == "8x3x2 + 8x1x1"


def test_clips_are_joined_by_id_and_classes_by_name(pair, tmp_path, capsys):
    rows, columns = [2, 0, 3, 1], [1, 2, 0]
    mixed = member(
        tmp_path / "c",
        np.array(SECOND)[rows][:, columns],
        names=("b", "c", "a"),
        ids=tuple(IDS[i] for i in rows),
        labels=(1, 2, -1, 0),
        views="16x3x2",
    )
    found = ensemble(EnsembleOptions([pair[0], mixed]))
    assert "classes in another order; they are matched by name" in capsys.readouterr().err
    expected = ensemble(EnsembleOptions(pair))
    assert scores_of(found) == pytest.approx(scores_of(expected))
    assert found["top1"] == expected["top1"]
    joined = read_results(found["output"])
    assert (joined.ids, joined.class_names) == (IDS, NAMES)
    assert joined.labels.tolist() == list(LABELS)


def test_names_that_unicode_spells_in_two_ways_are_the_same(tmp_path):
    spelled = [("\xe9t\xe9", "b", "c"), ("c", "e\u0301te\u0301", "b")]
    first = member(tmp_path / "first", FIRST, names=spelled[0])
    moved = [[row[2], row[0], row[1]] for row in SECOND]
    second = member(tmp_path / "second", moved, names=spelled[1], labels=(1, 2, 0, -1))
    result = ensemble(EnsembleOptions([first, second], output=str(tmp_path / "joined")))
    np.testing.assert_allclose(scores_of(result), (np.array(FIRST) + SECOND) / 2, rtol=1e-6)
    assert read_results(result["output"]).class_names == spelled[0]


def broken(clip: str, label: int) -> FailedClip:
    return FailedClip(clip, label, f"{clip}.mp4", "broken")


def test_clips_that_failed_everywhere_stay_failed(tmp_path):
    failures = (broken("one", 0),)
    folders = [
        member(tmp_path / name, scores[1:], ids=IDS[1:], labels=LABELS[1:], failures=failures)
        for name, scores in (("a", FIRST), ("b", SECOND))
    ]
    result = ensemble(EnsembleOptions(folders))
    assert (result["num_evaluated"], result["num_failed"]) == (3, 1)
    assert result["top1"] == 1.0
    assert result["top1_counting_failures_as_errors"] == pytest.approx(2 / 3)
    assert read_results(result["output"]).failures == failures


def test_other_clips_are_refused_unless_common(pair, tmp_path, capsys):
    partly = member(
        tmp_path / "c",
        [*SECOND[2:], SECOND[0]],
        ids=("three", "four", "five"),
        labels=(2, -1, 0),
        failures=(broken("one", 0),),
    )
    with pytest.raises(InputError) as error:
        ensemble(EnsembleOptions([pair[0], partly]))
    assert str(error.value) == (
        f"the members are not of the same 5 clips: {pair[0]} lacks 1 (five; 0 could not be read), "
        f"{partly} lacks 2 (one, two; 1 could not be read); evaluate on the same clips, or take "
        f"the 2 that all have with --common"
    )
    result = ensemble(EnsembleOptions([pair[0], partly], common=True))
    assert "3 of 5 clips that not all members scored are left out" in capsys.readouterr().err
    assert (result["num_evaluated"], result["num_failed"]) == (2, 3)
    assert result["top1_counting_failures_as_errors"] == pytest.approx(1 / 4)
    found = read_results(result["output"])
    assert found.ids == ("three", "four")
    assert {(f.id, f.label, f.reason) for f in found.failures} == {
        ("one", 0, "broken"),
        ("two", 1, "not scored by all members"),
        ("five", 0, "not scored by all members"),
    }


def test_nothing_in_common(pair, tmp_path):
    other = member(tmp_path / "c", SECOND, ids=("five", "six", "seven", "eight"))
    for common in (False, True):
        with pytest.raises(InputError, match="have no clip in common"):
            ensemble(EnsembleOptions([pair[0], other], common=common))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "b", "d")}, r"2 names differ, such as 'c' \(only in .*a\), 'd' \(only in"),
        ({"labels": (1, 1, 2, -1)}, "the classes of 1 of 4 clips, such as one: 'a' and 'b'"),
        ({"split": "test"}, "of the split 'validation' and .* of 'test'"),
        ({"frames": "shuffled"}, "frames in the order 'in-order' and .* of 'shuffled'"),
    ],
)
def test_members_that_do_not_fit(pair, tmp_path, changes, message):
    other = member(tmp_path / "c", SECOND, **changes)
    with pytest.raises(InputError, match=message) as error:
        ensemble(EnsembleOptions([pair[0], other]))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("ensemble*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0]}, "1 weights were given for 2 members"),
        ({"weights": [1.0, 0.0]}, "weights must be positive numbers, got 0"),
        ({"weights": [1.0, float("nan")]}, "weights must be positive numbers, got nan"),
        ({"members": ["a"]}, "at least two evaluations, got 1"),
    ],
)
def test_bad_options(pair, changes, message):
    with pytest.raises(InputError, match=message):
        ensemble(EnsembleOptions(**{"members": pair, **changes}))


def test_the_same_member_twice(pair):
    with pytest.raises(InputError, match="is given twice; give it once and use --weights"):
        ensemble(EnsembleOptions([*pair, f"{pair[0]}/../a"]))


def test_nothing_is_overwritten_silently(pair, tmp_path):
    first = ensemble(EnsembleOptions(pair))
    assert ensemble(EnsembleOptions(pair))["output"] == first["output"] + "-2"
    with pytest.raises(InputError, match=r"holds metrics\.json of another evaluation"):
        ensemble(EnsembleOptions(pair, output=first["output"]))
    again = ensemble(EnsembleOptions(pair, output=first["output"], overwrite=True))
    assert again["output"] == first["output"]


def test_labels_that_one_member_knows(tmp_path):
    blind = member(tmp_path / "a", FIRST, labels=(-1,) * 4)
    knows = member(tmp_path / "b", SECOND)
    result = ensemble(EnsembleOptions([blind, knows]))
    assert result["top1"] == pytest.approx(2 / 3)
    other = member(tmp_path / "c", SECOND, labels=(-1,) * 4)
    result = ensemble(EnsembleOptions([blind, other]))
    assert result["top1"] is result["against_best"] is None
    assert "the clips have no labels" in describe(result)


def test_describe(pair):
    lines = describe(ensemble(EnsembleOptions(pair, weights=[1, 2.5]))).splitlines()
    assert " ".join(lines[0].split()) == "top-1 top-5 mean class accuracy weight evaluation"
    assert lines[1].split() == ["8x3x2", "66.67", "%", "-", "66.67", "%", "1", pair[0]]
    assert lines[2].split()[-2:] == ["2.5", pair[1]]
    assert lines[3].split()[0] == "(8+16)x3x2"
    assert lines[5] == (
        f"against the best member ({pair[0]}): right alone on 1 and wrong alone on 1 clips, "
        f"p = 1.0000 (exact McNemar test)"
    )


def test_a_published_row_from_end_to_end(make_data, tmp_path):
    """(4+8)x3x2, full-resolution crops, from two model files: as the (8+16)x3x2 rows."""
    data = make_data(
        tmp_path / "data", {"blue": ["blue", "red"], "green": ["green"], "red": ["broken", "red"]}
    )
    folders = []
    for frames in (4, 8):
        torch.manual_seed(frames)
        model = create_model("gtdnet_resnet18", 3, frames, width=0.125)
        nn.init.normal_(model.classifier.weight, std=0.1)
        spec = ClipSpec(("blue", "green", "red"), frames, short_side=32, crop_size=28)
        path = save_model(tmp_path / f"f{frames}" / "model.safetensors", model, spec)
        options = EvaluateOptions(
            str(path), str(data), clips=2, crops=3, crop_size=32, device="cpu", num_workers=0
        )
        folders.append(evaluate(options)["output"])
    result = ensemble(EnsembleOptions(folders))
    assert result["protocol"]["views"] == "(4+8)x3x2"
    assert result["output"] == str(tmp_path / "f4" / "ensemble-validation-4+8x3x2")
    assert (result["num_evaluated"], result["num_failed"]) == (4, 1)
    one, other = (read_results(folder) for folder in folders)
    assert scores_of(result) == pytest.approx((one.scores + other.scores) / 2)
