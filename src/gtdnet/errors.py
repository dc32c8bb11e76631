"""What is wrong with what the user gave, in one sentence: the thing, its value, the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
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


class ProcessLost(RuntimeError):
    """Another process of the same command ended, or cannot be reached: one sentence of which.

    The command line prints it without a traceback and exits with 1.
    """


# The checks raise InputError for the first value that does not fit; None is a value not given.


def check_choice(what: str, value: object, choices: Iterable[T]) -> T:
    """The value, of the kind ``what``, which must be one of the choices."""
    choices = list(choices)
    for choice in choices:
        if choice == value:
            return choice
    raise InputError(
        f"unknown {what} {value!r}{suggestion(value, choices)}: choose one of "
        f"{', '.join(map(str, choices))}"
    )


def suggestion(word: object, choices: Iterable[object]) -> str:
    """ " (did you mean train?)" for the choice most like a word that is none; "" if none is."""
    near = nearest(word, choices)
    return f" (did you mean {near}?)" if near else ""


def nearest(word: object, choices: Iterable[object]) -> str | None:
    """The choice most like a word that is none of them; None if none is like it."""
    by_letters = {_letters(choice): str(choice) for choice in choices}
    found = get_close_matches(_letters(word), by_letters, 1, 0.65)
    return by_letters[found[0]] if found else None


def _letters(word: object) -> str:
    """So that case and the sign between words do not count."""
    return str(word).lower().lstrip("-").replace("-", "_").replace(" ", "_")


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
