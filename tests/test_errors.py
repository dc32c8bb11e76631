"""The error types: what they are, and that they cross process borders."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from gtdnet.errors import (
    DecodeError,
    InputError,
    check_at_least,
    check_between,
    check_choice,
    check_not_negative,
    check_positive,
)


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(DecodeError, InputError)


def test_decode_error_names_path_and_reason() -> None:
    error = DecodeError(Path("clips") / "7.webm", "holds no video stream")
    assert str(error) == f"{Path('clips') / '7.webm'}: holds no video stream"
    assert (error.path, error.reason) == (str(Path("clips") / "7.webm"), "holds no video stream")


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_decode_error_survives_pickling(again) -> None:
    error = again(DecodeError("7.webm", "is empty"))
    assert type(error) is DecodeError
    assert (str(error), error.path, error.reason) == ("7.webm: is empty", "7.webm", "is empty")


NAN = float("nan")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: check_choice("clock", "sun", ("cpu", "gpu")),
            "unknown clock 'sun': choose one of cpu, gpu",
        ),
        (lambda: check_choice("clock", [], {"cpu": 1}), "unknown clock []: choose one of cpu"),
        (lambda: check_at_least(2, a=2, b=1, c=0), "b must be at least 2, got 1"),
        (lambda: check_at_least(0, a=NAN), "a must be at least 0, got nan"),
        (lambda: check_not_negative(a=-1), "a must not be negative, got -1"),
        (lambda: check_positive(a=1.0, b=0.0), "b must be positive, got 0.0"),
        (lambda: check_positive(a=float("inf")), "a must be positive, got inf"),
        (lambda: check_between(0, 1, a=1.5), "a must be between 0 and 1, got 1.5"),
        (lambda: check_between(0, 1, a=NAN), "a must be between 0 and 1, got nan"),
    ],
)
def test_refusals(check: Callable[[], None], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        check()
    assert str(refusal.value) == message


def test_what_fits_and_what_is_not_given_passes() -> None:
    check_choice("clock", "cpu", iter(["gpu", "cpu"]))
    check_at_least(1, a=1, b=None)
    check_not_negative(a=0, b=None)
    check_positive(a=1e-9, b=None)
    check_between(0, 1, a=0, b=1, c=None)
