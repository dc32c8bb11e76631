"""What was learned on held-out videos about when a model's answers can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gtdnet.errors import InputError


def _check_number(name: str, value: Any, low: float, high: float, what: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name} must be {what}, got {value!r}")


@dataclass(frozen=True)
class EventRules:
    """How an event is made of the answers to a stream (:mod:`gtdnet.live.events`).

    Attributes:
        smoothing: seconds over which probabilities are averaged; 0 takes each as it is.
        release: an event ends when its probability falls below this part of what it began at; in
            (0, 1].
        shortest: seconds for which the probability must hold before an event begins.

    Raises:
        ValueError: a value out of range.
    """

    smoothing: float = 1.0
    release: float = 0.8
    shortest: float = 0.5

    def __post_init__(self) -> None:
        for name in ("smoothing", "shortest"):
            _check_number(name, getattr(self, name), 0, 3600, "a number of seconds up to 3600")
        _check_number("release", self.release, 0, 1, "a number above 0, up to 1")
        if self.release == 0:
            raise InputError("release must be a number above 0, up to 1, got 0")


@dataclass(frozen=True)
class Calibration:
    """Stored in the model file with the ClipSpec, and used wherever probabilities are made or read.

    Attributes:
        temperature: what logits are divided by before they become probabilities (Guo et al., "On
            Calibration of Modern Neural Networks", ICML 2017).
        thresholds: for each class the probability from which on it is named; None: no threshold
            gave the wanted precision, the class is never named alone. Empty: none were chosen.
        background: the probability of the best class below which a moment is "nothing"; 0: it was
            not measured.
        rules: those with which the background threshold was measured.
        window, every: seconds that the model looked back in a stream then, and from one answer to
            the next (:func:`gtdnet.infer.live.open_live`); None: its own.

    Raises:
        ValueError: a value out of range.
    """

    temperature: float = 1.0
    thresholds: tuple[float | None, ...] = ()
    background: float = 0.0
    rules: EventRules = EventRules()
    window: float | None = None
    every: float | None = None

    def __post_init__(self) -> None:
        for name in ("window", "every"):
            if (value := getattr(self, name)) is not None:
                _check_number(name, value, 1e-3, 3600, "a number of seconds up to 3600")
        _check_number("temperature", self.temperature, 1e-3, 1e3, "a number from 0.001 to 1000")
        _check_number("background", self.background, 0, 1, "a probability")
        object.__setattr__(self, "thresholds", tuple(self.thresholds))  # a list comes from JSON
        for value in self.thresholds:
            if value is not None:
                _check_number("thresholds", value, 0, 1, "probabilities")

    @property
    def decides(self) -> bool:
        """Whether it tells when a class is named; else it has a temperature alone."""
        return bool(self.thresholds) or self.background > 0

    def threshold(self, label: int) -> float:
        """The probability from which on this class is named; above 1: never."""
        chosen = self.thresholds[label] if self.thresholds else 0.0
        return 2.0 if chosen is None else max(chosen, self.background)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives the same back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What ``to_dict`` described; InputError for anything else."""
        given = dict(_known(cls, values, "calibration"))
        if "rules" in given:
            given["rules"] = EventRules(**_known(EventRules, given["rules"], "calibration's rules"))
        return cls(**given)


def _known(of: type, values: object, what: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{what} must be a table of names and values, got {values!r}")
    if unknown := sorted(set(values) - {field.name for field in fields(of)}):
        raise InputError(
            f"{what} has the unknown field {unknown[0]!r}; it may come from a newer version of "
            f"gtdnet"
        )
    return values
