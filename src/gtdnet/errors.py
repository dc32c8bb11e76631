"""What is wrong with what the user gave, in one sentence: the thing, its value, the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Bad input or usage. The message is one sentence a user can act on.

    The command line prints it without a traceback and exits with 2.
    """


class DecodeError(InputError):
    """A video (or a folder of frames) that cannot be read as it should.

    ``path`` is the file and ``reason`` the sentence that says what is wrong with it, so that
    reports can count and group failures without parsing the message.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        # Exceptions cross process borders; the default would call __init__ with the message alone.
        return type(self), (self.path, self.reason)


# The checks raise InputError for the first value that does not fit; None is a value not given.


def check_choice(what: str, value: object, choices: Iterable[T]) -> T:
    """The value, of the kind ``what``, which must be one of the choices."""
    choices = list(choices)
    for choice in choices:
        if choice == value:
            return choice
    raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(map(str, choices))}")


def check_at_least(least: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= least:  # nor is NaN, here and below
            raise InputError(f"{name} must be at least {least}, got {value}")


def check_not_negative(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= 0:
            raise InputError(f"{name} must not be negative, got {value}")


def check_positive(**values: float | None) -> None:
    """Positive and finite."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name} must be positive, got {value}")


def check_between(low: float, high: float, **values: float | None) -> None:
    """Both ends are allowed."""
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} must be between {low} and {high}, got {value}")
