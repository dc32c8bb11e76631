"""ClipSpec: everything between a video file and the model's input, in one frozen object.

It travels inside every model file; training, evaluation, prediction and export all read it from
there, so they cannot disagree.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gtdnet.data.calibration import Calibration
from gtdnet.errors import InputError, check_choice

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SAMPLINGS = ("segment", "dense", "dense-tsm", "rate")
INTERPOLATIONS = ("bilinear", "bicubic")
LATER: dict[str, Any] = {
    "frames_per_segment": 1,
    "multi_label": False,
    "calibration": None,
    "rate": None,
}
"""Fields that the first model files did not have, and what they mean there."""


@dataclass(frozen=True)
class ClipSpec:
    """How frames are chosen from a video and made into the model's input, and what it answers.

    Attributes:
        class_names: in index order.
        num_segments: T, frames per clip, or groups of frames (``frames_per_segment``).
        sampling: "segment" (T segments of equal length, one frame of each: TSN) or "dense" (T
            frames ``frame_interval`` apart), or "dense-tsm" (the same in the windows of TSM's own
            code, for models that were trained and tested with it), or "rate" (T frames
            1 / ``rate`` seconds apart, by their timestamps).
        frame_interval: frames between two sampled ones, of dense sampling.
        short_side: pixels to which the shorter side is resized before the test crops.
        crop_size: side of the square the model sees, pixels.
        mean, std: per RGB channel, on values in [0, 1].
        interpolation: "bilinear" or "bicubic".
        antialias: low-pass filter when shrinking.
        frames_per_segment: f, neighbouring frames that the model takes where others take one (TDN:
            5); a clip then is T*f frames, those of a segment side by side.
        multi_label: a clip has any number of the classes, and the model gives each a probability
            of its own; else it has exactly one.
        calibration: what is known of its probabilities, or None.
        rate: sampled frames per second, of "rate" alone.

    Raises:
        ValueError: a value out of range, or class names empty or repeated.
    """

    class_names: tuple[str, ...]
    num_segments: int = 8
    sampling: str = "segment"
    frame_interval: int = 8
    short_side: int = 256
    crop_size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"
    antialias: bool = True
    frames_per_segment: int = 1
    multi_label: bool = False
    calibration: Calibration | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("class_names", "mean", "std"):  # lists come from JSON
            if isinstance(getattr(self, name), str):
                raise InputError(f"{name} must be a list, got the text {getattr(self, name)!r}")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (
            "num_segments", "frame_interval", "short_side", "crop_size", "frames_per_segment",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.crop_size > self.short_side:
            raise InputError(
                f"crop_size={self.crop_size} does not fit into short_side={self.short_side}; "
                f"raise short_side or lower crop_size"
            )
        check_choice("sampling", self.sampling, SAMPLINGS)
        self._check_rate()
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        three = len(self.mean) == len(self.std) == 3
        if not three or not all(map(_is_number, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise InputError(
                f"mean and std need three numbers each, std positive; "
                f"got mean={self.mean}, std={self.std}"
            )
        for name in ("antialias", "multi_label"):
            if not isinstance(value := getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {value!r}")
        if not self.class_names:
            raise InputError("class_names is empty; a model needs at least one class")
        for name in self.class_names:
            if not isinstance(name, str):
                raise InputError(f"class names must be text, got {name!r}; put it in quotes")
        if len(set(self.class_names)) != len(self.class_names):
            twice = next(n for n in self.class_names if self.class_names.count(n) > 1)
            raise InputError(f"class name {twice!r} occurs twice; class names must differ")
        if self.calibration and len(self.calibration.thresholds) not in (0, self.num_classes):
            raise InputError(
                f"the calibration has {len(self.calibration.thresholds)} thresholds, but the model "
                f"{self.num_classes} classes; calibrate it anew"
            )

    def _check_rate(self) -> None:
        if self.rate is None:
            if self.by_time:
                raise InputError("sampling rate needs a rate, in frames per second; add rate=8")
            return
        if not _is_number(self.rate) or self.rate <= 0:
            raise InputError(f"rate must be a positive number of frames a second, got {self.rate}")
        if not self.by_time:
            raise InputError(
                f"rate={self.rate:g} is of sampling rate alone, not of {self.sampling}; choose "
                f"sampling rate, or leave rate out"
            )
        object.__setattr__(self, "rate", float(self.rate))

    @property
    def by_time(self) -> bool:
        """Whether frames are chosen by their timestamps."""
        return self.sampling == "rate"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def frames_per_clip(self) -> int:
        """T*f."""
        return self.num_segments * self.frames_per_segment

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the class names in order (see :func:`class_fingerprint`)."""
        return class_fingerprint(self.class_names)

    @property
    def flip_labels(self) -> tuple[int | None, ...]:
        """Label of each class after a horizontal flip (see :func:`flip_labels`)."""
        return flip_labels(self.class_names)

    def with_options(self, **changes: Any) -> ClipSpec:
        """A copy with some fields changed, validated anew; None leaves a field as it is."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives the same spec back.

        What came later is left out where it has its usual value, so that versions that do not know
        it can read all files but those that they could not use.
        """
        values = asdict(self)
        for name, usual in LATER.items():
            if values[name] == usual:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipSpec:
        """The spec that ``to_dict`` described; unknown fields are refused."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(
                f"clip spec has the unknown field {unknown[0]!r}; "
                f"it may come from a newer version of gtdnet"
            )
        if "class_names" not in values:
            raise InputError("clip spec has no class_names")
        given = dict(values)
        if given.get("calibration") is not None:
            given["calibration"] = Calibration.from_dict(given["calibration"])
        return cls(**given)

    def describe(self) -> str:
        """One line for people: sampling and picture size."""
        how = describe_sampling(self.sampling, self.frame_interval, self.rate)
        frames = "1 frame" if self.num_segments == 1 else f"{self.num_segments} frames"
        if self.frames_per_segment > 1:
            frames = f"{self.num_segments} segments x {self.frames_per_segment} frames"
        return f"{frames} ({how}), short side {self.short_side}, crop {self.crop_size}"

    def views(self, crops: int, clips: int) -> str:
        """Test views as this field writes them, frames x crops x clips: "8x3x2", "(8x5)x3x2"."""
        frames = str(self.num_segments)
        if self.frames_per_segment > 1:
            frames = f"({self.num_segments}x{self.frames_per_segment})"
        return f"{frames}x{crops}x{clips}"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def describe_sampling(sampling: str, frame_interval: int, rate: float | None = None) -> str:
    """As in "segment", "dense/8" (frames apart), "rate/8" (a second)."""
    if rate is not None:
        return f"{sampling}/{rate:g}"
    return sampling if sampling == "segment" else f"{sampling}/{frame_interval}"


def class_fingerprint(class_names: Sequence[str]) -> str:
    """SHA-256 over the class names in their order: no two orders pass for one another."""
    text = json.dumps(list(class_names), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


_MIRRORED = {
    "left": "right",
    "right": "left",
    "counterclockwise": "clockwise",
    "anticlockwise": "clockwise",
}
_COUNTERCLOCKWISE = tuple(
    f"{prefix}{separator}clockwise"
    for separator in ("", "-", " ", "_")
    for prefix in ("counter", "anti")
)
# A direction is a word of its own, whatever separates words (space, underscore, CamelCase), and may
# carry -ward(s); "upright", "bright" and "leftover" are none. The borders of words go by case.
_DIRECTION = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    r"(?i:left|right|(?:counter|anti)[-_ ]?clockwise|clockwise)"
    r"(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z])|(?=(?i:wards?)(?![a-z])))"
)


def mirrored_names(name: str) -> tuple[str, ...]:
    """What a class is called in the mirrored picture: its spellings, or () if it has no direction.

    >>> mirrored_names("Moving something from left to right")
    ('Moving something from right to left',)
    """
    if not _DIRECTION.search(name):
        return ()

    def swap(counter: str) -> str:
        def one(match: re.Match[str]) -> str:
            word = match.group()
            plain = re.sub("[-_ ]", "", word.lower())
            other = counter if plain == "clockwise" else _MIRRORED[plain]
            if word.isupper():
                return other.upper()
            return other.capitalize() if word[0].isupper() else other

        return _DIRECTION.sub(one, name)

    return tuple(dict.fromkeys(swap(counter) for counter in _COUNTERCLOCKWISE))


def flip_labels(class_names: Sequence[str]) -> tuple[int | None, ...]:
    """Per class, its label after a horizontal flip; None: the flipped clip has no class here.

    Derived from the names alone: "left" and "right" (and the two senses of rotation) change places.
    A class without a direction keeps its label; one whose mirror image is not among the classes
    must not be flipped.
    """
    index = {name.lower(): i for i, name in enumerate(class_names)}
    labels: list[int | None] = []
    for i, name in enumerate(class_names):
        mirrored = mirrored_names(name)
        if not mirrored:
            labels.append(i)
        else:
            found = [index[m.lower()] for m in mirrored if m.lower() in index]
            labels.append(found[0] if found else None)
    return tuple(labels)
