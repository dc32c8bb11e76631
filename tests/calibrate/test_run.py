"""The calibrated model file: what is in it, what it is made of, and who uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gtdnet.calibrate.options import CalibrateOptions
from gtdnet.calibrate.run import calibrate
from gtdnet.calibrate.table import describe
from gtdnet.errors import InputError
from gtdnet.evaluate.options import EvaluateOptions
from gtdnet.evaluate.results import read_results
from gtdnet.evaluate.run import evaluate
from gtdnet.infer import load
from gtdnet.infer.live import open_live
from gtdnet.models.model_file import load_model, save_calibrated, save_model
from gtdnet.weights.read import read_safetensors

Asked = Callable[..., CalibrateOptions]


def test_what_is_stored(asked: Asked, model: Path) -> None:
    result = calibrate(asked())
    found = load_model(result["output"])
    assert found.spec.calibration is not None
    assert found.spec.calibration.to_dict() == result["calibration"]
    assert found.metrics["calibration"] == result["measured"]
    assert found.metrics["val_top1"] == 0.5  # what was there stays
    assert replace(found.spec, calibration=None) == load_model(model).spec
    measured = result["measured"]
    assert (measured["clips"], measured["failed"], measured["trained_on"]) == (30, 0, None)
    assert measured["nll"]["after"] < measured["nll"]["before"]
    assert sum(row[0] for row in measured["reliability"]["after"]) == 30
    assert [row["name"] for row in measured["classes"]] == list(found.spec.class_names)
    assert f"temperature {found.spec.calibration.temperature:g}" in describe(result)


def test_weights_stay_the_same_bits(asked: Asked, model: Path, tmp_path: Path) -> None:
    metadata, tensors = read_safetensors(model)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    there = tmp_path / "half.safetensors"
    save_file(halves, there, metadata)
    calibrate(asked(model=str(there), output=None, overwrite=True))
    after = load_file(there)
    assert load_model(there).spec.calibration is not None
    assert {k: (v.dtype, v.shape) for k, v in after.items()} == {
        k: (v.dtype, v.shape) for k, v in halves.items()
    }
    assert all(torch.equal(after[k], v) for k, v in halves.items())


def test_a_calibrated_model_is_calibrated_from_its_logits_again(asked: Asked) -> None:
    first = calibrate(asked(precision=0.3, confidence=0.6))
    hot = load_model(first["output"]).spec.calibration
    assert hot is not None and hot.temperature != 1
    again = calibrate(
        asked(model=first["output"], output=None, overwrite=True, precision=0.3, confidence=0.6)
    )
    assert again["calibration"] == first["calibration"]
    assert again["measured"]["nll"] == first["measured"]["nll"]


def test_answers_and_evaluations_are_of_its_temperature(
    asked: Asked, model: Path, held_out: Path, tmp_path: Path
) -> None:
    result = calibrate(asked(clips=2))
    temperature = result["calibration"]["temperature"]
    recognizer, plain = load(result["output"], "cpu"), load(model, "cpu")
    clip = np.random.default_rng(0).integers(0, 255, (9, 40, 40, 3), dtype=np.uint8)
    views = plain.views(clip, clips=2)[None]
    expected = (plain.logits(views) / temperature).softmax(dim=-1).mean(dim=1)
    assert torch.allclose(recognizer.scores(views), expected, atol=1e-6)
    assert torch.equal(recognizer.logits(views), plain.logits(views))
    evaluate(
        EvaluateOptions(
            result["output"], str(held_out), clips=2, device="cpu", num_workers=0,
            output=str(tmp_path / "eval"),
        )
    )  # fmt: skip
    scores = read_results(tmp_path / "eval")
    p = scores.scores[np.arange(30), scores.labels].astype(float)
    assert -np.log(p).mean() == pytest.approx(result["measured"]["nll"]["after"], abs=1e-4)


def test_clips_without_times_are_sampled_at_the_rate_given(
    asked: Asked, model: Path, tmp_path: Path
) -> None:
    """Folders of pictures have no frame rate of their own."""
    file = load_model(model)
    by_rate = tmp_path / "rate.safetensors"
    save_model(by_rate, file.model, file.spec.with_options(sampling="rate", rate=4.0))
    measured = calibrate(asked(model=str(by_rate), fps=8.0))["measured"]
    assert (measured["clips"], measured["failed"]) == (30, 0)
    with pytest.raises(InputError):  # without it none can be sampled
        calibrate(asked(model=str(by_rate), output=str(tmp_path / "other.safetensors")))


def test_exported_models_have_its_temperature_too(asked: Asked, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from gtdnet.export.options import ExportOptions
    from gtdnet.export.run import export

    result = calibrate(asked())
    export(ExportOptions(result["output"], str(tmp_path / "out"), formats="onnx"))
    exported = load(tmp_path / "out", "cpu")
    assert exported.spec.calibration == load_model(result["output"]).spec.calibration
    clip = np.random.default_rng(0).integers(0, 255, (9, 40, 40, 3), dtype=np.uint8)
    answers = [r.predict(clip) for r in (exported, load(result["output"], "cpu"))]
    for one, other in zip(*answers, strict=True):
        assert (one.label, one.probability) == (other.label, pytest.approx(other.probability, 1e-3))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of 60 pictures of noise."""
    root = tmp_path_factory.mktemp("quiet")
    rng = np.random.default_rng(1)
    for name in ("night", "day"):
        (root / name).mkdir()
        for frame in range(60):
            pixels = rng.integers(0, 255, (36, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{frame:03}.png")
    return root


def test_a_background_threshold(asked: Asked, quiet: Path) -> None:
    options = {"background": str(quiet), "fps": 10, "false_alarms": 0.5, "window": 1.5}
    result = calibrate(asked(**options))
    assert (result["calibration"]["window"], result["calibration"]["every"]) == (1.5, None)
    assert "a window of the last 1.5 s" in open_live(result["output"], device="cpu").describe()
    assert (
        "a window of the last 3 s" in open_live(result["output"], device="cpu", window=3).describe()
    )
    found = result["measured"]["background"]
    assert result["calibration"]["background"] == found["threshold"] > 0
    assert (found["videos"], found["events"], found["per_hour"]) == (2, 0, 0)
    assert found["hours"] == pytest.approx(12 / 3600, abs=1e-6)
    assert found["clips"] == found["expected"] == 30
    assert 0 <= found["missed"] <= 30
    assert "in which nothing happens" in describe(result)


def test_a_class_that_stands_for_nothing_is_never_named(asked: Asked, quiet: Path) -> None:
    options = {"background": str(quiet), "fps": 10, "precision": 0.05, "confidence": 0.51}
    plain = calibrate(asked(**options))
    found = calibrate(asked(**options, nothing="grey", overwrite=True))
    assert found["calibration"]["thresholds"][2] is None
    assert plain["measured"]["background"]["expected"] == 30
    assert found["measured"]["background"]["expected"] == 24
    assert found["measured"]["nothing"] == "grey"


def test_a_background_that_cannot_be_read(asked: Asked, quiet: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"none of its 1 video can be read, the first being"):
        calibrate(asked(background=str(tmp_path / "bad.mp4")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": 1.0}, "precision must be above 0, below 1, got 1"),
        ({"confidence": 0.5}, "confidence must be above 0.5, below 1, got 0.5"),
        ({"false_alarms": -1}, "false_alarms must be a number of events an hour, got -1"),
        ({"output": None}, "give --output FILE for the calibrated model, or --overwrite"),
        ({"output": "x.bin"}, "a model file must end in .safetensors"),
        ({"model": "hf://me/model", "output": None}, "not yours to change here; give --output"),
        ({"model": "model.onnx"}, "is an exported model; calibrate the model file"),
        (
            {"nothing": "none"},
            "--nothing 'none' is no class of the model; its classes are 'dark', ",
        ),
        ({"release": 0}, "release must be a number above 0"),
        ({"background": "nowhere/at/all"}, "nowhere/at/all is no file, folder or pattern"),
    ],
)
def test_bad_options(asked: Asked, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        calibrate(asked(**changes))
    assert sentence in str(caught.value)


def test_too_few_clips_and_clips_without_labels(
    asked: Asked, held_out: Path, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text((held_out.parent / "classes.txt").read_text())
    rows = held_out.read_text().splitlines()
    few = tmp_path / "few.csv"
    few.write_text("\n".join(f"{held_out.parent}/{r}" if i else r for i, r in enumerate(rows[:20])))
    with pytest.raises(InputError, match="has 19 labelled clips; a calibration needs at least 20"):
        calibrate(asked(data=str(few)))


def test_clips_that_it_was_trained_on_are_told(
    asked: Asked, model: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = load_model(model)
    text = held_out.read_text().replace(",val", ",train")
    lines = [f"{held_out.parent}/{r}" if i else r for i, r in enumerate(text.splitlines())]
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text((held_out.parent / "classes.txt").read_text())
    from gtdnet.models import save_model

    trained = tmp_path / "trained.safetensors"
    save_model(trained, file.model, file.spec, provenance={"data": "clips.csv"})
    result = calibrate(asked(model=str(trained), data=str(tmp_path / "clips.csv"), split="train"))
    assert result["measured"]["trained_on"] == 30
    assert "30 of the 30 clips were trained on" in capsys.readouterr().err
    # The same file name as a validation split says nothing bad.
    result = calibrate(asked(model=str(trained), overwrite=True))
    assert result["measured"]["trained_on"] == 0


def test_what_is_no_model_file_is_not_calibrated(tmp_path: Path, model: Path) -> None:
    from gtdnet.data.calibration import Calibration

    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        save_calibrated(model, tmp_path / "x.onnx", Calibration(), {})


def test_a_training_that_starts_from_it_is_calibrated_anew(
    asked: Asked, tiny: Callable[..., Any], tmp_path: Path
) -> None:
    from gtdnet.train.run import train

    calibrated = calibrate(asked())["output"]
    done = train(tiny(tmp_path, epochs=1, pretrained=calibrated))
    assert done.model is not None
    found = load_model(done.model)
    assert found.spec.calibration is None
    assert "calibration" not in found.metrics


def test_clips_of_any_number_of_classes(asked: Asked, colours: Path, tmp_path: Path) -> None:
    from gtdnet.data.spec import ClipSpec
    from gtdnet.infer.options import PredictOptions
    from gtdnet.infer.predict import predict
    from gtdnet.models import create_model, save_model

    torch.manual_seed(0)
    spec = ClipSpec(
        ("red", "green", "blue"), num_segments=4, short_side=36, crop_size=32, multi_label=True
    )
    network = create_model("gtdnet_resnet18", 3, 4, width=0.125)
    torch.nn.init.normal_(network.classifier.weight, std=0.5)
    model = save_model(tmp_path / "model.safetensors", network, spec)
    result = calibrate(
        asked(model=str(model), data=str(colours), split="train", precision=0.3, confidence=0.6)
    )
    assert result["measured"]["clips"] == 24
    assert sum(row[0] for row in result["measured"]["reliability"]["after"]) == 24 * 3
    thresholds = result["calibration"]["thresholds"]
    assert len(thresholds) == 3
    report = predict(
        PredictOptions(result["output"], [str(colours.parent / "00")], device="cpu", num_workers=0)
    )
    [video] = report.to_json()["videos"]
    assert [score["name"] for score in video["scores"]] == video["decision"]
    assert all(score["probability"] >= thresholds[score["label"]] for score in video["scores"])
