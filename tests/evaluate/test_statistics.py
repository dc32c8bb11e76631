"""Intervals and tests against published tables, exact fractions and what must always hold."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtdnet.errors import InputError
from gtdnet.evaluate.statistics import (
    bootstrap_interval,
    discoveries,
    mcnemar,
    paired_difference_interval,
    wilson_interval,
)


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def correct(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classifiers' hits on clips that both, the first alone, the second alone, none get."""
    both = np.repeat([[True, True], [True, False], [False, True], [False, False]], counts, axis=0)
    return both[:, 0], both[:, 1]


# Newcombe, Statistics in Medicine 1998, 17:857, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_of_newcombes_table(hits, total, low, high):
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6), st.data())
def test_wilson_solves_its_equation_and_mirrors(total, data):
    hits = data.draw(st.integers(0, total))
    low, high = wilson_interval(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    assert low < high
    for bound in (low, high):  # (share - p)^2 = z^2 p (1 - p) / n
        if 0 < bound < 1:
            error = abs(hits / total - bound) / math.sqrt(bound * (1 - bound) / total)
            assert error == pytest.approx(1.959963984540054, rel=1e-4)
    assert wilson_interval(total - hits, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    wider = wilson_interval(hits, total, 0.99)
    assert wider[0] <= low
    assert wider[1] >= high


def test_wilson_covers():
    rng = np.random.default_rng(0)
    hits = rng.binomial(50, 0.9, 4000)
    inside = [low <= 0.9 <= high for low, high in (wilson_interval(int(h), 50) for h in hits)]
    assert 0.93 < np.mean(inside) < 0.98


@pytest.mark.parametrize(
    ("first_only", "second_only", "p_value"),
    [
        (0, 0, 1.0),
        (7, 7, 1.0),
        (5, 0, 2 / 2**5),
        (0, 10, 2 / 2**10),
        (1, 9, 2 * 11 / 2**10),
        (2, 12, 2 * (1 + 14 + 91) / 2**14),
        (8, 7, 1.0),
        # Agresti, Categorical Data Analysis: approval of a prime minister, z = 4.17.
        (150, 86, 3.716e-5),
    ],
)
def test_mcnemar(first_only, second_only, p_value):
    found = mcnemar(*correct(30, first_only, second_only, 20))
    assert found[:2] == (first_only, second_only)
    assert found.p_value == pytest.approx(p_value, rel=1e-4)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 5), st.integers(0, 5))
def test_mcnemar_is_the_binomial_sum(first_only, second_only, both, none):
    found = mcnemar(*correct(both, first_only, second_only, none))
    n, k = first_only + second_only, min(first_only, second_only)
    exact = Fraction(2 * sum(math.comb(n, i) for i in range(k + 1)), 2**n)
    assert found.p_value == pytest.approx(min(1.0, float(exact)), rel=1e-9)
    first, second = correct(both, first_only, second_only, none)
    assert mcnemar(second, first) == (second_only, first_only, found.p_value)


def test_mcnemar_of_very_many_clips():
    # sqrt(n) / 2 = 500 clips are one standard deviation of either count.
    found = mcnemar(*correct(0, 501_000, 499_000, 0)).p_value
    assert found == pytest.approx(math.erfc(1999 / 1000 / math.sqrt(2)), rel=1e-3)
    assert mcnemar(*correct(0, 900_000, 100_000, 0)).p_value == 0.0


@pytest.mark.parametrize(
    ("first_only", "second_only", "total", "low", "high"),
    [
        # By hand: d +- 1.96 sqrt(b + c + 1 - (b - c) d) / (n + 2), d = (b - c) / (n + 2).
        (0, 0, 6, -1.95996 / 8, 1.95996 / 8),
        (12, 2, 100, 0.026092, 0.169987),
        (2, 12, 100, -0.169987, -0.026092),
        (150, 86, 1600, 0.021217, 0.058683),
        (1, 0, 1, -0.510100, 1.0),
    ],
)
def test_paired_difference(first_only, second_only, total, low, high):
    found = paired_difference_interval(first_only, second_only, total)
    assert found == pytest.approx((low, high), abs=1e-5)


def test_paired_difference_covers():
    rng = np.random.default_rng(1)
    n, share = 40, (0.15, 0.05)
    draws = rng.multinomial(n, [*share, 1 - sum(share)], 3000)
    inside = [low <= 0.1 <= high for low, high in (
        paired_difference_interval(int(b), int(c), n) for b, c, _ in draws
    )]  # fmt: skip
    assert 0.93 < np.mean(inside) < 0.99


def test_discoveries_of_the_paper():
    # Benjamini and Hochberg, 1995, section 3.2: four of fifteen at 5 %.
    p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
        0.5719, 0.6528, 0.7590, 1.000,
    ]  # fmt: skip
    assert discoveries(p_values).tolist() == [True] * 4 + [False] * 11
    assert discoveries(p_values[::-1]).tolist() == [False] * 11 + [True] * 4


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0, 1))
def test_discoveries_are_the_smallest_p_values(p_values, rate):
    found = discoveries(p_values, rate)
    named = [p for p, one in zip(p_values, found, strict=True) if one]
    others = [p for p, one in zip(p_values, found, strict=True) if not one]
    assert not named or not others or max(named) < min(others)
    if named:
        assert max(named) <= rate * len(named) / len(p_values)
    for p in others:  # naming it too would break the rule
        assert p > rate * sum(q <= p for q in p_values) / len(p_values)


def test_bootstrap_of_a_mean_is_close_to_theory():
    values = np.random.default_rng(0).random(400) < 0.7
    low, high = bootstrap_interval(values, mean, samples=2000)
    half = 1.96 * math.sqrt(values.mean() * (1 - values.mean()) / 400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)


def test_bootstrap_is_seeded_and_keeps_rows_together():
    values = np.stack([np.arange(50), -np.arange(50)], axis=1)

    def figure(clips: np.ndarray) -> float:
        assert clips.shape == (50, 2)
        assert (clips[:, 0] == -clips[:, 1]).all()
        return float(clips[:, 0].mean())

    first = bootstrap_interval(values, figure, samples=100, seed=3)
    assert first == bootstrap_interval(values, figure, samples=100, seed=3)
    assert first != bootstrap_interval(values, figure, samples=100, seed=4)
    assert bootstrap_interval([5.0], mean, samples=3) == (5.0, 5.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson_interval(3, 2), "got hits=3, total=2"),
        (lambda: wilson_interval(0, 0), "got hits=0, total=0"),
        (lambda: wilson_interval(1, 2, 1.0), r"confidence must lie between 0 and 1, got 1.0"),
        (lambda: paired_difference_interval(3, 3, 5), "of 5 clips, 3 and 3 cannot be right in one"),
        (lambda: paired_difference_interval(0, 0, 0), "of 0 clips"),
        (lambda: mcnemar([True], [True, False]), r"shapes \[1\] and \[2\]"),
        (lambda: mcnemar([1, 0], [1, 1]), "arrays of bool, got int64 and int64"),
        (lambda: discoveries([0.1, float("nan")]), "between 0 and 1"),
        (lambda: bootstrap_interval([], mean), "at least one clip"),
        (lambda: bootstrap_interval([1.0], mean, samples=0), "samples must be at least 1"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(InputError, match=message):
        call()
