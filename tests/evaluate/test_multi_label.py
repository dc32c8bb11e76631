"""Evaluating models of any number of classes a clip, from the command's options to its files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtdnet.ablate.options import AblateOptions
from gtdnet.ablate.run import ablate
from gtdnet.data.calibration import Calibration
from gtdnet.data.formats import read_annotations
from gtdnet.errors import InputError
from gtdnet.evaluate.ensemble import ensemble
from gtdnet.evaluate.measures import class_precisions
from gtdnet.evaluate.options import EnsembleOptions, EvaluateOptions
from gtdnet.evaluate.protocol import summary
from gtdnet.evaluate.results import Evaluation, read_results
from gtdnet.evaluate.run import evaluate, evaluate_model
from gtdnet.export import ExportOptions, export
from gtdnet.models.model_file import load_model, save_calibrated
from gtdnet.report.report import ReportOptions, report
from gtdnet.train.config import TrainConfig
from gtdnet.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def run(colours: Path, tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny(tmp_path_factory.mktemp("runs"), data=str(colours), epochs=3, brightness=0.0)
    return train(config).folder


@pytest.fixture(scope="module")
def result(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return evaluate(_options(run, output=str(tmp_path_factory.mktemp("eval") / "e")))


def _options(run: Path, **options: Any) -> EvaluateOptions:
    return EvaluateOptions(str(run), device="cpu", num_workers=0, **options)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_figures_are_those_of_training(run: Path, result: dict[str, Any]) -> None:
    """One view in fp32 is what the validation saw."""
    metrics = load_model(run).metrics
    assert result["map"] == pytest.approx(metrics["val_map"])
    assert result["micro_f1"] == pytest.approx(metrics["val_micro_f1"])
    assert result["macro_f1"] == pytest.approx(metrics["val_macro_f1"])
    assert "top1" not in result and "top1_interval" not in result
    assert (result["num_evaluated"], result["num_classes_without_clips"]) == (16, 0)
    assert result["protocol"]["threshold"] == result["threshold"] == 0.5


def test_files_and_reading_them(result: dict[str, Any]) -> None:
    folder = Path(result["output"])
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") == [
        "metrics.json", "per_class.csv", "scores.npz",
    ]  # fmt: skip
    rows = _rows(folder / "per_class.csv")
    assert [row["class"] for row in rows] == ["blue", "green", "red"]
    assert [int(row["clips"]) for row in rows] == [8, 6, 8]
    mean = sum(float(row["average_precision"]) for row in rows) / 3
    assert mean == pytest.approx(result["map"], abs=1e-5)
    written = json.loads((folder / "metrics.json").read_text())
    assert written == json.loads(json.dumps(result))
    for path in (folder, folder / "scores.npz"):
        again = read_results(path)
        assert again.metrics["map"] == result["map"]
        assert again.labels.shape == (16, 3)
        assert again.result["micro_f1"] == result["micro_f1"]


def test_what_people_read(result: dict[str, Any]) -> None:
    lines = summary(result).splitlines()
    assert lines[0].startswith(f"mAP {100 * result['map']:.2f} %")
    assert lines[0].endswith("% at threshold 0.5; too few clips for confidence intervals")
    assert lines[1].startswith("4x1x1 (frames x crops x clips), segment sampling, short side 36")


def test_another_threshold(run: Path, result: dict[str, Any], tmp_path: Path) -> None:
    """It changes F1, but not mAP; and is what scores.npz is read with."""
    other = evaluate(_options(run, threshold=0.0, output=str(tmp_path / "e")))
    assert other["map"] == result["map"]
    assert other["micro_f1"] == pytest.approx(2 * 22 / (2 * 22 + 26))  # all is given: 22 of 48
    assert read_results(tmp_path / "e" / "scores.npz").metrics["micro_f1"] == other["micro_f1"]


def test_a_calibrated_model_has_thresholds_of_its_own(
    run: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    """Of each class; None: it is never given. One that is asked for goes before them."""
    own = (0.0, None, 0.25)
    path = tmp_path / "model.safetensors"
    save_calibrated(run / "model.safetensors", path, Calibration(thresholds=own), {})
    options = EvaluateOptions(
        str(path),
        data=TrainConfig.load(run / "config.yaml").data,
        device="cpu",
        num_workers=0,
        output=str(tmp_path / "e"),
    )
    found = evaluate(options)
    assert found["map"] == pytest.approx(result["map"])
    assert found["threshold"] == found["protocol"]["threshold"] == list(own)
    assert "% at the thresholds that the model was calibrated with;" in summary(found)
    rows = {row["class"]: row for row in _rows(tmp_path / "e" / "per_class.csv")}
    assert [rows[name]["threshold"] for name in ("blue", "green", "red")] == ["0.0", "", "0.25"]
    assert (rows["blue"]["given"], rows["green"]["given"]) == ("16", "0")
    again = read_results(tmp_path / "e" / "scores.npz")
    assert (again.threshold, again.metrics["micro_f1"]) == (own, found["micro_f1"])
    at_half = evaluate(replace(options, threshold=0.5, output=str(tmp_path / "half")))
    assert at_half["micro_f1"] == pytest.approx(result["micro_f1"])
    page = report(ReportOptions([str(tmp_path / "e")], str(tmp_path / "page.html")))
    text = Path(page["output"]).read_text(encoding="utf-8")
    assert "of each class its own, of the calibration" in text
    assert '<td class="number">never</td>' in text
    assert 'precision-table"' in text  # of others phones leave out the first column, a number


def test_clips_without_labels_and_missing_ones(run: Path, colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours.parent, tmp_path / "data")
    table = tmp_path / "data" / "clips.csv"
    table.write_text(table.read_text().replace(",val", ",test") + "\nno,red,test")
    spec = load_model(run).spec
    annotations = read_annotations(table, "test")
    found = evaluate_model(load_model(run), annotations, device="cpu", num_workers=0)
    assert (found.metrics["num_evaluated"], found.metrics["num_failed"]) == (16, 1)
    assert found.failures[0].label == -1
    lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    emptied = [(p, "" if s == "test" else n, s) for p, n, s in rows]
    table.write_text("\n".join(map(",".join, emptied)))
    result = evaluate(
        _options(run, data=str(table), split="test", output=str(tmp_path / "unlabelled"))
    )
    assert (result["map"], result["map_interval"], result["micro_f1"]) == (None, None, None)
    assert summary(result).startswith("the clips have no labels: scores alone were written")
    assert read_results(tmp_path / "unlabelled").known.sum() == 0
    assert spec.num_classes == result["num_classes_without_clips"]


def test_classes_in_another_order(run: Path, colours: Path, result: dict[str, Any],
                                  tmp_path: Path) -> None:  # fmt: skip
    shutil.copytree(colours.parent, tmp_path / "data")
    (tmp_path / "data" / "classes.txt").write_text("red\nblue\ngreen")
    data = str(tmp_path / "data" / "clips.csv")
    again = evaluate(_options(run, data=data, output=str(tmp_path / "e")))
    assert again["data"]["classes"] == "matched by name"
    assert again["map"] == result["map"]


# ------------------------------------------------------------------------------- what is refused


def test_the_wrong_kind_of_clips(
    run: Path, colours: Path, dataset: Path, tiny: Make, tmp_path: Path
) -> None:
    shutil.copytree(colours.parent, tmp_path / "one")
    table = tmp_path / "one" / "clips.csv"
    rows = [line.split(",") for line in table.read_text().splitlines()]
    rows = [["path", "label", "split"], *([p, n.split(";")[0] or "red", s] for p, n, s in rows[1:])]
    table.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(InputError, match="has one class for each clip, but the model was trained"):
        evaluate(_options(run, data=str(table)))
    single = train(tiny(tmp_path, data=str(table), epochs=1)).folder
    with pytest.raises(InputError, match="has any number of classes for each clip, but the model"):
        evaluate(_options(single, data=str(colours)))
    with pytest.raises(InputError, match=r"--threshold 0.3 is for models of any number of classes"):
        evaluate(_options(single, threshold=0.3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold must be a probability from 0 to 1, got 1.5"),
        ({"diagnose": True}, "--diagnose asks which class a clip is given"),
    ],
)
def test_options_that_do_not_fit(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(_options(run, **options))


def test_what_needs_one_class_a_clip(
    run: Path, colours: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(result["output"], tmp_path / "copy")
    with pytest.raises(InputError, match=r"any number of classes .*, which ensembles do not take"):
        ensemble(EnsembleOptions([result["output"], str(tmp_path / "copy")]))
    int8 = ExportOptions(str(run), str(tmp_path / "out"), "openvino", "int8", data=str(colours))
    with pytest.raises(InputError, match="what int8 costs is measured in top-1"):
        export(int8)
    grid = {"base": {"model": "tsn_resnet18"}, "variants": {"A": {}, "B": {}}, "seeds": [0]}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    with pytest.raises(InputError, match="variants are compared by top-1"):
        ablate(AblateOptions(str(tmp_path / "grid.yaml"), data=str(colours)))


# ------------------------------------------------------------------------------------ intervals


def _evaluation(clips: int, skill: float, classes: int = 4) -> Evaluation:
    rng = np.random.default_rng(clips)
    labels = (rng.random((clips, classes)) < 0.3).astype(np.int64)
    scores = rng.random((clips, classes)) * (1 - skill) + skill * labels
    ids = tuple(map(str, range(clips)))
    names = tuple(map(str, range(classes)))
    return Evaluation(names, ids, scores.astype(np.float32), labels, ())


def test_intervals_hold_the_figure_and_narrow_with_clips() -> None:
    widths = []
    for clips in (100, 1600):
        found = _evaluation(clips, 0.3).to_dict()
        for key in ("map", "micro_f1", "macro_f1"):
            low, high = found[f"{key}_interval"]
            assert low < found[key] < high
        widths.append(found["map_interval"][1] - found["map_interval"][0])
    assert 2.5 < widths[0] / widths[1] < 6  # a quarter with sixteen times the clips


@pytest.mark.parametrize(("clips", "skill"), [(20, 0.3), (100, 1.0)])
def test_no_interval_where_it_would_be_too_certain(clips: int, skill: float) -> None:
    found = _evaluation(clips, skill).to_dict()
    assert found["map"] is not None and found["map_interval"] is None


def test_classes_without_clips_have_no_share() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 1], [-1, -1, -1]])
    scores = np.array([[0.9, 0.9, 0.1], [0.8, 0.1, 0.2], [0.7, 0.1, 0.6], [0.0, 1.0, 1.0]])
    found = Evaluation(("a", "b", "c"), tuple("wxyz"), scores.astype(np.float32), labels, ())
    rows = class_precisions(found)
    assert rows[1] == ("b", 0, None, 1, 0.0, None, None, 0.5)
    assert rows[2] == ("c", 1, 1.0, 1, 1.0, 1.0, 1.0, 0.5)
    assert rows[0] == ("a", 2, pytest.approx((1 + 2 / 3) / 2), 3, pytest.approx(2 / 3), 1.0,
                       pytest.approx(0.8), 0.5)  # fmt: skip
    assert found.metrics["map"] == pytest.approx((5 / 6 + 1) / 2)
    assert found.metrics["macro_f1"] == pytest.approx((0.8 + 1) / 2)
    assert found.metrics["num_classes_without_clips"] == 1
