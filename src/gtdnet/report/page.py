"""The report as one HTML file that needs nothing beside it.

The templates lay out a run as it was read; here is what they need beyond that, and how numbers are
written. A Content-Security-Policy in the page's head forbids it to load anything, and any script
but its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gtdnet import pages
from gtdnet.evaluate.measures import ACCURACIES
from gtdnet.report.compare import Comparison
from gtdnet.report.confusion import (
    clustered_order,
    confused_pairs,
    mirror_confusions,
    mirror_labels,
)
from gtdnet.report.curves import Line, line_chart
from gtdnet.report.frames import Picture
from gtdnet.report.reading import (
    Evaluated,
    EvaluatedPrecisions,
    Figure,
    Mistake,
    Run,
    mapping,
)

_MOST_PAIRS = 25


@dataclass(frozen=True)
class Shown:
    """A run, its worst clips, and their frames: by id, or the reason why there are none.

    ``pictures_note`` says why no clip has any.
    """

    run: Run
    mistakes: Sequence[Mistake] = ()
    pictures: Mapping[str, Sequence[Picture] | str] = field(default_factory=dict)
    pictures_note: str | None = None


def render(
    title: str, runs: Sequence[Shown], comparisons: Sequence[Comparison], made_by: str
) -> str:
    """The whole page; ``made_by`` is its last line."""
    views = [_run(f"run-{number}", shown) for number, shown in enumerate(runs, 1)]
    data: dict[str, dict[str, Any]] = {"curves": {}, "matrices": {}}
    for view in views:
        for chart in view["training"]["charts"]:
            data["curves"][f"{view['id']}-curve-{chart.name}"] = chart.data
        if view["confusions"]:
            data["matrices"][f"{view['id']}-matrix"] = view["confusions"]["matrix"]
    return pages.render(
        "gtdnet.report",
        (mapping, text, interval, percent, points, p_value, counted, grouped, duration, heading),
        title=title,
        measured=_measured(runs),
        runs=views,
        comparisons=comparisons,
        data=data,
        made_by=made_by,
    )


def _measured(runs: Sequence[Shown]) -> list[Mapping[str, str]]:
    """What the runs were measured by, each once: accuracies, or precisions."""
    found = [shown.run.evaluated.titles for shown in runs if shown.run.evaluated]
    return [titles for i, titles in enumerate(found) if titles not in found[:i]] or [
        ACCURACIES.figures
    ]


def _run(id: str, shown: Shown) -> dict[str, Any]:
    """A run and the parts that there are of it: the names of their templates, and titles."""
    run, evaluated = shown.run, shown.run.evaluated
    labelled = evaluated if evaluated and evaluated.clips else None
    several = isinstance(evaluated, EvaluatedPrecisions)
    precisions = labelled if several else None
    labelled = None if several else labelled
    absent = _absent(shown)
    parts = (
        ("results", "Results", evaluated),
        ("protocol", "Protocol", evaluated or run.config),
        ("training", "Training", run.history),
        ("precisions", "Classes", precisions),
        ("classes", "Classes", labelled),
        ("confusions", "Confusions", labelled),
        ("calibration", "Calibration", run.calibration),
        ("clips", "Worst clips", labelled and (shown.mistakes or not len(labelled.wrong))),
        ("diagnosis", "Need for order", evaluated and evaluated.diagnosis is not None),
        ("failures", "Failures", evaluated and evaluated.failures),
        ("absent", "Not in this report", absent),
    )
    return {
        "id": id,
        "shown": shown,
        "parts": [(name, title) for name, title, is_there in parts if is_there],
        "training": _training(run),
        "confusions": _confusions(labelled) if labelled else None,
        "absent": absent,
    }


def _training(run: Run) -> dict[str, Any]:
    """Charts of metrics.csv, and the epoch that was kept."""
    if not run.history:
        return {"charts": []}
    epochs = [row["epoch"] or 0.0 for row in run.history]

    def line(name: str, kind: str, column: str) -> Line:
        found = [row.get(column) for row in run.history]
        return Line(name, kind, [v if v is not None and math.isfinite(v) else None for v in found])

    def both(column: str) -> list[Line]:
        return [
            line("training", "train", f"train_{column}"),
            line("validation", "validation", f"val_{column}"),
        ]

    key, title = ("map", "mAP") if "val_map" in run.history[0] else ("top1", "top-1")
    loss, figure, rate = both("loss"), both(key), [line("learning rate", "lr", "lr")]
    validated = list(figure[1].values)
    best = max((value for value in validated if value is not None), default=None)
    kept = None if best is None else epochs[validated.index(best)]
    charts = [
        line_chart("loss", "Loss", epochs, loss, lambda v: f"{v:.3f}", kept=kept),
        line_chart(key, heading(title), epochs, figure, percent, from_zero=True, kept=kept),
        line_chart("lr", "Learning rate", epochs, rate, lambda v: f"{v:.3g}", from_zero=True),
    ]
    return {"charts": [chart for chart in charts if chart], "kept": kept, "title": title}


def _confusions(evaluated: Evaluated) -> dict[str, Any]:
    """The pairs of classes confused most, and the matrix as page.js reads it."""
    names, confusion = evaluated.class_names, evaluated.confusion
    cells = np.argwhere(confusion)
    return {
        "pairs": confused_pairs(confusion, names, _MOST_PAIRS),
        "mirrored": mirror_confusions(confusion, names),
        "matrix": {
            "names": names,
            "order": clustered_order(confusion),
            "mirror": mirror_labels(names),
            "cells": np.column_stack([cells, confusion[tuple(cells.T)]]).ravel().tolist(),
        },
    }


def _absent(shown: Shown) -> list[str]:
    """What is not in the report, and why: a sentence each."""
    run, evaluated = shown.run, shown.run.evaluated
    sentences = list(run.notes)
    if evaluated is None:
        sentences.append(
            "Accuracies, classes, confusions and clips: the run has no evaluation. Make one with "
            "gtdnet evaluate, then write the report again."
        )
    if not run.is_run:
        sentences.append(
            "Curves and options of the training: they are in a run directory; this is an "
            "evaluation alone."
        )
    if run.is_run and not run.config:
        sentences.append("Options of the training: the run has no config.yaml.")
    if run.is_run and not run.history:
        sentences.append("Training curves: the run has no metrics.csv with a finished epoch.")
    if evaluated and len(evaluated.wrong) and not shown.mistakes:
        sentences.append("Worst clips: none were asked for.")
    if isinstance(evaluated, EvaluatedPrecisions):
        sentences.append(
            "Confusions, worst clips and the need for order of each class: a clip of any number of "
            "classes is not right or wrong as a whole. gtdnet evaluate --frames shuffled measures "
            "what the order of frames brings."
        )
    elif evaluated and evaluated.diagnosis is None:
        sentences.append(
            "Whether the classes need the order of frames: gtdnet evaluate --diagnose measures it."
        )
    return sentences


# ------------------------------------------------------------------------- numbers and words


def text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def interval(figure: Figure, digits: int = 1) -> str:
    if figure.low is None or figure.high is None:
        return "no interval"
    return f"{100 * figure.low:.{digits}f} to {100 * figure.high:.{digits}f}\u00a0%"


def heading(title: str) -> str:
    """ "Top-1", "mAP": as a title begins."""
    return title if title == "mAP" else title[:1].upper() + title[1:]


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def counted(number: int, one: str, many: str = "") -> str:
    return f"{grouped(number)} {one if number == 1 else many or one + 's'}"


def grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
