"""The error types: what they are, and that they cross process borders."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from gtdnet.errors import DecodeError, InputError


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
