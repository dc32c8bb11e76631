"""The temperature: known answers, and what holds of any logits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtdnet.calibrate.temperature import (
    Bin,
    averaged,
    calibration_error,
    fit_temperature,
    measure_fit,
    nll,
    reliability,
)
from gtdnet.data.calibration import Calibration
from gtdnet.data.spec import ClipSpec

SPEC = ClipSpec(class_names=("nod", "wave"))
MULTI = replace(SPEC, multi_label=True)


def drawn(temperature: float, multi_label: bool = False) -> tuple[torch.Tensor, np.ndarray]:
    """Logits, and labels drawn as the probabilities at a temperature say: 4,000 clips."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4000, 1, 2))
    p = 1 / (1 + np.exp(-logits[:, 0] / temperature))
    if multi_label:
        return torch.from_numpy(logits), (rng.random((4000, 2)) < p).astype(np.int64)
    share = 1 / (1 + np.exp((logits[:, 0, 0] - logits[:, 0, 1]) / temperature))
    return torch.from_numpy(logits), (rng.random(4000) < share).astype(np.int64)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(
    temperature: float, multi_label: bool
) -> None:
    logits, labels = drawn(temperature, multi_label)
    found = fit_temperature(logits, labels, MULTI if multi_label else SPEC)
    assert found == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_nothing_near_it_is_more_likely(average: str) -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(0, 4, (200, 3, 2)))
    labels = (rng.random(200) < 0.5 + 0.1 * np.sign(logits.mean(dim=1).numpy() @ [-1, 1])).astype(
        np.int64
    )
    found = fit_temperature(logits, labels, SPEC, average)
    assert found is not None
    at = {t: nll(averaged(logits, SPEC, t, average), labels) for t in (0.98, 1.0, 1.02)}
    losses = [nll(averaged(logits, SPEC, t * found, average), labels) for t in at]
    assert losses[1] == min(losses)


def test_where_every_clip_is_right_no_temperature_is_the_best() -> None:
    logits = torch.tensor([[[2.0, 1.0]], [[0.0, 3.0]]])
    assert fit_temperature(logits, np.array([0, 1]), SPEC) is None


def test_where_no_clip_is_right_neither() -> None:
    logits = torch.tensor([[[2.0, 1.0]], [[0.0, 3.0]]])
    assert fit_temperature(logits, np.array([1, 0]), SPEC) is None


def test_views_are_averaged_as_prediction_averages_them() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    p = 1 / (1 + math.exp(-1))  # at temperature 2
    assert averaged(logits, SPEC, 2, "probabilities")[0, 0] == pytest.approx((p + 0.5) / 2)
    p = 1 / (1 + math.exp(-0.5))
    assert averaged(logits, SPEC, 2, "logits")[0, 0] == pytest.approx(p)


def test_a_temperature_that_the_spec_has_already_counts_for_nothing() -> None:
    logits, labels = drawn(3.0)
    hot = replace(SPEC, calibration=Calibration(temperature=3))
    assert fit_temperature(logits, labels, hot) == fit_temperature(logits, labels, SPEC)


def test_likelihoods() -> None:
    scores = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert nll(scores, np.array([0, 0])) == pytest.approx(-math.log(0.8 * 0.4) / 2)
    expected = -math.log(0.8 * 0.8 * 0.4 * 0.6) / 4
    assert nll(scores, np.array([[1, 0], [1, 1]])) == pytest.approx(expected)


def test_bins_and_their_error() -> None:
    scores = np.array([[0.95, 0.05], [0.91, 0.09], [0.55, 0.45], [0.0, 1.0]])
    bins = reliability(scores, np.array([0, 1, 0, 1]))
    assert [one.answers for one in bins] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert bins[0] == Bin(0, None, None)
    assert bins[9].confidence == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert bins[9].accuracy == pytest.approx(2 / 3)
    error = (abs(0.55 - 1) + 3 * abs((0.95 + 0.91 + 1.0) / 3 - 2 / 3)) / 4
    assert calibration_error(bins) == pytest.approx(error)


def test_of_multi_label_clips_each_class_is_an_answer() -> None:
    bins = reliability(np.array([[0.95, 0.05]]), np.array([[1, 0]]))
    assert bins[9] == (1, 0.95, 1.0)
    assert bins[0] == (1, 0.05, 0.0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_errors_are_shares_and_the_fit_is_no_worse(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(scale * rng.normal(0, 1, (30, 2, 2)))
    labels = rng.integers(0, 2, 30)
    before = measure_fit(averaged(logits, SPEC, 1, "probabilities"), labels)
    assert 0 <= before.ece <= 1
    assert sum(one.answers for one in before.bins) == 30
    found = fit_temperature(logits, labels, SPEC)
    if found is not None:
        after = measure_fit(averaged(logits, SPEC, found, "probabilities"), labels)
        assert after.nll <= before.nll + 1e-9
