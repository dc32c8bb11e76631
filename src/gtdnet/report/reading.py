"""What a report is made of: runs and evaluations as they lie on disk, and their figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from gtdnet import moved
from gtdnet.errors import InputError
from gtdnet.evaluate.measures import ClassPrecision, class_precisions
from gtdnet.evaluate.metrics import confusion_matrix
from gtdnet.evaluate.results import Results, read_results
from gtdnet.evaluate.statistics import wilson_interval
from gtdnet.models.model_file import MODEL_NAME, read_metrics
from gtdnet.report.calibration import Calibrated, read_calibration
from gtdnet.text import alike, first_line


class Figure(NamedTuple):
    """An accuracy and its 95 % confidence interval (None: there is none), as fractions."""

    value: float
    low: float | None
    high: float | None


class ClassFigures(NamedTuple):
    """One class; ``accuracy`` is None without clips, ``confused_with`` without mistakes."""

    label: int
    name: str
    clips: int
    accuracy: Figure | None
    confused_with: str | None
    confused_clips: int


class Mistake(NamedTuple):
    """A clip that was given the wrong class: its id, the labels and their probabilities."""

    id: str
    true: int
    predicted: int
    confidence: float
    true_probability: float


@dataclass(frozen=True)
class Evaluated(Results):
    """One evaluation: what its files tell, and the diagnosis where one was made.

    Clips without a label have no part in the figures; without any label there are none.
    """

    diagnosis: dict[str, Any] | None

    @property
    def own_thresholds(self) -> bool:
        """Whether each class is given from a probability of its own on."""
        return isinstance(self.threshold, tuple)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def protocol(self) -> dict[str, Any]:
        return mapping(self.result, "protocol")

    @property
    def model(self) -> dict[str, Any]:
        return mapping(self.result, "model")

    @property
    def frames(self) -> str:
        """The order in which the model was given them."""
        return self.protocol.get("frames", "in-order")

    @property
    def members(self) -> list[dict[str, Any]]:
        """Of an ensemble: the evaluations it is made of."""
        found = self.result.get("members")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def spec(self) -> dict[str, Any]:
        """How frames are chosen; by an ensemble's first member."""
        first = next(iter(self.protocol.get("members") or ()), {})
        return mapping(self.protocol, "spec") or mapping(mapping(first, "protocol"), "spec")

    @cached_property
    def labelled(self) -> NDArray[np.int64]:
        """Numbers of the clips that have a label."""
        return np.flatnonzero(self.known)

    @cached_property
    def wrong(self) -> NDArray[np.int64]:
        """Of these, the clips that were given another class than their own."""
        return self.labelled[~self.correct[self.labelled]]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        return confusion_matrix(self.scores[self.labelled], self.labels[self.labelled])

    @property
    def titles(self) -> Mapping[str, str]:
        """What the figures are called."""
        return self.measure.figures

    @cached_property
    def figures(self) -> dict[str, Figure | None]:
        """What is measured; None where there is nothing to measure."""
        metrics, intervals = self.metrics, self.intervals
        figures: dict[str, Figure | None] = {}
        for name in self.titles:
            value, interval = metrics[name], intervals[f"{name}_interval"]
            figures[name] = None if value is None else Figure(value, *(interval or (None, None)))
        return figures

    @cached_property
    def clips(self) -> dict[str, tuple[str, bool]]:
        """Of every clip with a label, by id: the name of its class, and whether it is right."""
        correct, names = self.correct, alike(self.class_names)
        return {self.ids[i]: (names[self.labels[i]], bool(correct[i])) for i in self.labelled}

    def classes(self) -> list[ClassFigures]:
        """Every class, from the lowest accuracy to the highest, then those without clips."""
        rows = []
        for label, clips in enumerate(self.confusion.sum(axis=1).tolist()):
            right = int(self.confusion[label, label])
            wrong = self.confusion[label].copy()
            wrong[label] = 0
            most = int(wrong.argmax())
            rows.append(
                ClassFigures(
                    label,
                    self.class_names[label],
                    clips,
                    Figure(right / clips, *wilson_interval(right, clips)) if clips else None,
                    self.class_names[most] if wrong[most] else None,
                    int(wrong[most]),
                )
            )
        return sorted(rows, key=lambda row: row.accuracy.value if row.accuracy else 2.0)

    def worst(self, limit: int) -> list[Mistake]:
        """The mistakes made with the highest probability, the highest first."""
        best = self.scores.argmax(axis=1)
        order = np.argsort(-self.scores[self.wrong, best[self.wrong]], kind="stable")
        return [
            Mistake(
                self.ids[i],
                int(self.labels[i]),
                int(best[i]),
                float(self.scores[i, best[i]]),
                float(self.scores[i, self.labels[i]]),
            )
            for i in self.wrong[order][:limit]
        ]


@dataclass(frozen=True)
class EvaluatedPrecisions(Evaluated):
    """The same of clips of any number of classes, which are not right or wrong as a whole."""

    @cached_property
    def wrong(self) -> NDArray[np.int64]:
        """None."""
        return np.empty(0, dtype=np.int64)

    @cached_property
    def clips(self) -> dict[str, tuple[str, bool]]:
        """Of every clip with a label, by id: the names of its classes; never wholly right."""
        names = alike(self.class_names)
        return {
            self.ids[i]: ("; ".join(names[k] for k in np.flatnonzero(self.labels[i])), False)
            for i in self.labelled
        }

    @cached_property
    def precisions(self) -> list[ClassPrecision]:
        """Every class, from the lowest average precision to the highest, then those without."""
        rows = class_precisions(self)
        return sorted(rows, key=lambda row: 2.0 if row.clips == 0 else row.average_precision or 0)

    @property
    def chance(self) -> float:
        """The mAP of guessing: the mean share of clips that a class has, of those that have any."""
        clips = np.array([row.clips for row in self.precisions if row.clips])
        return float(clips.mean() / len(self.labelled)) if len(clips) else 0.0

    def worst(self, limit: int) -> list[Mistake]:
        return []


@dataclass(frozen=True)
class Run:
    """A run directory, or an evaluation's folder alone.

    Attributes:
        name: what the report calls it.
        folder: as it was given.
        is_run: whether it is a run directory.
        config: config.yaml; empty if there is none.
        history: rows of metrics.csv, one per epoch; None for what was not measured.
        evaluations: all that were found; ``[0]`` is the one that is shown in full: frames in
            order before others, then the one with the most views.
        notes: what could not be read, a sentence each.
        calibration: what gtdnet calibrate measured of the run's model, or of the one evaluated.
    """

    name: str
    folder: Path
    is_run: bool
    config: dict[str, Any]
    history: tuple[dict[str, float | None], ...]
    evaluations: tuple[Evaluated, ...]
    notes: tuple[str, ...]
    calibration: Calibrated | None = None

    @property
    def seconds(self) -> float:
        """That the epochs took."""
        return sum(row.get("seconds") or 0 for row in self.history)

    @property
    def evaluated(self) -> Evaluated | None:
        return self.evaluations[0] if self.evaluations else None


def read_runs(folders: Sequence[str]) -> list[Run]:
    """The given runs and evaluations, under names that differ; InputError if one cannot be read."""
    runs = [_read_run(Path(folder)) for folder in folders]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=str(run.folder)) for run in runs
    ]


def _read_run(folder: Path) -> Run:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder; give a run directory or an evaluation"
        )
    if (folder / "metrics.json").is_file():
        evaluated = _read_evaluation(folder)
        parent = folder.resolve().parent.name
        name = f"{parent}/{evaluated.path.resolve().name}".lstrip("/")
        calibration = read_calibration(mapping(evaluated.model, "calibration"))
        return Run(name, folder, False, {}, (), (evaluated,), (), calibration)
    history = folder / "metrics.csv"
    config = folder / "config.yaml"
    found = sorted(path.parent for path in folder.glob("*/metrics.json"))
    if not (found or history.is_file() or config.is_file()):
        raise InputError(
            f"{folder}: is neither a run directory (config.yaml, metrics.csv) nor the folder of an "
            f"evaluation (metrics.json); make one with gtdnet evaluate"
        )
    evaluations, notes = [], []
    for path in found:
        try:
            evaluations.append(_read_evaluation(path))
        except InputError as error:
            notes.append(f"An evaluation is left out: {error}.")
    evaluations.sort(key=_shown_first)
    measured: dict[str, Any] = {}
    if (folder / MODEL_NAME).is_file():
        try:
            measured = mapping(read_metrics(folder / MODEL_NAME), "calibration")
        except InputError as error:
            notes.append(f"The calibration is left out: {error}.")
    elif evaluations:
        measured = mapping(evaluations[0].model, "calibration")
    return Run(
        folder.resolve().name,
        folder,
        True,
        _read_config(config) if config.is_file() else {},
        _read_history(history) if history.is_file() else (),
        tuple(evaluations),
        tuple(notes),
        read_calibration(measured),
    )


def _shown_first(evaluated: Evaluated) -> tuple[bool, int, str]:
    views = str(evaluated.protocol.get("views", "")).split("x")
    crops_clips = math.prod(int(n) for n in views[-2:] if n.isdigit())
    return evaluated.frames != "in-order", -crops_clips, evaluated.name


def _read_evaluation(folder: Path) -> Evaluated:
    results = read_results(folder)
    path, diagnosis = folder / "diagnosis.json", None
    if path.is_file():
        diagnosis = _parsed(path, json.loads)
        if not isinstance(diagnosis, dict):
            raise InputError(f"{path}: holds no JSON object")
    kind = EvaluatedPrecisions if results.labels.ndim == 2 else Evaluated
    return kind(**vars(results), diagnosis=diagnosis)


def _read_history(path: Path) -> tuple[dict[str, float | None], ...]:
    try:
        rows = tuple(
            {name: float(value) if value else None for name, value in row.items()}
            for row in _parsed(path, lambda text: list(csv.DictReader(text.splitlines())))
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: is not what gtdnet train writes ({error})") from None
    if any(row.get("epoch") is None for row in rows):
        raise InputError(f"{path}: is not what gtdnet train writes (a row has no epoch)")
    return rows


def _read_config(path: Path) -> dict[str, Any]:
    config = _parsed(path, yaml.safe_load)
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds no options, but {type(config).__name__}")
    return config


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None


def mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under this key; empty if there is none."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


__getattr__ = moved.names(__name__)
