"""What a report is made of: runs and evaluations as they lie on disk, and their figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from gtdnet.errors import InputError
from gtdnet.evaluate.metrics import confusion_matrix
from gtdnet.evaluate.results import Results, read_results
from gtdnet.evaluate.statistics import (
    Interval,
    discoveries,
    mcnemar,
    paired_difference_interval,
    wilson_interval,
)
from gtdnet.text import first_line


class Figure(NamedTuple):
    """An accuracy and its 95 % confidence interval (None: there is none), as fractions."""

    value: float
    low: float | None
    high: float | None


class ClassFigures(NamedTuple):
    """One class; ``accuracy`` is None without clips, ``confused_with`` without mistakes."""

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
class Evaluated:
    """One evaluation: what its files tell, and the diagnosis where one was made.

    Clips without a label have no part in the figures; without any label there are none.
    """

    results: Results
    diagnosis: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.results.path.name

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.results.class_names

    @property
    def protocol(self) -> dict[str, Any]:
        return mapping(self.results.result, "protocol")

    @property
    def members(self) -> list[dict[str, Any]]:
        """Of an ensemble: the evaluations it is made of."""
        found = self.results.result.get("members")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def spec(self) -> dict[str, Any]:
        """How frames are chosen; by an ensemble's first member."""
        first = next(iter(self.protocol.get("members") or ()), {})
        return mapping(self.protocol, "spec") or mapping(mapping(first, "protocol"), "spec")

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Numbers of the clips that have a label."""
        return np.flatnonzero(self.results.labels >= 0)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        return confusion_matrix(self.results.scores[self.known], self.results.labels[self.known])

    @cached_property
    def figures(self) -> dict[str, Figure | None]:
        """Of top1, top5 and mean_class_accuracy; None where there is nothing to measure."""
        metrics, intervals = self.results.metrics, self.results.intervals
        figures: dict[str, Figure | None] = {}
        for name in ("top1", "top5", "mean_class_accuracy"):
            value, interval = metrics[name], intervals[f"{name}_interval"]
            figures[name] = None if value is None else Figure(value, *(interval or (None, None)))
        return figures

    @cached_property
    def clips(self) -> dict[str, tuple[str, bool]]:
        """Of every clip with a label, by id: the name of its class, and whether it is right."""
        correct = self.results.correct
        return {
            self.results.ids[i]: (self.class_names[self.results.labels[i]], bool(correct[i]))
            for i in self.known
        }

    def classes(self) -> list[ClassFigures]:
        """Every class, in the order of the labels."""
        rows = []
        for label, row in enumerate(self.confusion):
            wrong = row.copy()
            wrong[label] = 0
            most = int(wrong.argmax())
            clips = int(row.sum())
            rows.append(
                ClassFigures(
                    self.class_names[label],
                    clips,
                    _share(int(row[label]), clips) if clips else None,
                    self.class_names[most] if wrong[most] else None,
                    int(wrong[most]),
                )
            )
        return rows

    def worst(self, limit: int) -> list[Mistake]:
        """The mistakes made with the highest probability, the highest first."""
        scores, labels = self.results.scores, self.results.labels
        predicted = scores.argmax(axis=1)
        wrong = self.known[~self.results.correct[self.known]]
        confidence = scores[wrong, predicted[wrong]]
        return [
            Mistake(
                self.results.ids[i],
                int(labels[i]),
                int(predicted[i]),
                float(scores[i, predicted[i]]),
                float(scores[i, labels[i]]),
            )
            for i in wrong[np.argsort(-confidence, kind="stable")][:limit]
        ]


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
    """

    name: str
    folder: Path
    is_run: bool
    config: dict[str, Any]
    history: tuple[dict[str, float | None], ...]
    evaluations: tuple[Evaluated, ...]
    notes: tuple[str, ...]

    @property
    def evaluated(self) -> Evaluated | None:
        return self.evaluations[0] if self.evaluations else None


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same clips, or the sentence that says why they cannot be compared.

    ``difference`` is the first's top-1 minus the second's; ``significant``: at most 5 % of the
    differences that a report calls so are expected to be chance (Benjamini and Hochberg);
    ``remark``: what differs in how the two were evaluated.
    """

    first: str
    second: str
    refusal: str | None = None
    clips: int = 0
    first_only: int = 0
    second_only: int = 0
    p_value: float = 1.0
    difference: float = 0.0
    interval: Interval = (0.0, 0.0)
    significant: bool = False
    remark: str = ""


def read_runs(folders: Sequence[str]) -> list[Run]:
    """The given run directories and evaluations' folders, under names that differ.

    Raises:
        ValueError: a folder that is neither, or whose files cannot be read.
    """
    runs = [_read_run(Path(folder)) for folder in folders]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else replace(run, name=str(run.folder)) for run in runs
    ]


def compare_runs(runs: Sequence[Run]) -> list[Comparison]:
    """Every pair of the runs that have an evaluation."""
    there = [(run.name, run.evaluated) for run in runs if run.evaluated]
    pairs = [
        _compare(*first, *second) for i, first in enumerate(there) for second in there[i + 1 :]
    ]
    tested = [pair for pair in pairs if pair.refusal is None]
    found = iter(discoveries([pair.p_value for pair in tested]))
    return [
        pair if pair.refusal is not None else replace(pair, significant=bool(next(found)))
        for pair in pairs
    ]


def _compare(first: str, a: Evaluated, second: str, b: Evaluated) -> Comparison:
    if refusal := _refusal(first, a, second, b):
        return Comparison(first, second, refusal)
    right = np.array([(a.clips[clip][1], b.clips[clip][1]) for clip in a.clips])
    test = mcnemar(right[:, 0], right[:, 1])
    return Comparison(
        first,
        second,
        None,
        len(right),
        *test,
        (test.first_only - test.second_only) / len(right),
        paired_difference_interval(test.first_only, test.second_only, len(right)),
        remark=", ".join(
            f"{name} {a.protocol.get(name)} and {b.protocol.get(name)}"
            for name in ("views", "frames")
            if a.protocol.get(name) != b.protocol.get(name)
        ),
    )


def _refusal(first: str, a: Evaluated, second: str, b: Evaluated) -> str | None:
    """Why the two cannot be compared clip by clip, if so."""
    for name, evaluated in ((first, a), (second, b)):
        if not evaluated.clips:
            return f"The clips of {name} have no labels, so nothing is right or wrong."
    splits = a.protocol.get("split"), b.protocol.get("split")
    if splits[0] != splits[1]:
        return (
            f"{first} was evaluated on the {splits[0]} split and {second} on the {splits[1]} "
            f"split; evaluate both on the same one."
        )
    shared = set(a.class_names) & set(b.class_names)
    if len(shared) < max(len(a.class_names), len(b.class_names)):
        return (
            f"{first} knows {len(a.class_names)} classes and {second} {len(b.class_names)}, of "
            f"which {len(shared)} are the same; only models of the same classes can be compared."
        )
    only_a, only_b = a.clips.keys() - b.clips.keys(), b.clips.keys() - a.clips.keys()
    if only_a or only_b:
        return (
            f"The clips are not the same: {len(only_a)} were scored in {first} alone and "
            f"{len(only_b)} in {second} alone, such as {min(only_a or only_b)}; evaluate both on "
            f"the same clips."
        )
    if other := [clip for clip in a.clips if a.clips[clip][0] != b.clips[clip][0]]:
        clip = other[0]
        return (
            f"{len(other)} clips have different labels in the two, such as {clip}: "
            f"“{a.clips[clip][0]}” in {first} and “{b.clips[clip][0]}” in {second}; evaluate both "
            f"with the same annotations."
        )
    return None


def _read_run(folder: Path) -> Run:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder; give a run directory or an evaluation"
        )
    if (folder / "metrics.json").is_file():
        evaluated = _read_evaluation(folder)
        parent = folder.resolve().parent.name
        name = f"{parent}/{evaluated.results.path.resolve().name}".lstrip("/")
        return Run(name, folder, False, {}, (), (evaluated,), ())
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
    return Run(
        folder.resolve().name,
        folder,
        True,
        _read_config(config) if config.is_file() else {},
        _read_history(history) if history.is_file() else (),
        tuple(evaluations),
        tuple(notes),
    )


def _shown_first(evaluated: Evaluated) -> tuple[bool, int, str]:
    views = str(evaluated.protocol.get("views", "")).split("x")
    crops_clips = math.prod(int(n) for n in views[-2:] if n.isdigit())
    return evaluated.protocol.get("frames", "in-order") != "in-order", -crops_clips, evaluated.name


def _read_evaluation(folder: Path) -> Evaluated:
    diagnosis = folder / "diagnosis.json"
    return Evaluated(read_results(folder), _read_object(diagnosis) if diagnosis.is_file() else None)


def _read_history(path: Path) -> tuple[dict[str, float | None], ...]:
    try:
        rows = tuple(
            {name: float(value) if value else None for name, value in row.items()}
            for row in _read_table(path)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: is not what gtdnet train writes ({error})") from None
    if any(row.get("epoch") is None for row in rows):
        raise InputError(f"{path}: is not what gtdnet train writes (a row has no epoch)")
    return rows


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds no options, but {type(config).__name__}")
    return config


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no JSON object")
    return value


def mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under this key; empty if there is none."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _share(hits: int, total: int) -> Figure:
    return Figure(hits / total, *wilson_interval(hits, total))
