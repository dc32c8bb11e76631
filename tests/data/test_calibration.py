"""What a calibration holds, and its way through the model file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from gtdnet.data.calibration import Calibration, EventRules
from gtdnet.data.spec import ClipSpec
from gtdnet.models.classifier import probabilities

NAMES = ("nod", "wave")


def test_it_travels_in_the_spec() -> None:
    calibration = Calibration(1.5, (0.7, None), 0.4, EventRules(2, 0.5, 0.1), 3.0, 0.5)
    spec = ClipSpec(class_names=NAMES, calibration=calibration)
    assert ClipSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_without_one_is_written_as_before() -> None:
    assert "calibration" not in ClipSpec(class_names=NAMES).to_dict()


def test_the_temperature_divides_logits() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    spec = ClipSpec(class_names=NAMES, calibration=Calibration(temperature=2))
    assert torch.equal(probabilities(logits, spec), torch.tensor([[1.0, 0.0]]).softmax(1))
    several = spec.with_options(multi_label=True)
    assert torch.equal(probabilities(logits, several), torch.tensor([[1.0, 0.0]]).sigmoid())


def test_thresholds_are_at_least_the_background() -> None:
    calibration = Calibration(thresholds=(0.3, None), background=0.5)
    assert (calibration.threshold(0), calibration.threshold(1)) == (0.5, 2.0)
    assert Calibration(background=0.5).threshold(1) == 0.5


def test_what_decides() -> None:
    assert not Calibration(temperature=2).decides
    assert Calibration(background=0.5).decides
    assert Calibration(thresholds=(0.3, None)).decides


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": 0}, "temperature must be a number from 0.001 to 1000, got 0"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"background": 1.5}, "background must be a probability, got 1.5"),
        ({"thresholds": [0.5, 2]}, "thresholds must be probabilities, got 2"),
        ({"thresholds": [0.5]}, "1 thresholds, but the model 2 classes"),
        ({"rules": {"release": 0}}, "release must be a number above 0"),
        ({"rules": {"smoothing": -1}}, "smoothing must be a number of seconds"),
        ({"rules": {"other": 1}}, "calibration's rules has the unknown field 'other'"),
        ({"other": 1}, "calibration has the unknown field 'other'"),
    ],
)
def test_what_is_out_of_range_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        ClipSpec.from_dict({"class_names": NAMES, "calibration": values})
    assert sentence in str(caught.value)
