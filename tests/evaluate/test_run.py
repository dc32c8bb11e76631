"""evaluate: every clip once, failures counted, results never lost and never overwritten."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError
from gtdnet.evaluate import EvaluateOptions, evaluate, evaluate_model
from gtdnet.evaluate import run as module
from gtdnet.evaluate.protocol import summary
from gtdnet.infer import Recognizer, load

COLOURED = {"blue": ["blue", "blue", "red"], "green": ["green"], "red": ["green", "red"]}


def options(model: Path, data: Path, **changes: Any) -> EvaluateOptions:
    return EvaluateOptions(str(model), str(data), **{"device": "cpu", "num_workers": 0, **changes})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def saved(folder: str) -> dict[str, np.ndarray]:
    with np.load(Path(folder) / "scores.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_literal_accuracies(by_colour, make_data, tmp_path, num_workers):
    data = make_data(tmp_path / "data", COLOURED)
    found = evaluate_model(
        by_colour, read_annotations(data, "validation"), device="cpu", num_workers=num_workers
    )
    assert found.ids == ("blue-0", "blue-1", "blue-2", "green-0", "red-0", "red-1")
    assert found.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert found.scores.argmax(1).tolist() == [0, 0, 2, 1, 1, 2]
    assert found.metrics == {
        "top1": pytest.approx(4 / 6),
        "top5": None,
        "mean_class_accuracy": pytest.approx((2 / 3 + 1 + 1 / 2) / 3),
        "top1_counting_failures_as_errors": pytest.approx(4 / 6),
        "num_evaluated": 6,
        "num_failed": 0,
    }


def test_failures_are_counted_and_never_replaced(by_colour, make_data, tmp_path):
    classes = {"blue": ["blue", "broken", "red"], "green": ["missing", "green"], "red": ["broken"]}
    data = make_data(tmp_path / "data", classes)
    found = evaluate_model(
        by_colour,
        read_annotations(data, "validation"),
        device="cpu",
        num_workers=0,
        batch_size=2,
    )
    assert found.ids == ("blue-0", "blue-2", "green-1")
    assert found.scores.shape == (3, 3)
    assert [(f.id, f.label) for f in found.failures] == [
        ("blue-1", 0), ("red-0", 2), ("green-0", 1),
    ]  # fmt: skip
    assert found.metrics["top1"] == pytest.approx(2 / 3)
    assert found.metrics["top1_counting_failures_as_errors"] == pytest.approx(2 / 6)
    assert (found.metrics["num_evaluated"], found.metrics["num_failed"]) == (3, 3)


def test_nothing_readable(by_colour, make_data, tmp_path):
    data = make_data(tmp_path / "data", {"blue": ["broken"], "green": ["missing"], "red": []})
    with pytest.raises(InputError, match=r"none of the 2 clips in the validation split .*blue-0"):
        evaluate_model(by_colour, read_annotations(data, "validation"), device="cpu")


def test_classes_in_another_order(by_colour, make_data, tmp_path):
    one = make_data(tmp_path / "one", COLOURED)
    other = make_data(
        tmp_path / "other", {name: COLOURED[name] for name in ("red", "blue", "green")}
    )
    first, second = (
        evaluate_model(by_colour, read_annotations(data, "validation"), device="cpu", num_workers=0)
        for data in (one, other)
    )
    assert second.ids != first.ids
    assert dict(zip(second.ids, second.labels, strict=True)) == dict(
        zip(first.ids, first.labels, strict=True)
    )
    assert second.metrics == pytest.approx(first.metrics)


def test_other_classes(model_path, make_data, tmp_path):
    data = make_data(tmp_path / "data", {"blue": ["blue"], "teal": ["green"], "red": ["red"]})
    with pytest.raises(InputError, match=r"'teal' \(only in the data\)"):
        evaluate(options(model_path, data))
    assert not list(model_path.parent.glob("eval-*"))


def test_clips_without_labels(model_path, make_data, tmp_path, capsys):
    data = make_data(tmp_path / "data", COLOURED)
    (data / "test.txt").write_text("blue-0.mp4\nred-1.mp4\n")
    result = evaluate(options(model_path, data, split="test"))
    assert result["top1"] is result["top5"] is result["mean_class_accuracy"] is None
    assert (result["num_evaluated"], result["num_failed"]) == (2, 0)
    assert summary(result).startswith("the clips have no labels")
    assert saved(result["output"])["labels"].tolist() == [-1, -1]
    assert sorted(path.name for path in Path(result["output"]).iterdir()) == [
        "metrics.json", "scores.npz",
    ]  # fmt: skip


def test_the_files(model_path, make_data, tmp_path, capsys):
    classes = {**COLOURED, "blue": [*COLOURED["blue"], "broken"]}
    data = make_data(tmp_path / "data", classes)
    result = evaluate(options(model_path, data, clips=2, crops=3, short_side=40))
    folder = model_path.parent / "eval-validation-4x3x2"
    assert result["output"] == str(folder)
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(result))
    protocol = result["protocol"]
    assert (protocol["views"], protocol["precision"], protocol["device"]) == (
        "4x3x2", "fp32", "cpu",
    )  # fmt: skip
    assert protocol["spec"]["short_side"] == 40
    assert result["model"]["sha256"] == hashlib.sha256(model_path.read_bytes()).hexdigest()

    scores = saved(str(folder))
    assert scores["scores"].shape == (6, 3)
    assert scores["scores"].dtype == np.float32
    assert scores["scores"].sum(1) == pytest.approx(np.ones(6), abs=1e-5)
    assert str(scores["fingerprint"]) == protocol["fingerprint"]
    assert scores["class_names"].tolist() == ["blue", "green", "red"]
    recognizer = load(model_path, "cpu")
    recognizer.spec = recognizer.spec.with_options(short_side=40)
    for clip, row in zip(scores["ids"], scores["scores"], strict=True):
        best = recognizer.predict(data / f"{clip}.mp4", 3, clips=2, crops=3)
        assert [row[b.label] for b in best] == pytest.approx(
            [b.probability for b in best], abs=1e-4
        )

    per_class = rows(folder / "per_class.csv")
    confusion = rows(folder / "confusion.csv")
    predicted = scores["scores"].argmax(1)
    for label, name in enumerate(("blue", "green", "red")):
        mine = predicted[scores["labels"] == label]
        assert per_class[label]["class"] == confusion[label]["true class"] == name
        assert int(per_class[label]["clips"]) == len(mine)
        assert int(per_class[label]["correct"]) == (mine == label).sum()
        assert [int(confusion[label][c]) for c in ("blue", "green", "red")] == [
            (mine == other).sum() for other in range(3)
        ]
    (failure,) = rows(folder / "failures.csv")
    assert failure["id"] == "blue-3"
    assert failure["path"].endswith("blue-3.mp4")
    assert "not a readable video" in failure["reason"]
    assert "1 of 7 clips could not be read" in capsys.readouterr().err
    lines = summary(result).splitlines()
    low, high = (100 * bound for bound in result["top1_interval"])
    assert lines[0].startswith(
        f"top-1 {100 * result['top1']:.2f} % [{low:.2f}, {high:.2f}], mean class accuracy"
    )
    assert lines[1] == (
        "4x3x2 (frames x crops x clips), mean of probabilities, "
        "segment sampling, short side 40, crop 32, fp32: "
        "6 clips of validation, 1 failed"
    )
    assert lines[2] == f"results: {folder}"
    assert not list(folder.glob("*partial*"))


def test_what_is_averaged_over_the_views(model_path, make_data, tmp_path, capsys):
    data = make_data(tmp_path / "data", {"blue": ["blue", "red"], "green": ["green"], "red": []})
    views = {"clips": 2, "crops": 3, "short_side": 40}
    found = {}
    for average in ("probabilities", "logits"):
        result = evaluate(options(model_path, data, average=average, **views))
        assert result["protocol"]["average"] == average
        assert f", mean of {average}, segment sampling" in summary(result)
        found[average] = saved(result["output"])["scores"]
        np.testing.assert_allclose(found[average].sum(axis=1), 1, rtol=1e-5)
    assert not np.allclose(found["probabilities"], found["logits"], atol=1e-4)
    one = [
        saved(evaluate(options(model_path, data, average=average))["output"])["scores"]
        for average in found
    ]
    np.testing.assert_allclose(*one, rtol=1e-5)
    with pytest.raises(InputError, match="unknown average 'max': choose one of probabilities, log"):
        evaluate(options(model_path, data, average="max"))


def test_per_class_table(by_colour, make_data, tmp_path):
    data = make_data(tmp_path / "data", {"blue": ["red", "red", "green"], "green": [], "red": []})
    annotations = read_annotations(data, "validation")
    found = evaluate_model(by_colour, annotations, device="cpu", num_workers=0)
    module.write_results(tmp_path / "out", found, {"top1": 0})
    assert (tmp_path / "out" / "per_class.csv").read_text().splitlines() == [
        "class,clips,correct,accuracy,most_confused_with",
        "blue,3,0,0.0,red",
        "green,0,0,,",
        "red,0,0,,",
    ]
    assert (tmp_path / "out" / "confusion.csv").read_text().splitlines() == [
        "true class,blue,green,red",
        "blue,0,1,2",
        "green,0,0,0",
        "red,0,0,0",
    ]


def test_the_same_twice(model_path, make_data, tmp_path):
    data = make_data(tmp_path / "data", COLOURED)
    first = evaluate(options(model_path, data, num_workers=0))
    second = evaluate(options(model_path, data, num_workers=2))
    assert second["output"] == first["output"] + "-2"
    for name in ("scores.npz", "per_class.csv", "confusion.csv"):
        assert (Path(first["output"]) / name).read_bytes() == (
            Path(second["output"]) / name
        ).read_bytes()
    assert {**first, "output": ""} == {**second, "output": ""}


@pytest.mark.parametrize("explicit", [False, True])
def test_two_evaluations_at_once(model_path, make_data, tmp_path, monkeypatch, explicit):
    data = make_data(tmp_path / "data", COLOURED)
    given = {"output": str(tmp_path / "out")} if explicit else {}
    original, others = module.evaluate_orders, []

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, "evaluate_orders", original)
        try:
            others.append(evaluate(options(model_path, data, **given))["output"])
        except InputError as error:
            others.append(str(error))
        return original(*args, **kwargs)

    monkeypatch.setattr(module, "evaluate_orders", meanwhile)
    mine = evaluate(options(model_path, data, **given))["output"]
    if explicit:
        assert others[0].endswith("written by this process already; give another --output")
    else:
        assert others == [mine + "-2"]
    assert (Path(mine) / "metrics.json").is_file()
    assert not (Path(mine) / ".lock").exists()


def test_a_kill_among_the_results_costs_nothing(model_path, make_data, tmp_path, monkeypatch):
    data = make_data(tmp_path / "data", COLOURED)
    arguments = options(model_path, data)

    def killed(folder: Path, *_: Any) -> None:
        (folder / "scores.npz").write_bytes(b"whole, but not all that there will be")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(arguments)
    folder = Path(evaluate(arguments)["output"])
    assert not folder.name.endswith("-2")
    assert not (folder / module.PARTIAL_FILE).exists()
    assert saved(str(folder))["scores"].shape == (6, 3)


def test_nothing_is_overwritten_silently(model_path, make_data, tmp_path):
    data = make_data(tmp_path / "data", {**COLOURED, "red": ["broken", "red"]})
    out = tmp_path / "out"
    evaluate(options(model_path, data, output=str(out)))
    before = (out / "metrics.json").read_bytes()
    with pytest.raises(InputError, match=r"holds metrics.json of another .*--overwrite"):
        evaluate(options(model_path, data, output=str(out)))
    assert (out / "metrics.json").read_bytes() == before
    assert (out / "failures.csv").exists()
    whole = make_data(tmp_path / "whole", COLOURED)
    result = evaluate(options(model_path, whole, output=str(out), overwrite=True))
    assert result["num_failed"] == 0
    assert not (out / "failures.csv").exists()


def test_output_that_cannot_be_written(model_path, make_data, tmp_path):
    data = make_data(tmp_path / "data", COLOURED)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        evaluate(options(model_path, data, output=str(tmp_path / "file")))


@pytest.mark.parametrize("explicit", [False, True])
def test_an_interrupted_evaluation_goes_on(
    model_path, make_data, tmp_path, monkeypatch, capsys, explicit
):
    data = make_data(tmp_path / "data", {**COLOURED, "blue": ["blue", "broken", "red", "green"]})
    given = {"output": str(tmp_path / "out")} if explicit else {}
    arguments = options(model_path, data, batch_size=2, crops=1, **given)
    whole = evaluate(options(model_path, data, batch_size=2, output=str(tmp_path / "whole")))

    scored: list[int] = []
    original = Recognizer.scores

    def stops_at_the_third(self: Recognizer, views: torch.Tensor, batch_size: int) -> torch.Tensor:
        scored.append(len(views))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return original(self, views, batch_size)

    monkeypatch.setattr(Recognizer, "scores", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(arguments)
    folder = tmp_path / "out" if explicit else model_path.parent / "eval-validation-4x1x1"
    assert [path.name for path in folder.iterdir()] == [module.PARTIAL_FILE]
    assert "stopped after 4 of 7 clips" in capsys.readouterr().err

    result = evaluate(arguments)
    assert result["output"] == str(folder)
    assert scored == [1, 2, 2, 2, 1]
    assert "going on after 4 clips" in capsys.readouterr().err
    assert not (folder / module.PARTIAL_FILE).exists()
    assert {**result, "output": ""} == {**whole, "output": ""}
    for name in ("scores.npz", "failures.csv", "per_class.csv", "confusion.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_partial_evaluation_of_another_kind_is_left_alone(
    model_path, make_data, tmp_path, monkeypatch
):
    data = make_data(tmp_path / "data", COLOURED)
    original = Recognizer.scores
    calls: list[int] = []

    def stops_at_the_second(self: Recognizer, views: torch.Tensor, batch_size: int) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, views, batch_size)

    monkeypatch.setattr(Recognizer, "scores", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        evaluate(options(model_path, data, batch_size=2, short_side=40))
    base = model_path.parent / "eval-validation-4x1x1"
    partial = (base / module.PARTIAL_FILE).read_bytes()
    with pytest.raises(InputError, match=r"scores\.partial\.npz of another evaluation"):
        evaluate(options(model_path, data, batch_size=2, output=str(base)))
    assert evaluate(options(model_path, data, batch_size=2))["output"] == f"{base}-2"
    assert (base / module.PARTIAL_FILE).read_bytes() == partial


@pytest.mark.parametrize("frames", ["shuffled", "reversed", "repeated"])
def test_frames_in_another_order(model_path, make_data, tmp_path, frames):
    data = make_data(tmp_path / "data", COLOURED)
    plain = saved(evaluate(options(model_path, data))["output"])
    result = evaluate(options(model_path, data, frames=frames))
    assert result["output"].endswith(f"eval-validation-4x1x1-{frames}")
    assert result["protocol"]["frames"] == frames
    assert not np.allclose(saved(result["output"])["scores"], plain["scores"], atol=1e-4)


def test_data_without_names(model_path, make_data, tmp_path, capsys):
    data = make_data(tmp_path / "data", COLOURED)
    named = evaluate(options(model_path, data))
    (data / "classes.txt").unlink()
    (data / "val.txt").rename(data / "old")
    (data / "val.txt").write_text((data / "old").read_text())
    unnamed = evaluate(options(model_path, data))
    assert unnamed["top1"] == named["top1"]
    assert unnamed["data"]["classes"] == "without names"
    assert "no class names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": "backwards"}, "'backwards'"),
        ({"crops": 2}, "crops must be 1 or 3, got 2"),
        ({"clips": 0}, "clips must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"split": "dev"}, "'dev'"),
        ({"crop_size": 99}, "crop_size=99 does not fit into short_side=36"),
        ({"precision": "fp8"}, "'fp8'"),
        ({"device": "abacus"}, "'abacus'"),
        ({"num_segments": 0}, "num_segments"),
        ({"data": "nowhere"}, "nowhere"),
        ({"model": "none.safetensors"}, "no such model file"),
    ],
)
def test_bad_options(model_path, make_data, tmp_path, changes, message):
    data = make_data(tmp_path / "data", COLOURED)
    with pytest.raises(InputError, match=message):
        evaluate(EvaluateOptions(**{"model": str(model_path), "data": str(data), **changes}))
    assert not list(model_path.parent.glob("eval-*"))
